"""Options of the compilers of accelerators that the steps of several devices need."""

from typing import Any

# Collectives run beside matrix products ("continuation fusion"), as in MaxText's lists of
# flags, https://github.com/AI-Hypercomputer/maxtext/blob/main/benchmarks/xla_flags_library.py.
# libtpu has them on for v5e only.
_TPU = {
  'xla_enable_async_all_gather': True,
  'xla_tpu_enable_async_collective_fusion': True,
  'xla_tpu_enable_async_collective_fusion_fuse_all_gather': True,
  'xla_tpu_enable_async_collective_fusion_multiple_steps': True,
  'xla_tpu_overlap_compute_collective_tc': True,
}


def compiler_options(platform: str, devices: int) -> dict[str, Any]:
  """Returns options for `jax.jit`.

  Args:
    platform: 'tpu', 'gpu' or 'cpu'.
    devices: number of devices of the program.
  """
  return dict(_TPU) if platform == 'tpu' and devices > 1 else {}
