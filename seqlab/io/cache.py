"""The cache: complete folders that are verified when opened, and rebuilt if damaged.

An entry is a folder whose name is a digest of everything that determines its content.
Its `about.json` describes this content, and has the size and the sha256 of every other
file and a digest of itself. A missing entry is built; a damaged one is reported on
standard error and built again. Nothing is read from an entry before it is verified.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
from pathlib import Path
import shutil
import sys
from typing import Any, TypeVar
import uuid

import numpy as np

from seqlab.io.files import NO_SPACE, sync, sync_tree

_T = TypeVar('_T')

_ABOUT = 'about.json'
_IN_MEMORY = 1 << 26  # bytes; a larger array stays on the disk and is memory-mapped
_TRIES = 8  # attempts per entry, because others may delete it after each build
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)  # there is a file in place of a folder


class DamagedError(Exception):
  """A file of an entry has changed since it was written; the text names the file."""


class Entry:
  """An entry with a verified `about.json`; other files are verified when they are read.

  Attributes:
    folder: path of the entry.
    about: content of `about.json`, without sizes and digests.
  """

  def __init__(self, folder: Path, description: Mapping[str, Any]):
    """Opens an entry.

    Args:
      folder: path of the entry.
      description: expected description of its content; `about.json` must contain it.

    Raises:
      FileNotFoundError: there is no such folder.
      DamagedError: `about.json` is damaged or describes another content.
    """
    self.folder = folder
    try:
      stored = json.loads(self._open(_ABOUT, lambda f: f.read()).decode('utf-8'))
      self._files = stored.pop('files')
      digest = stored.pop('sha256')
    except KeyError:
      raise DamagedError('is of an earlier version without digests') from None
    except (ValueError, AttributeError, TypeError, RecursionError):
      raise DamagedError(f'has a damaged {_ABOUT}') from None
    if digest != _digest_of([stored, self._files]):
      raise DamagedError(f'has a damaged {_ABOUT}')
    expected = json.loads(json.dumps(description))
    if any(stored.get(name) != value for name, value in expected.items()):
      raise DamagedError('has another content than its name says')
    self.about = stored

  def verify(self) -> None:
    """Compares the digests of all files. Raises DamagedError."""
    with ThreadPoolExecutor(4) as pool:  # hashlib releases the interpreter lock
      list(pool.map(self._verify, self._files))

  def _verify(self, name: str) -> None:
    def check(file: io.BufferedReader) -> None:
      self._compare(name, hashlib.file_digest(file, 'sha256').hexdigest())

    self._open(name, check)

  def array(self, name: str) -> np.ndarray:
    """Returns a one-dimensional array from a file in NumPy's format, read-only.

    The array is in memory, or a `WatchedArray` if it is large. If another process
    changes the file later, the former does not change, and the latter raises an error.

    Raises:
      DamagedError: the file has changed since it was written.
    """
    return self._open(name, lambda file: self._array(name, file))

  def _array(self, name: str, file: io.BufferedReader) -> np.ndarray:
    status = os.fstat(file.fileno())
    if status.st_size <= _IN_MEMORY:
      data = file.read()
      self._compare(name, hashlib.sha256(data).hexdigest())
      start, dtype, size = _header(io.BytesIO(data))
      if start + size * dtype.itemsize != len(data) or dtype.hasobject:
        raise DamagedError(f'has a {name} that NumPy cannot read')
      return np.frombuffer(data, dtype, size, start)
    self._compare(name, hashlib.file_digest(file, 'sha256').hexdigest())
    file.seek(0)
    start, dtype, size = _header(file)
    return WatchedArray(self.folder / name, file, dtype, size, start, status)

  def _open(self, name: str, read: Callable[[io.BufferedReader], _T]) -> _T:
    """Returns read(file) of one of the files, after comparing its size."""
    try:
      with (self.folder / name).open('rb') as file:
        if name != _ABOUT and os.fstat(file.fileno()).st_size != self._stored(name)[0]:
          raise DamagedError(f'has a {name} of another size')
        return read(file)
    except FileNotFoundError:
      if not self.folder.is_dir():
        raise
      raise DamagedError(f'has no {name}') from None
    except IsADirectoryError:
      raise DamagedError(f'has a folder {name}') from None
    except OSError as error:
      if error.errno == errno.EIO:  # for example a bad sector of the disk
        raise DamagedError(f'has a {name} that cannot be read') from None
      raise

  def _stored(self, name: str) -> tuple[int, str]:
    """Returns the size and the digest of a file in `about.json`."""
    try:
      return self._files[name]['size'], self._files[name]['sha256']
    except KeyError:
      raise DamagedError(f'does not list {name}') from None

  def _compare(self, name: str, digest: str) -> None:
    if digest != self._stored(name)[1]:
      raise DamagedError(f'has a {name} with another content')


class WatchedArray(np.memmap):
  """A memory-mapped file; each access returns a copy.

  A process that accesses a mapped address beyond the file's end is killed by SIGBUS.
  Before each access, the size and time of the file are therefore compared with those at
  the time of opening.
  """

  def __new__(
    cls,
    path: Path,
    file: io.BufferedReader,
    dtype: np.dtype,
    size: int,
    start: int,
    status: os.stat_result,
  ):
    """Maps `size` values of an open file that had `status` when it was verified."""
    array = super().__new__(cls, file, dtype, 'r', start, (size,))
    array._file = _Handle(file.fileno())
    array._path, array._state = path, _state(status)
    array.check()
    return array

  def __array_finalize__(self, array: Any) -> None:
    super().__array_finalize__(array)
    self._file = None  # results of computations are not on the disk

  def check(self) -> None:
    """Raises OSError if the file has changed since it was opened."""
    if self._file and _state(os.fstat(self._file.number)) != self._state:
      raise OSError(
        errno.ESTALE,
        'the file was changed while it was in use; start again to build it again',
        str(self._path),
      )

  def __getitem__(self, index: Any) -> Any:
    self.check()
    return self.view(np.ndarray)[index].copy()


class _Handle:
  """A file handle that is closed when this object is deleted."""

  def __init__(self, number: int):
    self.number = os.dup(number)

  def __del__(self):
    os.close(self.number)


def _state(status: os.stat_result) -> tuple[int, int]:
  return status.st_size, status.st_mtime_ns


def _header(file: Any) -> tuple[int, np.dtype, int]:
  """Returns the offset of the values of an .npy file, their type and their number."""
  try:
    np.lib.format.read_magic(file)
    (size,), _, dtype = np.lib.format.read_array_header_1_0(file)
  except (ValueError, EOFError):
    raise DamagedError('has an array that NumPy cannot read') from None
  return file.tell(), dtype, size


def cached(
  folder: Path,
  description: Mapping[str, Any],
  build: Callable[[Path], Mapping[str, Any]],
  read: Callable[[Entry], _T],
  *,
  title: str,
  need: int | Callable[[], int] = 0,
) -> _T:
  """Returns the content of an entry, which is built first if missing or damaged.

  Args:
    folder: path of the entry; its name is determined by `description`.
    description: everything that determines the content; it is written to `about.json`.
    build: function that writes the files into a folder, and returns further items for
      `about.json`.
    read: function that returns the result from the entry. It raises DamagedError for
      invalid content.
    title: name of the content in messages.
    need: size of the content in bytes, for messages.

  Raises:
    OSError: the disk is full, or the folder can be neither read nor written; the
      message says where, and what to do.
  """

  def is_damaged() -> bool:
    try:
      read(Entry(folder, description))
    except DamagedError:
      return True
    return False

  for _ in range(_TRIES):
    try:
      return read(Entry(folder, description))
    except FileNotFoundError:
      pass  # the entry is missing, or another process has just deleted it
    except DamagedError as error:
      _discard(folder, is_damaged, str(error), title)
      continue  # another process may have built it since then
    except OSError as error:
      raise _explained(error, folder, title) from None
    with contextlib.suppress(_VanishedError), publish(folder, title, need) as part:
      note(part, {**description, **build(part)})
  raise OSError(
    errno.ESTALE,
    f'{title} could not be kept: the folder is damaged or deleted whenever it is '
    'written; set SEQLAB_CACHE to a folder on another disk',
    str(folder),
  )


def note(folder: Path, description: Mapping[str, Any]) -> None:
  """Writes `about.json` with the sizes and digests of all files of a folder."""
  files = {}
  for path in sorted(folder.iterdir()):
    with path.open('rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    files[path.name] = {'size': path.stat().st_size, 'sha256': digest}
  description = json.loads(json.dumps(description))
  digest = _digest_of([description, files])
  text = json.dumps({**description, 'files': files, 'sha256': digest}, indent=2)
  (folder / _ABOUT).write_text(text, 'utf-8')


def _digest_of(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _VanishedError(Exception):
  """Another process has deleted a folder while it was being written."""


@contextlib.contextmanager
def publish(
  folder: Path, title: str, need: int | Callable[[], int] = 0
) -> Iterator[Path]:
  """Yields a temporary folder, and renames it to `folder` when it is complete.

  `folder` is complete or absent, even after a power cut. If another process was faster,
  its folder is kept, because the name determines the content.

  Args:
    folder: path of the entry.
    title: name of the content in messages.
    need: size of the content in bytes, for messages.

  Raises:
    OSError: the disk is full, or the folder cannot be written; the message says where,
      and what to do.
  """
  with staging(folder.parent, title) as part:
    try:
      yield part
      sync_tree(part)
      try:
        part.rename(folder)
      except OSError:
        if not folder.is_dir():
          raise
        return  # another process was faster
      sync(folder.parent)
    except OSError as error:
      if error.errno in NO_SPACE and _concerns(error, folder.parent):
        raise no_space(error, folder.parent, title, need) from None
      if isinstance(error, FileNotFoundError) and not part.exists():
        raise _VanishedError from error
      raise


def _concerns(error: OSError, folder: Path) -> bool:
  return not error.filename or Path(os.fsdecode(error.filename)).is_relative_to(folder)


@contextlib.contextmanager
def staging(
  parent: Path,
  title: str,
  *,
  prefix: str = '.part-',
  mode: int = 0o777,
  variable: str = 'SEQLAB_CACHE',
) -> Iterator[Path]:
  """Yields a new folder for incomplete files, which is locked while its owner lives.

  It is deleted at the end, unless it was renamed. Folders of killed processes are
  deleted at the beginning.

  Args:
    parent: folder in which it is made; created if it does not exist.
    title: name of the content in messages.
    prefix: prefix of its name. Unlocked folders with this prefix are deleted.
    mode: permissions of the folder, before the umask is applied.
    variable: environment variable that chooses another folder, for messages.

  Raises:
    OSError: the folder cannot be made; the message says where, and what to do.
  """
  try:
    _make_folder(parent)
    _clear(parent, prefix)
    path, handle = _claim(parent, prefix, mode)
  except OSError as error:
    if error.errno in NO_SPACE:
      raise no_space(error, parent, title, 0, variable) from None
    raise _explained(error, parent, title, variable) from None
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)
    os.close(handle)


def _make_folder(path: Path) -> None:
  missing = [p for p in (path, *path.parents) if not p.exists()]
  path.mkdir(parents=True, exist_ok=True)
  for folder in missing:
    # A folder may be passed through but not opened by this user.
    with contextlib.suppress(PermissionError):
      sync(folder.parent)


def _clear(parent: Path, prefix: str) -> None:
  """Deletes folders whose owners are dead."""
  for entry in os.scandir(parent):
    if not entry.name.startswith(prefix):
      continue
    with contextlib.suppress(OSError):  # it was deleted, or belongs to another user
      handle = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
      try:
        if _lock(handle, wait=False):
          shutil.rmtree(entry.path, ignore_errors=True)
      finally:
        os.close(handle)


def _claim(parent: Path, prefix: str, mode: int) -> tuple[Path, int]:
  """Returns a new folder, and the file handle that holds its lock."""
  while True:
    path = parent / f'{prefix}{uuid.uuid4().hex[:12]}'
    path.mkdir(mode)
    with contextlib.suppress(FileNotFoundError):
      handle = os.open(path, os.O_RDONLY)
      _lock(handle, wait=True)
      # Before it was locked, another process may have deleted it as abandoned.
      if path.exists():
        return path, handle
      os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
  """Locks a folder until its handle is closed; returns whether this succeeded.

  It fails if the folder is locked, or on a file system without locks.
  """
  try:
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    return False
  return True


def place(path: Path, data: bytes, title: str) -> None:
  """Writes one file atomically and durably; see `staging`."""
  with staging(path.parent, title) as part:
    whole = part / path.name
    whole.write_bytes(data)
    sync(whole)
    whole.replace(path)
    sync(path.parent)


def no_space(
  error: OSError,
  folder: Path,
  title: str,
  need: int | Callable[[], int],
  variable: str = 'SEQLAB_CACHE',
) -> OSError:
  """Returns an error with advice for a full disk, or an exhausted quota of the user."""
  size = (need() if callable(need) else need) / 2**20
  needed = f': {size:,.1f} MiB are needed' if size else ''
  return OSError(
    error.errno,
    f'no space left for {title}{needed}; free some, or set {variable} to a folder on '
    'another disk',
    str(folder),
  )


def _explained(
  error: OSError, folder: Path, title: str, variable: str = 'SEQLAB_CACHE'
) -> OSError:
  """Returns the error, with advice if this user cannot use the folder."""
  if error.errno in _REFUSED:
    return OSError(
      error.errno,
      f'{title} cannot be read or written here by this user '
      f'({os.strerror(error.errno)}); ask the owner of the folder for access, or set '
      f'{variable} to a folder of your own',
      str(folder),
    )
  if error.errno in _NO_FOLDER:
    return OSError(
      error.errno,
      f'{title} cannot be kept: there is a file where a folder is needed; delete it, or '
      f'set {variable} to a folder',
      str(next((p for p in (folder, *folder.parents) if p.is_file()), folder)),
    )
  return error


def _discard(folder: Path, still_damaged: Callable[[], bool], damage: str, title: str):
  """Removes a damaged entry; processes that have its files open keep them."""
  handle = os.open(folder.parent, os.O_RDONLY)
  try:
    # With the lock, a second process that saw the damage does not delete the new entry.
    _lock(handle, wait=True)
    if not still_damaged():
      return
    removed = folder.with_name(f'.part-{uuid.uuid4().hex[:12]}')
    folder.rename(removed)
  except FileNotFoundError:
    return
  except OSError as error:
    raise OSError(
      error.errno,
      f'{title} in the cache: the folder {damage}, and this user cannot replace it '
      f'({os.strerror(error.errno)}); ask its owner to delete it, or set SEQLAB_CACHE '
      'to a folder of your own',
      str(folder),
    ) from None
  finally:
    os.close(handle)
  say(f'{title} in the cache: {folder} {damage}; it is built again')
  shutil.rmtree(removed, ignore_errors=True)


def say(text: str) -> None:
  """Prints a line to standard error."""
  print(f'seqlab: {text}', file=sys.stderr, flush=True)
