import errno
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from seqlab.data import store as store_module
from seqlab.data.store import TokenStore, encode, encode_corpus
from seqlab.io import cache as cache_module
from seqlab.io.cache import note
from seqlab.text.vocabulary import Vocabularies, train_vocabulary
from seqlab.types import EOS, PAD, UNK

LINES = ['a b c', '', 'b', 'd a a a', 'b unseen', 'c']


@pytest.fixture(scope='module')
def words():
  return train_vocabulary(['a b c d', 'a b c', 'a b', 'a'], kind='word')  # a is 4


@pytest.fixture(scope='module')
def pieces():
  text = [f'{a}{b}{c}' for a in 'abcde' for b in 'abcde' for c in 'abcde']
  return train_vocabulary(text, kind='bpe', size=40)


class Corpus:
  """Lines in memory, and the number of times they were read."""

  name, sides = 'memory', {'source': 'en', 'target': 'de'}

  def __init__(self, source, target):
    self.lines, self.reads = (source, target), 0

  def read(self, split):
    self.reads += 1
    return self.lines

  def skipped(self, split):
    return 3

  def fingerprint(self, split):
    return hashlib.sha256(repr((split, self.lines)).encode()).hexdigest()


def encoded(*args, **options):
  """Returns the stores of all sides in their order."""
  return tuple(encode_corpus(*args, **options).sides.values())


def sentences(store):
  return [store[row].tolist() for row in range(len(store))]


def left_over(cache):
  return [path.name for path in (cache / 'tokens').iterdir() if path.name[0] == '.']


def test_each_sentence_is_its_words_and_eos(words):
  assert sentences(encode(LINES, words)) == [
    [4, 5, 6, EOS],
    [EOS],
    [5, EOS],
    [7, 4, 4, 4, EOS],
    [5, UNK, EOS],
    [6, EOS],
  ]


def test_offsets_are_the_starts_of_sentences_across_chunks_too(words, monkeypatch):
  whole = encode(LINES, words)
  monkeypatch.setattr(store_module, '_CHUNK', 2)
  chunked = encode(LINES, words)
  assert chunked.offsets.tolist() == [0, 4, 5, 7, 12, 15, 17]
  assert chunked.lengths.tolist() == [4, 1, 2, 5, 3, 2]
  assert sentences(chunked) == sentences(whole)


def test_no_lines_give_an_empty_store(words):
  empty = encode([], words)
  assert len(empty) == 0
  assert empty.offsets.tolist() == [0]


@pytest.mark.parametrize(('size', 'dtype'), [(2**16, np.uint16), (2**16 + 1, np.int32)])
def test_ids_take_two_bytes_where_they_fit(size, dtype):
  class Large:
    def encode(self, lines):
      return np.full(len(lines), self.size - 1), np.arange(len(lines) + 1)

  Large.size = size
  store = encode(['x', 'y'], Large())
  assert store.ids.dtype == dtype
  assert store[1].tolist() == [size - 1, EOS]


@pytest.mark.parametrize('sampling', [0.0, 0.3])
def test_workers_change_nothing(pieces, monkeypatch, sampling):
  monkeypatch.setattr(store_module, '_CHUNK', 50)  # three jobs
  lines = [f'{a}{b}cde{b}{a}' for a in 'abcdefgh' for b in 'abcdefghijklmnop']
  alone = encode(lines, pieces, sampling=sampling, seed=1, workers=0)
  shared = encode(lines, pieces, sampling=sampling, seed=1, workers=2)
  np.testing.assert_array_equal(shared.ids, alone.ids)
  np.testing.assert_array_equal(shared.offsets, alone.offsets)


def test_sampling_depends_on_its_seed_only(pieces):
  lines = ['abcdeabcde'] * 20
  first, again, other = (
    encode(lines, pieces, sampling=0.3, seed=seed) for seed in (1, 1, 2)
  )
  assert sentences(first) == sentences(again)
  assert sentences(first) != sentences(other)
  assert len(set(map(tuple, sentences(first)))) > 1  # also within a chunk


def test_gather_puts_sentences_side_by_side(words):
  rows = encode(LINES, words).gather(np.array([2, 0, -1, 2, 1]), 5)
  assert rows.dtype == np.int32
  assert rows.tolist() == [
    [5, EOS, PAD, PAD, PAD],
    [4, 5, 6, EOS, PAD],
    [PAD] * 5,
    [5, EOS, PAD, PAD, PAD],
    [EOS, PAD, PAD, PAD, PAD],
  ]


def test_gather_of_no_rows_keeps_the_width(words):
  assert encode(LINES, words).gather(np.zeros(0, np.int64), 5).shape == (0, 5)


def test_gather_truncates_nothing(words):
  with pytest.raises(ValueError, match=r'sentence 3 has 5 ids; width is 4'):
    encode(LINES, words).gather(np.array([0, 3]), 4)


def test_numpy_reads_the_files(words, tmp_path):
  store = encode(LINES, words)
  store.write(tmp_path, 'side')
  for name in ('ids', 'offsets'):
    array = np.load(tmp_path / f'side.{name}.npy')
    np.testing.assert_array_equal(array, getattr(store, name))
    assert array.dtype == getattr(store, name).dtype


def test_a_corpus_is_encoded_once(words, tmp_path):
  corpus, both = Corpus(LINES, LINES[::-1]), Vocabularies(words, words)
  first = encoded(corpus, 'train', both, cache=tmp_path)
  again = encoded(corpus, 'train', both, cache=tmp_path)
  assert corpus.reads == 1
  for old, new, lines in zip(first, again, corpus.lines, strict=True):
    assert sentences(old) == sentences(new) == sentences(encode(lines, words))


def test_the_count_of_skipped_pairs_is_known_without_reading_the_text(words, tmp_path):
  both, lines = Vocabularies(words, words), (LINES, LINES)
  first = encode_corpus(Corpus(*lines), 'train', both, cache=tmp_path)
  later = Corpus(*lines)
  again = encode_corpus(later, 'train', both, cache=tmp_path)
  assert later.reads == 0
  assert first.skipped == again.skipped == 3


def test_text_of_one_side_is_encoded(words, tmp_path):
  class Text(Corpus):
    sides = {'text': 'en'}  # noqa: RUF012

  text = Text(LINES, None)
  text.lines = (LINES,)
  for _ in range(2):
    store = encode_corpus(text, 'train', Vocabularies(text=words), cache=tmp_path)
    assert [*store.sides] == ['text']
    assert sentences(store.sides['text']) == sentences(encode(LINES, words))


def test_a_changed_corpus_is_noticed(words, tmp_path):
  both = Vocabularies(words, words)
  encoded(Corpus(['a'], ['b']), 'train', both, cache=tmp_path)
  changed = encoded(Corpus(['a'], ['c']), 'train', both, cache=tmp_path)
  assert sentences(changed[1]) == [[6, EOS]]


def test_each_split_has_its_own_entry(words, tmp_path):
  corpus, both = Corpus(['a'], ['b']), Vocabularies(words, words)
  encoded(corpus, 'train', both, cache=tmp_path)
  encoded(corpus, 'valid', both, cache=tmp_path)
  assert corpus.reads == 2


@pytest.mark.parametrize('side', [0, 1])
def test_a_changed_vocabulary_is_noticed(words, tmp_path, side):
  corpus = Corpus(['a b'], ['a b'])
  encoded(corpus, 'train', Vocabularies(words, words), cache=tmp_path)
  both = [words, words]
  both[side] = train_vocabulary(['b b a'], kind='word')
  changed = encoded(corpus, 'train', Vocabularies(*both), cache=tmp_path)
  assert sentences(changed[side]) == [[5, 4, EOS]]
  assert sentences(changed[1 - side]) == [[4, 5, EOS]]


def test_each_segmentation_has_its_own_folder(pieces, tmp_path):
  corpus, both = Corpus(['abcdeabcde'] * 9, ['a'] * 9), Vocabularies(pieces, pieces)
  folders = [
    sentences(encoded(corpus, 'train', both, cache=tmp_path, **options)[0])
    for options in ({}, {'sampling': 0.4}, {'sampling': 0.4, 'seed': 1})
  ]
  assert corpus.reads == 3
  assert folders[0] != folders[1] != folders[2] != folders[0]


def test_a_failure_leaves_nothing_behind(words, tmp_path, monkeypatch):
  corpus, both = Corpus(LINES, LINES), Vocabularies(words, words)
  write = TokenStore.write

  def fail(self, directory, name):
    write(self, directory, name)
    if name == 'target':
      raise OSError(errno.EIO, 'the disk is broken')

  monkeypatch.setattr(TokenStore, 'write', fail)
  with pytest.raises(OSError, match='the disk is broken'):
    encoded(corpus, 'train', both, cache=tmp_path)
  assert list((tmp_path / 'tokens').iterdir()) == []


def test_another_process_may_be_faster(words, tmp_path):
  both = Vocabularies(words, words)

  class Slow(Corpus):
    def read(self, split):
      if not self.reads:  # while this process reads, another one does the same work
        self.reads += 1
        encoded(self, split, both, cache=tmp_path)
      return super().read(split)

  source, _ = encoded(Slow(LINES, LINES), 'train', both, cache=tmp_path)
  assert sentences(source) == sentences(encode(LINES, words))
  assert left_over(tmp_path) == []


def test_a_full_disk_is_named_with_the_space_that_is_needed(words, small_disk):
  both = Vocabularies(words, words)
  lines = ['a'] * 60_000  # 120,000 ids of 2 bytes, 60,001 offsets of 8; two sides
  with pytest.raises(
    OSError, match=r'no space left .*: 1\.4 MiB are needed; .*SEQLAB_CACHE'
  ) as caught:
    encoded(Corpus(lines, lines), 'train', both, cache=small_disk)
  assert caught.value.errno == errno.ENOSPC
  assert caught.value.filename == str(small_disk / 'tokens')
  assert list((small_disk / 'tokens').iterdir()) == []


def test_a_full_disk_can_be_written_again_afterwards(words, small_disk):
  both = Vocabularies(words, words)
  lines = ['a'] * 60_000
  with pytest.raises(OSError, match='no space left'):
    encoded(Corpus(lines, lines), 'train', both, cache=small_disk)
  few = encoded(Corpus(LINES, LINES), 'train', both, cache=small_disk)
  assert sentences(few[1]) == sentences(encode(LINES, words))


# Writes half of an entry, prints a line, and waits to be killed.
HALF = """
import sys, time
from pathlib import Path
from seqlab.io.cache import publish

with publish(Path(sys.argv[1]), 'half', 1) as folder:
  (folder / 'half').write_text('x')
  print('half', flush=True)
  time.sleep(60)
"""


def test_a_vocabulary_that_gives_an_id_it_does_not_have_is_refused(words, tmp_path):
  class Wrong:
    size, fingerprint = 5, 'wrong'

    def encode(self, lines):
      return np.full(len(lines), 5), np.arange(len(lines) + 1)

  both = Vocabularies(words, Wrong())
  with pytest.raises(ValueError, match=r'gives the id 5, and the vocabulary has 5'):
    encoded(Corpus(LINES, LINES), 'train', both, cache=tmp_path)
  assert list((tmp_path / 'tokens').iterdir()) == []


def write_entry(folder, **arrays):
  """Rewrites arrays of an entry as if these had been encoded, with their digests."""
  metadata = json.loads((folder / 'about.json').read_text('utf-8'))
  (folder / 'about.json').unlink()
  for name, array in arrays.items():
    np.save(folder / f'{name.replace("_", ".")}.npy', array)
  note(folder, {k: v for k, v in metadata.items() if k not in ('files', 'sha256')})


@pytest.mark.parametrize(
  'arrays',
  [
    {'source_ids': np.full(17, 9, np.uint16)},
    {'target_ids': np.full(17, -1, np.int32)},
    {'target_offsets': np.array([0, 4, 5, 7, 12, 15, 18])},
    {'target_offsets': np.array([0, 4, 5, 3, 12, 15, 17])},
    {'target_offsets': np.array([1, 4, 5, 7, 12, 15, 17])},
    {'source_ids': np.full(17, 0.5)},
  ],
)
def test_ids_outside_the_vocabulary_are_encoded_again(words, tmp_path, capsys, arrays):
  both, corpus = Vocabularies(words, words), Corpus(LINES, LINES)
  encoded(corpus, 'train', both, cache=tmp_path)
  [folder] = (tmp_path / 'tokens').iterdir()
  write_entry(folder, **arrays)
  source, target = encoded(corpus, 'train', both, cache=tmp_path)
  assert sentences(source) == sentences(target) == sentences(encode(LINES, words))
  assert 'it is built again' in capsys.readouterr().err


@pytest.mark.parametrize('limit', [0, 1 << 26])
@pytest.mark.parametrize('name', ['source.ids.npy', 'target.offsets.npy', 'about.json'])
def test_a_damaged_entry_is_named_and_encoded_again(
  words, tmp_path, monkeypatch, capsys, name, limit
):
  monkeypatch.setattr(cache_module, '_IN_MEMORY', limit)
  both, corpus = Vocabularies(words, words), Corpus(LINES, LINES)
  encoded(corpus, 'train', both, cache=tmp_path)
  [folder] = (tmp_path / 'tokens').iterdir()
  data = bytearray((folder / name).read_bytes())
  data[-3] ^= 1
  (folder / name).write_bytes(data)
  source, target = encoded(corpus, 'train', both, cache=tmp_path)
  assert sentences(source) == sentences(target) == sentences(encode(LINES, words))
  errors = capsys.readouterr().err
  assert f'the encoded corpus memory train in the cache: {folder} has a ' in errors
  encoded(corpus, 'train', both, cache=tmp_path)
  assert corpus.reads == 2
  assert not capsys.readouterr().err


def test_a_large_store_is_mapped_and_has_the_same_values(words, tmp_path, monkeypatch):
  monkeypatch.setattr(cache_module, '_IN_MEMORY', 0)
  both = Vocabularies(words, words)
  source, _ = encoded(Corpus(LINES, LINES), 'train', both, cache=tmp_path)
  assert isinstance(source.ids, np.memmap)
  assert sentences(source) == sentences(encode(LINES, words))
  rows = np.array([2, 0, -1])
  np.testing.assert_array_equal(
    source.gather(rows, 5), encode(LINES, words).gather(rows, 5)
  )


def test_a_store_of_earlier_versions_is_made_again(words, tmp_path, capsys):
  both, corpus = Vocabularies(words, words), Corpus(LINES, LINES)
  encoded(corpus, 'train', both, cache=tmp_path)
  [path] = (tmp_path / 'tokens').glob('*/about.json')
  metadata = json.loads(path.read_text('utf-8'))
  del metadata['files'], metadata['sha256']
  path.write_text(json.dumps(metadata), 'utf-8')
  encoded(corpus, 'train', both, cache=tmp_path)
  assert corpus.reads == 2
  assert 'is of an earlier version without digests' in capsys.readouterr().err


def test_files_of_a_killed_process_are_deleted_by_the_next_one(words, tmp_path):
  both = Vocabularies(words, words)
  command = [sys.executable, '-c', HALF, str(tmp_path / 'tokens' / 'x')]
  process = subprocess.Popen(command, stdout=subprocess.PIPE)
  process.stdout.readline()
  encoded(Corpus(LINES, LINES), 'train', both, cache=tmp_path)
  assert len(left_over(tmp_path)) == 1  # its process is running
  process.kill()
  process.communicate()
  encoded(Corpus(LINES, LINES), 'valid', both, cache=tmp_path)
  assert not left_over(tmp_path)
