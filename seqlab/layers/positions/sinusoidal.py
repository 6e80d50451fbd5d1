"""Sinusoidal positions, added to the embeddings."""

from typing import Annotated, Literal

import jax.numpy as jnp

from seqlab.domains import Range
from seqlab.layers.positions.interface import Positions
from seqlab.types import Array


class Sinusoidal(Positions):
  """Adds `sinusoidal` to the embeddings, or concatenates the two.

  Attributes:
    scaling: factor of the sines and cosines: 'none' for 1, 'inverse_sqrt' for 1 / √D.
    concatenated: None for the sum; or the number P of dimensions of positions, even and
      less than D, that take the place of the last P dimensions of an embedding. The
      input is then the concatenation of the first D - P dimensions of a token's vector
      with a position. An output table that is the same has all D dimensions.
  """

  scaling: Literal['none', 'inverse_sqrt'] = 'none'
  concatenated: Annotated[int, Range(2)] | None = None

  def embed(self, x: Array, positions: Array) -> Array:
    """See `Positions.embed`."""
    if positions.ndim < 2 or positions.shape[1] == 1:
      return self._combined(x, self._vectors(positions))
    # Rows of packed sentences, whose positions are at most the length of a row: a table
    # has fewer sines to compute than the batch has numbers.
    places = jnp.arange(positions.shape[1] + 1)
    return self._combined(x, self._vectors(places)[positions])

  def _combined(self, x: Array, vectors: Array) -> Array:
    if self.concatenated is None:
      return x + vectors
    size = self.concatenated
    vectors = jnp.broadcast_to(vectors, (*x.shape[:-1], size))
    return jnp.concatenate([x[..., :-size], vectors], axis=-1)

  def _vectors(self, positions: Array) -> Array:
    """Returns [L, D], or [L, P] to be concatenated, for positions [L]."""
    size = self.concatenated
    if size is not None and (size % 2 or size >= self.width):
      raise ValueError(
        f'model.positions.concatenated is {size}: set it to an even number below the '
        f'width, which is {self.width}'
      )
    vectors = sinusoidal(positions, size or self.width)
    if self.scaling == 'inverse_sqrt':
      vectors *= self.width**-0.5
    return vectors.astype(self.dtype)


def sinusoidal(positions: Array, width: int, base: float = 10_000.0) -> Array:
  """Returns sines and cosines of geometrically spaced frequencies.

  Vaswani et al., "Attention Is All You Need", 2017, section 3.5,
  https://arxiv.org/abs/1706.03762. Sines fill the first half of the vector and
  cosines the second, as in tensor2tensor: the paper's interleaving is a
  permutation of the same.

  Args:
    positions: [...] int32.
    width: D, even.
    base: wavelengths run from 2π to 2π * base.

  Returns:
    [..., D] float32.

  Raises:
    ValueError: the width is odd.
  """
  angle = positions[..., None] * _frequencies(width, base)  # [..., D / 2]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)  # [..., D]


def rotation(k: int, width: int, base: float = 10_000.0) -> Array:
  """Returns the matrix M with M p(t) = p(t + k) for every t, p being `sinusoidal`.

  It turns the pair of a sine and a cosine of each frequency by k times the frequency,
  since sin(a + b) = cos(b) sin(a) + sin(b) cos(a), and cos(a + b) = cos(b) cos(a) -
  sin(b) sin(a) (Vaswani et al. 2017, section 3.5). M does not depend on t.

  Args:
    k: number of positions, of any sign.
    width: D, even.
    base: see `sinusoidal`.

  Returns:
    [D, D] float32, orthogonal.

  Raises:
    ValueError: the width is odd.
  """
  turn = k * _frequencies(width, base)
  c, s = jnp.diag(jnp.cos(turn)), jnp.diag(jnp.sin(turn))
  return jnp.block([[c, s], [-s, c]])


def _frequencies(width: int, base: float) -> Array:
  """Returns radians per position, [D / 2]: from 1 to 1 / base."""
  if width % 2:
    raise ValueError(f'sinusoidal positions need an even width, and got {width}')
  return base ** -(jnp.arange(width // 2) / max(width // 2 - 1, 1))
