"""Plain names for folders, which no library interprets.

Orbax finds files by a glob pattern made of the whole path, so `[`, `*` and `?` in it
match other folders; TensorStore reads `\\` as `/` and refuses `..`; etils takes /gs/x
for a bucket. TensorStore also creates a removed folder again. A folder is therefore
opened once and is then named /proc/self/fd/N, which always refers to the open folder.
"""

import os
from pathlib import Path
import re
import tempfile

from seqlab.io.files import is_still

# A path that every library takes literally. It is shorter than the system's limit,
# because names are added to it.
_PLAIN = re.compile(r'/(?!(?:gs|s3|az|hf)(?:/|$))[A-Za-z0-9_./-]{0,2000}')
_OPEN_FILES = '/proc/self/fd'


class PlainFolder:
  """A folder of this machine, kept open, with a name that no library interprets.

  Attributes:
    path: the plain name. Without /proc it is the folder's path if that is plain, or
      otherwise a link to it.
  """

  def __init__(self, folder: Path):
    """Opens the folder, whose path is absolute.

    Raises:
      OSError: it does not exist, or is not a folder.
    """
    self._folder, self._link = folder, None
    self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if os.path.isdir(f'{_OPEN_FILES}/{self._handle}'):
      self.path = Path(_OPEN_FILES, str(self._handle))
    elif is_plain(folder):
      self.path = folder
    else:
      self.path = self._make_link()

  def _make_link(self) -> Path:
    """Makes a symbolic link, for systems without /proc."""
    self._link = Path(tempfile.mkdtemp(prefix='seqlab-'))
    link = self._link / 'folder'
    if not is_plain(link):
      raise ValueError(
        f'{self._folder} has characters in its name that Orbax and TensorStore '
        f'interpret, and so has the temporary folder {link}: set TMPDIR to a folder '
        'whose path has only letters, digits and _ . / -'
      )
    link.symlink_to(self._folder)
    return link

  def check(self) -> None:
    """Raises FileNotFoundError if the path no longer names the open folder."""
    if not is_still(self._folder, self._handle):
      raise FileNotFoundError(
        f'{self._folder} was removed, renamed or replaced while the run was using it: '
        'further files would be lost. Put the folder back, or start the run again'
      )

  def close(self) -> None:
    """Closes the folder; `path` is then the folder's original path."""
    self.path = self._folder
    if self._handle is not None:
      os.close(self._handle)
    self._handle = None
    if self._link:
      (self._link / 'folder').unlink(missing_ok=True)
      self._link.rmdir()
      self._link = None


def is_plain(path: str | os.PathLike) -> bool:
  """Returns whether every library takes an absolute path literally."""
  name = os.fspath(path)
  return bool(_PLAIN.fullmatch(name)) and '..' not in name.split('/')
