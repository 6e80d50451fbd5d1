"""Masks, and multi-head attention with an explicit cache for decoding.

The cache is an argument and a result, never a Flax variable collection: one
decoding step is then a pure function of (params, cache, token), and beam
search can reorder a cache without knowing which layer wrote it.
"""

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.dropout import Dropout
from seqlab.types import PAD, Array

_glorot = nn.initializers.xavier_uniform


# Masks are bool and broadcast to [B, H, L, S]; True where attention may go.


def padding_mask(memory_ids: Array) -> Array:
  """[B, S] ids -> [B, 1, 1, S]: every query sees the words, none the padding."""
  return (memory_ids != PAD)[:, None, None, :]


def causal_mask(length: int) -> Array:
  """[1, 1, L, L]: position i sees positions 0 to i."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


def segment_mask(query_segment: Array, memory_segment: Array) -> Array:
  """[B, L], [B, S] -> [B, 1, L, S]: sentences packed in a row see only their own."""
  same = query_segment[:, :, None] == memory_segment[:, None, :]
  return (same & (memory_segment > 0)[:, None, :])[:, None]


@struct.dataclass
class KVCache:
  """Keys and values seen so far by one attention layer.

  Attributes:
    key: [N, L, H, K], zeros beyond `length`.
    value: [N, L, H, K], zeros beyond `length`.
    length: [N] int32, how many positions are filled: the same for every row,
      since all rows of a search take their steps together.
  """

  key: Array
  value: Array
  length: Array

  @classmethod
  def empty(cls, shape: tuple[int, int, int, int], dtype: jnp.dtype) -> 'KVCache':
    """An empty cache for keys and values of `shape` (N, L, H, K)."""
    zeros = jnp.zeros(shape, dtype)
    return cls(zeros, zeros, jnp.zeros(shape[0], jnp.int32))

  def append(self, key: Array, value: Array) -> 'KVCache':
    """Adds one position; `key` and `value` are [N, 1, H, K]."""
    at = (0, self.length[0], 0, 0)  # one slice is written in place; a scatter is not
    return KVCache(
      key=jax.lax.dynamic_update_slice(self.key, key.astype(self.key.dtype), at),
      value=jax.lax.dynamic_update_slice(
        self.value, value.astype(self.value.dtype), at
      ),
      length=self.length + 1,
    )

  @property
  def mask(self) -> Array:
    """[N, 1, 1, L]: True where filled."""
    filled = jnp.arange(self.key.shape[1]) < self.length[:, None]
    return filled[:, None, None, :]


class MultiHeadAttention(nn.Module):
  """softmax(Q Kᵀ / √K) V, for H heads side by side, with W_Q, W_K, W_V and W_O.

  Vaswani et al., "Attention Is All You Need", 2017, section 3.2,
  https://arxiv.org/abs/1706.03762

  Attributes:
    width: model width D.
    heads: number of heads H; must divide D.
    dtype: dtype of the matrix products. Parameters stay float32.
    implementation: 'xla', or 'cudnn' for flash attention on GPU (bf16 only).
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32
  implementation: str = 'xla'

  def setup(self) -> None:
    """Makes W_Q, W_K, W_V and W_O."""
    D, H = self.width, self.heads
    if D % H:
      raise ValueError(f'{H} heads do not divide a width of {D}: change model.heads')

    def into_heads() -> nn.Einsum:  # [B, L, D] -> [B, L, H, K]
      init = nn.with_logical_partitioning(
        _glorot(in_axis=0, out_axis=(1, 2)), ('embed', 'heads', 'head_dim')
      )
      return nn.Einsum(
        (D, H, D // H),
        'bld,dhk->blhk',
        use_bias=False,
        kernel_init=init,
        dtype=self.dtype,
      )

    self.query, self.key, self.value = into_heads(), into_heads(), into_heads()
    init = nn.with_logical_partitioning(
      _glorot(in_axis=(0, 1), out_axis=2), ('heads', 'head_dim', 'embed')
    )
    self.out = nn.Einsum(
      (H, D // H, D),
      'blhk,hkd->bld',
      use_bias=False,
      kernel_init=init,
      dtype=self.dtype,
    )
    self.drop = Dropout()

  def project(self, memory: Array) -> tuple[Array, Array]:
    """Keys and values of `memory`: [B, S, D] -> two of [B, S, H, K]."""
    return self.key(memory), self.value(memory)

  def __call__(
    self,
    x: Array,  # [B, L, D]
    key: Array,  # [B, S, H, K]
    value: Array,  # [B, S, H, K]
    *,
    mask: Array | None = None,  # [B|1, H|1, L|1, S] bool, True where allowed
    dropout: Array | None = None,  # [] rate on the attention weights
  ) -> Array:  # [B, L, D]
    """Attends from `x` to the memory whose keys and values `project` made."""
    query = self.query(x)  # [B, L, H, K]
    if dropout is None:
      y = jax.nn.dot_product_attention(
        query, key, value, mask=mask, implementation=self.implementation
      )
    else:  # the fused function has no place for dropout
      scores = query.shape[-1] ** -0.5 * jnp.einsum(
        'blhk,bshk->bhls', query, key, preferred_element_type=jnp.float32
      )
      if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
      weights = self.drop(jax.nn.softmax(scores).astype(self.dtype), dropout)
      y = jnp.einsum('bhls,bshk->blhk', weights, value)
    return self.out(y)  # [B, L, D]
