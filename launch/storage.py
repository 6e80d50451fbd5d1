"""Where Optuna keeps a search: a file in the study's folder, or a database by URL.

A server's trials show every `BEAT` seconds that they run, by Optuna's heartbeats, and are
taken for dead after `GRACE` seconds without one.
"""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import re
import time
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial
from sqlalchemy import exc

# Seconds. Of a server's trials: between two signs of life, and without one until a trial
# is taken for dead; that a server may be away; between two looks at it.
BEAT, GRACE, PATIENCE, LOOK = 30, 150, 900.0, 3.0
STORAGE_ERRORS = (StorageInternalError, exc.SQLAlchemyError)
_JOURNAL = 'search.journal'


def open_storage(
  url: str | None, folder: Path, dead: Callable[[optuna.Study, FrozenTrial], None]
) -> optuna.storages.BaseStorage:
  """Opens a storage, or makes it.

  Args:
    url: of a database; None for a file, which nobody else may use meanwhile.
    folder: of the study, for the file.
    dead: called with each trial of a server's that was taken for dead.

  Raises:
    ValueError: the URL is none.
    RuntimeError: the driver of such a database is not installed.
    OSError: it cannot be reached.
  """
  if url is None:
    return _open_file((folder / _JOURNAL).absolute())
  if '://' not in url:
    raise ValueError(
      f'--storage {url} is no URL: write postgresql://USER@HOST/DATABASE, or leave it '
      f'out for a file in the folder of the study'
    )
  # Of the drivers for PostgreSQL it is psycopg 3 that is installed.
  url = re.sub(r'^postgres(ql)?://', 'postgresql+psycopg://', url)
  for more in (3, 2, 1, 0):
    try:
      with storage_fails(url), as_meant():
        return RDBStorage(
          url,
          engine_kwargs=dict(pool_pre_ping=True),
          heartbeat_interval=BEAT,
          grace_period=GRACE,
          heartbeat_stale_trial_callback=dead,
        )
    except ImportError as error:
      raise RuntimeError(
        f'--storage {hidden(url)} needs a driver that is not installed '
        f"({error.__cause__ or error}); for PostgreSQL: pip install 'seqlab[launch]'"
      ) from None
    except (exc.ArgumentError, ValueError) as error:
      raise ValueError(
        f'--storage {hidden(url)} is no URL of a database ({first_line(error)}): '
        f'write postgresql://USER@HOST/DATABASE'
      ) from None
    except Collided:
      if not more:
        raise
      time.sleep(1)  # two sweeps made the tables at once
  raise AssertionError


def _open_file(path: Path) -> JournalStorage:
  """The study in a file, which nobody else uses now.

  Whoever used it last may have been killed in the middle of a line, or with Optuna's
  lock, which would be waited for.
  """
  path.with_name(f'{path.name}.lock').unlink(missing_ok=True)
  if path.exists() and (whole := path.read_bytes()) and not whole.endswith(b'\n'):
    with open(path, 'r+b') as file:
      file.truncate(whole.rfind(b'\n') + 1)
  return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def as_meant() -> Iterator[None]:
  """Heartbeats are experimental in Optuna, and to be sent by those who ask and tell."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ExperimentalWarning)
    warnings.filterwarnings('ignore', 'Heartbeat of storage is supposed')
    yield


class Away(OSError):  # noqa: N818
  """A server does not answer."""


class Collided(OSError):  # noqa: N818
  """The storage refused something, maybe since another sweep did the same."""


@contextlib.contextmanager
def storage_fails(url: str | None = None) -> Iterator[None]:
  """Says what is wrong with a storage."""
  what = f'--storage {hidden(url)}' if url else 'the storage of the search'
  try:
    yield
  except (StorageInternalError, exc.DBAPIError) as error:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    reason = first_line(getattr(cause, 'orig', cause))
    if isinstance(cause, exc.OperationalError):
      raise Away(
        f'{what} cannot be reached: {reason}. Once the server runs and lets this user '
        f'in, the same command goes on'
      ) from error
    raise Collided(f'{what} failed: {reason}. The same command goes on') from error


def hidden(url: str) -> str:
  """The URL without its password."""
  return re.sub(r'(//[^:/@]*):[^/]*@', r'\1:***@', url)


def first_line(error: BaseException | None) -> str:
  """The first line of a message; those of databases have many."""
  return next(filter(None, map(str.strip, str(error).splitlines())), repr(error))
