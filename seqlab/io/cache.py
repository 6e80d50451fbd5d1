"""The cache: folders that are whole, verified when they are opened, and made again.

An entry is a folder whose name is a digest of all that decides its content. Its
`about.json` says what that is, and has the size and the sha256 of every other file and
of itself. An entry that is missing is built; one that is damaged is named on standard
error and built again. Nothing is read from it before it is verified.
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
_IN_MEMORY = 1 << 26  # bytes; a larger array stays on the disk and is mapped
_TRIES = 8  # of one entry, which somebody may delete as often as it is built
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)  # a file is where a folder should be


class DamagedError(Exception):
  """A file of an entry is not what was written; the text says which, and why."""


class Entry:
  """An entry whose `about.json` is verified; its other files are, as they are read.

  Attributes:
    folder: where it lies.
    about: content of `about.json`, without sizes and digests.
  """

  def __init__(self, folder: Path, about: Mapping[str, Any]):
    """Opens an entry.

    Args:
      folder: the entry.
      about: what it is made from; `about.json` must say the same.

    Raises:
      FileNotFoundError: there is no such folder.
      DamagedError: `about.json` is not what was written.
    """
    self.folder = folder
    try:
      noted = json.loads(self._open(_ABOUT, lambda f: f.read()).decode('utf-8'))
      self._files = noted.pop('files')
      digest = noted.pop('sha256')
    except KeyError:
      raise DamagedError('has no digests, as those of earlier versions') from None
    except (ValueError, AttributeError, TypeError, RecursionError):
      raise DamagedError(f'has a damaged {_ABOUT}') from None
    if digest != _digest_of([noted, self._files]):
      raise DamagedError(f'has a damaged {_ABOUT}')
    made_from = json.loads(json.dumps(about))
    if any(noted.get(name) != value for name, value in made_from.items()):
      raise DamagedError('is of something else')
    self.about = noted

  def verify(self) -> None:
    """Reads all files, several at a time. Raises DamagedError."""
    with ThreadPoolExecutor(4) as pool:  # hashlib leaves the interpreter free
      list(pool.map(self._verify, self._files))

  def _verify(self, name: str) -> None:
    def check(file: io.BufferedReader) -> None:
      self._compare(name, hashlib.file_digest(file, 'sha256').hexdigest())

    self._open(name, check)

  def array(self, name: str) -> np.ndarray:
    """A one-dimensional array in NumPy's format, read-only.

    It is in memory, or a `WatchedArray` if it is large. What another process does to
    the file is without effect on the one, and an error of the other.

    Raises:
      DamagedError: it is not what was written.
    """
    return self._open(name, lambda file: self._array(name, file))

  def _array(self, name: str, file: io.BufferedReader) -> np.ndarray:
    about = os.fstat(file.fileno())
    if about.st_size <= _IN_MEMORY:
      data = file.read()
      self._compare(name, hashlib.sha256(data).hexdigest())
      start, dtype, size = _header(io.BytesIO(data))
      if start + size * dtype.itemsize != len(data) or dtype.hasobject:
        raise DamagedError(f'has a {name} that NumPy cannot read')
      return np.frombuffer(data, dtype, size, start)
    self._compare(name, hashlib.file_digest(file, 'sha256').hexdigest())
    file.seek(0)
    start, dtype, size = _header(file)
    return WatchedArray(self.folder / name, file, dtype, size, start, about)

  def _open(self, name: str, read: Callable[[io.BufferedReader], _T]) -> _T:
    """read(file) of one of the files, whose size is as noted."""
    try:
      with (self.folder / name).open('rb') as file:
        if name != _ABOUT and os.fstat(file.fileno()).st_size != self._noted(name)[0]:
          raise DamagedError(f'has a {name} of another size')
        return read(file)
    except FileNotFoundError:
      if not self.folder.is_dir():
        raise
      raise DamagedError(f'has no {name}') from None
    except IsADirectoryError:
      raise DamagedError(f'has a folder {name}') from None
    except OSError as error:
      if error.errno == errno.EIO:  # a sector of the disk, say
        raise DamagedError(f'has a {name} that cannot be read') from None
      raise

  def _noted(self, name: str) -> tuple[int, str]:
    try:
      return self._files[name]['size'], self._files[name]['sha256']
    except KeyError:
      raise DamagedError(f'does not list {name}') from None

  def _compare(self, name: str, digest: str) -> None:
    if digest != self._noted(name)[1]:
      raise DamagedError(f'has a {name} with another content')


class WatchedArray(np.memmap):
  """A mapped file, of which each part that is taken is copied.

  A process that touches a mapped place beyond the file's end is killed by SIGBUS. So
  before each access the file is compared with what was opened.
  """

  def __new__(
    cls,
    path: Path,
    file: io.BufferedReader,
    dtype: np.dtype,
    size: int,
    start: int,
    about: os.stat_result,
  ):
    """Maps `size` values of an open file of which `about` was true when it was read."""
    array = super().__new__(cls, file, dtype, 'r', start, (size,))
    array._file = _Handle(file.fileno())
    array._path, array._state = path, _state(about)
    array.check()
    return array

  def __array_finalize__(self, array: Any) -> None:
    super().__array_finalize__(array)
    self._file = None  # what is computed from it is not on the disk

  def check(self) -> None:
    """Raises OSError if the file is not as it was when it was opened."""
    if self._file and _state(os.fstat(self._file.number)) != self._state:
      raise OSError(
        errno.ESTALE,
        'the file was changed while it was in use; start again, and the cache makes it '
        'anew',
        str(self._path),
      )

  def __getitem__(self, index: Any) -> Any:
    self.check()
    return self.view(np.ndarray)[index].copy()


class _Handle:
  """A file that is open for as long as this object lives."""

  def __init__(self, number: int):
    self.number = os.dup(number)

  def __del__(self):
    os.close(self.number)


def _state(about: os.stat_result) -> tuple[int, int]:
  return about.st_size, about.st_mtime_ns


def _header(file: Any) -> tuple[int, np.dtype, int]:
  """Where the values of an .npy file begin, their type, and their number."""
  try:
    np.lib.format.read_magic(file)
    (size,), _, dtype = np.lib.format.read_array_header_1_0(file)
  except (ValueError, EOFError):
    raise DamagedError('has an array that NumPy cannot read') from None
  return file.tell(), dtype, size


def cached(
  folder: Path,
  about: Mapping[str, Any],
  build: Callable[[Path], Mapping[str, Any]],
  read: Callable[[Entry], _T],
  *,
  what: str,
  need: int | Callable[[], int] = 0,
) -> _T:
  """What an entry holds; it is built first if it is missing or damaged.

  Args:
    folder: the entry; its name says all that is in `about`.
    about: what decides the content; it goes to `about.json`.
    build: writes the files into a folder, and returns what else `about.json` shall say.
    read: takes what is wanted from the entry. It raises DamagedError for what is not right.
    what: is built, for messages.
    need: bytes that it takes, for messages.

  Raises:
    OSError: the disk is full, or the folder can be neither read nor written; says where,
      and what to do.
  """

  def is_damaged() -> bool:
    try:
      read(Entry(folder, about))
    except DamagedError:
      return True
    return False

  for _ in range(_TRIES):
    try:
      return read(Entry(folder, about))
    except FileNotFoundError:
      pass  # it was not there, or somebody deleted it just now
    except DamagedError as error:
      _discard(folder, is_damaged, str(error), what)
      continue  # another process may have built it since then
    except OSError as error:
      raise _explained(error, folder, what) from None
    with contextlib.suppress(_VanishedError), publish(folder, what, need) as part:
      note(part, {**about, **build(part)})
  raise OSError(
    errno.ESTALE,
    f'{what} could not be kept: the folder is damaged or deleted as often as it is '
    'written; set SEQLAB_CACHE to a folder on another disk',
    str(folder),
  )


def note(folder: Path, about: Mapping[str, Any]) -> None:
  """Writes `about.json` with the sizes and digests of all files of a folder."""
  files = {}
  for path in sorted(folder.iterdir()):
    with path.open('rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    files[path.name] = {'size': path.stat().st_size, 'sha256': digest}
  about = json.loads(json.dumps(about))
  digest = _digest_of([about, files])
  text = json.dumps({**about, 'files': files, 'sha256': digest}, indent=2)
  (folder / _ABOUT).write_text(text, 'utf-8')


def _digest_of(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _VanishedError(Exception):
  """Somebody deleted the folder that was being written."""


@contextlib.contextmanager
def publish(
  folder: Path, what: str, need: int | Callable[[], int] = 0
) -> Iterator[Path]:
  """Gives a folder to write to, and renames it: `folder` is there whole or not at all.

  This holds after a power cut, too. If another process was quicker, what that wrote
  stays: the name says all that decides the content.

  Args:
    folder: the entry.
    what: is written, for messages.
    need: bytes that it takes, for messages.

  Raises:
    OSError: the disk is full, or the folder cannot be written; says where, and what to
      do.
  """
  with staging(folder.parent, what) as part:
    try:
      yield part
      sync_tree(part)
      try:
        part.rename(folder)
      except OSError:
        if not folder.is_dir():
          raise
        return  # another process was quicker
      sync(folder.parent)
    except OSError as error:
      if error.errno in NO_SPACE and _concerns(error, folder.parent):
        raise no_space(error, folder.parent, what, need) from None
      if isinstance(error, FileNotFoundError) and not part.exists():
        raise _VanishedError from error
      raise


def _concerns(error: OSError, folder: Path) -> bool:
  return not error.filename or Path(os.fsdecode(error.filename)).is_relative_to(folder)


@contextlib.contextmanager
def staging(
  parent: Path,
  what: str,
  *,
  prefix: str = '.part-',
  mode: int = 0o777,
  variable: str = 'SEQLAB_CACHE',
) -> Iterator[Path]:
  """A new folder for what is not whole yet, locked for as long as its owner lives.

  It is deleted in the end, unless it was renamed. What processes left there that were
  killed is deleted first.

  Args:
    parent: where it lies; made if it is not there.
    what: is written, for messages.
    prefix: of its name. Others of this prefix that nobody has locked are deleted.
    mode: of the folder, less the umask.
    variable: of the environment, that names another place, for messages.

  Raises:
    OSError: the folder cannot be made; says where, and what to do.
  """
  try:
    _make_folder(parent)
    _clear(parent, prefix)
    path, handle = _claim(parent, prefix, mode)
  except OSError as error:
    if error.errno in NO_SPACE:
      raise no_space(error, parent, what, 0, variable) from None
    raise _explained(error, parent, what, variable) from None
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)
    os.close(handle)


def _make_folder(path: Path) -> None:
  missing = [p for p in (path, *path.parents) if not p.exists()]
  path.mkdir(parents=True, exist_ok=True)
  for made in missing:
    with contextlib.suppress(PermissionError):  # one may pass through, but not list it
      sync(made.parent)


def _clear(parent: Path, prefix: str) -> None:
  """Deletes folders whose owners are dead."""
  for entry in os.scandir(parent):
    if not entry.name.startswith(prefix):
      continue
    with contextlib.suppress(OSError):  # it has gone, or is another user's
      handle = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
      try:
        if _lock(handle, wait=False):
          shutil.rmtree(entry.path, ignore_errors=True)
      finally:
        os.close(handle)


def _claim(parent: Path, prefix: str, mode: int) -> tuple[Path, int]:
  """A new folder, and the open file that holds its lock."""
  while True:
    path = parent / f'{prefix}{uuid.uuid4().hex[:12]}'
    path.mkdir(mode)
    with contextlib.suppress(FileNotFoundError):
      handle = os.open(path, os.O_RDONLY)
      _lock(handle, wait=True)
      # Before it had its lock another process may have taken it for a dead one's.
      if path.exists():
        return path, handle
      os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
  """Locks a folder until its file is closed; False if it is locked, or has no locks."""
  try:
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    return False
  return True


def place(path: Path, data: bytes, what: str) -> None:
  """Writes one file, whole or not at all, and durably; see `staging`."""
  with staging(path.parent, what) as part:
    whole = part / path.name
    whole.write_bytes(data)
    sync(whole)
    whole.replace(path)
    sync(path.parent)


def no_space(
  error: OSError,
  folder: Path,
  what: str,
  need: int | Callable[[], int],
  variable: str = 'SEQLAB_CACHE',
) -> OSError:
  """The error of a full disk, or of a user's share of it, that says what to do."""
  size = (need() if callable(need) else need) / 2**20
  much = f': {size:,.1f} MiB are needed' if size else ''
  return OSError(
    error.errno,
    f'no space left for {what}{much}; free some, or set {variable} to a folder on '
    'another disk',
    str(folder),
  )


def _explained(
  error: OSError, folder: Path, what: str, variable: str = 'SEQLAB_CACHE'
) -> OSError:
  """The same, with advice if the folder cannot be used by this user."""
  if error.errno in _REFUSED:
    return OSError(
      error.errno,
      f'{what} cannot be read or written here by this user '
      f'({os.strerror(error.errno)}); ask the owner of the folder for access, or set '
      f'{variable} to a folder of your own',
      str(folder),
    )
  if error.errno in _NO_FOLDER:
    return OSError(
      error.errno,
      f'{what} cannot be kept: there is a file where a folder is needed; delete it, or '
      f'set {variable} to a folder',
      str(next((p for p in (folder, *folder.parents) if p.is_file()), folder)),
    )
  return error


def _discard(folder: Path, still_damaged: Callable[[], bool], why: str, what: str):
  """Takes a damaged entry away; processes that use its files keep them."""
  handle = os.open(folder.parent, os.O_RDONLY)
  try:
    _lock(handle, wait=True)  # two that saw the damage do not delete what one rebuilt
    if not still_damaged():
      return
    away = folder.with_name(f'.part-{uuid.uuid4().hex[:12]}')
    folder.rename(away)
  except FileNotFoundError:
    return
  except OSError as error:
    raise OSError(
      error.errno,
      f'{what} in the cache: the folder {why}, and this user cannot replace it '
      f'({os.strerror(error.errno)}); have it deleted, or set SEQLAB_CACHE to a folder '
      'of your own',
      str(folder),
    ) from None
  finally:
    os.close(handle)
  say(f'{what} in the cache: {folder} {why}; it is built again')
  shutil.rmtree(away, ignore_errors=True)


def say(text: str) -> None:
  """Prints a line on standard error."""
  print(f'seqlab: {text}', file=sys.stderr, flush=True)
