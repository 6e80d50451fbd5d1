"""Settings of JAX that a process makes before the devices start."""

import os

import jax

from seqlab.text.download import cache_dir
from seqlab.text.workers import all_cores


def prepare(threads: int | None = None) -> None:
  """Sets how many threads a CPU device has, and where compiled programs are kept.

  Has no effect on what the user set by JAX's own variables, nor on devices that have
  started.

  Args:
    threads: of a CPU device; None takes one a core. A step of many small operations
      is slowed by each that is cut in two: then 1 is best.

  Raises:
    ValueError: `threads` is less than 1.
  """
  if threads is not None:
    if threads < 1:
      raise ValueError(f'threads is {threads}; it must be 1 or more, or None')
    os.environ['NPROC'] = str(threads)  # read by XLA when its devices start
  if not jax.config.jax_compilation_cache_dir:
    # A program for many threads works in one too, but slowly, and the cache does not
    # tell them apart.
    folder = cache_dir() / 'xla' / f'{_threads()}-threads'
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def _threads() -> int:
  return int(os.environ.get('NPROC') or len(all_cores()))
