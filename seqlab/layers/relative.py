"""Positions as a model uses them: added to the embeddings, or told to attention."""

from flax import linen as nn
from flax import struct
import jax.numpy as jnp
import numpy as np

from seqlab.layers.embedding import Embedding
from seqlab.layers.positions import alibi_slopes, rotation, sinusoidal, t5_buckets
from seqlab.types import Array

POSITIONS = ('sinusoidal', 'learned', 'rotary', 'shaw', 't5', 'alibi', 'none')


@struct.dataclass
class Relative:
  """What self-attention is told of positions, worked out once for all layers.

  Attributes:
    rotation: [2, B|1, L, 1, K / 2] cosines and sines for queries and keys.
    bias: [B|1, H, L, S] float32, added to the scores.
    distance: [B|1, L, S] int32, which of its relative vectors a layer takes.
  """

  rotation: Array | None = None
  bias: Array | None = None
  distance: Array | None = None


class Positions(nn.Module):
  """The positions of one stack of layers.

  Every kind works on packed rows, where positions begin again in each sentence:
  whatever lies in another sentence is masked by attention.

  Attributes:
    kind: one of `POSITIONS`.
    width: model width D.
    heads: number of heads H.
    bidirectional: whether a position sees those after it (T5's buckets).
    max_positions: positions that 'learned' has vectors for.
    clip: distance from which 'shaw' tells distances apart no more.
    buckets: of 't5'.
    max_distance: of 't5', in its last bucket.
    dtype: dtype of what is added to the embeddings.
  """

  kind: str
  width: int
  heads: int
  bidirectional: bool
  max_positions: int = 1024
  clip: int = 16
  buckets: int = 32
  max_distance: int = 128
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Makes the table of the kinds that learn one."""
    if self.kind == 'learned':
      self.embedding = Embedding(self.max_positions, self.width, self.dtype)
    if self.kind == 't5':
      init = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
      init = nn.with_logical_partitioning(init, (None, 'heads'))
      self.bias = self.param('bias', init, (self.buckets, self.heads))

  def add(self, x: Array, positions: Array) -> Array:
    """Adds vectors of absolute positions: [B, L, D], [B, L] or [L] -> [B, L, D].

    'learned' are Gehring et al., "Convolutional Sequence to Sequence Learning",
    2017, section 3.1, https://arxiv.org/abs/1705.03122; other kinds but
    'sinusoidal' add nothing.
    """
    if self.kind == 'sinusoidal':
      return x + sinusoidal(positions, self.width).astype(self.dtype)
    if self.kind == 'learned':
      self.check(positions.shape[-1])
      return x + self.embedding(positions)
    return x

  def check(self, length: int) -> None:
    """Raises ValueError if there are no vectors for so many positions."""
    if self.kind == 'learned' and length > self.max_positions:
      raise ValueError(
        f'a row of {length} positions is longer than model.max_positions='
        f"{self.max_positions}, for which model.positions='learned' has vectors: "
        f'set model.max_positions={length}, or let rows and outputs be shorter'
      )

  def relative(self, query: Array, memory: Array) -> Relative:
    """What attention from `query` to `memory` is told: [B|1, L], [B|1, S] int32.

    Of one sequence, or of one position of it and the whole (in a step of decoding).
    """
    if self.kind == 'rotary':
      return Relative(rotation=rotation(query, self.width // self.heads))
    distance = memory[:, None, :] - query[:, :, None]  # [B|1, L, S]
    if self.kind == 'shaw':
      return Relative(distance=jnp.clip(distance, -self.clip, self.clip) + self.clip)
    if self.kind == 't5':
      far = self.max_distance
      options = dict(buckets=self.buckets, max_distance=far)
      bucket = t5_buckets(
        np.arange(-far, far + 1), bidirectional=self.bidirectional, **options
      )
      bias = self.bias[bucket][jnp.clip(distance, -far, far) + far]  # [B|1, L, S, H]
      return Relative(bias=jnp.moveaxis(bias, -1, 1))
    if self.kind == 'alibi':
      slopes = jnp.asarray(alibi_slopes(self.heads), jnp.float32)[:, None, None]
      return Relative(bias=-slopes * jnp.abs(distance)[:, None])  # [B|1, H, L, S]
    return Relative()
