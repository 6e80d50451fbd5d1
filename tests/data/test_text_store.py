import errno
import json

import numpy as np
import pytest

from seqlab.data import text_store
from seqlab.data.text_store import cached_words, encode_text
from seqlab.io import cache as cache_module
from seqlab.text import plain
from seqlab.text.phrases import Phrases
from seqlab.text.plain import open_text
from seqlab.text.words import WordCounts, count_words, tokenize

LINES = ['B a a', '', 'x', 'c? b x A', 'a']


def write(path, lines):
  path.write_text(''.join(f'{line}\n' for line in lines), 'utf-8')
  return open_text(path=path)


@pytest.fixture
def corpus(tmp_path):
  return write(tmp_path / 'my.txt', LINES)


@pytest.fixture
def words():
  return WordCounts(['a', 'b', 'c'], [4, 2, 1], 9)


def rows(store):
  return [store[row].tolist() for row in range(len(store))]


def test_a_line_is_a_row_of_its_known_words(corpus, words, tmp_path):
  store = encode_text(corpus, words, tmp_path)
  assert rows(store) == [[1, 0, 0], [], [], [2, 1, 0], [0]]
  assert store.lengths.tolist() == [3, 0, 0, 3, 1]


def test_the_number_of_all_words_is_kept(corpus, words, tmp_path):
  assert encode_text(corpus, words, tmp_path).total == 9
  assert encode_text(corpus, words, tmp_path).total == 9  # from the cache


def test_large_ids_are_mapped_from_disk(corpus, words, tmp_path, monkeypatch):
  monkeypatch.setattr(cache_module, '_IN_MEMORY', 0)
  store = encode_text(corpus, words, tmp_path)
  assert isinstance(store.ids, np.memmap)
  assert store.ids.dtype == np.uint16


def test_large_vocabularies_take_four_bytes(corpus, tmp_path):
  names = [f'w{i}' for i in range(2**16)]
  words = WordCounts([*names, 'a'], np.arange(2**16 + 1, 0, -1), 10**9)
  store = encode_text(corpus, words, tmp_path)
  assert store.ids.dtype == np.int32
  assert rows(store)[0] == [2**16, 2**16]


@pytest.fixture
def large(tmp_path, monkeypatch):
  monkeypatch.setattr(plain, '_CHUNK', 1 << 10)
  random = np.random.default_rng(0)
  lines = [
    ' '.join('abcdefgh'[i] for i in random.integers(0, 8, random.integers(0, 12)))
    for _ in range(2_000)
  ]
  return write(tmp_path / 'large.txt', lines), lines


def test_rows_are_the_lines_across_chunks(large, tmp_path):
  corpus, lines = large
  words = count_words(corpus, max_size=6)
  expected = [words.encode(tokenize(line)).tolist() for line in lines]
  assert rows(encode_text(corpus, words, tmp_path)) == expected


def test_workers_change_nothing(large, tmp_path):
  corpus, _ = large
  words = count_words(corpus, max_size=6)
  alone = encode_text(corpus, words, tmp_path / '0', workers=0)
  shared = encode_text(corpus, words, tmp_path / '2', workers=2)
  np.testing.assert_array_equal(shared.ids, alone.ids)
  np.testing.assert_array_equal(shared.offsets, alone.offsets)


def test_phrases_are_joined_first(corpus, tmp_path):
  words = WordCounts(['a', 'b_a'], [3, 1], 8, Phrases([{('b', 'a'): 1.0}]))
  assert rows(encode_text(corpus, words, tmp_path))[0] == [1, 0]


def test_a_text_is_encoded_once(corpus, words, tmp_path, monkeypatch):
  first = encode_text(corpus, words, tmp_path)
  monkeypatch.setattr(text_store, 'in_order', None)
  assert rows(encode_text(corpus, words, tmp_path)) == rows(first)


def test_a_changed_text_or_vocabulary_is_noticed(corpus, words, tmp_path):
  encode_text(corpus, words, tmp_path)
  other = WordCounts(['b', 'a', 'c'], [4, 2, 1], 9)
  assert rows(encode_text(corpus, other, tmp_path))[0] == [0, 1, 1]
  changed = write(tmp_path / 'my.txt', ['c'])
  assert rows(encode_text(changed, words, tmp_path)) == [[2]]


def test_a_failure_leaves_nothing_behind(tmp_path, words):
  path = tmp_path / 'my.txt'
  path.write_bytes(b'a\nb\n\xff\n')
  with pytest.raises(ValueError, match=r'line 3 of my\.txt is not UTF-8'):
    encode_text(open_text(path=path), words, tmp_path)
  assert list((tmp_path / 'tokens').iterdir()) == []


def test_a_full_disk_is_named_with_the_space_that_is_needed(tmp_path, small_disk):
  corpus = write(tmp_path / 'my.txt', ['a ' * 900_000])
  words = count_words(corpus)
  with pytest.raises(OSError, match=r'no space left .*: 1\.7 MiB are needed') as caught:
    encode_text(corpus, words, small_disk)
  assert caught.value.errno == errno.ENOSPC
  assert list((small_disk / 'tokens').iterdir()) == []


def test_the_folder_records_its_text_and_vocabulary(corpus, words, tmp_path):
  encode_text(corpus, words, tmp_path)
  [folder] = (tmp_path / 'tokens').iterdir()
  metadata = json.loads((folder / 'about.json').read_text('utf-8'))
  assert metadata['text'] == corpus.fingerprint
  assert metadata['words'] == words.fingerprint


def test_words_are_counted_once(corpus, tmp_path, monkeypatch):
  options = {'min_count': 1, 'phrases': Phrases([{('b', 'a'): 1.0}])}
  first = cached_words(corpus, tmp_path, **options)
  assert first.fingerprint == count_words(corpus, **options).fingerprint
  monkeypatch.setattr(text_store, 'count_words', None)
  again = cached_words(corpus, tmp_path, **options, workers=0)
  assert again.fingerprint == first.fingerprint


def test_other_words_are_counted_again(corpus, tmp_path):
  assert cached_words(corpus, tmp_path, min_count=2).words == ['a', 'b', 'x']
  assert cached_words(corpus, tmp_path, min_count=4).words == ['a']
  phrases = Phrases([{('b', 'x'): 1.0}])
  joined = cached_words(corpus, tmp_path, min_count=1, phrases=phrases)
  assert 'b_x' in joined
  changed = write(tmp_path / 'my.txt', ['c c'])
  assert cached_words(changed, tmp_path, min_count=2).words == ['c']


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    *[('tokens', name) for name in ('text.ids.npy', 'text.offsets.npy', 'about.json')],
    *[('words', name) for name in ('words.tsv', 'words.phrases.tsv', 'about.json')],
  ],
)
@pytest.mark.parametrize('damage', ['empty', 'cut', 'flipped', 'gone'])
def test_a_damaged_entry_is_named_and_built_again(
  corpus, tmp_path, capsys, kind, name, damage
):
  options = {'min_count': 1, 'phrases': Phrases([{('b', 'a'): 1.0}])}

  def make():
    words = cached_words(corpus, tmp_path, **options)
    store = encode_text(corpus, words, tmp_path)
    return words.words, words.counts.tolist(), rows(store), store.total

  right = make()
  [path] = (tmp_path / kind).glob(f'*/{name}')
  data = path.read_bytes()
  if damage == 'gone':
    path.unlink()
  else:
    flipped = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    path.write_bytes({'empty': b'', 'cut': data[:-1], 'flipped': flipped}[damage])
  assert make() == right
  assert f'in the cache: {path.parent} has ' in capsys.readouterr().err
  assert make() == right
  assert not capsys.readouterr().err
