"""The peak speed of the devices, and the peak of the memory that a run takes."""

import functools
import resource
import sys
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


def peak_memory() -> dict[str, int]:
  """Returns the metric of the most memory that was taken at a time, in bytes.

  'speed/peak_device_bytes' is the largest peak of this process's devices. A CPU reports
  none: 'speed/peak_process_bytes' is then the peak of the whole process.
  """
  devices = jax.local_devices()
  if devices[0].platform == 'cpu':
    unit = 1 if sys.platform == 'darwin' else 1_024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {'speed/peak_process_bytes': used * unit}
  stats = (device.memory_stats() or {} for device in devices)
  peaks = [x['peak_bytes_in_use'] for x in stats if 'peak_bytes_in_use' in x]
  return {'speed/peak_device_bytes': max(peaks)} if peaks else {}


def memory_limit() -> int | None:
  """Returns the bytes that a device has for arrays and programs.

  It is the smallest limit of this process's devices; None if they state none, as CPUs.
  """
  stats = (device.memory_stats() or {} for device in jax.local_devices())
  return min((x['bytes_limit'] for x in stats if 'bytes_limit' in x), default=None)


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
