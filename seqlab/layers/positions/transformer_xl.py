"""Relative positions as sines and cosines of distances, mapped by every layer."""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax.numpy as jnp

from seqlab.layers.linear import glorot
from seqlab.layers.positions.interface import (
  LayerPositions,
  Positions,
  PositionTerms,
  distances,
)
from seqlab.layers.positions.shaw import one_hot_distances
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.layers.products import product
from seqlab.types import Array


class TransformerXL(Positions):
  """Compares queries with keys and with maps of `sinusoidal` vectors of distances.

  The score of query i and key j is (q_i + u) k_j + (q_i + v) W r_{j-i}: r is the vector
  of the distance, and W, u and v are parameters of every layer. Dai et al.,
  "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context", 2019,
  section 3.3, https://arxiv.org/abs/1901.02860. Csordás et al. 2021
  (https://arxiv.org/abs/2108.12284) use it in encoders too, where distances have both
  signs. Nothing is carried from one segment of a text to the next.
  """

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """See `Positions.attention_terms`."""
    # Positions are at most S, see `Positions.embed`. A decoder masks later positions.
    S = memory.shape[1]
    distance = jnp.clip(distances(query, memory), -S, S if self.bidirectional else 0)
    return PositionTerms(distance=distance + S)

  def layer_module(self) -> Callable[..., nn.Module]:
    """See `Positions.layer_module`."""
    return functools.partial(
      SinusoidalDistances,
      model_width=self.width,
      heads=self.heads,
      bidirectional=self.bidirectional,
    )


class SinusoidalDistances(LayerPositions):
  """The parameters of one layer.

  Attributes:
    model_width: D.
    heads: H.
    bidirectional: whether distances have both signs.
  """

  model_width: int = 1
  heads: int = 1
  bidirectional: bool = True

  def setup(self) -> None:
    """Makes W [D, H, K] and the vectors u and v, [H, K]."""
    D, H, K = self.model_width, self.heads, self.width
    glorot_init = glorot(in_axis=0, out_axis=(1, 2))
    init = nn.with_logical_partitioning(glorot_init, ('embed', 'heads', 'head_dim'))
    self.distance_kernel = self.param('distance_kernel', init, (D, H, K))
    zeros = nn.initializers.zeros
    init = nn.with_logical_partitioning(zeros, ('heads', 'head_dim'))
    self.content_bias = self.param('content_bias', init, (H, K))
    self.distance_bias = self.param('distance_bias', init, (H, K))

  def content_query(self, query: Array) -> Array:
    """See `LayerPositions.content_query`."""
    return (query + self.content_bias).astype(self.dtype)

  def scores(self, query: Array, terms: PositionTerms) -> Array:
    """See `LayerPositions.scores`."""
    S = terms.distance.shape[-1]
    places = jnp.arange(-S, S + 1 if self.bidirectional else 1)  # [R]
    vectors = sinusoidal(places, self.model_width).astype(self.dtype)  # [R, D]
    kernel = self.distance_kernel.astype(self.dtype)
    of_distance = product('rd,dhk->rhk', vectors, kernel)
    query = (query + self.distance_bias).astype(self.dtype)
    by_distance = product('blhk,rhk->bhlr', query, of_distance)
    one_hot, letters = one_hot_distances(terms, len(places), self.dtype)
    return product(f'bhlr,{letters}->bhls', by_distance, one_hot, jnp.float32)
