"""Settings of JAX that must be made before the devices start."""

import contextlib
import os

import jax
from jax._src import compilation_cache  # has no public interface for digests

from seqlab.layers.device import cpu_threads
from seqlab.programs import Programs, use_index
from seqlab.text.download import cache_dir


def prepare(threads: int | None = None, *, use_program_index: bool = False) -> None:
  """Sets the number of threads of a CPU device, and the cache of compiled programs.

  It does not change settings that the user made with JAX's variables, and has no effect
  on devices that have started.

  Args:
    threads: number of threads of a CPU device; None uses one per core. 1 is fastest for
      a step of many small operations, because dividing each of them takes time.
    use_program_index: find programs without tracing them; see `seqlab.programs`. Only
      for a process that has just started.

  Raises:
    ValueError: `threads` is less than 1.
  """
  if threads is not None:
    if threads < 1:
      raise ValueError(f'threads is {threads}; it must be 1 or more, or None')
    os.environ['NPROC'] = str(threads)  # read by XLA when its devices start
  if jax.config.jax_compilation_cache_dir:
    return
  try:
    root = cache_dir()
  except ValueError:  # no folder: users of the cache report this with advice
    return
  # A program for many threads also runs in one thread, but slowly, and JAX's cache does
  # not distinguish them.
  folder = root / 'xla' / f'{cpu_threads()}-threads'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  if jax.config.jax_compilation_cache_max_size != -1:  # the user limits JAX's cache
    return
  programs = Programs(str(folder))
  compilation_cache.get_file_cache = lambda path: (programs, path)
  with contextlib.suppress(OSError):
    folder.mkdir(parents=True, exist_ok=True)
  if not os.access(folder, os.W_OK):  # XLA aborts if it cannot write its files
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')
  if use_program_index:
    use_index(programs)
