"""A learned bias per bucket of distances."""

import math
from typing import Annotated

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from seqlab.domains import Range
from seqlab.layers.positions.interface import Positions, PositionTerms, distances
from seqlab.types import Array


class T5(Positions):
  """Adds a learned bias to the scores, per head and bucket of distances.

  Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
  Transformer", 2020, section 2.1, https://arxiv.org/abs/1910.10683. All layers of a
  stack share one table.

  Attributes:
    buckets: number of buckets. In an encoder, half of them are for later positions.
    max_distance: distance from which on all distances share the last bucket. It must be
      greater than the number of distances that have a bucket of their own, which is
      half of the buckets of one direction.
  """

  buckets: Annotated[int, Range(4)] = 32
  max_distance: Annotated[int, Range(2)] = 128

  def setup(self) -> None:
    """Makes the table [buckets, H]."""
    exact = self.buckets // (4 if self.bidirectional else 2)
    if self.max_distance <= exact:
      raise ValueError(
        f'model.positions.max_distance is {self.max_distance}; with '
        f'model.positions.buckets={self.buckets} it must be more than {exact}'
      )
    init = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
    init = nn.with_logical_partitioning(init, (None, 'heads'))
    self.bias = self.param('bias', init, (self.buckets, self.heads))

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """See `Positions.attention_terms`."""
    # Buckets of all distances are constants of the program, so that no logarithm is
    # computed for each pair of positions.
    reach = self.max_distance
    bucket = t5_buckets(
      np.arange(-reach, reach + 1),
      bidirectional=self.bidirectional,
      buckets=self.buckets,
      max_distance=reach,
    )
    distance = jnp.clip(distances(query, memory), -reach, reach)
    bias = self.bias[bucket][distance + reach]  # [B|1, L, S, H]
    return PositionTerms(bias=jnp.moveaxis(bias, -1, 1))


def t5_buckets(
  distance: np.ndarray, *, bidirectional: bool, buckets: int, max_distance: int
) -> np.ndarray:
  """Returns the bucket of each distance.

  Each short distance has a separate bucket, longer ones share buckets
  logarithmically, and all from `max_distance` on share the last.

  Args:
    distance: [...] ints, the memory's position minus the query's.
    bidirectional: whether half of the buckets are for positions after the query; if
      not, these positions share the bucket of distance 0.
    buckets: number of buckets.
    max_distance: distance at which the last bucket begins, at the latest.

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
