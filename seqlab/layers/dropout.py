"""Dropout whose rate is a traced number, from counter-based random bits.

Linen's own Dropout wants a Python number for the rate; here it is data, so a
sweep over rates compiles once. The bits are a hash of each element's index and
a key: cheap on every backend (it fuses into the multiplication, where Threefry
costs a third of a training step on CPU), and the same however the array is
sharded, so a run on eight devices drops what a run on one drops.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.layers.sharding import first_row
from seqlab.types import Array


def random_bits(key: Array, shape: tuple[int, ...], rows: int = 0) -> Array:
  """Returns uniform uint32 [*shape]: a keyed hash of each element's row-major index.

  The mixer is Wellons' `lowbias32` (2018,
  https://nullprogram.com/blog/2018/07/31/), run twice with a word of the key
  before each. Good enough to drop units; not for cryptography or simulation.

  Args:
    key: random key.
    shape: shape of the array; of a device's part, where each computes its own rows.
    rows: the axis of the rows of the batch.
  """

  def mix(x: Array) -> Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)

  first, second = jax.random.bits(key, (2,), jnp.uint32)
  index = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    start, size = first_row(shape[axis]) if axis == rows else (0, shape[axis])
    place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    index += (place + jnp.uint32(start)) * jnp.uint32(stride)
    stride = stride * size % 2**32
  return mix(mix(index ^ first) ^ second)


def uniform(key: Array, shape: tuple[int, ...], rows: int = 0) -> Array:
  """Returns float32 [*shape] uniform in (0, 1), without 0 and 1; see `random_bits`."""
  # 23 bits and a half are exact in float32.
  bits = (random_bits(key, shape, rows) >> 9).astype(jnp.float32)
  return (bits + 0.5) * 2.0**-23


def kept(
  key: Array, shape: tuple[int, ...], rate: Array | float, rows: int = 0
) -> Array:
  """Returns which elements dropout keeps: [*shape] bool; see `drop`."""
  threshold = (jnp.float32(rate) * 2.0**32).astype(jnp.uint32)
  return random_bits(key, shape, rows) >= threshold


def drop(x: Array, key: Array, rate: Array | float, rows: int = 0) -> Array:
  """Zeroes elements with probability `rate`, and scales the rest up.

  Args:
    x: array.
    key: random key.
    rate: scalar in [0, 1), maybe traced.
    rows: see `random_bits`.
  """
  rate = jnp.asarray(rate, jnp.float32)
  scaled = x / (1.0 - rate).astype(x.dtype)
  return jnp.where(kept(key, x.shape, rate, rows), scaled, jnp.zeros_like(x))


class Dropout(nn.Module):
  """Zeroes elements with probability `rate`, and scales the rest up.

  Srivastava et al., "Dropout", 2014, https://jmlr.org/papers/v15/srivastava14a.html
  """

  @nn.compact
  def __call__(self, x: Array, rate: Array | float | None, rows: int = 0) -> Array:
    """Drops elements.

    Args:
      x: array with the rows of the batch along the axis `rows`.
      rate: scalar in [0, 1), maybe traced; None for 0.
      rows: see `random_bits`.
    """
    if rate is None:
      return x
    return drop(x, self.key(), rate, rows)

  def key(self) -> Array:
    """Returns the random key of the next bits, for a function that calls `drop`."""
    return self.make_rng('dropout')
