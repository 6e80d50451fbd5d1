"""Word vectors and what is asked of them: likeness, neighbours, analogies.

An analogy "a is to b as c is to x" is answered by the word x that maximises

  3CosAdd: cos(x, b) - cos(x, a) + cos(x, c), the same as cos(x, b - a + c) of vectors of
           length 1 (Mikolov, Yih and Zweig 2013, https://aclanthology.org/N13-1090);
  3CosMul: cos(x, b) cos(x, c) / (cos(x, a) + ε) (Levy and Goldberg, "Linguistic
           Regularities in Sparse and Explicit Word Representations", 2014, section 6,
           https://aclanthology.org/W14-1618), where cosines that may be negative are
           shifted first, to (1 + cos) / 2.

The words of the question are no answers, as in word2vec's compute-accuracy.c and gensim.

All cosines a set of questions needs are those between its own words, which are few, and
the vocabulary. They are computed for a block of the vocabulary at a time, as one product
of matrices, and each question then combines rows of it: 19,544 questions about 905 words
take a twentieth of the work that a product for each question would.
"""

import abc
from collections.abc import Sequence
import functools
from pathlib import Path
from typing import Any, Self

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from seqlab.embeddings import formats
from seqlab.embeddings.vector_files import first_not_finite
from seqlab.text.words import nearest
from seqlab.types import Array

METHODS = ('add', 'mul')
EPSILON = 1e-3  # of 3CosMul in its paper; gensim takes 1e-6, hyperwords 1e-2
BLOCK = 1 << 22  # cosines and scores that are held at once, 16 MiB of them
_BATCH = 128  # questions that are answered at once
_ALIGNMENT = 64  # bytes; what XLA asks of an array that it takes without a copy
_DENSE = 64  # rows of a sparse matrix that are written out at once

Found = list[tuple[str, float]]  # words and their scores, the best first


class _Table(abc.ABC):
  """Words with a vector each; see `Vectors` and `SparseVectors`.

  Attributes:
    words: [V] str, the most frequent first wherever it is known.
    matrix: [V, D] float32, not to be changed.
  """

  shifted: bool  # whether cosines may be negative, and are shifted for 3CosMul

  def __init__(self, words: Sequence[str], matrix: Any):
    if matrix.ndim == 2 and not matrix.shape[1]:
      raise ValueError('vectors of 0 numbers have no direction: give them 1 or more')
    self.words, self.matrix = list(words), matrix
    if matrix.ndim != 2 or len(self.words) != matrix.shape[0]:
      raise ValueError(
        f'{len(self.words):,} words and a matrix of shape {matrix.shape}: there should '
        'be a row for each word'
      )
    if len(self.ids) != len(self.words):
      twice = next(w for i, w in enumerate(self.words) if self.ids[w] != i)
      raise ValueError(f'the word {twice!r} comes twice among the vectors')

  @functools.cached_property
  def ids(self) -> dict[str, int]:
    """Word -> row."""
    return {word: i for i, word in enumerate(self.words)}

  @property
  def size(self) -> int:
    """Number of words V."""
    return len(self.words)

  @property
  def dimensions(self) -> int:
    """Numbers in a vector, D."""
    return self.matrix.shape[1]

  def __len__(self) -> int:
    return self.size

  def __contains__(self, word: str) -> bool:
    return word in self.ids

  def index(self, word: str) -> int:
    """A word's row.

    Raises:
      ValueError: it has none; offers those of the nearest spelling.
    """
    if word in self.ids:
      return self.ids[word]
    raise ValueError(
      f'{word!r} is not among the {self.size:,} words that have vectors'
      f'{nearest(word, self.words)}'
    )

  def rows(self, words: np.ndarray) -> np.ndarray:
    """Rows of words, -1 where there is none: an array of str -> the same of int32."""
    words = np.asarray(words, object)
    found = (self.ids.get(word, -1) for word in words.ravel())
    return np.fromiter(found, np.int32, words.size).reshape(words.shape)

  def similarity(self, one: str, other: str) -> float:
    """Cosine of two words. Raises ValueError as `index`."""
    return float(self.cosines(np.array([[self.index(one), self.index(other)]]))[0])

  def neighbours(self, word: str, n: int = 10, *, restrict: int | None = None) -> Found:
    """The words nearest to a word, and their cosines.

    Args:
      word: is not among them.
      n: how many, at most.
      restrict: looks among so many words only, the first ones.

    Raises:
      ValueError: as `index`.
    """
    n = min(n, self.size)  # room is made for n
    found = self.nearest(np.array([self.index(word)]), n, restrict=restrict)
    return self._found(*found)

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
  ) -> Found:
    """The words that are to c as b is to a, and their scores; see `answers`.

    The score of 3CosAdd is cos(x, b - a + c), as gensim gives it.

    Raises:
      ValueError: as `index` and `answers`.
    """
    question = np.array([[self.index(word) for word in (a, b, c)]])
    how = dict(method=method, restrict=restrict, epsilon=epsilon)
    rows, scores = self.answers(question, min(n, self.size), **how)
    if method == 'add':
      scores = scores / self._length(question[0])
    return self._found(rows, scores)

  def _length(self, question: np.ndarray) -> float:
    """The length of b - a + c, where a, b and c have length 1."""
    pairs = np.stack(np.meshgrid(question, question), axis=-1).reshape(9, 2)
    cosines = self.cosines(pairs).reshape(3, 3)
    signs = np.array([-1, 1, 1])
    return max(float(signs @ cosines @ signs), 1e-12) ** 0.5

  def _found(self, rows: np.ndarray, scores: np.ndarray) -> Found:
    pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
    return [(self.words[row], score) for row, score in pairs if row >= 0]

  @abc.abstractmethod
  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of rows, [P, 2] -> [P] float32; 0 where a vector is all 0."""

  def nearest(
    self,
    rows: np.ndarray,
    n: int = 10,
    *,
    restrict: int | None = None,
    block: int = BLOCK,
  ) -> tuple[np.ndarray, np.ndarray]:
    """The nearest words of many words.

    Args:
      rows: [Q] of the words, each of which is no neighbour of itself.
      n: how many for each.
      restrict: looks among so many words only, the first ones.
      block: numbers that are held at once, four bytes each; at the least those of one
        word with all others that are asked about.

    Returns:
      [Q, n] int32 rows, the nearest first, and [Q, n] float32 cosines. Where there are
      fewer than n words, row -1 with cosine -inf.
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
      n: how many answers for each.
      method: 'add' or 'mul', see the module.
      restrict: looks for answers among so many words only, the first ones (gensim's
        restrict_vocab, compute-accuracy.c's threshold).
      block: as for `nearest`.
      epsilon: of 3CosMul.

    Returns:
      [Q, n] int32 rows, the best first, and [Q, n] float32 scores: the maximised
      expressions. Where there are fewer than n words, row -1 with score -inf.

    Raises:
      ValueError: the method is unknown, or there is nothing to look among.
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
    """The best n words [Q, n] for questions [Q, K], and their scores."""
    limit = self.size if restrict is None else min(restrict, self.size)
    if limit < 1 or n < 1:
      raise ValueError(f'the best {n} of {limit} words: both should be 1 or more')
    Q, K = questions.shape
    if not Q:
      return np.zeros((0, n), np.int32), np.zeros((0, n), np.float32)
    asked, at = np.unique(questions, return_inverse=True)  # [U], [Q, K]
    B = min(_BATCH, Q)
    W = min(limit, max(1, block // (len(asked) + 2 * B)))
    if not scipy.sparse.issparse(self.matrix):  # whose rows are copied for a product
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
      first = min(start, limit - W)  # the last block reaches back, to be as wide
      cosines = self._block(asked, first, W)  # [U, W]
      how = dict(method=method, shifted=self.shifted)
      best = _improve(best, cosines, at, hidden, first, start, epsilon, **how)
    scores, rows = (np.asarray(x).reshape(-1, n)[:Q] for x in best)
    return rows, scores

  @abc.abstractmethod
  def _block(self, asked: np.ndarray, first: int, width: int) -> Array:
    """Cosines of the rows `asked` [U] with `width` rows from `first` on: [U, W]."""

  @classmethod
  def load(cls, path: str | Path, format: str | None = None) -> Self:
    """Reads vectors from a file; see `embeddings.formats:read`.

    Raises:
      ValueError: they are sparse and should not be, or the other way round.
    """
    found = load_vectors(path, format)
    if not isinstance(found, cls):
      raise ValueError(
        f'{path} holds {type(found).__name__}, where {cls.__name__} were expected'
      )
    return found

  def save(self, path: str | Path, format: str | None = None) -> None:
    """Writes vectors to a file; see `embeddings.formats:write`."""
    formats.write(path, self.words, self.matrix, format)


class Vectors(_Table):
  """Words with dense vectors; products run on the device.

  Attributes:
    words: [V] str, all different, the most frequent first wherever it is known.
    matrix: [V, D] float32, not to be changed.
  """

  shifted = True

  def __init__(self, words: Sequence[str], matrix: np.ndarray):
    """Takes words and a row for each.

    Raises:
      ValueError: there are not as many rows as words, a word comes twice, or a number
        is not finite.
    """
    super().__init__(words, np.asarray(matrix, np.float32))
    bad = first_not_finite(self.matrix)
    if bad is not None:
      raise ValueError(f'the vector of {self.words[bad]!r} has NaN or infinity')

  @functools.cached_property
  def _unit(self) -> Array:
    """[V, D] of length 1, on the device; 0 stays 0."""
    square = np.einsum('vd,vd->v', self.matrix, self.matrix, dtype=np.float64)
    inverse = _inverse(square)[:, None]
    # Aligned so that a device which is this machine takes the array as it is.
    room = np.empty(4 * self.matrix.size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    unit = room[start : start + 4 * self.matrix.size].view(np.float32)
    unit = unit.reshape(self.matrix.shape)
    np.multiply(self.matrix, inverse, out=unit)
    return jax.device_put(unit, may_alias=True)  # nothing else refers to it

  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of rows, [P, 2] -> [P] float32; 0 where a vector is all 0."""
    return np.asarray(_cosines(self._unit, jnp.asarray(pairs, np.int32)))

  def _block(self, asked: np.ndarray, first: int, width: int) -> Array:
    return _product(self._unit, jnp.asarray(asked), first, width)


class SparseVectors(_Table):
  """Words with sparse vectors, such as the rows of PPMI; products run on the host.

  Where no number is negative, no cosine is, and 3CosMul takes cosines as they are, as
  its paper does and hyperwords (`analogy_eval.py`), rather than (1 + cos) / 2.

  Attributes:
    words: [V] str, all different, the most frequent first wherever it is known.
    matrix: [V, C] float32 CSR, C contexts, not to be changed.
  """

  def __init__(self, words: Sequence[str], matrix: scipy.sparse.csr_array):
    """Takes words and a row for each.

    Raises:
      ValueError: there are not as many rows as words, or a word comes twice.
    """
    rows = scipy.sparse.csr_array(matrix, dtype=np.float32)
    if not rows.has_canonical_format:
      rows = rows.copy()
      rows.sum_duplicates()
    super().__init__(words, rows)
    self.shifted = bool(rows.nnz and rows.data.min() < 0)

  @functools.cached_property
  def _inverse(self) -> np.ndarray:
    """[V] 1 / length; 0 where all is 0."""
    return _inverse(self.matrix.power(2).sum(axis=1, dtype=np.float64))

  def cosines(self, pairs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of rows, [P, 2] -> [P] float32; 0 where a vector is all 0."""
    pairs = np.asarray(pairs)
    found = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), 1024):
      some = pairs[start : start + 1024]
      one, other = (self.matrix[some[:, i]] for i in range(2))
      found[start : start + 1024] = one.multiply(other).sum(axis=1)
    return found * self._inverse[pairs].prod(axis=1)

  def _block(self, asked: np.ndarray, first: int, width: int) -> np.ndarray:
    words = self.matrix[first : first + width]  # [W, C]
    out = np.empty((len(asked), width), np.float32)
    for start in range(0, len(asked), _DENSE):
      some = asked[start : start + _DENSE]
      columns = self.matrix[some].T.toarray()  # [C, u]
      out[start : start + _DENSE] = (words @ columns).T
    out *= self._inverse[asked, None]
    out *= self._inverse[first : first + width]
    return out


def load_vectors(
  path: str | Path, format: str | None = None
) -> Vectors | SparseVectors:
  """Reads vectors of either kind; arguments and errors of `embeddings.formats:read`."""
  words, matrix = formats.read(path, format)
  return (SparseVectors if scipy.sparse.issparse(matrix) else Vectors)(words, matrix)


def _inverse(square: np.ndarray) -> np.ndarray:
  """1 / length of squared lengths, float32; 0 for 0."""
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
  """Puts into the best words so far those of a block that are better.

  Args:
    best: scores [N, B, n] and rows [N, B, n] of N batches.
    cosines: [U, W] of the words that are asked about with those of the block.
    at: [N, B, K] rows in `cosines` of each question's words.
    hidden: [N, B, K] words that are no answers.
    first: the block's first word.
    start: the first of its words that has not been seen before.
    epsilon: of 'mul'.
    method: 'near', 'add' or 'mul'.
    shifted: whether 'mul' takes (1 + cos) / 2.
  """
  words = first + jnp.arange(cosines.shape[1])  # [W]

  def batch(x):
    scores, rows, at, hidden = x
    new = _combined([cosines[at[:, k]] for k in range(at.shape[1])])  # [B, W]
    for k in range(hidden.shape[1]):
      new = jnp.where(words == hidden[:, k, None], -jnp.inf, new)
    new, place = _top(jnp.where(words < start, -jnp.inf, new), scores.shape[1])
    both = jnp.concatenate([scores, new], axis=1)  # [B, n + n]; the old win a tie
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
  """The best n of each row [B, W], and where they are; the first of equal ones."""
  W = scores.shape[1]
  if n > 1:
    return lax.top_k(scores, min(n, W))
  # On a CPU, XLA's argmax and top_k take over three times as long as this.
  top = scores.max(axis=1, keepdims=True)
  return top, jnp.where(scores == top, jnp.arange(W), W).min(axis=1, keepdims=True)
