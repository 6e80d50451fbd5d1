"""A run's folder in a bucket, and the folder on this machine's disk that stands for it.

Object stores cannot append to a file. So what a run writes is written here, and sent
at each checkpoint, whole, where it changed.
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

# Folders that are only ever added to, and that nothing here reads again.
_ADDED_TO = ('events', 'samples', 'logs')


class Spool:
  """Keeps a folder of a bucket and one of this process alike; ends with the process.

  Attributes:
    remote: the folder in the bucket.
    path: the one on disk.
    checkpoints: where they are: orbax writes straight to gs://, which several
      processes can do together; to anything else they go by way of the disk.
  """

  def __init__(self, name: str):
    """Raises ValueError and RuntimeError as `remote_path`."""
    self.remote = remote_path(name)
    self.path = Path(tempfile.mkdtemp(prefix='seqlab-'))
    weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
    self.direct = name.startswith('gs://')
    folder = self.remote if self.direct else self.path
    self.checkpoints = folder / 'checkpoints'
    self._sent: dict[str, tuple[int, int]] = {}  # name -> size and time when it was

  def receive(self) -> None:
    """Brings here what a run goes on from, and what is needed to use it."""
    left_out = _ADDED_TO + (('checkpoints',) if self.direct else ())
    with self._said():
      for there in _files(self.remote, left_out) if self.remote.is_dir() else ():
        name = there.relative_to(self.remote).as_posix()
        here = self.path / name
        here.parent.mkdir(parents=True, exist_ok=True)
        there.copy(here, overwrite=True)
        self._sent[name] = _state(here)

  def send(self) -> None:
    """Brings there what is new here, and takes away what is no longer here."""
    here = {p.relative_to(self.path).as_posix(): p for p in self._here()}
    with self._said():
      for name, path in here.items():
        state = _state(path)
        if self._sent.get(name) != state:
          there = self.remote / name
          there.parent.mkdir(parents=True, exist_ok=True)
          epath.Path(path).copy(there, overwrite=True)
          self._sent[name] = state
      for name in [name for name in self._sent if name not in here]:
        (self.remote / name).unlink(missing_ok=True)
        del self._sent[name]

  @contextlib.contextmanager
  def _said(self) -> Iterator[None]:
    """Makes whatever a bucket's driver raises an OSError that names the bucket."""
    try:
      yield
    except Exception as error:
      raise OSError(f'{self.remote}: {str(error) or type(error).__name__}') from error

  def _here(self) -> Iterator[Path]:
    """The files on disk, but those that are not whole yet or for this machine only."""
    for folder, folders, files in os.walk(self.path):
      folders[:] = [name for name in folders if '.orbax-checkpoint-tmp' not in name]
      if Path(folder) == self.path:
        files = [name for name in files if not name.startswith('.')]
      yield from (Path(folder, name) for name in files)


def _files(folder: epath.Path, left_out: tuple[str, ...] = ()) -> Iterator[epath.Path]:
  for path in folder.iterdir():
    if path == folder or path.name in left_out:  # some stores list the folder itself
      continue
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _state(path: Path) -> tuple[int, int]:
  stat = path.stat()
  return stat.st_size, stat.st_mtime_ns
