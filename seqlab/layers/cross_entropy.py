"""Label-smoothed cross-entropy from hidden states, without the logits of a batch.

The logits [B, T, V] of a batch are by far its largest array, and on a CPU most of their
cost is access to new memory. Here the logits, losses and gradients of a few positions
are computed at a time, and the logits are discarded. The forward pass computes the
gradients as well, so nothing is computed twice.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.device import platform
from seqlab.layers.products import product, stored, weight_gradient
from seqlab.layers.sharding import split_rows
from seqlab.types import Array

CHUNK_BYTES = {'cpu': 2**24, 'gpu': 2**31, 'tpu': 2**30}  # logits in memory at a time
MAX_CHUNK_BYTES_CPU = 2**27  # for large tables
_TILE = 16  # rows of bfloat16 in a tile of a TPU


@struct.dataclass
class TokenSums:
  """Sums over the target tokens of a batch, float32 scalars.

  Attributes:
    loss: label-smoothed cross-entropy in nats. Only this sum has a gradient.
    nll: negative log-likelihood in nats; exp(nll / tokens) is the perplexity.
    correct: number of tokens whose logit is the largest.
  """

  loss: Array
  nll: Array
  correct: Array


def cross_entropy(
  hidden: Array,
  table: Array,
  labels: Array,
  weights: Array,
  label_smoothing: Array | float = 0.0,
  chunk_bytes: int | None = None,
) -> TokenSums:
  """Returns Σ w [(1 - ε) (-log p(y)) + ε mean_v(-log p(v))], p = softmax(hidden tableᵀ).

  Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7,
  https://arxiv.org/abs/1512.00567. No one-hot vectors are stored. Matrix
  products are in the dtype of `hidden`, all sums in float32.

  Args:
    hidden: [B, T, D] states, of any float dtype; the softmax is in float32.
    table: [V, D] output weights; or [n, V, D], a copy for each of n shards of the rows
      (`layers.sharding`).
    labels: [B, T] int32 ids of the targets.
    weights: [B, T] float32; 0 for positions without a target.
    label_smoothing: ε, a scalar, which may be traced.
    chunk_bytes: maximum size of the logits in memory at a time, per shard of the rows;
      None chooses it by the device that this is compiled for, and by the table.

  Returns:
    The sums of the batch, to be divided by the global number of tokens.
  """
  if table.ndim == 3:

    def of_shard(*arrays: Array) -> TokenSums:
      return cross_entropy(*arrays, label_smoothing, chunk_bytes)

    hidden, labels, weights = map(split_rows, (hidden, labels, weights))
    sums = jax.vmap(of_shard)(hidden, table, labels, weights)  # each [n]
    return jax.tree.map(jnp.sum, sums)

  B, T, _ = hidden.shape
  if chunk_bytes is None:
    chunk_bytes = _default_chunk_bytes(table)
  positions = max(1, chunk_bytes // (4 * B * table.shape[0]))  # maximum per chunk
  chunks, size = _chunks(T, positions)
  padding = chunks * size - T

  def split(x: Array) -> Array:  # [B, T, ...] -> [C, B, T / C, ...]
    x = jnp.pad(x, ((0, 0), (0, padding)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(B, chunks, -1, *x.shape[2:]), 1, 0)

  smoothing = jnp.asarray(label_smoothing, jnp.float32)
  loss, nll, correct = _sums(
    split(hidden), table, split(labels), split(weights), smoothing
  )
  return TokenSums(loss, nll, correct)


def mixture_cross_entropy(
  log_p: Array, labels: Array, weights: Array, label_smoothing: Array | float = 0.0
) -> TokenSums:
  """Returns the sums of `cross_entropy` for a distribution that is not a softmax.

  Args:
    log_p: [B, T, V] float32 log-probabilities, of the complete distribution.
    labels: [B, T] int32 ids of the targets.
    weights: [B, T] float32; 0 for positions without a target.
    label_smoothing: ε, a scalar, which may be traced.
  """
  log_label = jnp.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
  nll = -weights * log_label
  uniform = -weights * log_p.mean(axis=-1)
  loss = (1 - label_smoothing) * nll + label_smoothing * uniform
  correct = weights * (log_label >= log_p.max(axis=-1))
  return TokenSums(loss.sum(), nll.sum(), correct.sum())


def _chunks(T: int, positions: int) -> tuple[int, int]:
  """Returns number and size of equal chunks of at most `positions` of T positions.

  On a TPU a chunk is a number of whole tiles where that needs no more padding: 128
  positions are 8 chunks of 16, and not 7 of 19.
  """
  chunks = -(-T // positions)
  size = -(-T // chunks)
  tiles = positions // _TILE * _TILE
  if platform() == 'tpu' and chunks > 1 and tiles:
    while tiles and T % tiles:
      tiles -= _TILE
    if tiles:
      return T // tiles, tiles
  return chunks, size


def _default_chunk_bytes(table: Array) -> int:
  """Returns a size of the logits in memory at a time that is fast on the target device.

  Small logits stay in a CPU's cache, but every chunk reads the table and both reads and
  writes its gradient. Times of loss and gradients on two cores with 32 MB of cache, width
  512, in chunks of 16 MB, and of twice the table: 192 and 220 ms for a table of 20 MB
  (3,960 positions), 192 and 139 ms for one of 65 MB (1,008 positions).

  A population (`jax.vmap`) has a chunk of this size for each of its members, whose number
  is not known here. A chunk for a large table is therefore limited to 128 MB.
  """
  device, table_bytes = platform(), 4 * table.size
  size = CHUNK_BYTES.get(device, 2**30)
  is_large = device == 'cpu' and table_bytes > 2 * size
  return min(2 * table_bytes, MAX_CHUNK_BYTES_CPU) if is_large else size


def _narrow(table: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
  """Returns the table in the dtype of the products, and the mean [D] of its rows.

  They are computed once, and not for every chunk.
  """
  narrow = table.astype(dtype)
  return narrow, narrow.astype(jnp.float32).mean(axis=0)


def _chunk(
  hidden: Array,
  table: Array,
  mean_row: Array,
  labels: Array,
  weights: Array,
  smoothing: Array,
) -> tuple[tuple[Array, Array, Array], Callable[[], tuple[Array, Array]]]:
  """Returns the sums of one chunk [B, t, ...], and a function of its gradients.

  `table` has the dtype of `hidden`; `mean_row` is the mean of its rows.
  """
  V = table.shape[0]
  z = product('btd,vd->btv', hidden, table, jnp.float32)
  largest = z.max(axis=-1)  # [B, t]
  e = jnp.exp(z - largest[..., None])
  total = e.sum(axis=-1)
  e = stored(e.astype(hidden.dtype))
  log_total = largest + jnp.log(total)
  z_label = jnp.take_along_axis(z, labels[..., None], axis=-1)[..., 0]
  # The mean logit needs no pass over V.
  z_mean = hidden.astype(jnp.float32) @ mean_row

  nll = weights * (log_total - z_label)
  loss = (1 - smoothing) * nll + smoothing * weights * (log_total - z_mean)
  correct = weights * (z_label >= largest)

  def gradients() -> tuple[Array, Array]:
    # Subtracted in float32, because the difference is small if p(y) is near 1.
    is_label = jnp.arange(V) == labels[..., None]  # fused, never in memory
    p_label = jnp.exp(z_label - log_total)
    p = e * (1.0 / total)[..., None]
    d_z = jnp.where(is_label, (p_label - 1 + smoothing)[..., None], p) - smoothing / V
    d_z = (weights[..., None] * d_z).astype(hidden.dtype)  # [B, t, V]
    d_hidden = product('btv,vd->btd', d_z, table)
    d_table = weight_gradient('btd,vd->btv', hidden, d_z, jnp.float32)
    return d_hidden, d_table

  return (loss.sum(), nll.sum(), correct.sum()), gradients


@jax.custom_vjp
def _sums(
  hidden: Array, table: Array, labels: Array, weights: Array, smoothing: Array
) -> tuple[Array, Array, Array]:
  table, mean_row = _narrow(table, hidden.dtype)

  def body(sums, chunk):
    hidden, labels, weights = chunk
    chunk_sums, _ = _chunk(hidden, table, mean_row, labels, weights, smoothing)
    return jax.tree.map(jnp.add, sums, chunk_sums), None

  zeros = (jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
  return jax.lax.scan(body, zeros, (hidden, labels, weights))[0]


def _forward(hidden, table, labels, weights, smoothing):
  narrow, mean_row = _narrow(table, hidden.dtype)

  def body(carry, chunk):
    sums, d_table = carry
    hidden, labels, weights = chunk
    chunk_sums, gradients = _chunk(hidden, narrow, mean_row, labels, weights, smoothing)
    d_hidden, d_chunk = gradients()
    return (jax.tree.map(jnp.add, sums, chunk_sums), d_table + d_chunk), d_hidden

  zeros = (jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
  start = (zeros, jnp.zeros_like(table))
  (sums, d_table), d_hidden = jax.lax.scan(body, start, (hidden, labels, weights))
  return sums, (d_hidden, d_table)


def _backward(residuals, cotangents):
  d_hidden, d_table = residuals
  scale = cotangents[0]  # `nll` and `correct` are only reported
  return (d_hidden * scale).astype(d_hidden.dtype), d_table * scale, None, None, None


_sums.defvjp(_forward, _backward)
