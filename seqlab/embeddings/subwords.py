"""Character n-grams of words, numbered in buckets as fastText numbers them.

Bojanowski, Grave, Joulin and Mikolov, "Enriching Word Vectors with Subword Information",
2017, https://arxiv.org/abs/1607.04606. A word is written between '<' and '>', and its
n-grams are hashed to a fixed number of buckets, each of which has a row of a table. The
input vector of a word is the mean of its own row and the rows of its n-grams, so that
words with the same stem or the same ending share rows, and a word that was never seen
has a vector.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Annotated, NamedTuple

from jax import lax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from seqlab import domains
from seqlab.domains import Count, Range
from seqlab.embeddings.rows import replicate, take_rows
from seqlab.types import Array

BEGIN, END = b'<', b'>'
_LINE_END = b'</s>'
# FNV-1a with 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/
_FNV_BASIS, _FNV_PRIME = np.uint32(2_166_136_261), np.uint32(16_777_619)
_TILE = 4_096  # rows that are added at a time; more need more memory


class Lists(NamedTuple):
  """Lists of integers, one after the other.

  Attributes:
    values: [N] the integers of all lists.
    starts: [V + 1] the first place of each list in `values`, and N.
  """

  values: np.ndarray
  starts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Subwords:
  """Which n-grams a word has, and how many buckets there are for them.

  Attributes:
    minn: smallest number of characters of an n-gram, with '<' and '>'.
    maxn: largest number of characters; 0 for words without n-grams.
    bucket: number of buckets.
  """

  minn: Annotated[int, Range(0)] = 3
  maxn: Annotated[int, Range(0)] = 6
  bucket: Count = 2_000_000

  def __post_init__(self):
    domains.check_fields(self, 'model.subwords.')

  def buckets(self, words: Sequence[bytes]) -> Lists:
    """Returns the buckets of the n-grams of each word, int32, in fastText's order.

    An n-gram that occurs twice in a word is counted twice. '<' and '>' alone are not
    n-grams. '</s>', which ends a line in fastText, has none.

    Args:
      words: V words in UTF-8, without '<' and '>'. Bytes that are not UTF-8 are joined
        to the characters before them, as fastText does.
    """
    data = np.frombuffer(b''.join(BEGIN + word + END for word in words), np.uint8)
    begins = np.flatnonzero((data & 0xC0) != 0x80)  # first bytes of characters
    num_bytes = np.diff(begins, append=len(data))
    ends = np.cumsum([len(word) + 2 for word in words], dtype=np.int64)  # of words
    word_of = np.searchsorted(ends, begins, 'right')  # [C]
    stops = np.searchsorted(begins, ends)  # first character after each word
    left = stops[word_of] - np.arange(len(begins))  # characters to the word's end
    first = np.diff(word_of, prepend=-1) > 0
    has_ngrams = np.array([word != _LINE_END for word in words], bool)[word_of]
    hashes = np.full(len(begins), _FNV_BASIS)
    buckets, chosen = [], []
    longest = int(left.max(initial=0))  # a damaged model may have any `maxn`
    for n in range(1, min(self.maxn, longest) + 1):
      exists = has_ngrams & (left >= n)
      last = np.minimum(np.arange(len(begins)) + n - 1, len(begins) - 1)
      hashes = _hash_characters(hashes, data, begins[last], num_bytes[last])
      if n >= self.minn:
        buckets.append((hashes % np.uint32(self.bucket)).astype(np.int32))
        chosen.append(exists & ~(first | (left == 1)) if n == 1 else exists)
    if not buckets:
      return Lists(np.zeros(0, np.int32), np.zeros(len(words) + 1, np.int64))
    chosen = np.stack(chosen, axis=1)
    counts = np.bincount(word_of, chosen.sum(axis=1), len(words)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Lists(np.stack(buckets, axis=1)[chosen], starts)


def fnv1a(data: bytes) -> int:
  """Returns fastText's hash of an n-gram, 32 bits.

  It is FNV-1a, except that a byte of 128 or more is extended with its sign, because
  fastText converts it from `int8_t`.
  """
  each = np.frombuffer(data, np.uint8)
  (value,) = _hash_characters(
    np.array([_FNV_BASIS]), each, np.array([0]), np.array([len(each)])
  )
  return int(value)


def _hash_characters(
  hashes: np.ndarray, data: np.ndarray, begins: np.ndarray, num_bytes: np.ndarray
) -> np.ndarray:
  """Returns hashes [C] after one more character each, which may have several bytes."""
  signed = data.view(np.int8).astype(np.int32).view(np.uint32)
  hashes = hashes.copy()
  for k in range(num_bytes.max(initial=0)):
    (longer,) = np.nonzero(num_bytes > k)
    hashes[longer] = (hashes[longer] ^ signed[begins[longer] + k]) * _FNV_PRIME
  return hashes


@dataclasses.dataclass(frozen=True)
class SubwordTables:
  """Rows of words and of buckets of n-grams, of which vectors are the means.

  Attributes:
    words: V words.
    counts: [V] int64, number of occurrences of each word in the text.
    subwords: which n-grams a word has.
    word_rows: [V, D] float32.
    numbers: [U] int32, the buckets that have rows, increasing. The row of another
      bucket is zero.
    ngram_rows: [U, D] float32.
    contexts: [V, D] float32, the output table; None if it is not known.
  """

  words: Sequence[str]
  counts: np.ndarray
  subwords: Subwords
  word_rows: np.ndarray
  numbers: np.ndarray
  ngram_rows: np.ndarray
  contexts: np.ndarray | None = None

  def means(self, encoded: Sequence[bytes] | None = None) -> np.ndarray:
    """Returns the vectors of the words, [V, D] float32.

    Args:
      encoded: the V words in UTF-8, if some of them are not valid UTF-8.
    """
    encoded = [word.encode() for word in self.words] if encoded is None else encoded
    lists = self.subwords.buckets(encoded)
    counts = np.diff(lists.starts)
    vectors = self._sums(lists)
    vectors += self.word_rows
    vectors /= (counts + 1).astype(np.float32)[:, None]
    return vectors

  def compose(self, words: Sequence[str]) -> np.ndarray:
    """Returns the means of the n-grams of words outside the vocabulary, [n, D] float32.

    The vector of a word without an n-gram that has a row is zero.
    """
    lists = self.subwords.buckets([word.encode('utf-8', 'replace') for word in words])
    counts = np.maximum(np.diff(lists.starts), 1)
    return self._sums(lists) / counts.astype(np.float32)[:, None]

  def _sums(self, lists: Lists) -> np.ndarray:
    """Returns the sum of the rows of each list of buckets, [n, D] float32."""
    place = np.searchsorted(self.numbers, lists.values)
    place = np.minimum(place, max(len(self.numbers) - 1, 0))
    known = self.numbers[place] == lists.values
    starts = np.concatenate([[0], np.cumsum(known)])[lists.starts]
    ones = np.ones(int(known.sum()), np.float32)
    shape = len(lists.starts) - 1, len(self.numbers)
    # A matrix of counts: how often each word has the n-gram of each row.
    return scipy.sparse.csr_array((ones, place[known], starts), shape) @ self.ngram_rows


@dataclasses.dataclass(frozen=True)
class Parts:
  """The rows of a training table whose mean is the input vector of a word.

  The first V rows are those of the words. After them are the rows of the buckets that
  occur in the vocabulary; other buckets have none, as nothing would train them.

  Attributes:
    lists: for each word its own row and those of its n-grams, int32.
    numbers: [U] int32, the buckets that have rows, increasing.
  """

  lists: Lists
  numbers: np.ndarray

  @classmethod
  def of(cls, subwords: Subwords, words: Sequence[str]) -> 'Parts':
    """Returns the parts of the words of a vocabulary.

    Raises:
      ValueError: there are no n-grams of such lengths.
    """
    V = len(words)
    buckets, starts = subwords.buckets([word.encode() for word in words])
    if not len(buckets):
      raise ValueError(
        f'model.subwords: no word has an n-gram of {subwords.minn} to {subwords.maxn} '
        'characters: set minn and maxn to other lengths, or leave out model.subwords'
      )
    numbers, place = np.unique(buckets, return_inverse=True)
    rows = np.insert(V + place, starts[:-1], np.arange(V)).astype(np.int32)
    starts = (starts + np.arange(V + 1)).astype(np.int32)
    return cls(Lists(rows, starts), numbers.astype(np.int32))

  @property
  def num_words(self) -> int:
    """Number of words V."""
    return len(self.lists.starts) - 1

  @property
  def num_rows(self) -> int:
    """Number of rows of the table, V + U."""
    return self.num_words + len(self.numbers)

  @property
  def mean_count(self) -> float:
    """Mean number of parts of a word of the vocabulary."""
    return len(self.lists.values) / self.num_words

  def means(self, table: Array, words: Array) -> Array:
    """Returns the input vectors of words: [V + U, D], [...] int32 -> [..., D]."""
    tiles = self._tiles(words)

    def add(k: Array, sums: Array) -> Array:
      rows, owner, is_part = tiles.at(k)
      vectors = take_rows(table, rows) * is_part[:, None]
      return sums.at[owner].add(vectors, indices_are_sorted=True)

    zeros = jnp.zeros((words.size, table.shape[1]), table.dtype)
    sums = lax.fori_loop(0, tiles.number, add, zeros)
    means = sums / tiles.counts[:, None]
    return means.reshape(*words.shape, -1)

  def add(
    self,
    table: Array,
    words: Array,
    updates: Array,
    pairs: Array,
    max_pairs_per_row: float | None,
    row_counts: Array,
  ) -> tuple[Array, Array]:
    """Adds the update of each word to all of its parts, as fastText does.

    So the mean of the parts moves by the whole update, as the row of a word would. The
    arguments and results are those of `rows.add_rows`, with words in place of rows.
    """
    tiles = self._tiles(words)
    updates = replicate(updates).reshape(-1, updates.shape[-1])
    pairs = replicate(pairs).reshape(-1)

    def count(k: Array, row_counts: Array) -> Array:
      rows, owner, is_part = tiles.at(k)
      return row_counts.at[rows].add(pairs[owner] * is_part)

    def add(k: Array, table: Array) -> Array:
      rows, owner, is_part = tiles.at(k)
      scale = is_part
      if max_pairs_per_row is not None:
        total = take_rows(row_counts, rows)
        scale *= jnp.minimum(1.0, max_pairs_per_row / jnp.maximum(total, 1.0))
      return table.at[rows].add(updates[owner] * scale[:, None])

    def clear(k: Array, row_counts: Array) -> Array:
      rows, _, _ = tiles.at(k)
      # As in `rows.add_rows`, computed from the counts, so that it happens in place.
      return row_counts.at[rows].set(jnp.minimum(take_rows(row_counts, rows), 0.0))

    if max_pairs_per_row is not None:
      row_counts = lax.fori_loop(0, tiles.number, count, row_counts)
    table = lax.fori_loop(0, tiles.number, add, table)
    if max_pairs_per_row is not None:
      row_counts = lax.fori_loop(0, tiles.number, clear, row_counts)
    return table, row_counts

  def _tiles(self, words: Array) -> '_Tiles':
    words = replicate(words).reshape(-1)
    starts = jnp.asarray(self.lists.starts)
    first, counts = starts[words], starts[words + 1] - starts[words]
    return _Tiles(jnp.asarray(self.lists.values), first, counts)


@dataclasses.dataclass(frozen=True)
class _Tiles:
  """The parts of some words, one after the other, in tiles of equal size.

  Words have different numbers of parts. If they were padded to the largest number, most
  of the work would be for padding; so a loop passes over as many tiles as there are.

  Attributes:
    values: [N] rows of the parts of the whole vocabulary.
    first: [W] place in `values` of the first part of each of the words.
    counts: [W] int32, the number of parts of each of them.
  """

  values: Array
  first: Array
  counts: Array

  @functools.cached_property
  def _ends(self) -> Array:
    return jnp.cumsum(self.counts)

  @property
  def number(self) -> Array:
    """Number of tiles, [] int32."""
    return (self._ends[-1] + _TILE - 1) // _TILE

  def at(self, k: Array) -> tuple[Array, Array, Array]:
    """Returns tile k: rows, which of the words they belong to, 1.0 or 0.0 for padding.

    All have the shape [_TILE]. Padding has row 0.
    """
    part = k * _TILE + jnp.arange(_TILE)
    is_part = part < self._ends[-1]
    owner = jnp.searchsorted(self._ends, part, side='right', method='scan_unrolled')
    owner = jnp.minimum(owner, len(self.counts) - 1)
    within = part - (self._ends - self.counts)[owner]
    place = jnp.where(is_part, self.first[owner] + within, 0)
    rows = jnp.where(is_part, take_rows(self.values, place), 0)
    return rows, owner, is_part.astype(jnp.float32)
