"""Entries of the cache: whole, verified, made again, and readable by others."""

import errno
import json
import os
from pathlib import Path
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from seqlab.io import cache as module
from seqlab.io.cache import DamagedError, Entry, cached, publish, staging

ABOUT = {'format': 1, 'text': 'abc', 'pair': (1, 2.5), 'none': None}
NUMBERS = np.arange(1_000, dtype=np.uint16)


class Numbers:
  """An entry with an array, and how often it was built."""

  def __init__(self, folder):
    self.folder, self.built = folder / 'kind' / 'entry', 0

  def build(self, part):
    self.built += 1
    np.save(part / 'numbers.npy', NUMBERS)
    (part / 'note.txt').write_text('note')
    return {'total': 7}

  def read(self, entry):
    entry.verify()
    assert entry.about['total'] == 7
    return entry.array('numbers.npy')

  def get(self):
    def build(part):
      return self.build(part)

    def read(entry):
      return self.read(entry)

    return cached(self.folder, ABOUT, build, read, title='the numbers')


@pytest.fixture
def numbers(tmp_path):
  return Numbers(tmp_path)


def test_an_entry_is_built_once(numbers, capsys):
  for _ in range(3):
    np.testing.assert_array_equal(numbers.get(), NUMBERS)
  assert numbers.built == 1
  assert not capsys.readouterr().err


def test_the_sizes_and_digests_are_those_of_the_files(numbers):
  numbers.get()
  metadata = json.loads((numbers.folder / 'about.json').read_text('utf-8'))
  assert metadata['total'] == 7
  assert metadata['pair'] == [1, 2.5]
  for name, noted in metadata['files'].items():
    path = numbers.folder / name
    digest = subprocess.run(['sha256sum', path], capture_output=True, text=True)
    assert noted == {'size': path.stat().st_size, 'sha256': digest.stdout.split()[0]}
  assert set(metadata['files']) == {'numbers.npy', 'note.txt'}


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


DAMAGES = {
  'empty': lambda path: path.write_bytes(b''),
  'cut': lambda path: path.write_bytes(path.read_bytes()[:-1]),
  'longer': lambda path: path.write_bytes(path.read_bytes() + b'\0'),
  'flipped': flip,
  'gone': lambda path: path.unlink(),
  'folder': lambda path: (path.unlink(), path.mkdir()),
  'nul': lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('name', ['numbers.npy', 'note.txt', 'about.json'])
def test_damage_is_named_and_repaired(numbers, capsys, name, damage):
  numbers.get()
  DAMAGES[damage](numbers.folder / name)
  np.testing.assert_array_equal(numbers.get(), NUMBERS)
  [line] = capsys.readouterr().err.splitlines()
  assert line.startswith(f'seqlab: the numbers in the cache: {numbers.folder} has ')
  assert line.endswith('; it is built again')
  numbers.get()
  assert numbers.built == 2
  assert os.listdir(numbers.folder.parent) == ['entry']


def test_an_empty_folder_is_built(numbers):
  numbers.folder.mkdir(parents=True)
  np.testing.assert_array_equal(numbers.get(), NUMBERS)


@pytest.mark.parametrize('text', ['[]', '7', '{"files": 1, "sha256": ""}', '{"files"'])
def test_a_different_about_json_is_damage(numbers, text):
  numbers.get()
  (numbers.folder / 'about.json').write_text(text)
  np.testing.assert_array_equal(numbers.get(), NUMBERS)
  assert numbers.built == 2


def test_a_changed_item_of_about_json_is_damage(numbers):
  numbers.get()
  path = numbers.folder / 'about.json'
  path.write_text(path.read_text().replace('"total": 7', '"total": 8'))
  numbers.get()
  assert numbers.built == 2


def test_an_entry_with_the_name_of_another_is_damage(numbers, capsys):
  numbers.get()
  other = Numbers(numbers.folder.parent)
  other.folder = numbers.folder
  cached(other.folder, {'text': 'other'}, other.build, other.read, title='others')
  assert other.built == 1
  assert 'has another content than its name says' in capsys.readouterr().err


def test_repeated_damage_ends_with_an_error(numbers):
  def read(entry):
    raise DamagedError('has invalid content')

  with pytest.raises(OSError, match=r'whenever it is written; set SEQLAB_CACHE'):
    cached(numbers.folder, ABOUT, numbers.build, read, title='the numbers')


def test_files_and_folder_reach_the_disk_before_the_name_appears(numbers, monkeypatch):
  events = []

  def fsync(handle):
    events.append(os.readlink(f'/proc/self/fd/{handle}'))
    events.append(numbers.folder.exists())

  monkeypatch.setattr(os, 'fsync', fsync)
  numbers.get()
  before = [path for path, named in zip(*[iter(events)] * 2, strict=True) if not named]
  after = [path for path, named in zip(*[iter(events)] * 2, strict=True) if named]
  names = {Path(path).name for path in before}
  assert {'numbers.npy', 'note.txt', 'about.json'} < names
  part = next(path for path in before if path.endswith('about.json'))
  assert os.path.dirname(part) in before
  assert after == [str(numbers.folder.parent)]
  # The folders above are new as well, and their names have to last too.
  assert str(numbers.folder.parent.parent) in before


@pytest.mark.parametrize('umask', [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(numbers, umask):
  old = os.umask(umask)
  try:
    numbers.get()
  finally:
    os.umask(old)
  for path in (numbers.folder.parent, numbers.folder, *numbers.folder.iterdir()):
    mode = stat.S_IMODE(path.stat().st_mode)
    assert mode == (0o777 if path.is_dir() else 0o666) & ~umask


# Reads or builds the entry of the folder argv[1], as user 65534 where that is asked for.
OTHER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_cache
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
  numbers = test_cache.Numbers(Path(sys.argv[1]))
  print(numbers.get().sum(), numbers.built)
except OSError as error:
  print(error)
"""


@pytest.fixture
def as_nobody():
  """A function that reads an entry as another user, and returns the output."""
  if os.geteuid():
    pytest.skip('only root can become another user')

  def run(folder):
    command = [sys.executable, '-c', OTHER, folder, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()

  return run


@pytest.fixture
def shared():
  """A folder that every user can read; only one user can read those of pytest."""
  folder = Path('/tmp') / f'seqlab-test-{os.getpid()}'
  folder.mkdir()
  yield folder
  shutil.rmtree(folder)


def test_another_user_reads_the_entries_of_the_first_one(shared, as_nobody):
  Numbers(shared).get()
  assert as_nobody(shared) == f'{NUMBERS.sum()} 0'


def test_another_user_gets_advice_about_a_missing_entry(shared, as_nobody):
  message = as_nobody(shared)
  assert 'the numbers cannot be read or written here by this user' in message
  assert 'set SEQLAB_CACHE to a folder of your own' in message


def test_another_user_gets_advice_about_damage(shared, as_nobody):
  numbers = Numbers(shared)
  numbers.get()
  flip(numbers.folder / 'numbers.npy')
  message = as_nobody(shared)
  assert (
    'has a numbers.npy with another content, and this user cannot replace' in message
  )
  assert str(numbers.folder) in message


def test_another_user_gets_advice_about_a_private_entry(shared, as_nobody):
  numbers = Numbers(shared)
  numbers.get()
  numbers.folder.chmod(0o700)  # like entries of earlier versions
  assert 'ask the owner of the folder for access, or set SEQLAB' in as_nobody(shared)


def test_an_unfinished_folder_of_another_user_is_ignored(shared, as_nobody):
  kind = shared / 'kind'
  kind.mkdir()
  kind.chmod(0o777)
  (kind / '.part-old').mkdir(0o700)
  assert as_nobody(shared) == f'{NUMBERS.sum()} 1'


@pytest.mark.parametrize('below', ['', 'kind', 'kind/entry'])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, below):
  path = tmp_path / 'cache' / below
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('')
  with pytest.raises(OSError, match=r'there is a file where a folder is') as caught:
    Numbers(tmp_path / 'cache').get()
  assert caught.value.filename == str(path)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_space_that_is_needed(numbers, number):
  def build(part):
    raise OSError(number, 'full')

  with pytest.raises(
    OSError, match=r'no space left for the numbers: 3\.0 MiB'
  ) as caught:
    cached(
      numbers.folder, ABOUT, build, numbers.read, title='the numbers', need=3 << 20
    )
  assert caught.value.errno == number
  assert os.listdir(numbers.folder.parent) == []


def test_a_full_disk_outside_the_cache_is_not_explained_as_the_cache(numbers):
  def build(part):
    raise OSError(errno.ENOSPC, 'full', '/elsewhere/file')

  with pytest.raises(OSError, match=r'full.*/elsewhere/file'):
    cached(numbers.folder, ABOUT, build, numbers.read, title='the numbers')


def test_an_entry_that_is_deleted_between_open_and_read_is_built(numbers):
  numbers.get()
  read = numbers.read

  def slow(entry):
    shutil.rmtree(numbers.folder)
    numbers.read = read
    return read(entry)

  numbers.read = slow
  np.testing.assert_array_equal(numbers.get(), NUMBERS)
  assert numbers.built == 2


def test_a_cache_that_is_deleted_during_the_build_is_built_again(numbers, tmp_path):
  build = numbers.build

  def slow(part):
    numbers.build = build
    shutil.rmtree(tmp_path / 'kind')
    return build(part)

  numbers.build = slow
  np.testing.assert_array_equal(numbers.get(), NUMBERS)


def test_an_entry_that_another_process_has_rebuilt_is_kept(numbers):
  numbers.get()
  flip(numbers.folder / 'numbers.npy')
  read = numbers.read

  def slow(entry):  # finds the damage; before it acts on it, another has built
    numbers.read = read
    try:
      return read(entry)
    except DamagedError:
      numbers.get()
      raise

  numbers.read = slow
  numbers.get()
  assert numbers.built == 2


# An array that is too large for memory.


@pytest.fixture
def mapped(numbers, monkeypatch):
  monkeypatch.setattr(module, '_IN_MEMORY', 0)
  return numbers.get()


def test_a_large_array_is_mapped_and_has_the_same_values(mapped):
  assert isinstance(mapped, np.memmap)
  assert mapped[7] == NUMBERS[7]
  rows = np.array([[3, 5], [999, 0]])
  for index in (slice(3, 9), rows, NUMBERS > 990, slice(None)):
    part = mapped[index]
    assert type(part) is np.ndarray
    np.testing.assert_array_equal(part, NUMBERS[index])
  assert mapped.max() == 999
  assert len(mapped) == 1_000


def test_small_arrays_are_in_memory(numbers):
  array = numbers.get()
  (numbers.folder / 'numbers.npy').write_bytes(b'')
  np.testing.assert_array_equal(array, NUMBERS)


@pytest.mark.parametrize('damage', ['empty', 'cut', 'flipped', 'longer'])
def test_a_file_that_changes_while_it_is_in_use_is_an_error(mapped, numbers, damage):
  DAMAGES[damage](numbers.folder / 'numbers.npy')
  with pytest.raises(
    OSError, match=r'was changed while it was in use; start'
  ) as caught:
    mapped[:10]
  assert caught.value.filename == str(numbers.folder / 'numbers.npy')


def test_a_file_that_is_deleted_while_it_is_in_use_keeps_its_values(mapped, numbers):
  shutil.rmtree(numbers.folder)
  np.testing.assert_array_equal(mapped[:], NUMBERS)


def test_a_mapped_array_closes_its_file(mapped):
  number = mapped._file.number
  os.fstat(number)
  del mapped._file
  with pytest.raises(OSError, match='Bad file descriptor'):
    os.fstat(number)


# Processes.

# Builds the entry, and waits for a line before it is named.
BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_cache
numbers = test_cache.Numbers(Path(sys.argv[1]))
build = numbers.build

def slow(part):
  about = build(part)
  print('built', flush=True)
  sys.stdin.readline()
  return about

numbers.build = slow
print(numbers.get().sum(), numbers.built, flush=True)
"""


def start(folder):
  command = [sys.executable, '-c', BUILD, folder, Path(__file__).parent]
  pipe = subprocess.PIPE
  return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def test_two_processes_that_build_concurrently_agree(tmp_path):
  processes = [start(tmp_path) for _ in range(2)]
  assert [process.stdout.readline() for process in processes] == ['built\n'] * 2
  message = [process.communicate('go\n')[0].split() for process in processes]
  assert message == [[str(NUMBERS.sum()), '1']] * 2
  assert os.listdir(tmp_path / 'kind') == ['entry']


def test_only_folders_of_killed_processes_are_deleted(tmp_path):
  with start(tmp_path) as dead, start(tmp_path) as alive:
    assert dead.stdout.readline() == alive.stdout.readline() == 'built\n'
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert Numbers(tmp_path).get().sum() == NUMBERS.sum()
    left = os.listdir(tmp_path / 'kind')
    alive.kill()
  assert len(left) == 2
  assert 'entry' in left


def test_folders_with_another_prefix_are_kept(tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / '.part-file').write_text('')
  with staging(tmp_path, 'it'):
    pass
  assert sorted(os.listdir(tmp_path)) == ['.part-file', 'mine']


def test_a_link_is_not_followed(tmp_path):
  precious = tmp_path / 'precious'
  (precious / 'x').mkdir(parents=True)
  (tmp_path / 'kind').mkdir()
  (tmp_path / 'kind' / '.part-link').symlink_to(precious)
  with staging(tmp_path / 'kind', 'it'):
    pass
  assert (precious / 'x').is_dir()


def test_processes_that_start_together_do_not_delete_each_others_folders(tmp_path):
  code = (
    'import sys; from pathlib import Path; from seqlab.io.cache import staging\n'
    'for i in range(150):\n'
    '  with staging(Path(sys.argv[1]), "it") as part:\n'
    '    (part / "x").write_text("x"); assert (part / "x").exists()\n'
  )
  command = [sys.executable, '-c', code, tmp_path]
  processes = [subprocess.Popen(command) for _ in range(3)]
  assert [process.wait() for process in processes] == [0] * 3
  assert os.listdir(tmp_path) == []


def test_a_block_that_fails_leaves_nothing(tmp_path):
  with pytest.raises(ValueError, match='no'), publish(tmp_path / 'a', 'it') as part:  # noqa: PT012
    (part / 'x').write_text('x')
    raise ValueError('no')
  assert os.listdir(tmp_path) == []


def test_names_may_have_brackets_spaces_and_colons(tmp_path):
  numbers = Numbers(tmp_path / 'my [cache]: *')
  numbers.get()
  flip(numbers.folder / 'numbers.npy')
  np.testing.assert_array_equal(numbers.get(), NUMBERS)


def test_a_file_that_is_not_listed_cannot_be_read(numbers):
  numbers.get()
  (numbers.folder / 'more.npy').write_bytes(b'')
  with pytest.raises(DamagedError, match=r'does not list more\.npy'):
    Entry(numbers.folder, ABOUT).array('more.npy')


@pytest.mark.slow
def test_opening_an_entry_is_fast(tmp_path):
  """100 MB take about 0.1 s, which is short compared with the start."""
  numbers = Numbers(tmp_path)
  numbers.build = lambda part: np.save(part / 'x.npy', np.zeros(5 * 10**7, 'u2')) or {}
  cached(numbers.folder, ABOUT, numbers.build, lambda e: e.array('x.npy'), title='it')
  start = time.perf_counter()
  cached(numbers.folder, ABOUT, numbers.build, lambda e: e.array('x.npy'), title='it')
  assert time.perf_counter() - start < 2
