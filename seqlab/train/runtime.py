"""Settings of JAX that must be made before the devices start."""

import contextlib
import hashlib
import os
from pathlib import Path

import jax
from jax._src import compilation_cache  # has no public interface for digests
from jax._src.compilation_cache_interface import CacheInterface

from seqlab.io.cache import place, say
from seqlab.text.download import cache_dir
from seqlab.text.workers import all_cores


def prepare(threads: int | None = None) -> None:
  """Sets the number of threads of a CPU device, and the cache of compiled programs.

  It does not change settings that the user made with JAX's variables, and has no effect
  on devices that have started.

  Args:
    threads: number of threads of a CPU device; None uses one per core. 1 is fastest for
      a step of many small operations, because dividing each of them takes time.

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
  folder = root / 'xla' / f'{_threads()}-threads'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  if jax.config.jax_compilation_cache_max_size != -1:  # the user limits JAX's cache
    return
  compilation_cache.get_file_cache = lambda path: (Programs(path), path)
  with contextlib.suppress(OSError):
    folder.mkdir(parents=True, exist_ok=True)
  if not os.access(folder, os.W_OK):  # XLA aborts if it cannot write its files
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')


class Programs(CacheInterface):
  """Compiled programs in files, each of which begins with the digest of the rest.

  JAX's files may be incomplete after a kill, and damaged ones are never replaced: each
  run would print a warning and compile again. If the compression has no checksum, which
  is zstd's default, a program with a flipped bit would be executed.
  """

  def __init__(self, folder: str):
    """Stores programs in a folder, which is created with the first program."""
    self._path = Path(folder)
    self._refused = False

  def get(self, key: str) -> bytes | None:
    """Returns a compiled program; None if it is missing or damaged."""
    path = self._file(key)
    try:
      data = path.read_bytes()
    except OSError:
      return None
    if hashlib.sha256(data[32:]).digest() == data[:32]:
      return data[32:]
    say(f'the compiled program {path} in the cache is damaged; it is compiled again')
    return None

  def put(self, key: str, value: bytes) -> None:
    """Stores a compiled program, replacing a damaged one."""
    try:
      data = hashlib.sha256(value).digest() + value
      place(self._file(key), data, 'the compiled programs')
    except OSError as error:
      if not self._refused:
        say(f'compiled programs are not kept in {self._path}: {error.strerror}')
      self._refused = True

  def _file(self, key: str) -> Path:
    return self._path / f'{key}.program'


def _threads() -> int:
  return int(os.environ.get('NPROC') or len(all_cores()))
