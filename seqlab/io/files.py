"""Durable files: whole on the disk or absent, after a kill and after a power cut."""

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import uuid

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
  path = Path(path)
  temporary = path.with_name(f'.part-{uuid.uuid4().hex[:12]}')  # short, whatever `path`
  try:
    yield temporary
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
  finally:
    temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file, whole or not at all, and durably; see `replacing`."""
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text in UTF-8, whole or not at all, and durably; see `replacing`."""
  write_bytes(path, text.encode('utf-8'))


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
