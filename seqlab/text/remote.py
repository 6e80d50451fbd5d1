"""Files in buckets: gs:// and s3:// paths, by etils and the drivers of fsspec."""

from collections.abc import Iterator
import contextlib
import importlib.util
import os
from pathlib import Path

from etils import epath
import fsspec

from seqlab.io.cache import no_space, place, say, staging
from seqlab.io.files import NO_SPACE, sync
from seqlab.text.download import (
  DownloadError,
  cache_dir,
  noted_beside,
  read_digest,
  sha256_of,
)

# Prefix -> the driver's package, and the name of the file system in fsspec.
_DRIVERS = {'gs': ('gcsfs', 'gcs'), 's3': ('s3fs', 's3')}


def is_remote(path: str | os.PathLike) -> bool:
  """Returns whether a path is in a bucket, such as gs://mine/run."""
  return '://' in os.fspath(path)


def remote_path(name: str | os.PathLike) -> epath.Path:
  """Returns the path of a file or folder in a bucket, which need not exist.

  Raises:
    ValueError: the name is not that of a path in a bucket.
    RuntimeError: the package that reads such names is not installed.
  """
  name = os.fspath(name)
  prefix, _, rest = name.partition('://')
  if prefix not in _DRIVERS or not rest.strip('/'):
    raise ValueError(
      f'{name}: a path that is not on a disk should be written '
      f'{" or ".join(f"{known}://bucket/path" for known in _DRIVERS)}'
    )
  package, system = _DRIVERS[prefix]
  registered = system in fsspec.registry  # a driver of another package may be
  if not registered and importlib.util.find_spec(package) is None:
    raise RuntimeError(f'{name} needs the package {package}: pip install {package}')
  # Without this, listings would be stale: other programs write to the bucket, too, and
  # so does tensorstore in this process.
  fsspec.config.conf.setdefault(system, {}).setdefault('use_listings_cache', False)
  return epath.Path(name.rstrip('/'))


def fetch(name: str, *, newest: bool = False) -> Path:
  """Returns the path of a bucket's file in the cache, after copying it there once.

  A damaged copy is reported on standard error and copied again.

  Args:
    name: name of the file.
    newest: whether a copy is made again if the file in the bucket is newer, or has
      another size.

  Raises:
    ValueError, RuntimeError: as `remote_path`.
    FileNotFoundError: there is no such file, or the path is a folder.
    DownloadError: the file could not be copied completely.
    OSError: the cache cannot be written; the message says what to do.
  """
  if '..' in name.split('/'):  # the copy could then be outside the cache
    raise ValueError(f"{name}: a path in a bucket may not have '..' as a part")
  path = cache_dir() / 'buckets' / name.replace('://', '/')
  noted = noted_beside(path.with_name(f'.{path.name}'))
  if newest and path.is_file() and _has_changed(name, path):
    path.unlink()
  if path.is_file():
    digest = read_digest(noted)
    if digest and sha256_of(path) == digest:
      return path
    problem = 'is damaged' if digest else 'has no digest'
    say(f'{path} in the cache {problem}; it is copied from {name} again')
  remote = remote_path(name)
  with staging(path.parent, f'the copy of {name}') as part:
    output = part / path.name
    try:
      if not remote.exists() or remote.is_dir():
        raise FileNotFoundError(f'there is no file {name}; correct the path')
      remote.copy(output)
      # Before the copy, since a copy without a digest counts as damaged.
      place(noted, sha256_of(output).encode(), f'the digest of {name}')
      sync(output)
      output.replace(path)
      sync(path.parent)
    except FileNotFoundError:
      raise
    except Exception as error:  # each driver has different exceptions
      if isinstance(error, OSError) and error.errno in NO_SPACE:
        raise no_space(error, path.parent, f'the copy of {name}', 0) from None
      raise DownloadError(f'{name} could not be copied to {path}: {error}') from error
  return path


def exists(name: str, *, folder: bool = False) -> bool:
  """Returns whether there is a file, or a folder, with this name in a bucket.

  Raises:
    ValueError, RuntimeError: as `remote_path`.
    OSError: the bucket cannot be asked.
  """
  remote = remote_path(name)
  with _named(name):
    return remote.is_dir() if folder else remote.exists() and not remote.is_dir()


def _has_changed(name: str, copy: Path) -> bool:
  """Returns whether a file in a bucket differs from its copy in size or is newer."""
  remote = remote_path(name)
  with _named(name):
    if not remote.exists():
      raise FileNotFoundError(f'there is no file {name} any more; correct the path')
    state, own = remote.stat(), copy.stat()
  return state.length != own.st_size or state.mtime > own.st_mtime


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
  """Turns any error of a bucket's driver into an OSError that names the file."""
  try:
    yield
  except FileNotFoundError:
    raise
  except Exception as error:  # each driver has different exceptions
    raise OSError(f'{name}: {str(error) or type(error).__name__}') from error
