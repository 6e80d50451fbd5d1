"""The largest singular values and vectors of a sparse matrix, by block Krylov iteration.

Random vectors are multiplied by A and its transpose in turn, many at a time, and all
that comes out is kept as an orthonormal basis Q of V-vectors. The singular vectors of
Q^T A are then those of A, nearly. Musco and Musco, "Randomized Block Krylov Methods for
Stronger and Faster Approximate Singular Value Decomposition", 2015, algorithm 2,
https://arxiv.org/abs/1504.05477, after Halko, Martinsson and Tropp 2011,
https://arxiv.org/abs/0909.4061, who keep the last product only: the spectrum of PMI falls
so slowly that they need more products for less. Singular vectors as embeddings: Levy,
Goldberg and Dagan 2015, sections 2.2 and 3.3, https://aclanthology.org/Q15-1016.

  V  rows, words                 B  columns of a block
  C  columns, contexts           K  blocks, one for each iteration
"""

import functools
from typing import Annotated, Literal

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
from scipy import sparse

from seqlab.domains import Range, checked
from seqlab.embeddings.sparse_product import Panels
from seqlab.types import Array

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


@struct.dataclass
class Operator:
  """A sparse matrix A on the devices, and its transpose.

  Attributes:
    rows: panels of A, [V, C].
    columns: panels of its transpose.
    square: [] sum of A's squares.
    shape: V and C.
  """

  rows: Panels
  columns: Panels
  square: Array
  shape: tuple[int, int] = struct.field(pytree_node=False)

  @classmethod
  def create(cls, matrix: sparse.csr_array, mesh: Mesh) -> 'Operator':
    """Deals the rows of a [V, C] matrix, and its columns, to the devices of a mesh."""
    rows = Panels.create(matrix, mesh)
    columns = Panels.create(matrix.T.tocsr(), mesh)
    return cls(rows, columns, jnp.sum(rows.data**2), matrix.shape)


@struct.dataclass
class Krylov:
  """A basis that grows by a block in each iteration, and its images.

  It depends on no number of devices; `Operator` does. Blocks not yet made are zero.

  Attributes:
    step: [] int32, iterations done.
    block: [C, B] what is multiplied by A next.
    basis: [K, V, B] orthonormal Q.
    images: [K, C, B], the transpose of A, times Q.
  """

  step: Array
  block: Array
  basis: Array
  images: Array


def start(rng: Array, shape: tuple[int, int], *, block: int, steps: int) -> Krylov:
  """Random vectors, and room for `steps` iterations.

  Blocks of 32 on a CPU: narrower ones need fewer products for the same precision, wider
  ones make quicker products. For D singular vectors let block x steps be 2.5 D or more:
  with the PPMI of 50,000 English words and D = 300, the first 200 values then are right
  to 1e-5, the 300th to 2 %.

  Args:
    rng: key of the draw.
    shape: V and C, of A.
    block: B.
    steps: K.

  Raises:
    ValueError: the basis would have more vectors than A has rows or columns.
  """
  V, C = shape
  if block * steps > min(V, C):
    raise ValueError(
      f'{steps} blocks of {block} are {block * steps} vectors, and the matrix is '
      f'{V:,} x {C:,}: take fewer steps or a smaller block'
    )
  first = jax.random.normal(rng, (C, block))
  basis, images = jnp.zeros((steps, V, block)), jnp.zeros((steps, C, block))
  return Krylov(jnp.zeros((), jnp.int32), first, basis, images)


def iterate(state: Krylov, matrix: Operator) -> Krylov:
  """One product with A and one with its transpose; a full basis stays as it is.

  Where A has no new direction left to give (its rank is less than the basis is wide, or
  one of its values comes more than B times), random ones are taken instead.
  """
  block = matrix.rows @ state.block  # [V, B]
  for number, least in enumerate((1e-5, 0.3)):
    block = _orthonormal(_renewed(state, block, least, number))
  # Once more, as once leaves rounding errors of what was taken out.
  block = _orthonormal(_outside(state, block))
  image = matrix.columns @ block  # [C, B]
  return Krylov(
    step=state.step + 1,
    block=image,
    basis=state.basis.at[state.step].set(block, mode='drop'),
    images=state.images.at[state.step].set(image, mode='drop'),
  )


def _renewed(state: Krylov, block: Array, least: float, number: int) -> Array:
  """What is left of [V, B] outside of the basis; random where that is next to nothing.

  A column of which less than the share `least` is left is rounding errors, which are
  not orthogonal to anything.
  """
  left = _outside(state, block)
  gone = jnp.linalg.norm(left, axis=0) <= least * jnp.linalg.norm(block, axis=0)

  def renew() -> Array:
    rng = jax.random.fold_in(jax.random.key(number), state.step)
    return jnp.where(gone, _outside(state, jax.random.normal(rng, left.shape)), left)

  return lax.cond(gone.any(), renew, lambda: left)


def _outside(state: Krylov, block: Array) -> Array:
  """What is left of [V, B] without its part in the basis."""

  def remove(k: Array, block: Array) -> Array:
    known = state.basis[k]  # [V, B]
    return block - _matmul(known, _matmul(known.T, block))

  return lax.fori_loop(0, state.step, remove, block)


def _orthonormal(block: Array) -> Array:
  """[V, B] -> a basis of the same space, by the eigenvectors of its Gram matrix.

  Stathopoulos and Wu, "A Block Orthogonalization Procedure with Constant Synchronization
  Requirements", 2002, https://doi.org/10.1137/S1064827500370883. Unlike Cholesky's
  factors it takes blocks whose columns depend on each other, and gives zeros for those
  that are too many; like them it needs one sum over the rows. In float32 it is exact
  after the second time.
  """
  tiny = jnp.finfo(block.dtype).tiny
  block = block / jnp.maximum(jnp.linalg.norm(block, axis=0), tiny)
  values, vectors = jnp.linalg.eigh(_matmul(block.T, block))  # [B], [B, B]
  least = 4 * jnp.finfo(block.dtype).eps * values.max()
  scale = jnp.where(values > least, lax.rsqrt(jnp.maximum(values, tiny)), 0.0)
  return _matmul(block, vectors * scale)


def residual(state: Krylov, matrix: Operator) -> Array:
  """Share of A's squares that the basis misses: [], falls with every iteration."""
  return 1 - jnp.sum(state.images**2) / matrix.square


def finish(state: Krylov, D: int) -> tuple[Array, Array, Array]:
  """The D largest singular values, and their vectors, as far as the basis holds them.

  Returns:
    U [V, D], S [D], and V [C, D] such that A is about U S V^T; in each column of U the
    entry that is largest in size is above zero.

  Raises:
    ValueError: D is larger than the basis.
  """
  K, _, B = state.basis.shape
  if not 1 <= D <= K * B:
    raise ValueError(
      f'{D} vectors of a basis of {K * B}: ask for fewer, or iterate more'
    )
  basis, images = (
    x.swapaxes(0, 1).reshape(-1, K * B) for x in (state.basis, state.images)
  )  # [V, K B], [C, K B]
  squares, rotation = jnp.linalg.eigh(_matmul(images.T, images))
  rotation = rotation[:, lax.top_k(squares, D)[1]]  # [K B, D]
  words, contexts = _matmul(basis, rotation), _matmul(images, rotation)
  # Norms are right to second order where the Gram matrix's small values are not.
  values = jnp.linalg.norm(contexts, axis=0)  # [D]
  order = jnp.argsort(-values)
  words, contexts, values = words[:, order], contexts[:, order], values[order]
  extremes = jnp.take_along_axis(words, jnp.abs(words).argmax(0)[None], axis=0)
  signs = jnp.where(extremes < 0, -1.0, 1.0)  # [1, D]
  contexts = contexts / jnp.maximum(values, jnp.finfo(values.dtype).tiny)
  return words * signs, values, contexts * signs


def truncated_svd(
  matrix: sparse.csr_array,
  D: int,
  mesh: Mesh,
  *,
  block: int = 32,
  steps: int | None = None,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All of the above: U [V, D], S [D], V [C, D] float32 of a [V, C] matrix.

  `steps` is as many as make the basis 2.5 D wide, or as wide as it may be, if None.

  Raises:
    ValueError: the matrix has less than D rows or columns, or see `start` and `finish`.
  """
  most = min(matrix.shape)
  if most < D:
    raise ValueError(
      f'a matrix of {matrix.shape} has {most:,} singular values, not {D:,}'
    )
  block = min(block, most)
  if steps is None:
    while most // block * block < D:  # blocks that fill it nearly
      block -= 1
    steps = min(-(-5 * D // (2 * block)), most // block)
  operator = Operator.create(matrix, mesh)
  step = jax.jit(iterate, donate_argnums=0)
  state = start(jax.random.key(seed), matrix.shape, block=block, steps=steps)
  for _ in range(steps):
    state = step(state, operator)
  parts = jax.jit(finish, static_argnames='D')(state, D=D)
  return tuple(np.asarray(part) for part in parts)


@checked
def embed(
  words: Array,
  values: Array,
  contexts: Array,
  *,
  power: Annotated[float, Range(0)] = 0.5,
  use: Literal['words', 'contexts', 'both'] = 'words',
) -> Array:
  """Word vectors U S^power.

  Args:
    words: U [V, D].
    values: S [D].
    contexts: V [V, D].
    power: of the singular values; 1 is the best approximation of the matrix, 0.5 and 0
      make better embeddings (Levy et al. 2015, section 6).
    use: 'words', 'contexts', or 'both', which adds the two.

  Returns:
    [V, D].

  Raises:
    ValueError: `use` is unknown, or words and contexts are not the same words.
  """
  if use == 'both' and words.shape != contexts.shape:
    raise ValueError(
      f'words are {words.shape} and contexts {contexts.shape}: they can be added where '
      f'both are the same vocabulary'
    )
  sides = {'words': words, 'contexts': contexts}
  chosen = words + contexts if use == 'both' else sides[use]
  return chosen * values**power
