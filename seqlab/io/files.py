"""Durable files: whole on the disk or absent, after a kill and after a power cut."""

from collections.abc import Iterator
import contextlib
import errno
import json
import os
from pathlib import Path
import re
from typing import Any
import uuid

_OPEN_FILE = re.compile(r'/proc/[^/]+/fd/\d+')
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # the disk's, or this user's share of it


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Gives a temporary path, whose file becomes `path` if the block succeeds.

  A reader sees the old file or the new one, never a part. The data reaches the disk
  before the new name does: without that order ext4 and XFS may keep the name of an
  empty file after a power cut.

  Args:
    path: the file to write. Its folder must exist.

  Yields:
    A path in the same folder, to be written and closed inside the block.
  """
  given, path = str(path), Path(path)
  final = path.resolve()  # a link stays, and what it names is replaced
  # A device, a pipe or an open file is written to and not replaced. A path that begins
  # in /proc may lead to a folder on the disk, as that of a run's checkpoints does.
  is_open = given.startswith('/dev/') or _OPEN_FILE.fullmatch(given)
  special = is_open or str(final).startswith(('/dev/', '/proc/'))
  if special or (path.exists() and not path.is_file()):
    yield path
    return
  path = final
  temporary = path.with_name(f'.part-{uuid.uuid4().hex[:12]}')  # short, whatever `path`
  try:
    yield temporary
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


def check_output(path: str | os.PathLike, option: str = '--output') -> None:
  """Raises an error, before long work, if a file could not be written. Makes its folder.

  Args:
    path: the file.
    option: what messages call it.

  Raises:
    OSError: it is a folder, or one may not write there.
  """
  path = Path(path)
  if path.is_dir():
    raise IsADirectoryError(f'{option} {path} is a folder: name a file in it')
  path.parent.mkdir(parents=True, exist_ok=True)
  if not os.access(path if path.exists() else path.parent, os.W_OK):
    raise PermissionError(f'{option} {path} cannot be written: name another place')


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file, whole or not at all, and durably; see `replacing`."""
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text in UTF-8, whole or not at all, and durably; see `replacing`."""
  write_bytes(path, text.encode('utf-8'))


def append_line(path: str | os.PathLike, line: str) -> None:
  """Adds a line to a text file in UTF-8, durably.

  A last line that was cut off, say by a power cut, is ended first, so that it does not
  spoil this one.
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


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a file that holds a JSON object.

  Raises:
    ValueError: it holds something else, and the message begins with its path.
    OSError: it cannot be read.
  """
  try:
    found = json.loads(Path(path).read_bytes().decode('utf-8'))
  except (ValueError, RecursionError) as error:
    reason = str(error) if Path(path).stat().st_size else 'the file is empty'
    raise ValueError(f'{path} is damaged, it is no JSON: {reason}') from None
  if not isinstance(found, dict):
    raise ValueError(
      f'{path} is damaged: it holds a JSON {type(found).__name__} and not an object'
    )
  return found


def is_still(path: str | os.PathLike, handle: int) -> bool:
  """Whether a path still names the file or folder that was opened as `handle`."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(handle))
  except (FileNotFoundError, NotADirectoryError):
    return False


def sync(path: str | os.PathLike) -> None:
  """Returns once a file's data, or a folder's list of names, is on the disk."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  except OSError:
    if Path(path).is_file():  # some file systems cannot sync a folder
      raise
  finally:
    os.close(handle)


def sync_tree(folder: str | os.PathLike) -> None:
  """Returns once all files below a folder, and its folders, are on the disk."""
  for root, _, names in os.walk(folder, topdown=False):
    for name in names:
      sync(os.path.join(root, name))
    sync(root)
