"""Checkpoints: which are kept, which are found, and how damage is handled."""

import contextlib
import gc
import json
import os
from pathlib import Path
import re
import resource
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.io import files
from seqlab.train import checkpoints as module
from seqlab.train import retry, seal
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.seal import DamagedError

ABSTRACT = {'state': {'x': jax.ShapeDtypeStruct((3,), jnp.float32)}, 'meta': None}


@pytest.fixture(autouse=True)
def _place_on_first_device():
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  ABSTRACT['state'] = {'x': jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)}


def _parts(value):
  return {'state': {'x': jnp.full(3, value, jnp.float32)}, 'meta': {'value': value}}


def _fill(folder, values, **options):
  checkpoints = Checkpoints(folder, keep_best='bleu', **options)
  for step, bleu in values.items():
    checkpoints.save(step, _parts(step), {'bleu': bleu} if bleu else None)
  checkpoints.wait()
  return checkpoints


def test_nothing_is_restored_from_an_empty_folder(tmp_path):
  assert Checkpoints(tmp_path).restore(ABSTRACT) is None


def test_a_saved_state_is_restored(tmp_path):
  _fill(tmp_path, {1: 5.0, 2: 4.0}).close()
  step, parts = Checkpoints(tmp_path).restore(ABSTRACT)
  assert (step, parts['meta']) == (2, {'value': 2})
  np.testing.assert_array_equal(parts['state']['x'], [2, 2, 2])


def test_the_newest_and_the_best_are_kept(tmp_path):
  values = {1: 5.0, 2: 9.0, 3: 7.0, 4: None, 5: 6.0, 6: None}
  checkpoints = _fill(tmp_path, values, keep_latest=2)
  assert checkpoints.steps() == [2, 5, 6]


def test_if_less_is_better_the_lowest_value_is_kept(tmp_path):
  values = {1: 5.0, 2: 9.0, 3: 7.0}
  checkpoints = _fill(tmp_path, values, keep_latest=1, best_mode='min')
  assert checkpoints.steps() == [1, 3]


def test_saved_values_are_those_at_the_time_of_the_save(tmp_path):
  """The next step reuses the buffers of this one."""
  checkpoints = Checkpoints(tmp_path)
  parts = _parts(1.0)
  grow = jax.jit(lambda x: x + 1, donate_argnums=0)
  for step in range(1, 5):
    checkpoints.save(step, parts)
    parts = {'state': {'x': grow(parts['state']['x'])}, 'meta': {'best': None}}
  checkpoints.close()
  loaded = Checkpoints(tmp_path).load(4, ABSTRACT)
  np.testing.assert_array_equal(loaded['state']['x'], [4, 4, 4])


def _break(folder):
  for file in folder.rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_damaged_checkpoint_is_reported_and_moved_away(tmp_path):
  _fill(tmp_path, {1: None, 2: None}).close()
  _break(tmp_path / '2')
  messages = []
  checkpoints = Checkpoints(tmp_path, say=messages.append)
  step, _ = checkpoints.restore(ABSTRACT)
  assert step == 1
  assert messages[0].startswith('the checkpoint of step 2 cannot be read')
  assert (tmp_path / 'broken-2').is_dir()
  checkpoints.save(2, _parts(20.0))  # does not prevent the new one
  checkpoints.close()
  loaded = Checkpoints(tmp_path).load(2, ABSTRACT)
  np.testing.assert_array_equal(loaded['state']['x'], [20, 20, 20])


def test_if_no_checkpoint_can_be_read_none_is_changed(tmp_path):
  _fill(tmp_path, {1: None}).close()
  _break(tmp_path / '1')
  with pytest.raises(ValueError, match=r'none of the checkpoints .* \(steps 1\)'):
    Checkpoints(tmp_path, say=lambda text: None).restore(ABSTRACT)
  assert (tmp_path / '1').is_dir()


def test_reading_does_not_disturb_a_save(tmp_path):
  _fill(tmp_path, {1: None}).close()
  half = tmp_path / '2.orbax-checkpoint-tmp'
  half.mkdir()
  Checkpoints(tmp_path, read_only=True)
  assert half.is_dir()
  _fill(
    tmp_path, {2: None}
  ).close()  # Orbax deletes old files in the background before it saves
  assert not half.is_dir()


@pytest.mark.parametrize(
  ('by', 'steps', 'mean'), [('last', [3, 2], 2.5), ('best', [1, 3], 2.0)]
)
def test_the_average_of_the_last_or_the_best(tmp_path, by, steps, mean):
  _fill(tmp_path, {1: 9.0, 2: 5.0, 3: 7.0}, keep_latest=3).close()
  checkpoints = Checkpoints(tmp_path, keep_best='bleu', read_only=True)
  used, state = checkpoints.average(2, ABSTRACT['state'], by=by)
  assert used == steps
  np.testing.assert_allclose(state['x'], mean)


def test_an_average_skips_a_damaged_checkpoint(tmp_path):
  _fill(tmp_path, {1: None, 2: None, 3: None}, keep_latest=3).close()
  _break(tmp_path / '3')
  checkpoints = Checkpoints(tmp_path, read_only=True, say=lambda text: None)
  assert checkpoints.average(2, ABSTRACT['state'])[0] == [2, 1]


def test_an_average_of_more_checkpoints_than_exist_is_refused(tmp_path):
  _fill(tmp_path, {1: None}).close()
  with pytest.raises(ValueError, match=r'3 checkpoints .* 1 can be read .* --average'):
    Checkpoints(tmp_path, read_only=True).average(3, ABSTRACT['state'])


def test_a_folder_without_checkpoints_cannot_be_read(tmp_path):
  with pytest.raises(FileNotFoundError, match='train first'):
    Checkpoints(tmp_path / 'none', read_only=True)
  with pytest.raises(FileNotFoundError, match='train first'):
    Checkpoints(tmp_path, read_only=True).average(1, ABSTRACT['state'])


def test_the_message_about_a_full_disk_names_the_last_good_step(small_disk):
  checkpoints = Checkpoints(small_disk / 'checkpoints')
  checkpoints.save(1, _parts(1.0))
  checkpoints.wait()
  noise = np.random.default_rng(0).random(2**20)  # 8 MiB, not to be compressed

  def save():
    checkpoints.save(2, {'state': {'x': jnp.asarray(noise)}, 'meta': {'best': None}})
    checkpoints.wait()

  with pytest.raises(OSError, match=r'no space left .* of step 1\. Free some'):
    save()
  assert checkpoints.steps() == [1]


# Orbax's unfinished write fails again when it is deleted.
_FAILS_ONCE_MORE = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)


@_FAILS_ONCE_MORE
@pytest.mark.parametrize('wait', [True, False])
def test_a_checkpoint_is_saved_when_the_disk_has_room_again(
  small_disk, fill, monkeypatch, wait
):
  """An error in the background is raised at the next save, which is then retried."""
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  messages = []

  def hear(text):
    messages.append(text)
    if len(messages) == 2:
      filler.unlink()

  checkpoints = Checkpoints(small_disk / 'run', keep_latest=9, retries=3, say=hear)
  checkpoints.save(1, _parts(1.0), wait=True)
  filler = fill(small_disk)
  checkpoints.save(2, _parts(2.0), wait=wait)
  if not wait:
    checkpoints.save(3, _parts(3.0))
  checkpoints.close()
  assert [text.partition('; ')[2] for text in messages] == [
    'trying again in 0.01 s (3 more)',
    'trying again in 0.02 s (2 more)',
  ]
  assert checkpoints.steps() == ([1, 2] if wait else [1, 3])
  newest, parts = Checkpoints(small_disk / 'run').restore(ABSTRACT)
  np.testing.assert_array_equal(parts['state']['x'], [newest] * 3)
  gc.collect()  # Orbax's unfinished write fails again


@_FAILS_ONCE_MORE
def test_the_message_about_a_full_disk_has_the_number_of_attempts(
  small_disk, fill, monkeypatch
):
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  checkpoints = Checkpoints(small_disk / 'run', retries=2, say=lambda text: None)
  checkpoints.save(1, _parts(1.0), wait=True)
  fill(small_disk)
  with pytest.raises(
    OSError, match=r'after 3 tries; the last good .* of step 1\. Free'
  ):
    checkpoints.save(2, _parts(2.0), wait=True)
  assert checkpoints.steps() == [1]
  gc.collect()


@pytest.mark.parametrize(
  'options',
  [
    {'keep_latest': 0},
    {'keep_latest': -1},
    {'keep_latest': 1.5},
    {'keep_best_n': 0},
    {'retries': -1},
    {'best_mode': 'least'},
  ],
)
def test_options_outside_their_domain_are_refused(tmp_path, options):
  with pytest.raises(ValueError, match=f'^{next(iter(options))} is .* must be'):
    Checkpoints(tmp_path, **options)


def test_checkpoints_without_the_metric_are_the_worst(tmp_path):
  """A forced run may rank by another metric; and a metric may not be a number."""
  checkpoints = Checkpoints(tmp_path, keep_best='loss', keep_latest=1)
  checkpoints.save(1, _parts(1), {'loss': 1.0})
  checkpoints.save(2, _parts(2), {'loss': 2.0})
  checkpoints.close()
  checkpoints = Checkpoints(tmp_path, keep_best='bleu', keep_latest=1)
  for step, bleu in ((3, 5.0), (4, float('nan')), (5, 4.0)):
    checkpoints.save(step, _parts(step), {'bleu': bleu})
  checkpoints.close()
  assert checkpoints.steps() == [3, 5]
  reader = Checkpoints(tmp_path, keep_best='bleu', read_only=True)
  assert reader.average(1, ABSTRACT['state'], by='best')[0] == [3]


def _open_files():
  return len(os.listdir('/proc/self/fd'))


def test_saving_leaves_no_file_and_no_thread_open(tmp_path):
  before = _open_files(), threading.active_count()
  checkpoints = Checkpoints(tmp_path)
  counts = []
  for step in range(1, 49):
    checkpoints.save(step, _parts(step), wait=True)
    counts.append((_open_files(), threading.active_count()))
  # The libraries' pools of threads reach their size within the first saves.
  early, late = counts[8:28], counts[28:]
  assert max(late)[0] <= max(early)[0] + 3
  assert max(n for _, n in late) <= max(n for _, n in early) + 3
  checkpoints.close()
  gc.collect()
  assert _open_files() <= before[0] + 2
  assert threading.active_count() <= before[1] + 1


def test_many_trials_in_one_process_leave_nothing_open(tmp_path):
  """A worker of a sweep runs trials in one process."""
  counts = []
  for trial in range(6):
    _fill(tmp_path / str(trial), {1: 1.0, 2: 2.0, 3: 3.0}).close()
    gc.collect()
    counts.append((_open_files(), threading.active_count()))
  assert counts[-1][0] <= counts[1][0]
  assert counts[-1][1] <= counts[1][1]


# Without files Orbax leaves half of an event loop behind.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_too_many_open_files_are_not_reported_as_a_full_disk(tmp_path):
  checkpoints = Checkpoints(tmp_path, retries=3, say=lambda text: None)
  checkpoints.save(1, _parts(1.0), wait=True)
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(
    resource.RLIMIT_NOFILE, (max(map(int, os.listdir('/proc/self/fd'))), hard)
  )
  held = []
  try:
    with contextlib.suppress(OSError):
      while True:
        held.append(os.open('/dev/null', os.O_RDONLY))
    with pytest.raises(
      OSError, match=r'^too many open files for .*ulimit -n'
    ) as caught:
      checkpoints.save(2, _parts(2.0), wait=True)
  finally:
    for handle in held:
      os.close(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
  assert 'no space' not in str(caught.value)
  checkpoints.close()
  assert Checkpoints(tmp_path, read_only=True).restore(ABSTRACT)[0] == 1
  del caught
  gc.collect()  # so that what Orbax left behind is found here


NAMES = [
  'lr[0.1]',
  '[!x]',
  'a\\b',
  '*',
  '?',
  '**',
  '{a,b}',
  'sp ace',
  'new\nline',
  '%5B',
]
NAMES += [
  '~',
  '日本',
  'gs:',
  'a' * 255,
  'x/../y',
  'bad\udcff',
  '/'.join(['d' * 200] * 12),
]


@pytest.mark.parametrize('name', NAMES, ids=lambda name: ascii(name)[1:20])
def test_a_folder_may_have_any_name(tmp_path, name):
  (tmp_path / 'x').mkdir()
  folder = tmp_path / name / 'checkpoints'
  _fill(folder, {1: 5.0, 2: 4.0}, keep_latest=1).close()
  checkpoints = Checkpoints(folder, keep_best='bleu')
  step, parts = checkpoints.restore(ABSTRACT)
  np.testing.assert_array_equal(parts['state']['x'], [step] * 3)
  checkpoints.save(3, _parts(3), {'bleu': 3.0})
  checkpoints.close()
  assert checkpoints.steps() == [1, 2, 3]
  reader = Checkpoints(folder, keep_best='bleu', read_only=True)
  assert reader.average(1, ABSTRACT['state'], by='best')[0] == [1]
  reader.close()
  first = name.split('/')[0]
  assert {p.name for p in tmp_path.iterdir()} <= {'x', 'y', first}


def test_messages_have_the_name_of_the_folder(tmp_path):
  folder, messages = tmp_path / 'a[1]', []
  _fill(folder, {1: None}).close()
  _break(folder / '1')
  with pytest.raises(
    ValueError, match=re.escape(f'none of the checkpoints in {folder}')
  ):
    Checkpoints(folder, say=messages.append).restore(ABSTRACT)
  assert '/proc/self' not in messages[0]


def test_a_linked_folder_is_written_at_its_target(tmp_path):
  (tmp_path / 'real').mkdir()
  (tmp_path / 'li[n]k').symlink_to(tmp_path / 'real')
  _fill(tmp_path / 'li[n]k' / 'checkpoints', {1: None}).close()
  assert Checkpoints(tmp_path / 'real' / 'checkpoints').restore(ABSTRACT)[0] == 1


def test_a_relative_folder_is_resolved_once(tmp_path, monkeypatch):
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path)
  checkpoints = Checkpoints(Path('run') / 'checkpoints')
  checkpoints.save(1, _parts(1.0))
  monkeypatch.chdir(tmp_path / 'elsewhere')
  checkpoints.save(2, _parts(2.0))
  checkpoints.close()
  assert not list((tmp_path / 'elsewhere').iterdir())
  assert Checkpoints(tmp_path / 'run' / 'checkpoints').steps() == [1, 2]


def test_a_first_checkpoint_that_cannot_be_read_back_is_an_error(tmp_path, monkeypatch):
  finalize = module._SealedPath._finalize

  def lose(self):
    finalize(self)
    shutil.rmtree(self._final_path / 'state' / 'd')

  monkeypatch.setattr(module._SealedPath, '_finalize', lose)
  checkpoints = Checkpoints(tmp_path)
  with pytest.raises(OSError, match=r'of step 1 in .* cannot be read back'):
    checkpoints.save(1, _parts(1.0), wait=True)
  checkpoints.close()
  checkpoints = Checkpoints(tmp_path / 'background')
  checkpoints.save(1, _parts(1.0))
  with pytest.raises(OSError, match=r'of step 1 in .* cannot be read back'):
    checkpoints.close()


@pytest.mark.parametrize('damage', ['removed', 'replaced', 'renamed'])
def test_a_deleted_folder_is_not_created_again(tmp_path, damage):
  folder = tmp_path / 'run' / 'checkpoints'
  checkpoints = Checkpoints(folder)
  checkpoints.save(1, _parts(1.0), wait=True)
  if damage == 'renamed':
    (tmp_path / 'run').rename(tmp_path / 'other')
  else:
    shutil.rmtree(tmp_path / 'run')
  if damage == 'replaced':
    folder.mkdir(parents=True)
  with pytest.raises(FileNotFoundError, match=r'was removed, renamed or replaced'):
    checkpoints.save(2, _parts(2.0))
  checkpoints.close()
  assert not folder.exists() or not list(folder.iterdir())


def _files(folder):
  return sorted(p for p in folder.rglob('*') if p.is_file())


def _spoil(content, damage):
  if damage == 'flip':
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
  return {'empty': b'', 'zero': bytes(len(content)), 'long': content + b'x'}[damage]


@pytest.mark.parametrize(
  'damage',
  [
    *('flip', 'gone'),
    *(
      pytest.param(damage, marks=pytest.mark.slow)
      for damage in ('empty', 'zero', 'long')
    ),
  ],
)
def test_damage_to_any_file_leads_to_the_previous_checkpoint(tmp_path, damage):
  _fill(tmp_path / 'run', {1: 1.0, 2: 2.0}).close()
  names = [p.relative_to(tmp_path / 'run') for p in _files(tmp_path / 'run' / '2')]
  assert len(names) > 10
  for number, name in enumerate(names):
    folder, messages = tmp_path / str(number), []
    shutil.copytree(tmp_path / 'run', folder)
    if damage == 'gone':
      (folder / name).unlink()
    else:
      (folder / name).write_bytes(_spoil((folder / name).read_bytes(), damage))
    reader = Checkpoints(folder, keep_best='bleu', read_only=True, say=messages.append)
    for by in ('last', 'best'):
      used, state = reader.average(1, ABSTRACT['state'], by=by)
      assert used == [1], name
      np.testing.assert_array_equal(state['x'], [1, 1, 1])
    with pytest.raises(DamagedError, match=r'of step 2 in .* is damaged: '):
      reader.load(2, ABSTRACT)
    reader.close()
    checkpoints = Checkpoints(folder, keep_best='bleu', say=messages.append)
    step, parts = checkpoints.restore(ABSTRACT)
    assert (step, parts['meta']) == (1, {'value': 1}), name
    if number == 0:  # it does not prevent the new one
      checkpoints.save(2, _parts(2), {'bleu': 2.0})
      checkpoints.close()
      assert Checkpoints(folder).steps() == [1, 2]
    checkpoints.close()
    assert {text.partition(' (')[0] for text in messages} == {
      'the checkpoint of step 2 cannot be read',
      'used instead: the checkpoints of steps [1]',
    }
    shutil.rmtree(folder)


def test_an_intact_checkpoint_of_another_state_is_not_moved_away(tmp_path):
  _fill(tmp_path, {1: None, 2: None}).close()
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  other = {'y': jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)}
  with pytest.raises(ValueError, match=r'of step 2 .* is intact and cannot be loaded'):
    Checkpoints(tmp_path).restore({'state': other, 'meta': None})
  assert Checkpoints(tmp_path).steps() == [1, 2]


def test_a_checkpoint_cannot_be_mistaken_for_another(tmp_path):
  _fill(tmp_path, {1: None, 2: None}).close()
  (tmp_path / '2').rename(tmp_path / '3')
  messages = []
  assert Checkpoints(tmp_path, say=messages.append).restore(ABSTRACT)[0] == 1
  assert 'belongs to step 2' in messages[0]


def _unseal(folder):
  """Turns a checkpoint into one of a version without seals."""
  (folder / seal.NAME).write_text(f'Checkpoint commit was successful to {folder}')


def test_checkpoints_of_earlier_versions_are_loaded(tmp_path):
  _fill(tmp_path, {1: 1.0, 2: 2.0}).close()
  _unseal(tmp_path / '1')
  _unseal(tmp_path / '2')
  messages = []
  checkpoints = Checkpoints(
    tmp_path, keep_best='bleu', keep_latest=1, say=messages.append
  )
  step, parts = checkpoints.restore(ABSTRACT)
  assert (step, parts['meta'], messages) == (2, {'value': 2}, [])
  np.testing.assert_array_equal(parts['state']['x'], [2, 2, 2])
  checkpoints.save(3, _parts(3), {'bleu': 1.5})
  checkpoints.close()
  assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize(
  'name', ['_CHECKPOINT_METADATA', 'metrics/metrics', 'state/_METADATA']
)
def test_empty_files_of_an_earlier_version_lead_to_the_previous_checkpoint(
  tmp_path, name
):
  _fill(tmp_path, {1: 1.0, 2: 2.0}).close()
  for step in '12':
    _unseal(tmp_path / step)
  (tmp_path / '2' / name).write_bytes(b'')
  messages = []
  checkpoints = Checkpoints(tmp_path, keep_best='bleu', say=messages.append)
  assert checkpoints.restore(ABSTRACT)[0] == 1
  assert 'the checkpoint of step 2 cannot be read' in messages[0]
  checkpoints.save(2, _parts(2), {'bleu': 2.0})
  checkpoints.close()
  assert (tmp_path / 'broken-2').is_dir()


def test_an_older_damaged_checkpoint_does_not_prevent_saving(tmp_path):
  _fill(tmp_path, {1: 9.0, 2: 2.0}).close()
  (tmp_path / '1' / 'metrics' / 'metrics').write_bytes(b'')
  messages = []
  checkpoints = Checkpoints(tmp_path, keep_best='bleu', say=messages.append)
  assert checkpoints.restore(ABSTRACT)[0] == 2
  checkpoints.save(3, _parts(3), {'bleu': 2.0})
  checkpoints.close()
  assert messages == ['the damaged checkpoint of step 1 is now broken-1']
  assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize('name', ['007', '²', '5', '1.orbax-checkpoint-tmp'])
def test_an_entry_that_is_not_a_checkpoint_is_ignored(tmp_path, name):
  _fill(tmp_path, {1: None}).close()
  if name == '5':
    (tmp_path / name).write_text('a file')
  else:
    (tmp_path / name).mkdir()
  assert Checkpoints(tmp_path).restore(ABSTRACT)[0] == 1


def test_a_power_cut_leaves_the_newest_checkpoint_intact(tmp_path, power):
  checkpoints = _fill(tmp_path / 'run', {1: 1.0, 2: 2.0, 3: 3.0})
  copy, messages = power(tmp_path / 'run', tmp_path / 'copy'), []
  after = Checkpoints(copy, keep_best='bleu', say=messages.append)
  step, parts = after.restore(ABSTRACT)
  assert (step, parts['meta'], messages) == (3, {'value': 3}, [])
  np.testing.assert_array_equal(parts['state']['x'], [3, 3, 3])
  checkpoints.close()


def test_a_checkpoint_has_its_name_only_when_it_is_on_the_disk(
  tmp_path, power, monkeypatch
):
  """At any change of a name a power cut leaves intact checkpoints or none."""
  rename, copies = Path.rename, []

  def watch(self, target):
    copies.append(power(tmp_path / 'run', tmp_path / f'before-{len(copies)}'))
    result = rename(self, target)
    files.sync(Path(target).parent)
    copies.append(power(tmp_path / 'run', tmp_path / f'after-{len(copies)}'))
    return result

  monkeypatch.setattr(Path, 'rename', watch)
  _fill(tmp_path / 'run', {1: 1.0, 2: 2.0}).close()
  monkeypatch.undo()
  assert len(copies) == 4
  messages = []
  for copy, expected in zip(copies, [None, 1, 1, 2], strict=True):
    restored = Checkpoints(copy, say=messages.append).restore(ABSTRACT)
    assert (restored and restored[0]) == expected
  assert messages == []


def test_a_seal_lists_every_file(tmp_path):
  _fill(tmp_path, {1: 1.0}).close()
  listed = json.loads((tmp_path / '1' / seal.NAME).read_text())['files']
  files = {p.relative_to(tmp_path / '1').as_posix() for p in _files(tmp_path / '1')}
  assert set(listed) == files - {seal.NAME}


def test_a_part_of_a_large_state_is_read_back(tmp_path, monkeypatch):
  """The smallest arrays up to a megabyte: not all may fit a device twice."""
  rows = jax.NamedSharding(jax.make_mesh((4,), ('rows',)), jax.P('rows'))
  state = {
    'large': jnp.zeros((1000, 500)),
    'rows': jax.device_put(jnp.arange(32.0).reshape(8, 4), rows),
    'inner': {'half': jnp.arange(6, dtype=jnp.bfloat16), 'nan': jnp.float32(jnp.nan)},
    'places': [jnp.ones(2), (jnp.ones(3), None)],
    'number': 7,
  }
  load, states = Checkpoints._load, []

  def watch(self, step, abstract, **options):
    loaded = load(self, step, abstract, **options)
    states.append(loaded['state'])
    return loaded

  monkeypatch.setattr(Checkpoints, '_load', watch)
  checkpoints = Checkpoints(tmp_path, keep_latest=3)
  for step in (1, 2, 3):
    checkpoints.save(step, {'state': state, 'meta': {'best': None}})
  checkpoints.close()
  assert len(states) == 1  # of the first save only
  names = [
    jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(states[0])
  ]
  assert names == ["['inner']['half']", "['inner']['nan']", "['rows']"]
  assert states[0]['rows'].sharding == rows


def test_values_that_differ_from_the_saved_ones_are_an_error(tmp_path, monkeypatch):
  monkeypatch.setattr(
    Checkpoints, '_load', lambda *_, **__: {'state': {'x': jnp.zeros(3)}}
  )
  checkpoints = Checkpoints(tmp_path)
  with pytest.raises(OSError, match='has other values than were saved'):
    checkpoints.save(1, _parts(1.0), wait=True)
  checkpoints.close()


def test_a_save_that_cannot_create_its_folder_does_not_delay_the_exit(tmp_path):
  """Orbax's threads would wait ten minutes for a folder, and the process for them."""
  before = threading.active_count()
  checkpoints = Checkpoints(tmp_path / 'run', retries=0)
  checkpoints.save(1, _parts(1.0), wait=True)
  (tmp_path / 'run').rename(tmp_path / 'other')
  shutil.rmtree(tmp_path / 'other')
  with pytest.raises(FileNotFoundError):
    checkpoints._begin(2, _parts(2.0), None)
  with contextlib.suppress(OSError):
    checkpoints.close()
  deadline = time.monotonic() + 10
  while threading.active_count() > before + 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  names = [thread.name for thread in threading.enumerate()]
  assert len(names) <= before + 2, names
