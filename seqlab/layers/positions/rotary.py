"""Rotary positions: queries and keys are rotated by an angle per position."""

import jax.numpy as jnp

from seqlab.layers.positions.interface import Positions, PositionTerms
from seqlab.types import Array


class Rotary(Positions):
  """Rotates queries and keys, so that scores depend on distances.

  Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
  section 3.2.2, https://arxiv.org/abs/2104.09864.
  """

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """See `Positions.attention_terms`."""
    del memory  # keys are rotated where they are queries' positions, before caching
    return PositionTerms(rotation=rotation(query, self.width // self.heads))


def rotation(positions: Array, width: int, base: float = 10_000.0) -> Array:
  """Returns cosines and sines of the angles by which `rotate` rotates vectors.

  Args:
    positions: [B, L] int32.
    width: width of a head, K, even.
    base: pair i is rotated by base^(-2i / K) radians per position.

  Returns:
    [2, B, L, 1, K / 2] float32.

  Raises:
    ValueError: the width is odd.
  """
  if width % 2:
    raise ValueError(
      f'rotary positions rotate pairs of features, and a head has {width}: '
      f'change model.heads'
    )
  exponent = jnp.arange(width // 2) / (width // 2)
  angle = positions[:, :, None, None] * base**-exponent  # [B, L, 1, K / 2]
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)])  # [2, B, L, 1, K / 2]


def rotate(x: Array, rotation: Array) -> Array:
  """Rotates each pair of features: [B, L, H, K], [2, B|1, L, 1, K / 2] -> [B, L, H, K].

  A pair is a feature of the first half and one of the second; the paper's pairs
  are neighbours, which is a permutation of the same.
  """
  cos, sin = rotation
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # [B, L, H, K / 2]
  rotated = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
