"""Token embeddings, which can also be the output weights."""

from collections.abc import Callable
import math
from typing import Literal

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.layers.linear import glorot
from seqlab.layers.products import product
from seqlab.layers.sharding import (
  gather_weight_per_shard,
  merge_rows,
  num_row_shards,
  split_rows,
)
from seqlab.types import Array

Scaling = Literal['sqrt', 'none']
Initial = Literal['normal', 'unit', 'xavier', 'kaiming']

# Initialiser of a table [V, D] by name, made from D.
_INITIAL: dict[str, Callable[[int], nn.initializers.Initializer]] = {
  'normal': lambda width: nn.initializers.normal(width**-0.5),
  'unit': lambda width: nn.initializers.normal(1.0),
  'xavier': lambda width: glorot(),
  'kaiming': lambda width: nn.initializers.normal(math.sqrt(2.0 / width)),
}


class Embedding(nn.Module):
  """A table of token vectors [V, D], used by id and, transposed, for logits.

  Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017,
  https://arxiv.org/abs/1608.05859. By default the vectors of ids are scaled by √D
  (Vaswani et al. 2017, section 3.4). As entries have variance 1/D at first, the scaled
  vectors have variance one, and logits have the scale of the hidden state.

  Attributes:
    size: number of tokens V.
    width: dimension of the vectors D.
    dtype: dtype of the result. The table is float32.
    scaling: factor of the vectors of ids: 'sqrt' for √D, 'none' for 1.
    initial: distribution of the entries at first: 'normal', N(0, 1/D); 'unit', N(0, 1),
      as in PyTorch; 'xavier', uniform with variance 2 / (V + D); 'kaiming', N(0, 2/D).
  """

  size: int
  width: int
  dtype: jnp.dtype = jnp.float32
  scaling: Scaling = 'sqrt'
  initial: Initial = 'normal'

  def setup(self) -> None:
    """Makes the table."""
    init, axes = _INITIAL[self.initial](self.width), ('vocab', 'embed')
    init = nn.with_logical_partitioning(init, axes)
    self.table = self.param('table', init, (self.size, self.width))
    # One gathered table, and one sum of gradients, for all uses.
    self.gathered = (
      gather_weight_per_shard(self.table, axes) if num_row_shards() > 1 else None
    )

  def __call__(self, ids: Array) -> Array:
    """Returns the embeddings: [B, L] int32 -> [B, L, D]."""
    return self._scaled(self.table[ids])

  def lookup(self, ids: Array) -> Array:
    """As `__call__`, for the rows of a batch, which may be sharded over devices."""
    if self.gathered is None:
      return self(ids)
    vectors = jax.vmap(lambda table, ids: table[ids])(self.gathered, split_rows(ids))
    return self._scaled(merge_rows(vectors))

  @property
  def weights(self) -> Array:
    """The table [V, D]; or [n, V, D], one table for each of n shards of the rows."""
    return self.table if self.gathered is None else self.gathered

  @property
  def scale(self) -> float:
    """The factor by which the vectors of ids are scaled."""
    return self.width**0.5 if self.scaling == 'sqrt' else 1.0

  def _scaled(self, vectors: Array) -> Array:
    return (vectors * self.scale).astype(self.dtype)


def logits(hidden: Array, weights: Array) -> Array:
  """Returns logits, [B, T, D] and `Embedding.weights` -> [B, T, V] float32."""
  if weights.ndim == 3:
    return merge_rows(jax.vmap(logits)(split_rows(hidden), weights))
  weights = weights.astype(hidden.dtype)
  return product('btd,vd->btv', hidden, weights, jnp.float32)
