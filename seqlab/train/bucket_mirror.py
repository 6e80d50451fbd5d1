"""A run's folder in a bucket, mirrored by a folder on this machine's disk.

Object stores cannot append to a file. So a run writes its files on the disk, and at
each checkpoint those that changed are uploaded whole.
"""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil
import tempfile
import weakref

from etils import epath

from seqlab.text.remote import remote_path

# Folders that only grow, and that are never read here again: they are not downloaded.
_APPEND_ONLY = ('events', 'samples', 'logs', 'profile')


class BucketMirror:
  """Keeps a folder of a bucket and a temporary folder of this process equal.

  Attributes:
    remote: the folder in the bucket.
    path: the folder on disk.
    direct: whether checkpoints are written straight to the bucket. Orbax can write to
      gs://, also from several processes together; to other stores checkpoints are
      written on the disk first.
    checkpoints: the folder that checkpoints are written to.
  """

  def __init__(self, name: str):
    """Makes the folder on disk; nothing is downloaded yet.

    Raises:
      ValueError, RuntimeError: as `remote_path`.
    """
    self.remote = remote_path(name)
    self.path = Path(tempfile.mkdtemp(prefix='seqlab-'))
    weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
    self.direct = name.startswith('gs://')
    folder = self.remote if self.direct else self.path
    self.checkpoints = folder / 'checkpoints'
    # Name of a file -> its size and time when the two folders had the same content.
    self._uploaded: dict[str, tuple[int, int]] = {}

  def download(self) -> None:
    """Copies what a run needs to resume, or to be used, from the bucket to the disk."""
    excluded = _APPEND_ONLY + (('checkpoints',) if self.direct else ())
    with self._explain_errors():
      for remote_file in _files(self.remote, excluded) if self.remote.is_dir() else ():
        name = remote_file.relative_to(self.remote).as_posix()
        local_file = self.path / name
        local_file.parent.mkdir(parents=True, exist_ok=True)
        remote_file.copy(local_file, overwrite=True)
        self._uploaded[name] = _size_and_time(local_file)

  def upload(self) -> None:
    """Copies new and changed files to the bucket; deletes those deleted here."""
    local_files = {p.relative_to(self.path).as_posix(): p for p in self._local_files()}
    with self._explain_errors():
      for name, path in local_files.items():
        state = _size_and_time(path)
        if self._uploaded.get(name) != state:
          remote_file = self.remote / name
          remote_file.parent.mkdir(parents=True, exist_ok=True)
          epath.Path(path).copy(remote_file, overwrite=True)
          self._uploaded[name] = state
      for name in [name for name in self._uploaded if name not in local_files]:
        (self.remote / name).unlink(missing_ok=True)
        del self._uploaded[name]

  @contextlib.contextmanager
  def _explain_errors(self) -> Iterator[None]:
    """Turns any error of a bucket's driver into an OSError that names the bucket."""
    try:
      yield
    except Exception as error:
      raise OSError(f'{self.remote}: {str(error) or type(error).__name__}') from error

  def _local_files(self) -> Iterator[Path]:
    """Yields files on disk, except unfinished ones and those of this machine only."""
    for folder, folders, files in os.walk(self.path):
      folders[:] = [name for name in folders if '.orbax-checkpoint-tmp' not in name]
      if Path(folder) == self.path:
        files = [name for name in files if not name.startswith('.')]
      yield from (Path(folder, name) for name in files)


def _files(folder: epath.Path, excluded: tuple[str, ...] = ()) -> Iterator[epath.Path]:
  for path in folder.iterdir():
    if path == folder or path.name in excluded:  # some stores list the folder itself
      continue
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _size_and_time(path: Path) -> tuple[int, int]:
  stat = path.stat()
  return stat.st_size, stat.st_mtime_ns
