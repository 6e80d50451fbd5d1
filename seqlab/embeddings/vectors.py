"""Word vectors with similarities, neighbours and analogies.

An analogy "a is to b as c is to x" is answered by the word x that maximises

  3CosAdd: cos(x, b) - cos(x, a) + cos(x, c), the same as cos(x, b - a + c) of vectors
           of length 1 (Mikolov, Yih and Zweig 2013,
           https://aclanthology.org/N13-1090);
  3CosMul: cos(x, b) cos(x, c) / (cos(x, a) + ε) (Levy and Goldberg, "Linguistic
           Regularities in Sparse and Explicit Word Representations", 2014, section 6,
           https://aclanthology.org/W14-1618), where cosines that may be negative are
           first shifted to (1 + cos) / 2.

The words of the question are excluded from the answers, as in word2vec's
compute-accuracy.c and gensim.

A set of questions needs only the cosines between its words, which are few, and the
vocabulary. They are computed for one block of the vocabulary at a time, as one matrix
product, and each question combines rows of the result. For 19,544 questions about 905
words, this takes a twentieth of the work of one product per question.
"""

import abc
from collections.abc import Iterable, Sequence
import functools
from pathlib import Path
from typing import Any, Self
import unicodedata

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from seqlab.embeddings import fasttext, formats
from seqlab.embeddings.subwords import SubwordTables
from seqlab.embeddings.vector_files import first_not_finite
from seqlab.text.words import nearest, spellings
from seqlab.types import Array

METHODS = ('add', 'mul')
EPSILON = 1e-3  # of 3CosMul in its paper; gensim uses 1e-6, hyperwords 1e-2
BLOCK = 1 << 22  # number of cosines and scores in memory at a time, 16 MiB
_BATCH = 128  # number of questions that are answered together
_ALIGNMENT = 64  # bytes; XLA uses an array with this alignment without a copy
_DENSE = 64  # number of rows of a sparse matrix that are made dense at a time

Ranking = list[tuple[str, float]]  # words and their scores, the best first


class _Table(abc.ABC):
  """Words with vectors; see `Vectors` and `SparseVectors`.

  Attributes:
    words: [V] str, by decreasing frequency if it is known.
    matrix: [V, D] float32, which must not be changed.
  """

  shifted: bool  # whether cosines may be negative, and are shifted for 3CosMul

  def __init__(self, words: Sequence[str], matrix: Any):
    if matrix.ndim == 2 and not matrix.shape[1]:
      raise ValueError('vectors of dimension 0 have no direction: use 1 or more')
    self.words, self.matrix = list(words), matrix
    if matrix.ndim != 2 or len(self.words) != matrix.shape[0]:
      raise ValueError(
        f'{len(self.words):,} words and a matrix of shape {matrix.shape}: there should '
        'be one row per word'
      )
    if len(self.ids) != len(self.words):
      repeated = next(w for i, w in enumerate(self.words) if self.ids[w] != i)
      raise ValueError(f'the word {repeated!r} occurs twice among the vectors')

  @functools.cached_property
  def ids(self) -> dict[str, int]:
    """Returns word -> row."""
    return {word: i for i, word in enumerate(self.words)}

  @property
  def size(self) -> int:
    """Number of words V."""
    return len(self.words)

  @property
  def dimensions(self) -> int:
    """Dimension of the vectors, D."""
    return self.matrix.shape[1]

  def __len__(self) -> int:
    return self.size

  def __contains__(self, word: str) -> bool:
    return word in self.ids

  def index(self, word: str) -> int:
    """Returns the row of a word.

    Raises:
      ValueError: the word has no vector; the message names similar spellings.
    """
    if word in self.ids:
      return self.ids[word]
    raise ValueError(
      f'{word!r} is not among the {self.size:,} words that have vectors'
      f'{nearest(word, self.words)}'
    )

  def rows(self, words: np.ndarray) -> np.ndarray:
    """Returns the rows of words, int32 of the same shape; -1 for unknown ones."""
    words = np.asarray(words, object)
    rows = (self.ids.get(word, -1) for word in words.ravel())
    return np.fromiter(rows, np.int32, words.size).reshape(words.shape)

  def similarity(self, one: str, other: str) -> float:
    """Returns the cosine of two words. Raises ValueError as `index`."""
    return float(self.cosines(np.array([[self.index(one), self.index(other)]]))[0])

  def neighbours(
    self, word: str, n: int = 10, *, restrict: int | None = None
  ) -> Ranking:
    """Returns the nearest words of a word, and their cosines.

    Args:
      word: word whose neighbours are returned; it is not one of them.
      n: maximum number of neighbours.
      restrict: number of first words among which neighbours are searched; None searches
        all.

    Raises:
      ValueError: as in `index`.
    """
    n = min(n, self.size)  # arrays of n results are allocated
    return self._ranking(
      *self.nearest(np.array([self.index(word)]), n, restrict=restrict)
    )

  def analogy(
    self,
    a: str,
    b: str,
    c: str,
    n: int = 10,
    *,
    method: str = 'add',
    restrict: int | None = None,
    epsilon: float = EPSILON,
  ) -> Ranking:
    """Returns the words that are to c as b is to a, and their scores; see `answers`.

    The score of 3CosAdd is cos(x, b - a + c), as in gensim.

    Raises:
      ValueError: as in `index` and `answers`.
    """
    question = np.array([[self.index(word) for word in (a, b, c)]])
    options = dict(method=method, restrict=restrict, epsilon=epsilon)
    rows, scores = self.answers(question, min(n, self.size), **options)
    if method == 'add':
      scores = scores / self._length(question[0])
    return self._ranking(rows, scores)

  def _length(self, question: np.ndarray) -> float:
    """Returns the length of b - a + c, where a, b and c have length 1."""
    pairs = np.stack(np.meshgrid(question, question), axis=-1).reshape(9, 2)
    cosines = self.cosines(pairs).reshape(3, 3)
    signs = np.array([-1, 1, 1])
    return max(float(signs @ cosines @ signs), 1e-12) ** 0.5

  def _ranking(self, rows: np.ndarray, scores: np.ndarray) -> Ranking:
    pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
    return [(self.words[row], score) for row, score in pairs if row >= 0]

  @abc.abstractmethod
  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Returns cosines of pairs of rows, [P, 2] -> [P] float32; 0 for zero vectors."""

  def nearest(
    self,
    rows: np.ndarray,
    n: int = 10,
    *,
    restrict: int | None = None,
    block: int = BLOCK,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest words of many words.

    Args:
      rows: [Q] rows of the words, none of which is its own neighbour.
      n: number of neighbours per word.
      restrict: number of first words among which neighbours are searched; None searches
        all.
      block: number of float32 values in memory at a time; at least the cosines of one
        word with all given words.

    Returns:
      [Q, n] int32 rows, the nearest first, and [Q, n] float32 cosines. If there are
      fewer than n words, the rest has row -1 and cosine -inf.
    """
    questions = np.asarray(rows, np.int32)[:, None]  # [Q, 1]
    return self._search(questions, n, 'near', restrict, block, 0.0)

  def answers(
    self,
    questions: np.ndarray,
    n: int = 1,
    *,
    method: str = 'add',
    restrict: int | None = None,
    block: int = BLOCK,
    epsilon: float = EPSILON,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Answers analogies.

    Args:
      questions: [Q, 3] rows of a, b and c.
      n: number of answers per question.
      method: 'add' for 3CosAdd or 'mul' for 3CosMul.
      restrict: number of first words among which answers are searched (restrict_vocab
        in gensim, threshold in compute-accuracy.c); None searches all.
      block: as in `nearest`.
      epsilon: ε of 3CosMul.

    Returns:
      [Q, n] int32 rows, the best first, and [Q, n] float32 scores: the maximised
      expressions. If there are fewer than n words, the rest has row -1 and score -inf.

    Raises:
      ValueError: the method is unknown, or n or `restrict` is less than 1.
    """
    if method not in METHODS:
      raise ValueError(f"method is {method!r}; it may be 'add' or 'mul'")
    questions = np.asarray(questions, np.int32)
    return self._search(questions, n, method, restrict, block, epsilon)

  def _search(
    self,
    questions: np.ndarray,
    n: int,
    method: str,
    restrict: int | None,
    block: int,
    epsilon: float,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best n words [Q, n] for questions [Q, K], and their scores."""
    limit = self.size if restrict is None else min(restrict, self.size)
    if limit < 1 or n < 1:
      raise ValueError(f'the best {n} of {limit} words: both should be 1 or more')
    Q, K = questions.shape
    if not Q:
      return np.zeros((0, n), np.int32), np.zeros((0, n), np.float32)
    asked, at = np.unique(questions, return_inverse=True)  # [U], [Q, K]
    B = min(_BATCH, Q)
    W = min(limit, max(1, block // (len(asked) + 2 * B)))
    if not scipy.sparse.issparse(self.matrix):  # a product copies the rows of a block
      W = min(W, max(1, block // self.dimensions))
    at, hidden = (
      jnp.asarray(np.pad(x.reshape(Q, K), ((0, -Q % B), (0, 0))), np.int32).reshape(
        -1, B, K
      )
      for x in (at, questions)
    )  # [Q / B, B, K]
    shape = *at.shape[:2], n
    best = jnp.full(shape, -jnp.inf), jnp.full(shape, -1, jnp.int32)
    for start in range(0, limit, W):
      first = min(start, limit - W)  # the last block overlaps, to have the same width
      cosines = self._block(asked, first, W)  # [U, W]
      options = dict(method=method, shifted=self.shifted)
      best = _improve(best, cosines, at, hidden, first, start, epsilon, **options)
    scores, rows = (np.asarray(x).reshape(-1, n)[:Q] for x in best)
    return rows, scores

  @abc.abstractmethod
  def _block(self, asked: np.ndarray, first: int, width: int) -> Array:
    """Returns cosines of rows `asked` [U] with `width` rows from `first`, [U, W]."""

  @classmethod
  def load(cls, path: str | Path, format: str | None = None) -> Self:
    """Reads vectors from a file; see `embeddings.formats:read`.

    Raises:
      ValueError: the vectors are sparse and should be dense, or the reverse.
    """
    vectors = load_vectors(path, format)
    if not isinstance(vectors, cls):
      raise ValueError(
        f'{path} holds {type(vectors).__name__}, where {cls.__name__} were expected'
      )
    return vectors

  def save(self, path: str | Path, format: str | None = None) -> None:
    """Writes vectors to a file; see `embeddings.formats:write`."""
    formats.write(path, self.words, self.matrix, format)


class Vectors(_Table):
  """Words with dense vectors; products are computed on the device.

  Attributes:
    words: [V] different str, by decreasing frequency if it is known.
    matrix: [V, D] float32, which must not be changed.
  """

  shifted = True

  def __init__(self, words: Sequence[str], matrix: np.ndarray):
    """Takes words and one row per word.

    Raises:
      ValueError: the numbers of rows and words differ, a word occurs twice, or a number
        is not finite.
    """
    super().__init__(words, np.asarray(matrix, np.float32))
    bad = first_not_finite(self.matrix)
    if bad is not None:
      raise ValueError(f'the vector of {self.words[bad]!r} has NaN or infinity')

  @functools.cached_property
  def _unit(self) -> Array:
    """Returns the vectors normalised to length 1, [V, D], on the device; 0 stays 0."""
    square = np.einsum('vd,vd->v', self.matrix, self.matrix, dtype=np.float64)
    inverse = _inverse(square)[:, None]
    # Aligned so that a CPU device uses the array without a copy.
    room = np.empty(4 * self.matrix.size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    unit = room[start : start + 4 * self.matrix.size].view(np.float32)
    unit = unit.reshape(self.matrix.shape)
    np.multiply(self.matrix, inverse, out=unit)
    return jax.device_put(unit, may_alias=True)  # nothing else refers to it

  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Returns cosines of pairs of rows, [P, 2] -> [P] float32; 0 for zero vectors."""
    return np.asarray(_cosines(self._unit, jnp.asarray(pairs, np.int32)))

  def _block(self, asked: np.ndarray, first: int, width: int) -> Array:
    return _product(self._unit, jnp.asarray(asked), first, width)


class SubwordVectors(Vectors):
  """Words whose vectors are means of rows that other words share, as in fastText.

  Any word that shares an n-gram with the vocabulary has a vector.

  Attributes:
    words: [V] different str, by decreasing frequency.
    matrix: [V, D] float32, which must not be changed.
    tables: the rows of words and of n-grams.
  """

  def __init__(self, tables: SubwordTables, matrix: np.ndarray | None = None):
    """Takes the rows, and the vectors of the words if they are known already."""
    super().__init__(tables.words, tables.means() if matrix is None else matrix)
    self.tables = tables

  @functools.cached_property
  def _is_lower(self) -> bool:
    return all(word == word.lower() for word in self.words)

  def spelling(self, word: str) -> str:
    """Returns the spelling in which the n-grams of an unseen word are looked up.

    It is in Unicode's form C, and in lower case if all words of the vocabulary are.
    """
    return spellings(word)[-1] if self._is_lower else unicodedata.normalize('NFC', word)

  def including(self, words: Iterable[str]) -> Vectors:
    """Returns these vectors, and after them those of unseen words.

    The vector of a word that shares no n-gram with the vocabulary is zero.

    Args:
      words: words, each in the `spelling` that is looked up. Words that have vectors
        already, and repeated ones, are left out.
    """
    unseen = list(dict.fromkeys(word for word in words if word not in self))
    if not unseen:
      return self
    rows = np.concatenate([self.matrix, self.tables.compose(unseen)])
    return Vectors([*self.words, *unseen], rows)

  def save(self, path: str | Path, format: str | None = None) -> None:
    """Writes a model of fastText, or the vectors of the words alone.

    Args:
      path: path of the file.
      format: its format. By default .bin is a model of fastText, and other names are as
        in `embeddings.formats:write`.
    """
    if format is None and formats.by_ending(Path(path)) == 'binary':
      format = 'fasttext'
    if format != 'fasttext':
      formats.write(path, self.words, self.matrix, format)
      return
    formats.check_target(path, format)
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    fasttext.write(path, self.tables)


class SparseVectors(_Table):
  """Words with sparse vectors, such as the rows of PPMI; products run on the host.

  Without negative numbers no cosine is negative, and 3CosMul uses the cosines directly,
  as in its paper and in hyperwords (`analogy_eval.py`), instead of (1 + cos) / 2.

  Attributes:
    words: [V] different str, by decreasing frequency if it is known.
    matrix: [V, C] float32 CSR with C contexts, which must not be changed.
  """

  def __init__(self, words: Sequence[str], matrix: scipy.sparse.csr_array):
    """Takes words and one row per word.

    Raises:
      ValueError: the numbers of rows and words differ, or a word occurs twice.
    """
    rows = scipy.sparse.csr_array(matrix, dtype=np.float32)
    if not rows.has_canonical_format:
      rows = rows.copy()
      rows.sum_duplicates()
    super().__init__(words, rows)
    self.shifted = bool(rows.nnz and rows.data.min() < 0)

  @functools.cached_property
  def _inverse(self) -> np.ndarray:
    """Returns 1 / length of each vector, [V]; 0 for zero vectors."""
    return _inverse(self.matrix.power(2).sum(axis=1, dtype=np.float64))

  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Returns cosines of pairs of rows, [P, 2] -> [P] float32; 0 for zero vectors."""
    pairs = np.asarray(pairs)
    products = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), 1024):
      block = pairs[start : start + 1024]
      one, other = (self.matrix[block[:, i]] for i in range(2))
      products[start : start + 1024] = one.multiply(other).sum(axis=1)
    return products * self._inverse[pairs].prod(axis=1)

  def _block(self, asked: np.ndarray, first: int, width: int) -> np.ndarray:
    words = self.matrix[first : first + width]  # [W, C]
    out = np.empty((len(asked), width), np.float32)
    for start in range(0, len(asked), _DENSE):
      columns = self.matrix[asked[start : start + _DENSE]].T.toarray()  # [C, u]
      out[start : start + _DENSE] = (words @ columns).T
    out *= self._inverse[asked, None]
    out *= self._inverse[first : first + width]
    return out


def load_vectors(
  path: str | Path, format: str | None = None
) -> Vectors | SparseVectors:
  """Reads vectors of any kind; arguments and errors as in `formats.read`."""
  path = Path(path).expanduser()
  if formats.format_of(path, format) == 'fasttext':
    return SubwordVectors(*formats.read_model(path))
  words, matrix = formats.read(path, format)
  return (SparseVectors if scipy.sparse.issparse(matrix) else Vectors)(words, matrix)


def _inverse(square: np.ndarray) -> np.ndarray:
  """Returns 1 / length from squared lengths, float32; 0 for 0."""
  length = np.sqrt(np.where(square > 0, square, np.inf))
  return (1 / length).astype(np.float32)


_precise = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


@jax.jit
def _cosines(unit: Array, pairs: Array) -> Array:
  return _precise('pd,pd->p', unit[pairs[:, 0]], unit[pairs[:, 1]])


@functools.partial(jax.jit, static_argnames='width')
def _product(unit: Array, asked: Array, first: Array, width: int) -> Array:
  words = lax.dynamic_slice_in_dim(unit, first, width)  # [W, D]
  return _precise('ud,wd->uw', unit[asked], words)


@functools.partial(jax.jit, static_argnames=('method', 'shifted'))
def _improve(best, cosines, at, hidden, first, start, epsilon, *, method, shifted):
  """Merges the best words so far with those of a block.

  Args:
    best: scores [N, B, n] and rows [N, B, n] of N batches.
    cosines: [U, W] cosines of the questions' words with the words of the block.
    at: [N, B, K] rows in `cosines` of each question's words.
    hidden: [N, B, K] words that are excluded from the answers.
    first: first word of the block.
    start: first word that was not in an earlier block.
    epsilon: ε of 'mul'.
    method: 'near', 'add' or 'mul'.
    shifted: whether 'mul' uses (1 + cos) / 2.
  """
  words = first + jnp.arange(cosines.shape[1])  # [W]

  def batch(x):
    scores, rows, at, hidden = x
    new = _combined([cosines[at[:, k]] for k in range(at.shape[1])])  # [B, W]
    for k in range(hidden.shape[1]):
      new = jnp.where(words == hidden[:, k, None], -jnp.inf, new)
    new, place = _top(jnp.where(words < start, -jnp.inf, new), scores.shape[1])
    both = jnp.concatenate([scores, new], axis=1)  # [B, n + n]; old ones first in ties
    scores, place_of = lax.top_k(both, scores.shape[1])
    rows = jnp.concatenate([rows, first + place], axis=1)
    rows = jnp.take_along_axis(rows, place_of, axis=1)
    return scores, jnp.where(jnp.isneginf(scores), -1, rows)

  def _combined(c):
    if method == 'near':
      return c[0]
    if method == 'add':
      return c[1] - c[0] + c[2]
    a, b, c = ((1 + x) / 2 if shifted else x for x in c)
    return b * c / (a + epsilon)

  return lax.map(batch, (*best, at, hidden))


def _top(scores: Array, n: int) -> tuple[Array, Array]:
  """Returns the best n per row [B, W] and their columns; the first of equal ones."""
  W = scores.shape[1]
  if n > 1:
    return lax.top_k(scores, min(n, W))
  # On a CPU, XLA's argmax and top_k take more than three times as long as this.
  top = scores.max(axis=1, keepdims=True)
  return top, jnp.where(scores == top, jnp.arange(W), W).min(axis=1, keepdims=True)
