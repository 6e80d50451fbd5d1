"""Seals of checkpoints, by which incomplete and damaged folders are recognised.

A seal lists the size and the SHA-256 digest of every file of a folder. It is written
after all files have reached the disk and before the folder gets its final name. A
folder that is incomplete after a power cut, or has a flipped bit, is therefore never
loaded.
"""

from collections.abc import Iterator
import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
import re

from seqlab.io import files

NAME = 'commit_success.txt'  # Orbax's name of the file that marks a complete folder
_DIGESTS = 'digests.json'  # the digests of the files of any other folder
# Orbax's own content of that file, in checkpoints of versions without seals.
_UNSEALED = re.compile('Checkpoint commit was successful')
_SMALL = 2**16  # bytes; files up to this size are read in a quick check
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# Errors of the system or of a network, which do not concern the file. All others, such
# as a bad block, are damage.
_ELSEWHERE = {
  *(errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EINTR),
  *(errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN),
  *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTDOWN),
  errno.EHOSTUNREACH,
}
_BAD_CONTENT = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class DamagedError(ValueError):
  """A checkpoint, or another folder with digests, has changed since it was written."""


def seal(folder: Path, step: int) -> None:
  """Syncs all files of a folder to the disk, and writes their sizes and digests.

  Args:
    folder: the folder of a checkpoint that is written, under any name.
    step: the number of the checkpoint.

  Raises:
    OSError: a file cannot be read, or the seal cannot be written.
  """
  _write(folder, NAME, step)


def check(folder: Path, *, quick: bool = False) -> bool:
  """Compares a checkpoint's folder with its seal.

  Args:
    folder: the folder, whose name is the step.
    quick: compares only the sizes, and the digests of files up to 64 KiB.

  Returns:
    Whether it has a seal. In checkpoints of versions without seals, only
    the files that must not be empty are checked.

  Raises:
    DamagedError: a file is missing or differs.
    OSError: a file exists and cannot be read.
  """
  text = _read(folder, NAME)
  if _UNSEALED.match(text.decode('utf-8', 'replace')):
    _check_unsealed(folder)
    return False
  step, listed = _parse(text, NAME)
  if str(step) != folder.name:
    raise DamagedError(f'{NAME} belongs to step {step}')
  for name, (size, digest) in listed.items():
    _compare(folder, name, size, digest, quick)
  return True


def record_digests(folder: Path) -> None:
  """Syncs all files of a folder to the disk, and adds a file with their digests.

  It does nothing if the folder has digests already, or does not exist.
  """
  if folder.is_dir() and not (folder / _DIGESTS).exists():
    _write(folder, _DIGESTS, None)


def check_digests(folder: Path) -> None:
  """Compares a folder's files with the digests that `record_digests` wrote, if any.

  Deleted files are not reported here, but where they are read.

  Raises:
    DamagedError: a file differs.
    OSError: a file exists and cannot be read.
  """
  if not (folder / _DIGESTS).exists():
    return
  try:
    _, listed = _parse(_read(folder, _DIGESTS), _DIGESTS)
    for name, (size, digest) in listed.items():
      if (folder / name).exists():
        _compare(folder, name, size, digest, quick=False)
  except DamagedError as error:
    raise DamagedError(
      f'{folder}/{error}: it was damaged or changed after the run made it. Restore it '
      f'from a copy, or delete {folder / _DIGESTS} to use the files as they are'
    ) from None


def _write(folder: Path, name: str, step: int | None) -> None:
  listed: dict[str, list] = {}
  for root, _, names in os.walk(folder, topdown=False):
    for path in (Path(root, each) for each in sorted(names)):
      if path == folder / name:
        continue
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
      listed[path.relative_to(folder).as_posix()] = [size, digest]
    files.sync(root)
  content = {'step': step, 'files': listed}
  text = json.dumps({**content, 'digest': _digest(content)}, indent=1)
  files.write_text(folder / name, f'{text}\n')


def _parse(text: bytes, name: str) -> tuple[int | None, dict[str, tuple[int, str]]]:
  """Returns the step, and the size and digest of each file."""
  try:
    content = json.loads(text.decode('utf-8'))
    if content.pop('digest') != _digest(content):
      raise ValueError(name)
    listed = {str(n): (int(s), str(d)) for n, (s, d) in content['files'].items()}
    return content['step'], listed
  except _BAD_CONTENT:
    raise DamagedError(f'{name} is damaged') from None


def _compare(folder: Path, name: str, size: int, digest: str, quick: bool) -> None:
  with _damage(name), (folder / name).open('rb') as file:
    actual = os.fstat(file.fileno()).st_size
    if actual != size:
      raise DamagedError(f'{name} has {actual:,} bytes instead of {size:,}')
    if quick and size > _SMALL:
      return
    if hashlib.file_digest(file, 'sha256').hexdigest() != digest:
      raise DamagedError(f'{name} has changed since it was written')


@contextlib.contextmanager
def _damage(name: str) -> Iterator[None]:
  """Turns errors of a file into a DamagedError; system errors are raised unchanged."""
  try:
    yield
  except _ABSENT:
    raise DamagedError(f'{name} is missing') from None
  except OSError as error:
    if error.errno in _ELSEWHERE:
      raise
    raise DamagedError(f'{name} cannot be read: {error.strerror}') from None


def _check_unsealed(folder: Path) -> None:
  """Raises DamagedError if a JSON file that Orbax reads first is unreadable."""
  names = ['_CHECKPOINT_METADATA']
  if (folder / 'metrics').exists():
    names.append('metrics/metrics')
  for name in names:
    _read(folder, name)
    try:
      files.read_json_object(folder / name)
    except ValueError:
      raise DamagedError(f'{name} is damaged') from None


def _read(folder: Path, name: str) -> bytes:
  with _damage(name):
    return (folder / name).read_bytes()


def _digest(content: dict) -> str:
  plain = json.dumps(content, sort_keys=True)
  return hashlib.sha256(plain.encode('utf-8')).hexdigest()
