"""Durable files: complete or absent, even after a kill or a power cut."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import json
import os
from pathlib import Path
import re
from typing import Any
import uuid

_OPEN_FILE = re.compile(r'/proc/[^/]+/fd/\d+')
UNFINISHED = '.part-'  # with which names of temporary files begin
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # the disk is full, or the quota exhausted


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a temporary path, whose file replaces `path` if the block succeeds.

  A reader sees the complete old file or the complete new one. The data reach the disk
  before the new name does; otherwise ext4 and XFS may leave an empty file after a power
  cut.

  Args:
    path: path of the file to write. Its folder must exist.

  Yields:
    A path in the same folder; the file must be written and closed inside the block.
  """
  given, path = str(path), Path(path)
  final = path.resolve()  # a link is kept, and its target is replaced
  # A device, a pipe or an open file is written and not replaced. A path in /proc may
  # lead to a folder on the disk, like the path of a run's checkpoints.
  is_open = _is_device(given) or _OPEN_FILE.fullmatch(given)
  special = is_open or _is_device(str(final)) or str(final).startswith('/proc/')
  if special or (path.exists() and not path.is_file()):
    yield path
    return
  path = final
  # Short, because the name of `path` may already have the maximum length.
  temporary = path.with_name(f'{UNFINISHED}{uuid.uuid4().hex[:12]}')
  try:
    yield temporary
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


def _is_device(path: str) -> bool:
  # /dev/shm is a file system in memory, whose files are like those on a disk.
  return path.startswith('/dev/') and not path.startswith('/dev/shm/')


def check_output(path: str | os.PathLike, option: str = '--output') -> None:
  """Makes a file's folder, and raises an error if the file cannot be written.

  It is called before long work whose result the file will hold.

  Args:
    path: path of the file.
    option: name of the command's option, for messages.

  Raises:
    OSError: the path is a folder, or this user may not write there.
  """
  path = Path(path)
  if path.is_dir():
    raise IsADirectoryError(f'{option} {path} is a folder: name a file in it')
  path.parent.mkdir(parents=True, exist_ok=True)
  if not os.access(path if path.exists() else path.parent, os.W_OK):
    raise PermissionError(f'{option} {path} cannot be written: name another path')


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file atomically and durably; see `replacing`."""
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text in UTF-8, atomically and durably; see `replacing`."""
  write_bytes(path, text.encode('utf-8'))


def append_line(path: str | os.PathLike, line: str) -> None:
  """Adds a line to a text file in UTF-8, durably.

  If the last line has no end, for example after a power cut, a line end is written
  first.
  """
  with open(path, 'ab+') as file:
    file.seek(0, os.SEEK_END)
    if file.tell():
      file.seek(-1, os.SEEK_END)
      if file.read(1) != b'\n':
        file.write(b'\n')
    file.write(f'{line}\n'.encode())
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def locked(path: str | os.PathLike, refusal: str) -> Iterator[None]:
  """Keeps other processes out of the same block for the same file, which is made.

  The system releases the lock when this process ends, also if it is killed.

  Args:
    path: path of a file whose content does not matter.
    refusal: message if another process holds the lock.

  Raises:
    RuntimeError: another process holds the lock.
  """
  with open(path, 'w', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise RuntimeError(refusal) from None
    yield


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a file that holds a JSON object.

  Raises:
    ValueError: the file holds something else; the message begins with its path.
    OSError: it cannot be read.
  """
  try:
    value = json.loads(Path(path).read_bytes().decode('utf-8'))
  except (ValueError, RecursionError) as error:
    reason = str(error) if Path(path).stat().st_size else 'the file is empty'
    raise ValueError(f'{path} is damaged, it is not JSON: {reason}') from None
  if not isinstance(value, dict):
    raise ValueError(
      f'{path} is damaged: it holds a JSON {type(value).__name__} and not an object'
    )
  return value


def is_still(path: str | os.PathLike, handle: int) -> bool:
  """Returns whether a path still names the file or folder opened as `handle`."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(handle))
  except (FileNotFoundError, NotADirectoryError):
    return False


def sync(path: str | os.PathLike) -> None:
  """Waits until a file's data, or a folder's list of names, are on the disk."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  except OSError:
    if Path(path).is_file():  # some file systems cannot sync a folder
      raise
  finally:
    os.close(handle)


def sync_tree(folder: str | os.PathLike) -> None:
  """Waits until all files and folders below a folder are on the disk."""
  for root, _, names in os.walk(folder, topdown=False):
    for name in names:
      sync(os.path.join(root, name))
    sync(root)
