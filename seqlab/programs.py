"""Compiled programs in files, which are found without tracing them.

JAX looks a compiled program up by its text, for which a function has to be traced and
lowered: of a warm start this takes as long as reading the program does. Here an index
finds JAX's file by all that determines the text:

  - a fingerprint, which the caller gives, of all that the function computes with
    besides its arguments and its code;
  - the shapes, dtypes, shardings and structure of the arguments;
  - the code: seqlab's files, those of modules outside of installed packages, and the
    names, versions and times of installation of the packages;
  - the machine, the interpreter, the environment variables and the settings that JAX
    and XLA read.

If any of these is another one, or is not known, the function is traced. The index is
used by the commands only: code that was changed in memory, as in a notebook, cannot be
recognised. An entry is unpickled, which can run any code, and so each user has entries
of their own, and reads only files that no other user could have written. The programs
themselves are machine code that JAX reads from the same folder.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import hashlib
import io
import json
import os
from pathlib import Path
import pickle
import platform
import re
import stat
import sys
import threading
from typing import Any
import weakref

import jax
from jax._src import compilation_cache  # has no public interface for keys and digests
from jax._src import config as jax_config
from jax._src.compilation_cache_interface import CacheInterface
from jax._src.lib import _jax
from jax.experimental import serialize_executable

from seqlab.io.cache import place, say
from seqlab.sources import code_digest

_VARIABLES = (
  *('JAX', 'XLA', 'FLAX', 'SEQLAB', 'TF_', 'LD_', 'ONEDNN', 'DNNL', 'TRITON'),
  *('LIBTPU', 'TPU', 'CUDA', 'NVIDIA', 'NCCL', 'ROCM', 'HIP', 'HSA'),
)
_THREAD_VARIABLES = ('NPROC', 'OMP_NUM_THREADS')


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
    self._thread = threading.local()

  def get(self, key: str) -> bytes | None:
    """Returns a compiled program; None if it is missing or damaged."""
    getattr(self._thread, 'keys', []).append(key)
    return self._read(key, lambda status: True)

  def get_own(self, key: str) -> bytes | None:
    """Returns the same; None if another user could have written it."""
    return self._read(key, _is_own)

  def _read(self, key: str, accept: Callable[[os.stat_result], bool]) -> bytes | None:
    path = self.file(key)
    try:
      # The file that is read is the one that is examined, whatever has its name later.
      with path.open('rb') as file:
        data = file.read() if accept(os.fstat(file.fileno())) else None
    except OSError:
      return None
    if data is None or hashlib.sha256(data[32:]).digest() == data[:32]:
      return data and data[32:]
    say(f'the compiled program {path} in the cache is damaged; it is compiled again')
    return None

  def put(self, key: str, value: bytes, *, private: bool = False) -> None:
    """Stores a compiled program, replacing a damaged one.

    Args:
      key: its key.
      value: the program.
      private: whether to store it for `get_own`.
    """
    try:
      data = hashlib.sha256(value).digest() + value
      place(self.file(key), data, 'the compiled programs')
      if private:
        self.file(key).chmod(0o600)
    except OSError as error:
      if not self._refused:
        say(f'compiled programs are not kept in {self._path}: {error.strerror}')
      self._refused = True

  def file(self, key: str) -> Path:
    """Returns the path of a program."""
    return self._path / f'{key}.program'

  @contextlib.contextmanager
  def requested_keys(self) -> Iterator[list[str]]:
    """Yields a list that gets the keys that this thread asks for inside the block."""
    self._thread.keys = keys = []
    try:
      yield keys
    finally:
      del self._thread.keys


_programs: Programs | None = None  # where the index is, if it is in use
_compiled: weakref.WeakSet[jax.stages.Compiled] = weakref.WeakSet()


def use_index(programs: Programs | None) -> None:
  """Lets `compile_program` find programs by the index in a folder; None ends that.

  To be called only in a process that has just started, whose code is that of its files.
  """
  global _programs
  _programs = programs


def compile_program(
  function: Any, *args: Any, fingerprint: str | None = None, **named: Any
) -> jax.stages.Compiled:
  """Compiles a function for arguments like these, or reads it without tracing it.

  Args:
    function: result of `jax.jit` or `jax.pmap`.
    *args: arguments, or `jax.ShapeDtypeStruct`s.
    fingerprint: digest of all that the function computes with besides its arguments and
      its code, such as the experiment and the vocabulary; None if this is not known,
      and then it is traced.
    **named: further arguments.
  """
  compiled = _found_or_compiled(function, args, named, fingerprint)
  _compiled.add(compiled)
  return compiled


def compiled_programs() -> list[jax.stages.Compiled]:
  """Returns the results of `compile_program` that are still in use."""
  return list(_compiled)


def _found_or_compiled(
  function: Any, args: tuple, named: dict, fingerprint: str | None
) -> jax.stages.Compiled:
  programs = _programs
  key = _key(fingerprint, args, named) if programs and fingerprint else None
  if key is None:
    return function.lower(*args, **named).compile()
  if (compiled := _read(programs, key, args, named)) is not None:
    return compiled
  lowered = function.lower(*args, **named)
  # Code that was edited before it was imported for tracing is not that of the key.
  is_known = _key(fingerprint, args, named) == key
  with programs.requested_keys() as keys:
    compiled = lowered.compile()
  if is_known and len(keys) == 1 and programs.file(keys[0]).exists():
    with contextlib.suppress(Exception):  # it may hold what cannot be pickled
      programs.put(key, _write(keys[0], compiled), private=True)
  return compiled


def fingerprint_of(*values: Any) -> str | None:
  """Returns the digest of values; None if one is None, or JSON cannot hold it."""
  if None in values:
    return None
  try:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
  except (TypeError, ValueError):
    return None


# Entries of the index.


def _write(program: str, compiled: jax.stages.Compiled) -> bytes:
  """Returns an entry: the key of JAX's program, and all of `compiled` besides it."""
  if compiled._params.const_args:
    raise ValueError('constants that are arguments are not kept')
  info, structure = jax.tree.flatten(compiled.args_info)
  executable = compiled._executable._unloaded_executable
  file = io.BytesIO()
  _Pickler(file).dump(
    (executable, info, structure, compiled.out_tree, compiled._no_kwargs)
  )
  return pickle.dumps((program, file.getvalue()))


def _read(
  programs: Programs, key: str, args: tuple, named: dict
) -> jax.stages.Compiled | None:
  """Returns a compiled function; None if it is not in the index, or damaged."""
  try:
    entry = programs.get_own(key)
    if entry is None:
      return None
    program, data = pickle.loads(entry)
    executable, info, structure, out_tree, no_kwargs = _Unpickler(data, program).load()
    if structure != jax.tree.structure((args, named)):
      return None
    info = structure.unflatten(info)
    return jax.stages.Compiled(
      executable.load(), [], info, out_tree, no_kwargs=no_kwargs
    )
  except Exception:  # whatever is wrong with the files: it is compiled instead
    return None


class _Pickler(serialize_executable._JaxPjrtPickler):
  """Leaves the program itself out, which JAX keeps already."""

  def persistent_id(self, obj: Any) -> Any:
    if isinstance(obj, _jax.LoadedExecutable | _jax.Executable):
      return ('exec', None)
    return super().persistent_id(obj)


class _Unpickler(serialize_executable._JaxPjrtUnpickler):
  """Reads the program from JAX's cache."""

  def __init__(self, data: bytes, program: str):
    device = jax.devices()[0]
    super().__init__(io.BytesIO(data), device.client, [device])
    self._program = program

  def persistent_load(self, pid: Any) -> Any:
    if pid[0] != 'exec':
      return super().persistent_load(pid)
    executable, _ = compilation_cache.get_executable_and_time(
      self._program, None, self.backend, self.execution_devices
    )
    if executable is None:
      raise pickle.UnpicklingError(f'there is no program {self._program}')
    return executable


def _is_own(status: os.stat_result) -> bool:
  """Returns whether only this user, or the administrator, can have written a file."""
  others = stat.S_IWGRP | stat.S_IWOTH
  return status.st_uid == os.geteuid() and not status.st_mode & others


# What determines a program.


def _key(fingerprint: str, args: tuple, named: dict) -> str | None:
  """Returns the key of a program in the index; None if it cannot be known."""
  leaves, structure = jax.tree.flatten((args, named))
  shardings = [getattr(x, 'sharding', None) for x in leaves]
  device = jax.local_devices()[0]
  devices = {d for s in shardings if s is not None for d in s.device_set}
  code = code_digest()
  # A program for several devices also depends on how these are connected.
  if code is None or jax.process_count() > 1 or devices - {device}:
    return None
  arguments = [
    (x.shape, str(x.dtype), str(getattr(x, 'weak_type', False)), repr(sharding))
    if hasattr(x, 'dtype')
    else (type(x).__name__, repr(x))
    for x, sharding in zip(leaves, shardings, strict=True)
  ]
  machine = _machine(), device.device_kind, device.client.platform_version
  settings = _environment(), sorted((k, repr(v)) for k, v in jax.config.values.items())
  context = re.sub(' at 0x[0-9a-f]+', '', repr(jax_config.trace_context()))
  text = repr(
    (fingerprint, str(structure), arguments, code, machine, settings, context)
  )
  return f'index-{hashlib.sha256(text.encode()).hexdigest()}'


def _environment() -> list[tuple[str, str]]:
  return sorted(
    (name, value)
    for name, value in os.environ.items()
    if name.startswith(_VARIABLES) or name in _THREAD_VARIABLES
  )


@functools.cache
def _machine() -> tuple:
  """Returns what distinguishes this user, interpreter and processor from others."""
  file = Path('/proc/cpuinfo')
  lines = file.read_text('utf-8').splitlines() if file.is_file() else []
  flags = {x for x in lines if x.startswith(('model name', 'flags', 'Features'))}
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else None
  interpreter = os.geteuid(), sys.version, repr(sys.flags), platform.platform()
  return *interpreter, sorted(flags), os.cpu_count(), cores
