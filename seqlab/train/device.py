"""What the devices could do at best, to say what share of it a run reaches."""

import functools
import time

import jax
import jax.numpy as jnp

# Dense peak of one device in bfloat16 with float32 accumulation, FLOP/s, from the
# makers' data sheets. The first words of `device_kind`; the longest match counts.
PEAK_FLOPS = {
  'NVIDIA A100': 312e12,
  'NVIDIA H100': 989e12,
  'NVIDIA H100 NVL': 835e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H200': 989e12,
  'NVIDIA L4': 121e12,
  'NVIDIA V100': 125e12,
  'Tesla V100': 125e12,
  'Tesla T4': 65e12,
  'TPU v2': 45e12,
  'TPU v3': 123e12,
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5': 459e12,
  'TPU v6 lite': 918e12,
  'TPU v6e': 918e12,
}


@functools.cache
def peak_flops(devices: int = 1) -> float | None:
  """FLOP/s of so many devices together; None if this kind of device is not known.

  On CPU, where data sheets do not help, it is what a float32 matrix product of
  1,024 x 1,024 reaches now, times the number of processes.
  """
  device = jax.devices()[0]
  if device.platform == 'cpu':
    return _measure() * jax.process_count()
  words = device.device_kind.replace('-', ' ').split()
  for name in sorted(PEAK_FLOPS, key=len, reverse=True):
    if words[: len(name.split())] == name.split():
      return PEAK_FLOPS[name] * devices
  return None


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
