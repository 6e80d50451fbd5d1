"""Positions, told to a model that would not know them otherwise: the formulas.

What is added to the embeddings: `sinusoidal`. What turns queries and keys:
`rotation`. What is added to attention's scores: `alibi_slopes`, `t5_buckets`.
"""

import math

import jax.numpy as jnp
import numpy as np

from seqlab.types import Array


def sinusoidal(positions: Array, width: int, base: float = 10_000.0) -> Array:
  """Sines and cosines of geometrically spaced frequencies.

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
  """
  if width % 2:
    raise ValueError(f'sinusoidal positions need an even width, and got {width}')
  exponent = jnp.arange(width // 2) / max(width // 2 - 1, 1)
  angle = positions[..., None] * base**-exponent  # [..., D / 2]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)  # [..., D]


def rotation(positions: Array, width: int, base: float = 10_000.0) -> Array:
  """Cosines and sines of the angles by which `rotate` turns a position's vectors.

  Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
  section 3.2.2, https://arxiv.org/abs/2104.09864.

  Args:
    positions: [B, L] int32.
    width: of a head, K, even.
    base: pair i turns by base^(-2i / K) radians a position.

  Returns:
    [2, B, L, 1, K / 2] float32.
  """
  if width % 2:
    raise ValueError(
      f'rotary positions turn pairs of features, and a head has {width}: '
      f'change model.heads'
    )
  exponent = jnp.arange(width // 2) / (width // 2)
  angle = positions[:, :, None, None] * base**-exponent  # [B, L, 1, K / 2]
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)])  # [2, B, L, 1, K / 2]


def rotate(x: Array, rotation: Array) -> Array:
  """Turns each pair of features: [B, L, H, K], [2, B|1, L, 1, K / 2] -> [B, L, H, K].

  A pair is a feature of the first half and one of the second; the paper's pairs
  are neighbours, which is a permutation of the same.
  """
  cos, sin = rotation
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # [B, L, H, K / 2]
  turned = [first * cos - second * sin, second * cos + first * sin]
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def alibi_slopes(heads: int) -> np.ndarray:
  """How fast each head's bias falls with the distance: [H].

  Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases
  Enables Input Length Extrapolation", 2021, section 3,
  https://arxiv.org/abs/2108.12409: 2^(-8/H), 2^(-16/H), ... If H is no power of 2,
  every other slope of the next power fills up those of the last, as in the authors'
  code, https://github.com/ofirpress/attention_with_linear_biases.
  """
  power = 2 ** int(math.log2(heads))
  slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
  between = 2.0 ** (-4 / power * np.arange(1, 2 * power + 1, 2))
  return np.concatenate([slopes, between[: heads - power]])


def t5_buckets(
  distance: np.ndarray, *, bidirectional: bool, buckets: int, max_distance: int
) -> np.ndarray:
  """The bucket of each distance, of which each has its own bias.

  Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
  Text-to-Text Transformer", 2020, section 2.1, https://arxiv.org/abs/1910.10683.
  Short distances have a bucket each, longer ones share them logarithmically, and
  all from `max_distance` on share the last.

  Args:
    distance: [...] ints, the memory's position minus the query's.
    bidirectional: half of the buckets are for positions after the query; if not,
      these share the bucket of distance 0.
    buckets: how many there are.
    max_distance: where the last one begins, at the latest.

  Returns:
    [...] int64, from 0 to `buckets` - 1.
  """
  first = 0
  if bidirectional:
    buckets //= 2
    first = np.where(distance > 0, buckets, 0)
    distance = np.abs(distance)
  else:
    distance = np.maximum(-distance, 0)
  exact = buckets // 2
  ratio = np.maximum(distance, exact) / exact
  # Where a bucket begins, rounding must not put the distance into the one before.
  octaves = np.log(ratio) / math.log(max_distance / exact) + 1e-9
  shared = exact + (octaves * (buckets - exact)).astype(np.int64)
  return first + np.where(distance < exact, distance, np.minimum(shared, buckets - 1))
