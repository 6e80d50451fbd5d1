"""Masks, and multi-head attention with an explicit cache for decoding.

The cache is an argument and a result, never a Flax variable collection: one
decoding step is then a pure function of (params, cache, token), and beam
search can reorder a cache without knowing which layer wrote it.
"""

from collections.abc import Callable

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.dropout import Dropout
from seqlab.layers.linear import Linear, glorot
from seqlab.layers.positions.interface import PositionTerms
from seqlab.layers.positions.rotary import rotate
from seqlab.layers.products import product
from seqlab.types import PAD, Array

# Masks are bool and broadcast to [B, H, L, S]; True where attention may go. They are
# combined with &.


def padding_mask(memory_ids: Array) -> Array:
  """Returns a mask that hides padding: [B, S] ids -> [B, 1, 1, S]."""
  return (memory_ids != PAD)[:, None, None, :]


def causal_mask(length: int) -> Array:
  """Returns a mask by which position i sees positions 0 to i, [1, 1, L, L]."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


def segment_mask(query_segment: Array, memory_segment: Array) -> Array:
  """Returns a mask of each packed sentence: [B, L], [B, S] -> [B, 1, L, S]."""
  same_sentence = query_segment[:, :, None] == memory_segment[:, None, :]
  return (same_sentence & (memory_segment > 0)[:, None, :])[:, None]


def local_mask(query_position: Array, memory_position: Array, window: int) -> Array:
  """Positions see those at most `window` away: [B, L], [B, S] -> [B, 1, L, S].

  Vaswani et al. 2017, section 4 ("restricted" self-attention). Positions without
  rows, [L] and [S], give [1, 1, L, S].
  """
  distance = query_position[..., :, None] - memory_position[..., None, :]
  return (jnp.abs(distance) <= window).reshape(-1, 1, *distance.shape[-2:])


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
    """Returns an empty cache for keys and values of `shape` (N, L, H, K)."""
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

  Where the collection 'intermediates' is mutable, the weights [B, H, L, S] are sown
  in it as 'weights', float32, before dropout. Where the variables hold a collection
  'ablation' with 'keep' [H], each head's output is multiplied by its entry: 0 takes
  the head away (Michel, Levy and Neubig, "Are Sixteen Heads Really Better than
  One?", 2019, https://arxiv.org/abs/1905.10650).

  Attributes:
    width: model width D.
    heads: number of heads H; must divide D.
    make_positions: makes the `LayerPositions` of self-attention, called with width=K
      and dtype=; None if positions have no parameters here.
    value_scale: factor of the Glorot scale at which W_V is initialised.
    out_scale: factor of the Glorot scale at which W_O is initialised.
    dtype: dtype of the matrix products. Parameters stay float32.
    implementation: 'xla', or 'cudnn' for flash attention on GPU (bf16 only).
  """

  width: int
  heads: int
  make_positions: Callable[..., nn.Module] | None = None
  value_scale: float = 1.0
  out_scale: float = 1.0
  dtype: jnp.dtype = jnp.float32
  implementation: str = 'xla'

  def setup(self) -> None:
    """Makes W_Q, W_K, W_V and W_O, and the vectors of relative positions."""
    D, H = self.width, self.heads
    if D % H:
      raise ValueError(f'{H} heads do not divide a width of {D}: change model.heads')

    def into_heads(scale: float = 1.0) -> Linear:  # [B, L, D] -> [B, L, H, K]
      return Linear(
        'bld,dhk->blhk',
        (D, H, D // H),
        ('embed', 'heads', 'head_dim'),
        glorot(scale, in_axis=0, out_axis=(1, 2)),
        dtype=self.dtype,
      )

    self.query, self.key = into_heads(), into_heads()
    self.value = into_heads(self.value_scale)
    self.out = Linear(
      'blhk,hkd->bld',
      (H, D // H, D),
      ('heads', 'head_dim', 'embed'),
      glorot(self.out_scale, in_axis=(0, 1), out_axis=2),
      dtype=self.dtype,
    )
    self.positions = None
    if self.make_positions is not None:
      self.positions = self.make_positions(width=D // H, dtype=self.dtype)
      # Its parameters are in the same scope as these matrices, as in old checkpoints.
      nn.share_scope(self, self.positions)
    self.drop = Dropout()

  def project(
    self, memory: Array, terms: PositionTerms | None = None
  ) -> tuple[Array, Array]:
    """Returns keys and values of `memory`: [B, S, D] -> two of [B, S, H, K].

    Rotary positions of self-attention rotate the keys here, before they are cached.
    """
    return self._rotate(self.key(memory), terms), self.value(memory)

  def __call__(
    self,
    x: Array,  # [B, L, D]
    key: Array,  # [B, S, H, K]
    value: Array,  # [B, S, H, K]
    *,
    mask: Array | None = None,  # [B|1, H|1, L|1, S] bool, True where allowed
    dropout: Array | None = None,  # [] rate on the attention weights
    terms: PositionTerms | None = None,  # positions, in self-attention
  ) -> Array:  # [B, L, D]
    """Attends from `x` to the memory whose keys and values `project` made."""
    query = self._rotate(self.query(x), terms)  # [B, L, H, K]
    # The fused function neither returns the weights nor lets them be changed.
    sown = self.is_mutable_collection('intermediates')
    fused = self.implementation == 'cudnn'
    fused &= dropout is None and self.positions is None and not sown
    attend = self._fused if fused else self._written_out
    y = attend(query, key, value, mask, dropout, terms or PositionTerms())
    if self.has_variable('ablation', 'keep'):
      keep = self.get_variable('ablation', 'keep')  # [H]
      y *= keep.astype(y.dtype)[:, None]
    return self.out(y)  # [B, L, D]

  def _rotate(self, x: Array, terms: PositionTerms | None) -> Array:
    if terms is None or terms.rotation is None:
      return x
    return rotate(x, terms.rotation)

  def _fused(
    self,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: None,
    terms: PositionTerms,
  ) -> Array:
    # cuDNN needs one dtype, and a mask of full size.
    bias = None if terms.bias is None else terms.bias.astype(query.dtype)
    if mask is not None:
      shape = (*mask.shape[:2], query.shape[1], key.shape[1])
      mask = jnp.broadcast_to(mask, shape)
    return jax.nn.dot_product_attention(
      query, key, value, bias=bias, mask=mask, implementation='cudnn'
    )

  def _written_out(
    self,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: Array | None,
    terms: PositionTerms,
  ) -> Array:
    # Scores and softmax are float32 whatever the dtype of the products: bfloat16 has
    # 8 bits, too few to distinguish large scores.
    scores = product('blhk,bshk->bhls', query, key, jnp.float32)
    if self.positions is not None:
      scores += self.positions.scores(query, terms)
    scores *= query.shape[-1] ** -0.5
    if terms.bias is not None:
      scores += terms.bias
    if mask is not None:
      # The smallest number instead of -inf: a row of padding, which attends to nothing,
      # gets equal weights and not NaN.
      scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores)  # [B, H, L, S]
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', weights)
    weights = self.drop(weights.astype(self.dtype), dropout)
    y = product('bhls,bshk->blhk', weights, value)
    if self.positions is not None:
      y += self.positions.values(weights, terms)
    return y  # [B, L, H, K]
