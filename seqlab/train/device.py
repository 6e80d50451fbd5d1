"""What the devices could do at best, to say what share of it a run reaches."""

import functools
import time

import jax
import jax.numpy as jnp

from seqlab.chips import chip_of


@functools.cache
def peak_flops(devices: int = 1) -> float | None:
  """FLOP/s of so many devices together; None if this kind of device is not known.

  On CPU, where data sheets do not help, it is what a float32 matrix product of
  1,024 x 1,024 reaches now, times the number of processes.
  """
  device = jax.devices()[0]
  if device.platform == 'cpu':
    return _measure() * jax.process_count()
  chip = chip_of(device.device_kind)
  return chip.flops * devices if chip else None


def _measure(size: int = 1024, tries: int = 5) -> float:
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.dot).lower(x, x).compile()
  product(x, x).block_until_ready()
  seconds = []
  for _ in range(tries):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * size**3 / min(seconds)
