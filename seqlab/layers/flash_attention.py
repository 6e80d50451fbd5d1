"""softmax(Q Kᵀ / √K) V by a kernel of TPUs that others keep: splash attention, of JAX.

Scores never reach main memory: the kernel goes through blocks of keys and corrects the
sums of the softmax as it goes (Dao et al., "FlashAttention", 2022,
https://arxiv.org/abs/2205.14135). It takes any mask, but its grid costs time: each step
at least 0.35 us, whatever its block.

Short rows are therefore joined, so that a block has up to 512 tokens, and the mask keeps
them apart. To the kernel the batch is one long sequence, of which each block of queries
meets only the blocks of keys of its own rows. (Were the batch further heads, the numbers
of the blocks would not fit into the memory of the scalar unit.)

It pays from rows of 512 tokens on. The kernel wants each head's vectors together, and in
their order the projections' results have to be copied; attention without a kernel has no
such copies, and its scores are small in short rows. For 49,152 tokens and 16 heads of 64 on
a v5p, one layer of attention with its projections and gradients takes, by the compiler's
estimate and the least time of the kernels (`compile.mosaic`):

| tokens in a row | 128 | 256 | 512 | 1,024 |
|---|---|---|---|---|
| `softmax_attention` | 7.1 ms | 9.4 ms | 13.9 ms | 23.2 ms |
| this kernel | 12.5 ms | 12.7 ms | 12.3 ms | 15.7 ms |
"""

from typing import NamedTuple

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import (
  MaskInfo,
)
import jax.numpy as jnp

from seqlab.layers.sharding import apply_per_shard, shard_sizes
from seqlab.types import Array

_LANES = 128  # blocks are multiples of these
_LARGEST = 512  # tokens of a block

_AXES = ('batch', None, 'heads', None)  # of queries, keys and values


class Blocks(NamedTuple):
  """How a batch is divided.

  Attributes:
    rows: number of rows that are joined.
    query: length of a block of queries.
    key: length of a block of keys.
  """

  rows: int
  query: int
  key: int


def find_blocks(rows: int, length: int, memory_length: int) -> Blocks | None:
  """Returns how `rows` rows are divided; None if their lengths do not fit the kernel."""
  joined = [
    n
    for n in range(1, rows + 1)
    if not (rows % n or n * length % _LANES or n * memory_length % _LANES)
    and (n == 1 or n * max(length, memory_length) <= _LARGEST)
  ]
  if not joined:
    return None
  n = max(joined)

  def block(total: int) -> int:
    sizes = range(_LANES, min(total, _LARGEST) + 1, _LANES)
    return max(size for size in sizes if total % size == 0)

  return Blocks(n, block(n * length), block(n * memory_length))


def fits(query: Array, key: Array, bias: Array | None, mask: Array | None) -> bool:
  """Returns whether the kernel takes these arguments of `softmax_attention`."""
  (rows, _, heads, _), shards = query.shape, shard_sizes(_AXES)
  one_mask = mask is None or mask.shape[1] == 1  # of all heads
  if bias is not None or not one_mask or rows % shards[0] or heads % shards[2]:
    return False
  return find_blocks(rows // shards[0], query.shape[1], key.shape[1]) is not None


def flash_attention(
  query: Array,
  key: Array,
  value: Array,
  mask: Array | None,
  interpret: bool = False,
) -> Array:
  """Returns softmax(Q Kᵀ / √K) V, [B, L, H, K], on a TPU.

  A query that may attend to nothing, which is padding, gets zeros and has no gradient.

  Args:
    query: [B, L, H, K].
    key: [B, S, H, K].
    value: [B, S, H, K].
    mask: bool, broadcast to [B, 1, L, S]; True where attention may go.
    interpret: whether to run the kernel without a TPU, for tests.
  """
  B, L, S = *query.shape[:2], key.shape[1]
  mask = jnp.broadcast_to(True if mask is None else mask[:, 0], (B, L, S))

  def attend(query: Array, key: Array, value: Array, mask: Array) -> Array:
    return _attend(query, key, value, mask, interpret)

  axes = (_AXES, _AXES, _AXES, ('batch', None, None))
  return apply_per_shard(attend, (query, key, value, mask), axes, _AXES)


def _attend(
  query: Array, key: Array, value: Array, mask: Array, interpret: bool
) -> Array:
  B, L, H, K = query.shape
  blocks = find_blocks(B, L, key.shape[1])

  # The cores of a chip divide an axis of `vmap` among them, and only there the backward
  # pass does not run on one core alone.
  parts = 2 if H % 2 == 0 else 1

  def joined(x: Array) -> Array:  # [B, L, H, K] -> [parts, H / parts, B * L, K]
    return x.transpose(2, 0, 1, 3).reshape(parts, H // parts, -1, K)

  # Without any key, the sum of the softmax would be 0.
  sees = mask.any(axis=-1, keepdims=True)  # [B, L, 1]
  kernel = _kernel(mask | ~sees, blocks, interpret)
  y = jax.vmap(kernel)(joined(query * K**-0.5), joined(key), joined(value))
  y = y.reshape(H, B, L, K).transpose(1, 2, 0, 3)
  return jnp.where(sees[..., None], y, 0)


def _kernel(
  mask: Array, blocks: Blocks, interpret: bool
) -> splash_attention_kernel.SplashAttentionKernel:
  """Returns the kernel for a mask [B, L, S]."""
  by_query, by_key = _mask_infos(mask, blocks)
  sizes = splash_attention_kernel.BlockSizes(
    **{f'block_q{part}': blocks.query for part in ('', '_dq', '_dkv')},
    **{f'block_kv{part}': blocks.key for part in ('', '_dq', '_dkv')},
  )
  return splash_attention_kernel.SplashAttentionKernel(
    by_query,
    by_query,
    by_key,
    block_sizes=sizes,
    is_mqa=False,
    save_residuals=False,
    mask_value=splash_attention_kernel.DEFAULT_MASK_VALUE,
    attn_logits_soft_cap=None,
    residual_checkpoint_name=None,
    mask_function=None,
    interpret=interpret,
  )


def _mask_infos(mask: Array, blocks: Blocks) -> tuple[MaskInfo, MaskInfo]:
  """Returns a mask [B, L, S] as the kernels of queries and of keys read it.

  The first goes through the n keys' blocks of each of the G * m queries' blocks, where G
  is the number of groups of joined rows; the second through the m queries' blocks of each
  of the G * n keys' blocks.
  """
  L, S = mask.shape[1:]
  r, a, b = blocks
  m, n = r * L // a, r * S // b
  same_row = jnp.eye(r, dtype=bool)[:, None, :, None]
  tiles = mask.reshape(-1, r, L, 1, S) & same_row  # [G, r, L, r, S]
  tiles = tiles.reshape(-1, m, a, n, b).swapaxes(2, 3)  # [G, m, n, a, b]
  G = len(tiles)
  # What the kernel does with a tile: 0 omits it, 1 masks it, 2 does not mask it.
  some, every = tiles.any(axis=(-2, -1)), tiles.all(axis=(-2, -1))
  kind = jnp.where(some, 1, 0) + jnp.where(every, 1, 0)  # [G, m, n]
  tiles = tiles.reshape(-1, a, b)
  number = jnp.arange(G * m * n).reshape(G, m, n)
  group, i, j = jnp.indices((G, m, n))

  def of_query(x: Array) -> Array:
    return x.reshape(1, G * m, n).astype(jnp.int32)

  def of_key(x: Array) -> Array:
    return x.swapaxes(0, 1).reshape(1, m, G * n).astype(jnp.int32)

  return (
    MaskInfo(
      data_next=of_query(group * n + j),
      mask_next=of_query(number),
      block_mask=of_query(kind),
      partial_mask_blocks=tiles,
      q_sequence=None,
      is_dynamic_mask=True,
    ),
    MaskInfo(
      data_next=of_key(group * m + i),
      mask_next=of_key(number),
      block_mask=of_key(kind),
      partial_mask_blocks=tiles.swapaxes(-2, -1),
      q_sequence=None,
      is_dynamic_mask=True,
    ),
  )
