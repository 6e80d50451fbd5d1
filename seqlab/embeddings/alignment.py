"""Two languages in one space: an orthogonal map, and translation by neighbours.

Words of a bilingual lexicon are rows X of source vectors and Y of target vectors. The
orthogonal W that minimises ||X W - Y|| is U V' with U S V' the singular value
decomposition of X' Y (Schönemann 1966, https://doi.org/10.1007/BF02289451; for word
vectors Xing et al. 2015, https://aclanthology.org/N15-1104).

A word is translated by the target vector with the highest cosine ('nn'), or with the
highest 'csls', which is 2 cos(x, y) - r(x) - r(y), where r is the mean cosine of a vector
with its 10 nearest ones of the other language (Conneau et al. 2018, section 2.3,
https://arxiv.org/abs/1710.04087). The latter corrects for vectors that are near to many.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.types import Array

RETRIEVAL = ('nn', 'csls')
NEIGHBOURS = 10  # of r(x), as in the paper
_CELLS = 1 << 25  # cosines in memory at a time, 128 MiB


def normalized(matrix: np.ndarray, *, centre: bool = True) -> np.ndarray:
  """Returns vectors of length 1, [V, D] float32; 0 stays 0.

  Args:
    matrix: [V, D].
    centre: whether the mean is then subtracted, and the length made 1 again (Artetxe,
      Labaka and Agirre 2016, https://aclanthology.org/D16-1250).
  """
  unit = _unit(matrix)
  if not centre:
    return unit
  return _unit(unit - unit.mean(axis=0, dtype=np.float64).astype(np.float32))


def _unit(matrix: np.ndarray) -> np.ndarray:
  length = np.linalg.norm(matrix, axis=1, keepdims=True)
  return (matrix / np.where(length > 0, length, 1)).astype(np.float32)


def procrustes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the orthogonal W that minimises ||X W - Y||, [D, D] float64.

  Args:
    x: [P, D].
    y: [P, D].
  """
  u, _, v = np.linalg.svd(x.astype(np.float64).T @ y.astype(np.float64))
  return u @ v


def translations(
  source: np.ndarray,
  target: np.ndarray,
  words: Sequence[int] | np.ndarray,
  n: int,
  *,
  retrieval: str = 'csls',
) -> np.ndarray:
  """Returns the best n translations of words, [Q, n] int32 rows of the target.

  Args:
    source: [V, D] source vectors of length 1 in the space of the target.
    target: [W, D] target vectors of length 1.
    words: [Q] rows of the source.
    n: number of translations per word, at most W.
    retrieval: 'nn' or 'csls'. The r(x) of a word does not change the order of its
      translations and is left out.

  Raises:
    ValueError: the retrieval is unknown.
  """
  if retrieval not in RETRIEVAL:
    raise ValueError(f"retrieval is {retrieval!r}; it may be 'nn' or 'csls'")
  source, target = jnp.asarray(source), jnp.asarray(target)
  penalty = jnp.zeros(len(target))
  if retrieval == 'csls':
    k = min(NEIGHBOURS, len(source))
    nearest = _by_blocks(functools.partial(_mean_cosine, k=k), target, source)
    penalty = jnp.asarray(nearest) / 2
  best = functools.partial(_best, penalty=penalty, n=n)
  return _by_blocks(best, source[jnp.asarray(words, jnp.int32)], target)


def _by_blocks(function, queries: Array, words: Array) -> np.ndarray:
  """Returns function(queries, words), computed for one block of queries at a time."""
  size = max(1, min(len(queries), _CELLS // len(words)))
  blocks = []
  for start in range(0, len(queries), size):
    # The last block overlaps with the one before, to have the same shape.
    first = min(start, len(queries) - size)
    block = np.asarray(function(queries[first : first + size], words))
    blocks.append(block[start - first :])
  return np.concatenate(blocks)


_cosines = functools.partial(jnp.einsum, 'qd,wd->qw', precision=lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames='k')
def _mean_cosine(queries: Array, words: Array, *, k: int) -> Array:
  """Returns the mean cosine of each query with its k nearest words, [Q]."""
  return lax.top_k(_cosines(queries, words), k)[0].mean(axis=1)


@functools.partial(jax.jit, static_argnames='n')
def _best(queries: Array, words: Array, *, penalty: Array, n: int) -> Array:
  """Returns the n words with the highest cosine minus penalty, [Q, n] int32."""
  return lax.top_k(_cosines(queries, words) - penalty, n)[1]
