"""Masks, and multi-head attention: all positions at once, or one after another."""

from collections.abc import Callable
from typing import Literal

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.layers.cache import KVCache
from seqlab.layers.device import platform
from seqlab.layers.dropout import Dropout
from seqlab.layers.flash_attention import fits, flash_attention
from seqlab.layers.linear import Linear, glorot
from seqlab.layers.positions.interface import PositionTerms
from seqlab.layers.positions.rotary import rotate
from seqlab.layers.products import product
from seqlab.layers.softmax_attention import (
  Drop,
  scaled_and_masked,
  softmax_attention,
)
from seqlab.types import PAD, Array

# Which of the matrices an attention has; see `MultiHeadAttention`.
Projections = Literal['separate', 'query_is_key', 'no_value', 'no_output', 'one_matrix']
_SHARES_KEY = ('query_is_key', 'one_matrix')  # those with W_K = W_Q

_PLATFORMS = {'cudnn': 'gpu', 'flash': 'tpu'}  # of kernels

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


def within_window(
  mask: Array, query_position: Array, memory_position: Array, window: int | None
) -> Array:
  """Returns a mask restricted by `local_mask`, or as it is where `window` is None."""
  if window is None:
    return mask
  return mask & local_mask(query_position, memory_position, window)


class MultiHeadAttention(nn.Module):
  """softmax(Q Kᵀ / √K) V, for H heads side by side, with W_Q, W_K, W_V and W_O.

  Vaswani et al., "Attention Is All You Need", 2017, section 3.2,
  https://arxiv.org/abs/1706.03762

  Where the collection 'intermediates' is mutable, the weights [B, H, L, S] are sown
  in it as 'weights', float32, before dropout; by `read` those of a position,
  [B, H, M, S]. Where the variables hold a collection
  'ablation' with 'keep' [H], each head's output is multiplied by its entry: 0 takes
  the head away (Michel, Levy and Neubig, "Are Sixteen Heads Really Better than
  One?", 2019, https://arxiv.org/abs/1905.10650).

  Attributes:
    width: model width D.
    heads: number of heads H; must divide D.
    make_positions: makes the `LayerPositions` of self-attention, called with width=K
      and dtype=; None if positions have no parameters here.
    query_scale: factor of the Glorot scale at which W_Q and W_K are initialised.
    value_scale: factor of the Glorot scale at which W_V is initialised.
    out_scale: factor of the Glorot scale at which W_O is initialised.
    dtype: dtype of the matrix products. Parameters stay float32.
    implementation: 'xla', or a kernel: 'cudnn' for flash attention on a GPU (bf16
      only), 'flash' on a TPU. Attention with dropout, and what a kernel does not take,
      is computed as by 'xla'.
    projections: which matrices there are: 'separate' for all four; 'query_is_key' for
      W_K = W_Q, so that content scores of self-attention are symmetric (Kitaev et al.
      2020, section 2, https://arxiv.org/abs/2001.04451); 'no_value' for values that are
      the H slices of the memory itself, and 'no_output' for heads that are only joined
      (He and Hofmann 2024, https://arxiv.org/abs/2311.01906); 'one_matrix' for
      W_Q = W_K = W_V, beside W_O. A shared matrix is stored as 'query'.
  """

  width: int
  heads: int
  make_positions: Callable[..., nn.Module] | None = None
  query_scale: float = 1.0
  value_scale: float = 1.0
  out_scale: float = 1.0
  dtype: jnp.dtype = jnp.float32
  implementation: str = 'xla'
  projections: Projections = 'separate'

  def setup(self) -> None:
    """Makes those of W_Q, W_K, W_V and W_O that there are, and the vectors of relative positions."""
    D, H = self.width, self.heads
    if D % H:
      raise ValueError(f'{H} heads do not divide a width of {D}: change model.heads')

    def into_heads(scale: float) -> Linear:  # [B, L, D] -> [B, L, H, K]
      return Linear(
        'bld,dhk->blhk',
        (D, H, D // H),
        ('embed', 'heads', 'head_dim'),
        glorot(scale, in_axis=0, out_axis=(1, 2)),
        dtype=self.dtype,
      )

    self.query = into_heads(self.query_scale)
    if self.projections not in _SHARES_KEY:
      self.key = into_heads(self.query_scale)
    if self.projections not in ('no_value', 'one_matrix'):
      self.value = into_heads(self.value_scale)
    if self.projections != 'no_output':
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
    key = self.query(memory) if self.projections in _SHARES_KEY else self.key(memory)
    if self.projections == 'one_matrix':
      value = key
    elif self.projections == 'no_value':
      value = memory.astype(self.dtype).reshape(key.shape)
    else:
      value = self.value(memory)
    return self._rotate(key, terms), value

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
    terms = terms or PositionTerms()
    # Only the written-out function returns the weights, or lets them be changed.
    if self.positions is not None or self.is_mutable_collection('intermediates'):
      attend = self._written_out
    elif self.implementation == 'xla' or dropout is not None:
      attend = self._without_weights
    else:
      self._check_platform()
      attend = self._fused if self.implementation == 'cudnn' else self._flash
    return self._output(attend(query, key, value, mask, dropout, terms))

  def read(
    self,
    x: Array,  # [B, M, D], one position of M hypotheses
    cache: KVCache,  # with S entries
    mask: Array,  # [B|1, 1, M|1, S] bool, True where allowed
    terms: PositionTerms | None = None,  # of this position to each of L, which S holds
  ) -> Array:  # [B, M, D]
    """Attends from the next position of each hypothesis to a cache."""
    terms = terms or PositionTerms()
    query = self._rotate(self.query(x), terms)  # [B, M, H, K]
    M, S = query.shape[1], cache.value.shape[2]
    query_of_head = jnp.swapaxes(self._content_query(query), 1, 2)  # [B, H, M, K]
    scores = product('bhmk,bhks->bhms', query_of_head, cache.key, jnp.float32)

    def of_entries(x: Array) -> Array:  # [..., L] -> [..., S]
      return jnp.repeat(x, S // x.shape[-1], axis=-1)

    if self.positions is not None:
      scores += of_entries(self.positions.scores(query, terms))
    bias = None if terms.bias is None else of_entries(terms.bias)
    weights = self._weights(scores, bias, mask)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', weights)
    weights = weights.astype(self.dtype)
    y = product('bhms,bhsk->bhmk', weights, cache.value)
    y = jnp.swapaxes(y, 1, 2)  # [B, M, H, K]
    if self.positions is not None:
      of_positions = weights.reshape(*weights.shape[:3], S // M, M).sum(axis=-1)
      y += self.positions.values(of_positions, terms)
    return self._output(y)

  def _output(self, y: Array) -> Array:
    """Joins the heads: [B, L, H, K] -> [B, L, D]."""
    if self.has_variable('ablation', 'keep'):
      keep = self.get_variable('ablation', 'keep')  # [H]
      y *= keep.astype(y.dtype)[:, None]
    if self.projections == 'no_output':
      return y.reshape(*y.shape[:-2], self.width)
    return self.out(y)

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

  def _flash(
    self,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: None,
    terms: PositionTerms,
  ) -> Array:
    if not fits(query, key, terms.bias, mask):
      return self._without_weights(query, key, value, mask, dropout, terms)
    return flash_attention(query, key, value, mask)

  def _check_platform(self) -> None:
    needed, actual = _PLATFORMS[self.implementation], platform()
    if needed != actual:
      raise ValueError(
        f'model.implementation={self.implementation!r} is a kernel for a '
        f'{needed.upper()}, and this program is for a {actual.upper()}: set it to '
        "'xla', or choose other devices"
      )

  def _without_weights(
    self,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: Array | None,
    terms: PositionTerms,
  ) -> Array:
    drop = None if dropout is None else Drop(self.drop.key(), dropout)
    return softmax_attention(query, key, value, terms.bias, mask, drop)

  def _written_out(
    self,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: Array | None,
    terms: PositionTerms,
  ) -> Array:
    scores = product('blhk,bshk->bhls', self._content_query(query), key, jnp.float32)
    if self.positions is not None:
      scores += self.positions.scores(query, terms)
    weights = self._weights(scores, terms.bias, mask)  # [B, H, L, S]
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', weights)
    weights = self.drop(weights.astype(self.dtype), dropout)
    y = product('bhls,bshk->blhk', weights, value)
    if self.positions is not None:
      y += self.positions.values(weights, terms)
    return y  # [B, L, H, K]

  def _content_query(self, query: Array) -> Array:
    return query if self.positions is None else self.positions.content_query(query)

  def _weights(self, scores: Array, bias: Array | None, mask: Array | None) -> Array:
    """Returns the attention weights of products of queries and keys: [B, H, L, S]."""
    return jax.nn.softmax(
      scaled_and_masked(scores, self.width // self.heads, bias, mask)
    )
