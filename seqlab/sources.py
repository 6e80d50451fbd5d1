"""A digest of all code that this process may run, as its files are."""

from collections.abc import Iterable
import functools
import hashlib
import os
from pathlib import Path
import re
import sys
import sysconfig
import time

_PACKAGE = Path(__file__).parent
_IMPORTED = time.time()
_STDLIB = f'{sysconfig.get_path("stdlib")}{os.sep}'
_INSTALLED = re.compile(r'[/\\](site|dist)-packages[/\\]')
_experiment_files: set[Path] = set()


def note_source(path: Path) -> None:
  """Adds a file whose code this process runs, and which is no module."""
  _experiment_files.add(path.resolve())


def code_digest() -> str | None:
  """Returns a digest of all code that may be traced; None if it cannot be known."""
  own, installed = _own_code(), _installed()
  if own is None or installed is None:
    return None
  others = _digest(sorted({*_experiment_files, *_users_files()}))
  return None if others is None else repr((own, installed, others))


@functools.cache
def _started() -> float:
  """Returns the time at which this process started, or one shortly after it."""
  try:
    fields = Path('/proc/self/stat').read_text('utf-8').rpartition(')')[2].split()
    since_boot = int(fields[19]) / os.sysconf('SC_CLK_TCK')
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
  except (OSError, AttributeError, ValueError):
    return _IMPORTED


def _own_code() -> str | None:
  return _digest(sorted(_PACKAGE.rglob('*.py')))


def _digest(files: Iterable[Path]) -> str | None:
  """Returns a digest of files; None if one has changed since this process started."""
  digest = hashlib.sha256()
  for file in files:
    try:
      if file.stat().st_mtime > _started():  # this process may run older code
        return None
      content = file.read_bytes()
    except OSError:
      return None
    digest.update(f'{file}\0{len(content)}\0'.encode())
    digest.update(content)
  return digest.hexdigest()


def _installed() -> list[tuple[str, int]] | None:
  """Returns the installed packages: names with versions, and times of installation.

  It is None if one was installed since this process started, which may run older code.
  """
  folders = [Path(folder) for folder in sys.path if Path(folder).is_dir()]
  packages = sorted(
    (entry.name, entry.stat().st_mtime_ns)
    for folder in folders
    for entry in os.scandir(folder)
    if entry.name.endswith(('.dist-info', '.egg-info', '.egg-link', '.pth'))
  )
  newest = max((time_ns for _, time_ns in packages), default=0)
  return None if newest > _started() * 1e9 else packages


def _users_files() -> set[Path]:
  """Returns the files of loaded modules outside of installed packages.

  Those beside them are added, since they may be imported while a function is traced.
  """
  files = (getattr(module, '__file__', None) for module in [*sys.modules.values()])
  return {path for file in files if file for path in _with_others(file)}


@functools.cache
def _with_others(file: str) -> frozenset[Path]:
  """Returns a module's file, and the modules of its package or folder.

  There are none for a module that is installed or part of seqlab.
  """
  # By its text, since resolving the links of a thousand paths takes a tenth of a second.
  if file.startswith(_STDLIB) or _INSTALLED.search(file):
    return frozenset()
  path = Path(file).resolve()
  if path.is_relative_to(_PACKAGE.resolve()):
    return frozenset()
  top = path.parent
  while (top / '__init__.py').exists():
    top = top.parent
  if top == path.parent:
    return frozenset({path, *top.glob('*.py')})
  return frozenset({path, *(top / path.relative_to(top).parts[0]).rglob('*.py')})
