"""Files in buckets: gs:// and s3:// paths, through etils and the drivers of fsspec."""

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

  A copy that is damaged is named on standard error and brought again.

  Raises:
    ValueError, RuntimeError: as `remote_path`.
    FileNotFoundError: there is no such file; a folder is none.
    DownloadError: it could not be brought here whole.
    OSError: the cache cannot be written; says what to do.
  """
  if '..' in name.split('/'):  # it would lead out of the cache
    raise ValueError(f"{name}: a path in a bucket may not have '..' as a part")
  path = cache_dir() / 'buckets' / name.replace('://', '/')
  noted = noted_beside(path.with_name(f'.{path.name}'))
  if path.is_file():
    digest = read_digest(noted)
    if digest and sha256_of(path) == digest:
      return path
    problem = 'is damaged' if digest else 'has no digest'
    say(f'{path} in the cache {problem}; it is brought from {name} again')
  remote = remote_path(name)
  with staging(path.parent, f'the copy of {name}') as part:
    output = part / path.name
    try:
      if not remote.exists() or remote.is_dir():
        raise FileNotFoundError(f'there is no file {name}; mend the path')
      remote.copy(output)
      place(noted, sha256_of(output).encode(), f'the digest of {name}')
      sync(output)
      output.replace(path)
      sync(path.parent)
    except FileNotFoundError:
      raise
    except Exception as error:  # each driver has its own kinds
      if isinstance(error, OSError) and error.errno in NO_SPACE:
        raise no_space(error, path.parent, f'the copy of {name}', 0) from None
      raise DownloadError(f'{name} could not be brought to {path}: {error}') from error
  return path
