"""Downloads that are whole or not there at all."""

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
  """Folder of what can be made or downloaded again: $SEQLAB_CACHE, or the user's.

  Raises:
    ValueError: there is no such folder, or it is not one on a disk.
  """
  name = os.environ.get('SEQLAB_CACHE')
  if name and '://' in name:
    raise ValueError(
      f'SEQLAB_CACHE is {name}; the cache has to be a folder on a disk of this machine'
    )
  try:
    path = Path(name).expanduser() if name else pooch.os_cache('seqlab')
  except RuntimeError:  # a container's user may have no home
    raise ValueError(
      'the cache has no place, since there is no home folder: set SEQLAB_CACHE to a '
      'folder, or HOME'
    ) from None
  if str(path).startswith('~'):
    raise ValueError(
      f'the cache has no place, since {path} names no home folder: set SEQLAB_CACHE to '
      'a folder'
    )
  return path.absolute()


class DownloadError(OSError):
  """A file could not be brought here whole, and nothing of it is left."""


def download(
  url: str,
  path: Path,
  *,
  sha256: str | None = None,
  member: str = '',
  archive_of: str = '',
) -> Path:
  """Brings a text into the cache, plain: whole, or not at all.

  A text that is there and damaged is named on standard error and downloaded again.

  Args:
    url: of the text, plain or gzipped, or of an archive.
    path: where the text shall be.
    sha256: digest of the plain text; None takes that of the first download, which is
      noted beside it.
    member: name of the text in the archive at `url`, if that is one.
    archive_of: name of the text for whose sake an archive is downloaded, as it is.

  Raises:
    DownloadError: it could not be downloaded, or is not the text that was expected.
    OSError: the cache cannot be written; says what to do.
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
      found = sha256_of(output)
      if known and found != known:
        raise ValueError(f'its SHA256 is {found}, and {known} was expected')
      if not known:
        place(noted, found.encode(), f'the digest of {path.name}')
      sync(output)
      output.replace(path)
      sync(path.parent)
    except DownloadError:
      raise
    except (OSError, ValueError, KeyError, *DAMAGE) as error:
      if isinstance(error, OSError) and error.errno in NO_SPACE:
        raise no_space(error, path.parent, f'the download {path.name}', 0) from None
      own = f'$SEQLAB_DATA/{path.parent.name}/{archive_of or path.name}'
      changed = f'; if it changed on purpose, delete {noted}' if noted.is_file() else ''
      raise DownloadError(
        f'{url} could not be downloaded as {path}: {str(error).rstrip(".")}. Try '
        f'again, or lay the text into {own}{changed}'
      ) from error
  return path


def _problem(path: Path, known: str | None, noted: Path) -> str:
  """What is wrong with a file of the cache; its digest is noted if none is known."""
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
  """The file that has the digest of another."""
  return path.with_name(f'{path.name}.sha256')


def read_digest(path: Path) -> str | None:
  """The digest in a file, or None if there is none, or it is damaged."""
  try:
    text = path.read_text('utf-8').strip()
  except (FileNotFoundError, UnicodeDecodeError):
    return None
  return text if re.fullmatch('[0-9a-f]{64}', text) else None


def sha256_of(path: Path) -> str:
  """The digest of a file."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _get(url: str, output: str, label: str) -> None:
  """Downloads with a progress bar of rich, which pooch calls as if it were tqdm."""
  with progress_bar() as progress:
    task = progress.add_task(label, total=None)
    bar = SimpleNamespace(
      total=0,
      update=lambda n: progress.update(task, total=bar.total or None, advance=n),
      reset=lambda: progress.reset(task),
      close=lambda: None,
    )
    agent = {'User-Agent': 'seqlab'}  # manythings.org refuses that of requests
    pooch.HTTPDownloader(bar, chunk_size=1 << 16, headers=agent)(url, output, None)


def _member(archive: Path, name: str) -> bytes:
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as opened:
      return opened.read(name)
  with tarfile.open(archive) as opened:
    return opened.extractfile(name).read()
