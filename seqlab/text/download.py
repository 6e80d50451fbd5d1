"""Downloads that are whole or not there at all."""

import os
from pathlib import Path
import tarfile
from types import SimpleNamespace
import zipfile

import pooch

from seqlab.io.console import progress_bar
from seqlab.io.files import sync, write_text
from seqlab.text.lines import DAMAGE, read_bytes


def cache_dir() -> Path:
  """Folder of what can be made or downloaded again: $SEQLAB_CACHE, or the user's."""
  return Path(os.environ.get('SEQLAB_CACHE') or pooch.os_cache('seqlab'))


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

  `member` is its name in the archive at `url`, if that is one. `sha256` is that of
  the plain text; None checks against what the first download had. With `archive_of`,
  the archive itself is brought, for the sake of that text.
  """
  noted = path.with_name(f'{path.name}.sha256')
  known = sha256 or (noted.read_text('utf-8') if noted.is_file() else None)

  def bring(url: str, output: str, _) -> None:
    if member:
      at = path.with_name(url.rpartition('/')[2])
      archive = download(url, at, archive_of=path.name)
      Path(output).write_bytes(_member(archive, member))
    else:
      _get(url, output, label=f'downloading {path.name}')
      if not archive_of:
        Path(output).write_bytes(read_bytes(Path(output)))
    sync(output)  # before pooch gives the file its name

  try:
    pooch.get_logger().setLevel('WARNING')
    pooch.retrieve(url, known, path.name, path.parent, downloader=bring)
  except DownloadError:
    raise
  except (OSError, ValueError, KeyError, *DAMAGE) as error:
    own = f'$SEQLAB_DATA/{path.parent.name}/{archive_of or path.name}'
    changed = f'; if it changed on purpose, delete {noted}' if noted.is_file() else ''
    raise DownloadError(
      f'{url} could not be downloaded as {path}: {str(error).rstrip(".")}. Try again, '
      f'or lay the text into {own}{changed}'
    ) from error
  if not known:
    write_text(noted, pooch.file_hash(str(path)))
  return path


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
