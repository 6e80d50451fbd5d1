"""Downloads into the cache, which are either complete or absent."""

import contextlib
import hashlib
import os
from pathlib import Path
import re
import tarfile
from types import SimpleNamespace
import zipfile

import pooch

from seqlab.io.cache import no_space, place, say, staging
from seqlab.io.console import progress_bar
from seqlab.io.files import NO_SPACE, sync
from seqlab.text.lines import DAMAGE, read_bytes


def cache_dir() -> Path:
  """Returns the cache's folder: $SEQLAB_CACHE, or else the user's cache folder.

  Everything in it can be made or downloaded again.

  Raises:
    ValueError: the user has no home folder, or the folder is not on a disk.
  """
  name = os.environ.get('SEQLAB_CACHE')
  if name and '://' in name:
    raise ValueError(
      f'SEQLAB_CACHE is {name}; the cache has to be a folder on a disk of this machine'
    )
  try:
    path = Path(name).expanduser() if name else pooch.os_cache('seqlab')
  except RuntimeError:  # the user of a container may have no home folder
    raise ValueError(
      'the cache has no folder, since there is no home folder: set SEQLAB_CACHE to a '
      'folder, or HOME'
    ) from None
  if str(path).startswith('~'):
    raise ValueError(
      f'the cache has no place, since {path} names no home folder: set SEQLAB_CACHE to '
      'a folder'
    )
  return path.absolute()


class DownloadError(OSError):
  """A file could not be downloaded or copied completely; no part of it is kept."""


def download(
  url: str,
  path: Path,
  *,
  sha256: str | None = None,
  member: str = '',
  archive_of: str = '',
) -> Path:
  """Downloads a text into the cache and unpacks it, atomically.

  A damaged text in the cache is reported on standard error and downloaded again.

  Args:
    url: address of the text, plain or gzipped, or of an archive.
    path: path of the plain text in the cache.
    sha256: digest of the plain text; None uses that of the first download, which is
      stored in a file of the same folder.
    member: name of the text in the archive at `url`; empty if `url` is not an archive.
    archive_of: name of the text whose archive is downloaded; an archive is not
      unpacked.

  Raises:
    DownloadError: it could not be downloaded, or is not the expected text.
    OSError: the cache cannot be written; the message says what to do.
  """
  noted = noted_beside(path)
  known = sha256 or read_digest(noted)
  if path.is_file():
    problem = _problem(path, known, noted)
    if not problem:
      return path
    say(f'{path} in the cache {problem}; it is downloaded again')
  with staging(path.parent, f'the download {path.name}') as part:
    output = part / path.name
    try:
      if member:
        at = path.with_name(url.rpartition('/')[2])
        archive = download(url, at, archive_of=path.name)
        output.write_bytes(_member(archive, member))
      else:
        _get(url, str(output), label=f'downloading {path.name}')
        if not archive_of:
          output.write_bytes(read_bytes(output))
      digest = sha256_of(output)
      if known and digest != known:
        raise ValueError(f'its SHA256 is {digest}, and {known} was expected')
      if not known:
        # Before the text, since a text without a digest could not be verified.
        place(noted, digest.encode(), f'the digest of {path.name}')
      # The bytes reach the disk before the name does, so that a power cut cannot leave
      # a text that is cut short under its final name.
      sync(output)
      output.replace(path)
      sync(path.parent)
    except DownloadError:
      raise
    except (OSError, ValueError, KeyError, *DAMAGE) as error:
      if isinstance(error, OSError) and error.errno in NO_SPACE:
        raise no_space(error, path.parent, f'the download {path.name}', 0) from None
      place_of_own = f'$SEQLAB_DATA/{path.parent.name}/{archive_of or path.name}'
      changed = f'; if it changed on purpose, delete {noted}' if noted.is_file() else ''
      raise DownloadError(
        f'{url} could not be downloaded as {path}: {str(error).rstrip(".")}. Try '
        f'again, or put the text into {place_of_own}{changed}'
      ) from error
  return path


def _problem(path: Path, known: str | None, noted: Path) -> str:
  """Describes the damage of a file in the cache; stores its digest if it is unknown."""
  if known:
    return '' if sha256_of(path) == known else 'is damaged'
  if noted.is_file():
    return 'has a damaged digest'
  if not path.stat().st_size:
    return 'is empty'
  with contextlib.suppress(OSError):  # a cache that may only be read
    place(noted, sha256_of(path).encode(), f'the digest of {path.name}')
  return ''


def noted_beside(path: Path) -> Path:
  """Returns the path of the file that holds the digest of another file."""
  return path.with_name(f'{path.name}.sha256')


def read_digest(path: Path) -> str | None:
  """Returns the digest in a file; None if the file is missing or damaged."""
  try:
    text = path.read_text('utf-8').strip()
  except (FileNotFoundError, UnicodeDecodeError):
    return None
  return text if re.fullmatch('[0-9a-f]{64}', text) else None


def sha256_of(path: Path) -> str:
  """Returns the sha256 of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _get(url: str, output: str, label: str) -> None:
  """Downloads with rich's progress bar, wrapped in the interface of tqdm for pooch."""
  with progress_bar() as progress:
    task = progress.add_task(label, total=None)
    bar = SimpleNamespace(
      total=0,
      update=lambda n: progress.update(task, total=bar.total or None, advance=n),
      reset=lambda: progress.reset(task),
      close=lambda: None,
    )
    agent = {'User-Agent': 'seqlab'}  # manythings.org refuses the default of requests
    pooch.HTTPDownloader(bar, chunk_size=1 << 16, headers=agent)(url, output, None)


def _member(archive: Path, name: str) -> bytes:
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as opened:
      return opened.read(name)
  with tarfile.open(archive) as opened:
    return opened.extractfile(name).read()
