"""Settings of JAX that a process makes before the devices start."""

import contextlib
import hashlib
import os
from pathlib import Path

import jax
from jax._src import compilation_cache  # which offers no public place for a digest
from jax._src.compilation_cache_interface import CacheInterface

from seqlab.io.cache import place, say
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
  if jax.config.jax_compilation_cache_dir:
    return
  try:
    root = cache_dir()
  except ValueError:  # programs are compiled anew; who needs the cache says what to do
    return
  # A program for many threads works in one too, but slowly, and the cache does not
  # tell them apart.
  folder = root / 'xla' / f'{_threads()}-threads'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  if jax.config.jax_compilation_cache_max_size != -1:  # JAX's own files have a limit
    return
  compilation_cache.get_file_cache = lambda path: (Programs(path), path)
  with contextlib.suppress(OSError):
    folder.mkdir(parents=True, exist_ok=True)
  if not os.access(folder, os.W_OK):  # XLA ends where it cannot write its own files
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')


class Programs(CacheInterface):
  """Compiled programs in files, each of which begins with the digest of the rest.

  JAX's own files may be half written after a kill, and are never written again once
  they are damaged: each run would warn, and compile anew. Where the compression has no
  checksum, as zstd has none by default, a flipped bit would be run.
  """

  def __init__(self, folder: str):
    """Keeps programs in a folder, which is made when there is a program to keep."""
    self._path = Path(folder)
    self._refused = False

  def get(self, key: str) -> bytes | None:
    """A compiled program; None if there is none, or none that is whole."""
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
    """Keeps a compiled program, in place of a damaged one too."""
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
