"""The layers of a Transformer: feed-forward, encoder layer, decoder layer.

Vaswani et al., "Attention Is All You Need", 2017, section 3,
https://arxiv.org/abs/1706.03762; pre-norm after Xiong et al., "On Layer
Normalization in the Transformer Architecture", 2020,
https://arxiv.org/abs/2002.04745.
"""

from collections.abc import Callable

from flax import linen as nn
from flax import struct
import jax.numpy as jnp

from seqlab.layers.attention import KVCache, MultiHeadAttention
from seqlab.layers.dropout import Dropout
from seqlab.layers.normalization import layer_norm
from seqlab.types import Array


@struct.dataclass
class Rates:
  """Dropout rates, traced scalars; None where nothing is dropped.

  Attributes:
    residual: on the output of every sublayer and on the embeddings.
    attention: on the attention weights.
    activation: on the hidden units of the feed-forward layers.
  """

  residual: Array | None = None
  attention: Array | None = None
  activation: Array | None = None


class FeedForward(nn.Module):
  """max(0, x W₁ + b₁) W₂ + b₂ at each position, from D to F and back."""

  width: int
  mlp_width: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, dropout: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]; `dropout` is the rate on the F hidden units."""

    def dense(width: int, axes: tuple[str, str], name: str) -> nn.Dense:
      kernel = nn.with_logical_partitioning(nn.initializers.xavier_uniform(), axes)
      bias = nn.with_logical_partitioning(nn.initializers.zeros, axes[1:])
      return nn.Dense(
        width, dtype=self.dtype, kernel_init=kernel, bias_init=bias, name=name
      )

    x = nn.relu(dense(self.mlp_width, ('embed', 'mlp'), 'up')(x))  # [B, L, F]
    x = Dropout()(x, dropout)
    return dense(self.width, ('mlp', 'embed'), 'down')(x)  # [B, L, D]


class _Layer(nn.Module):
  """What encoder and decoder layers have in common: residuals and norms."""

  width: int
  mlp_width: int
  heads: int
  norm: str = 'pre'
  dtype: jnp.dtype = jnp.float32
  implementation: str = 'xla'

  def attention(self) -> MultiHeadAttention:
    return MultiHeadAttention(self.width, self.heads, self.dtype, self.implementation)

  def sublayer(
    self, norm: nn.Module, x: Array, layer: Callable[[Array], Array], rates: Rates
  ) -> Array:
    """x + layer(norm(x)), or norm(x + layer(x))."""
    if self.norm == 'pre':
      return x + self.drop(layer(norm(x)), rates.residual)
    return norm(x + self.drop(layer(x), rates.residual))


class EncoderLayer(_Layer):
  """Self-attention and feed-forward."""

  def setup(self) -> None:
    """Makes the sublayers."""
    self.self_attention = self.attention()
    self.feed_forward = FeedForward(self.width, self.mlp_width, self.dtype)
    self.norm_self, self.norm_mlp = layer_norm(self.dtype), layer_norm(self.dtype)
    self.drop = Dropout()

  def __call__(self, x: Array, mask: Array, rates: Rates) -> tuple[Array, None]:
    """[B, S, D], [B, 1, 1|S, S] -> [B, S, D]; the None is what `nn.scan` asks for."""

    def attend(x: Array) -> Array:
      key, value = self.self_attention.project(x)
      return self.self_attention(x, key, value, mask=mask, dropout=rates.attention)

    x = self.sublayer(self.norm_self, x, attend, rates)
    x = self.sublayer(
      self.norm_mlp, x, lambda x: self.feed_forward(x, rates.activation), rates
    )
    return x, None


class DecoderLayer(_Layer):
  """Self-attention over what was written, attention to the source, feed-forward."""

  def setup(self) -> None:
    """Makes the sublayers."""
    self.self_attention, self.cross_attention = self.attention(), self.attention()
    self.feed_forward = FeedForward(self.width, self.mlp_width, self.dtype)
    self.norm_self, self.norm_cross = layer_norm(self.dtype), layer_norm(self.dtype)
    self.norm_mlp = layer_norm(self.dtype)
    self.drop = Dropout()

  def project(self, memory: Array) -> tuple[Array, Array]:
    """The source's keys and values, once per sentence: two of [B, S, H, K]."""
    return self.cross_attention.project(memory)

  def __call__(
    self, x: Array, memory: Array, mask: Array, memory_mask: Array, rates: Rates
  ) -> tuple[Array, None]:
    """All positions at once: [B, T, D], [B, S, D] -> [B, T, D]."""

    def attend(x: Array) -> Array:
      key, value = self.self_attention.project(x)
      return self.self_attention(x, key, value, mask=mask, dropout=rates.attention)

    x = self.sublayer(self.norm_self, x, attend, rates)
    return self._rest(x, *self.project(memory), memory_mask, rates), None

  def step(
    self, x: Array, cache: KVCache, key: Array, value: Array, memory_mask: Array
  ) -> tuple[Array, KVCache]:
    """One position of every hypothesis.

    Args:
      x: [N, 1, D], the M hypotheses of a sentence side by side, N = B * M.
      cache: what this layer's self-attention has seen.
      key: [B, S, H, K], from `project`; shared by a sentence's hypotheses.
      value: [B, S, H, K].
      memory_mask: [B, 1, 1, S].

    Returns:
      [N, 1, D], and the cache one step on.
    """
    caches = []

    def attend(x: Array) -> Array:
      caches.append(cache.append(*self.self_attention.project(x)))
      past = caches[0]
      return self.self_attention(x, past.key, past.value, mask=past.mask)

    x = self.sublayer(self.norm_self, x, attend, Rates())
    N, B = x.shape[0], key.shape[0]
    # Hypotheses become query positions, so that the memory need not be repeated.
    x = self._rest(x.reshape(B, N // B, -1), key, value, memory_mask, Rates())
    return x.reshape(N, 1, -1), caches[0]

  def _rest(
    self, x: Array, key: Array, value: Array, memory_mask: Array, rates: Rates
  ) -> Array:
    def attend(x: Array) -> Array:
      return self.cross_attention(
        x, key, value, mask=memory_mask, dropout=rates.attention
      )

    x = self.sublayer(self.norm_cross, x, attend, rates)
    return self.sublayer(
      self.norm_mlp, x, lambda x: self.feed_forward(x, rates.activation), rates
    )
