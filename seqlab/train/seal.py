"""Seals of checkpoints: what says that a folder is whole, and finds what is not.

A seal lists the size and the SHA-256 digest of every file of a folder. It is written
after all files have reached the disk and before the folder gets its final name. So
neither a power cut nor a flipped bit can pass for a checkpoint.
"""

import hashlib
import json
import os
from pathlib import Path
import re

from seqlab.io import files

NAME = 'commit_success.txt'  # Orbax's name for the file that says a folder is whole
# What Orbax writes there by itself: checkpoints that were made before there were seals.
_UNSEALED = re.compile('Checkpoint commit was successful')
_SMALL = 2**16  # bytes; files up to this size are read in a quick check


class DamagedError(ValueError):
  """A checkpoint is not what was written."""


def seal(folder: Path, step: int) -> None:
  """Brings all files of a folder to the disk, and writes their sizes and digests.

  Args:
    folder: the folder of a checkpoint that is written, under any name.
    step: the number of the checkpoint.

  Raises:
    OSError: a file cannot be read, or the seal cannot be written.
  """
  found: dict[str, list] = {}
  for root, folders, names in os.walk(folder, topdown=False):
    for name in sorted(names):
      path = Path(root, name)
      if path == folder / NAME:
        continue
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
      found[path.relative_to(folder).as_posix()] = [size, digest]
    del folders
    files.sync(root)
  content = {'step': step, 'files': found}
  text = json.dumps({**content, 'digest': _digest(content)}, indent=1)
  files.write_text(folder / NAME, f'{text}\n')


def check(folder: Path, *, quick: bool = False) -> bool:
  """Compares a checkpoint's folder with its seal.

  Args:
    folder: the folder, whose name is the step.
    quick: compares only the sizes, and the digests of files up to 64 KiB.

  Returns:
    Whether it has a seal. Checkpoints of versions before there were seals have none:
    of them only those files are checked that must not be empty.

  Raises:
    DamagedError: a file is missing or differs.
    OSError: a file is there and cannot be read.
  """
  text = _read(folder, NAME)
  try:
    if _UNSEALED.match(text.decode('utf-8')):
      _check_unsealed(folder)
      return False
    content = json.loads(text)
    digest = content.pop('digest')
    if digest != _digest(content):
      raise DamagedError(f'{NAME} is damaged')
    listed = {str(n): (int(s), str(d)) for n, (s, d) in content['files'].items()}
    step = str(content['step'])
  except DamagedError:
    raise
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    raise DamagedError(f'{NAME} is damaged') from None
  if step != folder.name:
    raise DamagedError(f'{NAME} is that of step {step}')
  for name, (size, digest) in listed.items():
    _compare(folder, name, size, digest, quick)
  return True


def _compare(folder: Path, name: str, size: int, digest: str, quick: bool) -> None:
  try:
    with (folder / name).open('rb') as file:
      actual = os.fstat(file.fileno()).st_size
      if actual != size:
        raise DamagedError(f'{name} has {actual:,} bytes instead of {size:,}')
      if quick and size > _SMALL:
        return
      if hashlib.file_digest(file, 'sha256').hexdigest() != digest:
        raise DamagedError(f'{name} has other content than was written')
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
    raise DamagedError(f'{name} is missing') from None


def _check_unsealed(folder: Path) -> None:
  """Raises DamagedError if a file of JSON, which Orbax reads first, cannot be read."""
  names = ['_CHECKPOINT_METADATA']
  if (folder / 'metrics').exists():
    names.append('metrics/metrics')
  for name in names:
    try:
      json.loads(_read(folder, name))
    except (ValueError, RecursionError):
      raise DamagedError(f'{name} is damaged') from None


def _read(folder: Path, name: str) -> bytes:
  try:
    return (folder / name).read_bytes()
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
    raise DamagedError(f'{name} is missing') from None


def _digest(content: dict) -> str:
  plain = json.dumps(content, sort_keys=True)
  return hashlib.sha256(plain.encode('utf-8')).hexdigest()
