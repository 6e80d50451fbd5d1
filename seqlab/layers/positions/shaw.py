"""Relative vectors, added to keys and values in every layer."""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.domains import Count
from seqlab.layers.linear import glorot
from seqlab.layers.positions.interface import (
  LayerPositions,
  Positions,
  PositionTerms,
  distances,
)
from seqlab.layers.products import product
from seqlab.types import Array


class Shaw(Positions):
  """Adds a learned vector per distance to keys and values, in each layer.

  Shaw, Uszkoreit and Vaswani, "Self-Attention with Relative Position Representations",
  2018, https://arxiv.org/abs/1803.02155. Heads share the vectors, as in section 3.3.

  Attributes:
    clip: largest distance with a separate vector; longer distances share this vector.
  """

  clip: Count = 16

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """See `Positions.attention_terms`."""
    distance = jnp.clip(distances(query, memory), -self.clip, self.clip)
    return PositionTerms(distance=distance + self.clip)

  def layer_module(self) -> Callable[..., nn.Module]:
    """See `Positions.layer_module`."""
    return functools.partial(RelativeVectors, count=2 * self.clip + 1)


class RelativeVectors(LayerPositions):
  """The vectors of one layer.

  Attributes:
    count: R, number of vectors.
  """

  count: int = 1

  def setup(self) -> None:
    """Makes the vectors [R, K] for keys and for values."""
    init = nn.with_logical_partitioning(glorot(), (None, 'head_dim'))
    shape = (self.count, self.width)
    self.relative_key = self.param('relative_key', init, shape)
    self.relative_value = self.param('relative_value', init, shape)

  # One product per distance, R of them, is spread over the pairs of positions: a vector
  # for every pair, [L, S, K], need not be built.

  def scores(self, query: Array, terms: PositionTerms) -> Array:
    """See `LayerPositions.scores`."""
    vectors = self.relative_key.astype(self.dtype)  # [R, K]
    by_distance = product('blhk,rk->bhlr', query, vectors)
    one_hot, letters = one_hot_distances(terms, self.count, self.dtype)
    return product(f'bhlr,{letters}->bhls', by_distance, one_hot, jnp.float32)

  def values(self, weights: Array, terms: PositionTerms) -> Array:
    """See `LayerPositions.values`."""
    vectors = self.relative_value.astype(self.dtype)  # [R, K]
    one_hot, letters = one_hot_distances(terms, self.count, self.dtype)
    by_distance = product(f'bhls,{letters}->bhlr', weights, one_hot)
    return product('bhlr,rk->blhk', by_distance, vectors)


def one_hot_distances(
  terms: PositionTerms, count: int, dtype: jnp.dtype
) -> tuple[Array, str]:
  """Returns one-hot distances and their letters: [B, L, S, R], or [L, S, R] for all.

  In a step of decoding L is 1 here; `product` broadcasts this axis to the hypotheses.

  Args:
    terms: terms with a distance for each pair of positions, from 0 to R - 1.
    count: R, number of distances.
    dtype: dtype of the result.
  """
  one_hot = jax.nn.one_hot(terms.distance, count, dtype=dtype)
  return (one_hot[0], 'lsr') if len(one_hot) == 1 else (one_hot, 'blsr')
