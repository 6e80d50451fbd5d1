"""Keys and values of earlier positions, as decoding keeps and reads them.

The cache is an argument and a result, never a Flax variable collection: one decoding
step is then a pure function of (params, cache, token).

Beam search continues some hypotheses several times and drops others, so that the past
of a row changes. The caches are not copied for that. Every position of a sentence keeps
the keys of all M hypotheses of that time, and `DecoderCache.origin` says which of them
belongs to whose past. All M hypotheses of a sentence are multiplied with all of its
entries, and a mask hides those of others. That is M times as many products, but the
caches stay in place: with beam 5 and a width of 128, a step on two CPU cores took 9.7
ms instead of 15.1 ms (51 sentences, 2026-11-30).
"""

import math

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.device import platform
from seqlab.types import Array

_GPU_ENTRIES = 8  # entries that a product of a GPU reads together


@struct.dataclass
class KVCache:
  """Keys and values of one attention layer, in the layout that its products read.

  Entry i * M + m belongs to position i of hypothesis m. No product has to transpose a
  cache, and its four axes are those of the products: XLA writes it in place only if it
  is read in the shape in which it is written.

  Attributes:
    key: [B, H, K, S], zeros where nothing was written.
    value: [B, H, S, K].
  """

  key: Array
  value: Array

  @classmethod
  def of(cls, key: Array, value: Array) -> 'KVCache':
    """Returns a cache of a known memory, two of [B, S, H, K]."""
    return cls(jnp.transpose(key, (0, 2, 3, 1)), jnp.swapaxes(value, 1, 2))

  def write(self, key: Array, value: Array, position: Array) -> 'KVCache':
    """Writes one position of all hypotheses: `key`, `value` [B, M, H, K]."""
    new = KVCache.of(key.astype(self.key.dtype), value.astype(self.value.dtype))
    at = position * key.shape[1]
    return KVCache(
      key=jax.lax.dynamic_update_slice(self.key, new.key, (0, 0, 0, at)),
      value=jax.lax.dynamic_update_slice(self.value, new.value, (0, 0, at, 0)),
    )


@struct.dataclass
class DecoderCache:
  """What a stack of self-attention layers keeps between the steps of decoding.

  B sentences with M hypotheses each, of up to L positions. Every leaf's first axis is
  B, so that a search can drop sentences.

  Attributes:
    layers: the cache of each layer, with S = L * M entries.
    length: [B] int32, positions written so far: the same for every sentence, since
      all rows of a search take their steps together.
    origin: [B, M, L] int32, index of the hypothesis whose entry belongs to the past of
      hypothesis m at each position. Where nothing was written yet it is m itself.
    read_at_once: number of first positions that were read before the search; see
      `filled`.
  """

  layers: tuple[KVCache, ...]
  length: Array
  origin: Array
  read_at_once: int = struct.field(pytree_node=False, default=0)

  @classmethod
  def empty(
    cls,
    sentences: int,
    hypotheses: int,
    max_len: int,
    *,
    layers: int,
    heads: int,
    head_dim: int,
    dtype: jnp.dtype,
  ) -> 'DecoderCache':
    """Returns the cache before the first position.

    Args:
      sentences: B.
      hypotheses: hypotheses per sentence, M.
      max_len: positions that it has room for, L.
      layers: number of layers.
      heads: H.
      head_dim: width of a head, K.
      dtype: dtype of the products.
    """
    B, H, S = sentences, heads, max_len * hypotheses
    layer = KVCache(
      jnp.zeros((B, H, head_dim, S), dtype), jnp.zeros((B, H, S, head_dim), dtype)
    )
    own = jnp.arange(hypotheses, dtype=jnp.int32)[:, None]
    origin = jnp.broadcast_to(own, (B, hypotheses, max_len))
    return cls((layer,) * layers, jnp.zeros(B, jnp.int32), origin)

  def resized(self, max_len: int) -> 'DecoderCache':
    """Returns the cache with room for `max_len` positions, which hold all written ones.

    Those that were read at once are not counted, as they are no steps of a search.

    On a GPU there may be a few more. Its products read multiples of 8 entries: all of
    the cache would be copied in every step to fill it up.
    """
    _, M, L = self.origin.shape
    max_len += self.read_at_once
    if platform() == 'gpu':
      whole = _GPU_ENTRIES // math.gcd(_GPU_ENTRIES, M)
      max_len = -(-max_len // whole) * whole
    layers = [
      KVCache(_resized(x.key, 3, max_len * M), _resized(x.value, 2, max_len * M))
      for x in self.layers
    ]
    own = jnp.arange(M, dtype=jnp.int32)[:, None]
    origin = jnp.broadcast_to(own, (len(self.origin), M, max_len))
    kept = min(L, max_len)
    origin = origin.at[:, :, :kept].set(self.origin[:, :, :kept])
    return self.replace(layers=tuple(layers), origin=origin)

  @property
  def position(self) -> Array:
    """[] int32, the position that the next step writes."""
    return self.length[0]

  @property
  def places(self) -> Array:
    """[1, L] int32, all positions."""
    return jnp.arange(self.origin.shape[2])[None]

  def mask(self, allowed: Array | None = None) -> Array:
    """Returns which entries the next position of each hypothesis sees.

    These are the entries of its own past, and its own.

    Args:
      allowed: [1, 1, 1, L] bool, positions that it may see; None for all.

    Returns:
      [B|1, 1, M, S] bool.
    """
    written = (self.places <= self.position)[:, None, None]  # [1, 1, 1, L]
    seen = written if allowed is None else written & allowed
    M = self.origin.shape[1]
    if M == 1:
      return seen
    own = self.origin[:, None, :, :, None] == jnp.arange(M)  # [B, 1, M, L, M]
    return (seen[..., None] & own).reshape(len(self.origin), 1, M, -1)

  def after(self, layers: list[KVCache]) -> 'DecoderCache':
    """Returns the cache one position on, from the caches of all layers."""
    return self.replace(layers=tuple(layers), length=self.length + 1)

  def filled(self, layers: list[KVCache]) -> 'DecoderCache':
    """Returns an empty cache with first positions that all hypotheses share.

    Args:
      layers: keys and values of P positions for each layer, with P entries.
    """
    M, L = self.origin.shape[1:]
    P = layers[0].value.shape[2]

    def fill(empty: Array, first: Array, axis: int) -> Array:
      # Position i of hypothesis 0 is entry i * M; other hypotheses' entries stay unused.
      places = (slice(None),) * axis + (slice(0, P * M, M),)
      return empty.at[places].set(first.astype(empty.dtype))

    filled = [
      KVCache(fill(old.key, new.key, 3), fill(old.value, new.value, 2))
      for old, new in zip(self.layers, layers, strict=True)
    ]
    return DecoderCache(
      layers=tuple(filled),
      length=self.length + P,
      origin=jnp.where(jnp.arange(L) < P, 0, self.origin),
      read_at_once=P,
    )

  def reorder(self, parent: Array) -> 'DecoderCache':
    """Gives each hypothesis the past of its parent, [B, M]; copies no keys."""
    past = jnp.take_along_axis(self.origin, parent[:, :, None], axis=1)
    own = jnp.arange(parent.shape[1])[:, None]
    return self.replace(origin=jnp.where(self.places < self.position, past, own))


def _resized(x: Array, axis: int, size: int) -> Array:
  """Cuts an axis at its end, or fills it up with zeros."""
  if size <= x.shape[axis]:
    return jax.lax.slice_in_dim(x, 0, size, axis=axis)
  return jnp.pad(
    x, [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
  )
