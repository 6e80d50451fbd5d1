"""Vectors of words and their n-grams, compared with fastText 0.9.2 and with loops.

tests/fixtures/fasttext.bin is a skip-gram model of fastText (dim=3, bucket=40, minn=2,
maxn=4); fasttext.json has its n-grams and vectors of words, some of them unseen.
"""

import gzip
import json
from pathlib import Path
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.embeddings import subwords as module
from seqlab.embeddings.formats import read
from seqlab.embeddings.subwords import Parts, Subwords, fnv1a
from seqlab.embeddings.vectors import SubwordVectors, Vectors, load_vectors

FIXTURES = Path(__file__).parents[1] / 'fixtures'
MODEL = FIXTURES / 'fasttext.bin'
WORDS = json.loads((FIXTURES / 'fasttext.json').read_text('utf-8'))
HEAD = 92  # bytes before the dictionary


@pytest.mark.parametrize(
  ('data', 'value'),
  [(b'', 0x811C9DC5), (b'a', 0xE40C292C), (b'foobar', 0xBF9CF968)],
)
def test_the_hash_is_that_of_the_published_vectors_of_fnv1a(data, value):
  assert fnv1a(data) == value


def test_bytes_from_128_on_are_extended_with_their_sign():
  assert fnv1a(b'\xd0') == (0x811C9DC5 ^ 0xFFFFFFD0) * 16_777_619 % 2**32


def test_ngrams_are_in_the_buckets_of_fasttext():
  lists = Subwords(2, 4, 40).buckets([word.encode() for word in WORDS])
  for i, entry in enumerate(WORDS.values()):
    values = lists.values[lists.starts[i] : lists.starts[i + 1]]
    assert values.tolist() == entry['buckets']


def test_a_mark_alone_is_not_an_ngram():
  lists = Subwords(1, 1, 1_000).buckets([b'ab', b'', b'c'])
  assert lists.starts.tolist() == [0, 2, 2, 3]
  assert lists.values.tolist() == [fnv1a(c) % 1_000 for c in (b'a', b'b', b'c')]


def test_without_lengths_there_are_no_ngrams():
  assert Subwords(0, 0).buckets([b'word']).starts.tolist() == [0, 0]
  with pytest.raises(ValueError, match=r'no word has an n-gram of 9 to 9 characters'):
    Parts.of(Subwords(9, 9), ['word'])


def test_ngrams_end_with_the_longest_word_whatever_a_damaged_model_says():
  words = [word.encode() for word in WORDS]
  longest = max(len(word) for word in WORDS) + 2
  lists = Subwords(3, 2**31 - 1, 40).buckets(words)  # one by one it would take weeks
  for own, expected in zip(lists, Subwords(3, longest, 40).buckets(words), strict=True):
    np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize('packed', [False, True])
def test_vectors_of_a_model_are_those_of_fasttext(tmp_path, packed):
  path = MODEL
  if packed:
    path = tmp_path / 'model.bin.gz'
    path.write_bytes(gzip.compress(MODEL.read_bytes()))
  vectors = load_vectors(path)
  assert isinstance(vectors, SubwordVectors)
  extended = vectors.including(WORDS)
  for word, entry in WORDS.items():
    row = extended.matrix[extended.ids[word]]
    np.testing.assert_allclose(row, entry['vector'], rtol=0, atol=1e-6)
  assert len(vectors) == len(WORDS) - 5
  assert vectors.tables.counts[vectors.ids['Tee']] == 3
  words, matrix = read(path)
  assert words == vectors.words
  np.testing.assert_array_equal(matrix, vectors.matrix)


def test_a_model_is_written_as_it_was_read(tmp_path):
  path = tmp_path / 'new' / 'model.bin'
  load_vectors(MODEL).save(path)
  one, other = MODEL.read_bytes(), path.read_bytes()
  assert len(one) == len(other)
  size = len(one) - 4 * 3 * len(load_vectors(MODEL))  # without the output table
  assert one[HEAD:size] == other[HEAD:size]
  vectors = load_vectors(path)
  np.testing.assert_array_equal(vectors.matrix, load_vectors(MODEL).matrix)


def test_gensim_reads_what_is_written(tmp_path):
  fasttext = pytest.importorskip('gensim.models.fasttext')
  vectors = load_vectors(MODEL)
  vectors.save(tmp_path / 'model.bin')
  keyed = fasttext.load_facebook_vectors(str(tmp_path / 'model.bin'))
  for word, entry in WORDS.items():
    if word != '</s>':  # to which gensim gives n-grams
      np.testing.assert_allclose(keyed[word], entry['vector'], rtol=0, atol=1e-6)


def test_other_formats_hold_the_vectors_of_the_words(tmp_path):
  vectors = load_vectors(MODEL)
  vectors.save(tmp_path / 'v.bin', 'binary')
  plain = load_vectors(tmp_path / 'v.bin')
  assert type(plain) is Vectors
  np.testing.assert_array_equal(plain.matrix, vectors.matrix)
  with pytest.raises(ValueError, match=r'these vectors have no n-grams'):
    plain.save(tmp_path / 'w.bin', 'fasttext')


def _changed(at: int, layout: str, value: int) -> bytes:
  data = bytearray(MODEL.read_bytes())
  struct.pack_into(layout, data, at, value)
  return bytes(data)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (_changed(4, '<i', 13), r'has version 13 of the format of fastText'),
    (_changed(36, '<i', 3), r'is a supervised model of fastText, a classifier'),
    (_changed(84, '<q', 5), r'is a quantised model of fastText \(\.ftz\)'),
    (_changed(8, '<i', 4), r'was cut short|is damaged'),
    (_changed(8, '<i', 0), r'is damaged: its head counts'),
  ],
)
def test_other_models_are_refused_by_name(tmp_path, data, message):
  (tmp_path / 'v.bin').write_bytes(data)
  with pytest.raises(ValueError, match=message):
    load_vectors(tmp_path / 'v.bin')


def test_a_quantised_input_table_is_refused(tmp_path):
  data = bytearray(MODEL.read_bytes())
  V, D = load_vectors(MODEL).matrix.shape
  flag = len(data) - 4 * D * (V + V + 40) - 2 * 17
  assert data[flag : flag + 17] == struct.pack('<?2q', False, V + 40, D)
  data[flag] = 1
  (tmp_path / 'v.ftz').write_bytes(bytes(data))
  with pytest.raises(ValueError, match=r'is a quantised model of fastText'):
    load_vectors(tmp_path / 'v.ftz')


def test_a_model_that_is_cut_short_is_refused(tmp_path):
  data, path = MODEL.read_bytes(), tmp_path / 'v.bin'
  V, D = load_vectors(MODEL).matrix.shape
  for length in (*range(8, HEAD + 60), 500, len(data) - 4 * D * V - 17 - 1):
    path.write_bytes(data[:length])
    with pytest.raises(ValueError, match=r'cut short|damaged'):
      load_vectors(path)


def test_an_unseen_word_is_looked_up_in_the_case_of_the_vocabulary():
  vectors = load_vectors(MODEL)
  assert vectors.spelling('Bears') == 'Bears'  # some words there have capitals
  rows = vectors.tables
  lower = SubwordVectors(
    module.SubwordTables(
      [word.lower() for word in rows.words],
      rows.counts,
      *(rows.subwords, rows.word_rows, rows.numbers, rows.ngram_rows),
    )
  )
  assert lower.spelling('BA\u0308R') == 'bär'


# Training.

VOCABULARY = ['banana', 'ban', 'nab', 'an']
PARTS = Parts.of(Subwords(2, 3, 1_000), VOCABULARY)


def _rows_of(word: int) -> np.ndarray:
  first, last = PARTS.lists.starts[word : word + 2]
  return PARTS.lists.values[first:last]


def test_parts_are_the_word_and_its_ngrams():
  lists = Subwords(2, 3, 1_000).buckets([word.encode() for word in VOCABULARY])
  for word in range(4):
    own, *others = _rows_of(word)
    assert own == word
    buckets = PARTS.numbers[np.array(others) - 4]
    first, last = lists.starts[word : word + 2]
    assert buckets.tolist() == lists.values[first:last].tolist()


@pytest.mark.parametrize(('tile', 'limit'), [(5, 3.0), (4_096, None)])
def test_means_and_updates_are_those_of_loops(monkeypatch, tile, limit):
  monkeypatch.setattr(module, '_TILE', tile)
  random = np.random.default_rng(0)
  words = np.array([[0, 1, 1], [3, 2, 0]], np.int32)
  table = random.normal(size=(PARTS.num_rows, 2)).astype(np.float32)
  updates = random.normal(size=(2, 3, 2)).astype(np.float32)
  pairs = np.array([[1, 2, 0], [4, 1, 1]], np.float32)
  means = PARTS.means(jnp.asarray(table), jnp.asarray(words))
  expected, totals = table.copy(), np.zeros(len(table))
  for word, n in zip(words.ravel(), pairs.ravel(), strict=True):
    np.add.at(totals, _rows_of(word), n)
  for word, update in zip(words.ravel(), updates.reshape(-1, 2), strict=True):
    for row in _rows_of(word):
      scale = 1.0 if limit is None else min(1.0, limit / max(totals[row], 1.0))
      expected[row] += scale * update
  for (b, s), word in np.ndenumerate(words):
    mean = table[_rows_of(word)].mean(axis=0)
    np.testing.assert_allclose(means[b, s], mean, rtol=1e-5, atol=1e-6)
  zeros = jnp.zeros(len(table))
  arguments = (jnp.asarray(x) for x in (table, words, updates, pairs))
  new, counts = PARTS.add(*arguments, limit, zeros)
  np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
  assert not np.asarray(counts).any()


def test_a_bucket_without_a_row_counts_as_zero():
  kinds, bucket = Subwords(2, 2, 50), fnv1a(b'<a') % 50
  row = np.full((1, 1), 3.0, np.float32)
  arguments = np.array([1]), kinds, np.ones((1, 1), np.float32), np.array([bucket])
  tables = module.SubwordTables(['ab'], *arguments, row)
  np.testing.assert_allclose(tables.means(), [[(1 + 3) / 4]])  # ab, <a, ab, b>
  np.testing.assert_allclose(tables.compose(['ac', 'x']), [[1.0], [0.0]])
