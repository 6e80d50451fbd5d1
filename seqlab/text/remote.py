"""Files in buckets: gs:// and s3:// paths, through etils and the drivers of fsspec."""

import importlib.util
import os
from pathlib import Path
import uuid

from etils import epath
import fsspec

from seqlab.io.files import sync
from seqlab.text.download import DownloadError, cache_dir

# Prefix -> the driver's package, which is also what fsspec calls the file system.
_DRIVERS = {'gs': ('gcsfs', 'gcs'), 's3': ('s3fs', 's3')}


def is_remote(path: str | os.PathLike) -> bool:
  """Whether it names something in a bucket, such as gs://mine/run."""
  return '://' in os.fspath(path)


def remote_path(name: str | os.PathLike) -> epath.Path:
  """What lies in a bucket under this name, or may lie there.

  Raises:
    ValueError: no bucket has such names.
    RuntimeError: the package that reads such names is not installed.
  """
  name = os.fspath(name)
  prefix, _, rest = name.partition('://')
  if prefix not in _DRIVERS or not rest.strip('/'):
    raise ValueError(
      f'{name}: what is not on a disk should be written '
      f'{" or ".join(f"{known}://bucket/path" for known in _DRIVERS)}'
    )
  package, system = _DRIVERS[prefix]
  known = system in fsspec.registry  # by whom it may be
  if not known and importlib.util.find_spec(package) is None:
    raise RuntimeError(f'{name} needs the package {package}: pip install {package}')
  # Others write there too, tensorstore in this process among them.
  fsspec.config.conf.setdefault(system, {}).setdefault('use_listings_cache', False)
  return epath.Path(name.rstrip('/'))


def fetch(name: str) -> Path:
  """A file of a bucket in the cache, brought there the first time it is asked for.

  Raises:
    ValueError, RuntimeError: as `remote_path`.
    FileNotFoundError: there is no such file; a folder is none.
    DownloadError: it could not be brought here whole.
  """
  path = cache_dir() / 'buckets' / name.replace('://', '/')
  if path.is_file():
    return path
  remote = remote_path(name)
  part = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
  try:
    if not remote.exists() or remote.is_dir():
      raise FileNotFoundError(f'there is no file {name}; mend the path')
    path.parent.mkdir(parents=True, exist_ok=True)
    remote.copy(part)
    sync(part)
    part.replace(path)
    sync(path.parent)
  except FileNotFoundError:
    raise
  except Exception as error:  # each driver has its own kinds
    raise DownloadError(f'{name} could not be brought to {path}: {error}') from error
  finally:
    part.unlink(missing_ok=True)
  return path
