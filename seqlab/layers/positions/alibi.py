"""A bias that falls linearly with the distance."""

import math

import jax.numpy as jnp
import numpy as np

from seqlab.layers.positions.interface import Positions, PositionTerms, distances
from seqlab.types import Array


class ALiBi(Positions):
  """Subtracts a multiple of the distance from the scores; nothing is learned.

  Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases Enables
  Input Length Extrapolation", 2021, section 3, https://arxiv.org/abs/2108.12409. In an
  encoder the bias is symmetric.
  """

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """See `Positions.attention_terms`."""
    slopes = jnp.asarray(alibi_slopes(self.heads), jnp.float32)[:, None, None]
    distance = jnp.abs(distances(query, memory))[:, None]  # [B|1, 1, L, S]
    return PositionTerms(bias=-slopes * distance)  # [B|1, H, L, S]


def alibi_slopes(heads: int) -> np.ndarray:
  """Returns how fast each head's bias falls with the distance, [H] float64.

  The slopes are 2^(-8/H), 2^(-16/H), ... If H is not a power of 2, every other slope of
  the next power completes those of the last, as in the authors' code,
  https://github.com/ofirpress/attention_with_linear_biases.
  """
  power = 2 ** int(math.log2(heads))
  slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
  between = 2.0 ** (-4 / power * np.arange(1, 2 * power + 1, 2))
  return np.concatenate([slopes, between[: heads - power]])
