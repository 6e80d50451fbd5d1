"""The peak speed of the devices, of which a run reports the share that it reaches."""

import functools
import time

import jax
import jax.numpy as jnp

from seqlab.compile.chips import chip_of


@functools.cache
def peak_flops(devices: int = 1) -> float | None:
  """Returns the FLOP/s of `devices` devices; None if this kind of device is unknown.

  For CPUs, without data sheets, it is the measured speed of a float32 matrix product of
  1,024 x 1,024, times the number of processes.
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
