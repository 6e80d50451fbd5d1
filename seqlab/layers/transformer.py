"""The layers of a Transformer: encoder layer and decoder layer.

Vaswani et al., "Attention Is All You Need", 2017, section 3,
https://arxiv.org/abs/1706.03762; pre-norm after Xiong et al., "On Layer
Normalization in the Transformer Architecture", 2020,
https://arxiv.org/abs/2002.04745.
"""

from collections.abc import Callable, Mapping
import math
from typing import Literal

from flax import linen as nn
from flax import struct
import jax.numpy as jnp

from seqlab.layers.attention import MultiHeadAttention, Projections
from seqlab.layers.cache import KVCache
from seqlab.layers.dropout import Dropout
from seqlab.layers.feed_forward import FeedForward
from seqlab.layers.positions.interface import PositionTerms
from seqlab.pieces import Specification
from seqlab.types import PAD, Array

# How weights start; see `models.transformer.Transformer`.
Initialization = Literal['glorot', 'depth', 'joint']
# Glorot's bound sqrt(6 / (in + out)) of [D, 3D], relative to that of [D, D].
JOINT_SCALE = math.sqrt(1 / 2)


@struct.dataclass
class TrainingInputs:
  """Inputs of a layer in training besides its states; all None in evaluation.

  Attributes:
    residual: dropout rate, a traced scalar, on the output of every sublayer.
    embedding: dropout rate on the embeddings; by default the same.
    attention: dropout rate on the attention weights.
    activation: dropout rate on the hidden units of the feed-forward layers.
    mask: [B, L] bool, True for positions that batch statistics are taken over; None
      for the running statistics.
  """

  residual: Array | None = None
  embedding: Array | None = None
  attention: Array | None = None
  activation: Array | None = None
  mask: Array | None = None

  @classmethod
  def of(cls, hyper: Mapping[str, Array], ids: Array) -> 'TrainingInputs':
    """Returns the inputs for words [B, L], from the model's hyperparameters."""
    residual = hyper.get('dropout')
    return cls(
      residual=residual,
      embedding=hyper.get('embedding_dropout', residual),
      attention=hyper.get('attention_dropout'),
      activation=hyper.get('activation_dropout'),
      mask=ids != PAD,
    )


class _Layer(nn.Module):
  """The common part of encoder and decoder layers: residuals and norms.

  Attributes:
    width: D.
    mlp_width: F.
    heads: H.
    make_norm: makes a normalisation layer, called as in `layers.normalization`.
    norm: place of the normalisation: 'pre', 'post' or 'deep'.
    activation: activation of the feed-forward layer.
    alpha: factor of the residual before a 'deep' norm.
    attention_scale: factor of the Glorot scale at which W_Q, W_K and W_V are initialised.
    inner_scale: factor of the Glorot scale at which the matrices of values and of the
      feed-forward layer are initialised.
    outer_scale: the same for the matrices that write to the residual.
    make_positions: see `MultiHeadAttention`; used for self-attention.
    dtype: dtype of the matrix products.
    implementation: implementation of attention.
    projections: matrices of each attention, see `MultiHeadAttention`.
  """

  width: int
  mlp_width: int
  heads: int
  make_norm: Callable[[], nn.Module]
  norm: str = 'pre'
  activation: Specification = 'relu'
  alpha: float = 1.0
  attention_scale: float = 1.0
  inner_scale: float = 1.0
  outer_scale: float = 1.0
  make_positions: Callable[..., nn.Module] | None = None
  dtype: jnp.dtype = jnp.float32
  implementation: str = 'xla'
  projections: Projections = 'separate'

  def attention(
    self, make_positions: Callable[..., nn.Module] | None = None
  ) -> MultiHeadAttention:
    return MultiHeadAttention(
      self.width,
      self.heads,
      make_positions,
      query_scale=self.attention_scale,
      value_scale=self.attention_scale * self.inner_scale,
      out_scale=self.outer_scale,
      dtype=self.dtype,
      implementation=self.implementation,
      projections=self.projections,
    )

  def mlp(self) -> FeedForward:
    return FeedForward(
      self.width,
      self.mlp_width,
      self.activation,
      up_scale=self.inner_scale,
      down_scale=self.outer_scale,
      dtype=self.dtype,
    )

  def sublayer(
    self,
    norm: nn.Module,
    x: Array,
    layer: Callable[[Array], Array],
    training: TrainingInputs,
  ) -> Array:
    """Returns x + layer(norm(x)), norm(x + layer(x)) or norm(alpha x + layer(x))."""
    y = layer(self.enter(norm, x, training))
    return self.leave(norm, x, y, training)

  def enter(self, norm: nn.Module, x: Array, training: TrainingInputs) -> Array:
    """Returns the input of a sublayer: [B, L, D] -> [B, L, D]."""
    return norm(x, training.mask) if self.norm == 'pre' else x

  def leave(
    self, norm: nn.Module, x: Array, y: Array, training: TrainingInputs
  ) -> Array:
    """Adds a sublayer's output `y` to the residual `x`, both [B, L, D]."""
    y = self.drop(y, training.residual)
    if self.norm == 'pre':
      return x + y
    x = self.alpha * x if self.norm == 'deep' else x
    return norm(x + y, training.mask)

  def attend_cached(
    self, x: Array, cache: KVCache, position: Array, mask: Array, terms: PositionTerms
  ) -> tuple[Array, KVCache]:
    """Applies self-attention from one new position to it and to those in the cache.

    Args:
      x: [B, M, D], this position of M hypotheses.
      cache: keys and values of the earlier positions in this layer.
      position: [] int32, number of this position.
      mask: [B|1, 1, M, S] bool, see `DecoderCache.mask`.
      terms: position terms of this position relative to all positions of the cache.

    Returns:
      [B, M, D], and the cache with one more position.
    """
    y = self.enter(self.norm_self, x, TrainingInputs())
    cache = cache.write(*self.self_attention.project(y, terms), position)
    y = self.self_attention.read(y, cache, mask, terms)
    return self.leave(self.norm_self, x, y, TrainingInputs()), cache

  def feed(self, x: Array, training: TrainingInputs) -> Array:
    """Applies the feed-forward sublayer: [B, L, D] -> [B, L, D]."""
    return self.sublayer(
      self.norm_mlp, x, lambda x: self.feed_forward(x, training.activation), training
    )


class EncoderLayer(_Layer):
  """Self-attention and feed-forward.

  With a causal mask it is the layer of a model without an encoder, such as a language
  model, which generates by `step`.
  """

  def setup(self) -> None:
    """Makes the sublayers."""
    self.self_attention = self.attention(self.make_positions)
    self.feed_forward = self.mlp()
    self.norm_self, self.norm_mlp = self.make_norm(), self.make_norm()
    self.drop = Dropout()

  def __call__(
    self, x: Array, mask: Array, terms: PositionTerms, training: TrainingInputs
  ) -> tuple[Array, None]:
    """Returns [B, S, D] for [B, S, D] and a mask; `nn.scan` needs the None."""

    def attend(x: Array) -> Array:
      key, value = self.self_attention.project(x, terms)
      return self.self_attention(
        x, key, value, mask=mask, dropout=training.attention, terms=terms
      )

    x = self.sublayer(self.norm_self, x, attend, training)
    return self.feed(x, training), None

  def step(
    self, x: Array, cache: KVCache, position: Array, mask: Array, terms: PositionTerms
  ) -> tuple[Array, KVCache]:
    """Takes one position of every hypothesis through the layer; see `attend_cached`."""
    x, cache = self.attend_cached(x, cache, position, mask, terms)
    return self.feed(x, TrainingInputs()), cache

  def read(self, x: Array, mask: Array, terms: PositionTerms) -> tuple[Array, KVCache]:
    """Takes all positions at once: [B, L, D] -> [B, L, D], their keys and values."""
    y = self.enter(self.norm_self, x, TrainingInputs())
    key, value = self.self_attention.project(y, terms)
    y = self.self_attention(y, key, value, mask=mask, terms=terms)
    x = self.leave(self.norm_self, x, y, TrainingInputs())
    return self.feed(x, TrainingInputs()), KVCache.of(key, value)


class DecoderLayer(_Layer):
  """Self-attention over the target, attention to the source, and feed-forward."""

  def setup(self) -> None:
    """Makes the sublayers."""
    self.self_attention = self.attention(self.make_positions)
    self.feed_forward = self.mlp()
    self.cross_attention = self.attention()
    self.norm_self, self.norm_cross = self.make_norm(), self.make_norm()
    self.norm_mlp = self.make_norm()
    self.drop = Dropout()

  def project(self, memory: Array) -> KVCache:
    """Returns keys and values of the source [B, S, D], computed once per sentence."""
    return KVCache.of(*self.cross_attention.project(memory))

  def __call__(
    self,
    x: Array,
    memory: Array,
    mask: Array,
    memory_mask: Array,
    terms: PositionTerms,
    training: TrainingInputs,
  ) -> tuple[Array, None]:
    """Takes all positions at once: [B, T, D], [B, S, D] -> [B, T, D]."""

    def attend(x: Array) -> Array:
      key, value = self.self_attention.project(x, terms)
      return self.self_attention(
        x, key, value, mask=mask, dropout=training.attention, terms=terms
      )

    def look(x: Array) -> Array:
      key, value = self.cross_attention.project(memory)
      return self.cross_attention(
        x, key, value, mask=memory_mask, dropout=training.attention
      )

    x = self.sublayer(self.norm_self, x, attend, training)
    x = self.sublayer(self.norm_cross, x, look, training)
    return self.feed(x, training), None

  def step(
    self,
    x: Array,
    cache: KVCache,
    memory: KVCache,
    position: Array,
    mask: Array,
    memory_mask: Array,
    terms: PositionTerms,
  ) -> tuple[Array, KVCache]:
    """Takes one position of every hypothesis through the layer.

    Args:
      x: [B, M, D].
      cache: keys and values of the earlier positions in this layer.
      memory: those of the source, from `project`; shared by a sentence's hypotheses.
      position: [] int32, number of this position.
      mask: [B|1, 1, M, L * M] bool, see `DecoderCache.mask`.
      memory_mask: [B, 1, 1, S].
      terms: position terms of this position relative to all positions of the cache.

    Returns:
      [B, M, D], and the cache with one more position.
    """

    def look(x: Array) -> Array:
      return self.cross_attention.read(x, memory, memory_mask)

    x, cache = self.attend_cached(x, cache, position, mask, terms)
    x = self.sublayer(self.norm_cross, x, look, TrainingInputs())
    return self.feed(x, TrainingInputs()), cache
