"""Largest singular values and vectors of a large matrix, by block Krylov iteration.

A block of random vectors is multiplied by A and its transpose alternately, and all
products are kept as an orthonormal basis Q of V-vectors. The singular vectors of Q^T A
are then close to those of A. Musco and Musco, "Randomized Block Krylov Methods for
Stronger and Faster Approximate Singular Value Decomposition", 2015, algorithm 2,
https://arxiv.org/abs/1504.05477. Halko, Martinsson and Tropp 2011,
https://arxiv.org/abs/0909.4061, keep the last product only; the spectrum of PMI falls
so slowly that their method needs more products for less precision. Singular vectors as
embeddings: Levy, Goldberg and Dagan 2015, sections 2.2 and 3.3,
https://aclanthology.org/Q15-1016.

  V  rows, words                 B  columns of a block
  C  columns, contexts           K  blocks, one per iteration
"""

import functools
from typing import Annotated

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
from scipy import sparse

from seqlab.domains import Range, checked
from seqlab.embeddings.output_vectors import OutputVectors, choose_vectors
from seqlab.embeddings.sparse_product import Panels
from seqlab.types import Array

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


@struct.dataclass
class Dense:
  """A dense matrix, multiplied in full precision on every device.

  Attributes:
    data: [V, C].
  """

  data: Array

  def __matmul__(self, other: Array) -> Array:
    """Returns the product with [C, D], [V, D]."""
    return _matmul(self.data, other)


@struct.dataclass
class Operator:
  """A matrix A on the devices, and its transpose.

  Attributes:
    rows: A, [V, C]; panels of a sparse matrix, or a dense one.
    columns: its transpose.
    square: [] sum of A's squares.
    shape: V and C.
  """

  rows: Panels | Dense
  columns: Panels | Dense
  square: Array
  shape: tuple[int, int] = struct.field(pytree_node=False)

  @classmethod
  def create(cls, matrix: sparse.csr_array | np.ndarray, mesh: Mesh) -> 'Operator':
    """Distributes the rows and the columns of a sparse [V, C] matrix over a mesh.

    A dense matrix is not distributed. Where most entries differ from zero, as after
    subtracting a mean, it needs less memory and is faster.
    """
    if isinstance(matrix, np.ndarray):
      rows = Dense(jnp.asarray(matrix, jnp.float32))
      columns = Dense(rows.data.T)
    else:
      rows = Panels.create(matrix, mesh)
      columns = Panels.create(matrix.T.tocsr(), mesh)
    return cls(rows, columns, jnp.sum(rows.data**2), matrix.shape)


@struct.dataclass
class Krylov:
  """A basis that grows by one block per iteration, and its images.

  It does not depend on the number of devices, unlike `Operator`. Blocks of iterations
  that are not done yet are zero.

  Attributes:
    step: [] int32, number of iterations that are done.
    block: [C, B], what the next iteration multiplies by A.
    basis: [K, V, B], the orthonormal Q.
    images: [K, C, B], the transpose of A times Q.
  """

  step: Array
  block: Array
  basis: Array
  images: Array


def start(rng: Array, shape: tuple[int, int], *, block: int, steps: int) -> Krylov:
  """Returns random vectors, and room for `steps` iterations.

  A block of 32 is a good choice on a CPU: narrower blocks need fewer products for the
  same precision, wider ones make faster products. For D singular vectors set block x
  steps to 2.5 D or more: with the PPMI of 50,000 English words and D = 300, the first
  200 singular values are then right to 1e-5, and the 300th to 2 %.

  Args:
    rng: key of the random vectors.
    shape: V and C, the shape of A.
    block: B, vectors per block.
    steps: K, number of iterations.

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


def shard(state: Krylov, mesh: Mesh) -> Krylov:
  """Puts a state on a mesh: V and C of the basis and the images over all devices.

  An axis that the devices do not divide is replicated.
  """

  def put(x: Array, axis: int | None = None) -> Array:
    spec: list = [None] * np.ndim(x)
    if axis is not None and x.shape[axis] % mesh.size == 0:
      spec[axis] = mesh.axis_names
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

  return Krylov(
    step=put(state.step),
    block=put(state.block),
    basis=put(state.basis, axis=1),
    images=put(state.images, axis=1),
  )


def iterate(state: Krylov, matrix: Operator) -> Krylov:
  """Multiplies by A and by its transpose once; a full basis does not change.

  Random directions replace those that A does not provide: its rank may be less than the
  width of the basis, or one of its singular values may occur more than B times.
  """
  block = matrix.rows @ state.block  # [V, B]
  for number, threshold in enumerate((1e-5, 0.3)):
    block = _orthonormal(_renewed(state, block, threshold, number))
  # Once more, because once leaves rounding errors of the part that was removed.
  block = _orthonormal(_outside(state, block))
  image = matrix.columns @ block  # [C, B]
  return Krylov(
    step=state.step + 1,
    block=image,
    basis=state.basis.at[state.step].set(block, mode='drop'),
    images=state.images.at[state.step].set(image, mode='drop'),
  )


def _renewed(state: Krylov, block: Array, threshold: float, number: int) -> Array:
  """Removes the basis from [V, B]; columns that vanish are replaced by random ones.

  A column that keeps less than the share `threshold` of its norm consists of rounding
  errors, which are not orthogonal to anything.
  """
  outside = _outside(state, block)
  vanished = jnp.linalg.norm(outside, axis=0) <= threshold * jnp.linalg.norm(
    block, axis=0
  )

  def renew() -> Array:
    rng = jax.random.fold_in(jax.random.key(number), state.step)
    random = _outside(state, jax.random.normal(rng, outside.shape))
    return jnp.where(vanished, random, outside)

  return lax.cond(vanished.any(), renew, lambda: outside)


def _outside(state: Krylov, block: Array) -> Array:
  """Removes from [V, B] its projection on the basis."""

  def remove(k: Array, block: Array) -> Array:
    basis = state.basis[k]  # [V, B]
    return block - _matmul(basis, _matmul(basis.T, block))

  return lax.fori_loop(0, state.step, remove, block)


def _orthonormal(block: Array) -> Array:
  """Returns an orthonormal basis of the columns of [V, B], by their Gram matrix.

  Stathopoulos and Wu, "A Block Orthogonalization Procedure with Constant
  Synchronization Requirements", 2002, https://doi.org/10.1137/S1064827500370883. Unlike
  a Cholesky factorization it accepts columns that are linearly dependent, and returns
  zeros for the surplus ones; like it, it needs one sum over the rows. In float32 it is
  exact after the second application.
  """
  tiny = jnp.finfo(block.dtype).tiny
  block = block / jnp.maximum(jnp.linalg.norm(block, axis=0), tiny)
  values, vectors = jnp.linalg.eigh(_matmul(block.T, block))  # [B], [B, B]
  threshold = 4 * jnp.finfo(block.dtype).eps * values.max()
  scale = jnp.where(values > threshold, lax.rsqrt(jnp.maximum(values, tiny)), 0.0)
  return _matmul(block, vectors * scale)


def residual(state: Krylov, matrix: Operator) -> Array:
  """Returns the share of A's squares that the basis misses, []."""
  return 1 - jnp.sum(state.images**2) / matrix.square


def finish(state: Krylov, D: int) -> tuple[Array, Array, Array]:
  """Returns the D largest singular values and their vectors, as the basis holds them.

  Returns:
    U [V, D], S [D] and V [C, D] such that A is about U S V^T. In each column of U the
    entry that is largest in magnitude is positive.

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
  # Norms are right to second order, the small eigenvalues of the Gram matrix are not.
  values = jnp.linalg.norm(contexts, axis=0)  # [D]
  order = jnp.argsort(-values)
  words, contexts, values = words[:, order], contexts[:, order], values[order]
  extremes = jnp.take_along_axis(words, jnp.abs(words).argmax(0)[None], axis=0)
  signs = jnp.where(extremes < 0, -1.0, 1.0)  # [1, D]
  contexts = contexts / jnp.maximum(values, jnp.finfo(values.dtype).tiny)
  return words * signs, values, contexts * signs


def truncated_svd(
  matrix: sparse.csr_array | np.ndarray,
  D: int,
  mesh: Mesh,
  *,
  block: int = 32,
  steps: int | None = None,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns U [V, D], S [D] and V [C, D], float32, of a [V, C] matrix.

  Args:
    matrix: A, sparse or dense.
    D: number of singular values.
    mesh: devices to compute on.
    block: B, vectors per block; fewer if the matrix is small.
    steps: K, number of iterations; None makes the basis 2.5 D wide, or as wide as the
      matrix allows.
    seed: integer seed of the random vectors.

  Raises:
    ValueError: the matrix has fewer than D rows or columns, or see `start` and
      `finish`.
  """
  rank = min(matrix.shape)  # at most
  if rank < D:
    raise ValueError(
      f'a matrix of {matrix.shape} has {rank:,} singular values, not {D:,}'
    )
  block = min(block, rank)
  if steps is None:
    while rank // block * block < D:  # the blocks must fill the space nearly
      block -= 1
    steps = min(-(-5 * D // (2 * block)), rank // block)
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
  output_vectors: OutputVectors = 'words',
) -> Array:
  """Returns word vectors U S^power, [V, D].

  Args:
    words: U [V, D].
    values: S [D].
    contexts: V [V, D].
    power: exponent of the singular values; 1 is the best approximation of the matrix,
      0.5 and 0 make better embeddings (Levy et al. 2015, section 6).
    output_vectors: a name of `OUTPUT_VECTORS`, such as 'words' for U, or a path.

  Raises:
    ValueError: `output_vectors` is unknown, or the vectors cannot be combined.
  """
  return choose_vectors(output_vectors, words, contexts) * values**power
