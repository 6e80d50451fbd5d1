"""Where Optuna keeps a search: a file in the study's folder, or a database by URL.

A server's trials show every `BEAT` seconds that they run, by Optuna's heartbeats, and are
taken for dead after `GRACE` seconds without one.
"""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import re
import time
from urllib.parse import quote_plus
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from seqlab.io.secrets import (
  HIDDEN,
  hide_url,
  keep_secret,
  parameter_secrets,
  scrub,
  shown_parameter,
)

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
    ValueError: the URL is not a valid one.
    RuntimeError: the driver of such a database is not installed.
    OSError: it cannot be reached.
  """
  if url is None:
    return _open_file((folder / _JOURNAL).absolute())
  url = checked_url(url)
  for more in (3, 2, 1, 0):
    try:
      with storage_fails(url), as_meant():
        warnings.simplefilter('error', exc.SAWarning)  # parameters that mean nothing
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
        f'({scrub(str(error.__cause__ or error))}); for PostgreSQL: pip install '
        f"'seqlab[launch]'"
      ) from None
    except (exc.ArgumentError, exc.SAWarning, ValueError, TypeError) as error:
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


def checked_url(url: str) -> str:
  """Returns the URL as Optuna gets it; from then on no message shows its secrets.

  Raises:
    ValueError: it is not a URL, or leaves in doubt where its password ends.
  """
  if '://' not in url:
    raise ValueError(
      f'--storage {hidden(url)} is no URL: write postgresql://USER@HOST/DATABASE, or '
      f'leave it out for a file in the folder of the study'
    )
  # Of the drivers for PostgreSQL it is psycopg 3 that is installed.
  url = re.sub(r'^postgres(ql)?://', 'postgresql+psycopg://', url)
  parsed = _parsed(url)
  if parsed is None:
    raise ValueError(
      f'--storage {hidden(url)} is no URL of a database: write '
      f'postgresql://USER@HOST:PORT/DATABASE with a port from 1 to 65535, and in a '
      f'password %40 for @, %3A for :, %2F for / and %3F for ?'
    )
  keep_secret(parsed.password)
  for name, values in parsed.query.items():
    for value in (values,) if isinstance(values, str) else values:
      keep_secret(*parameter_secrets(name, value))
  return url


def hidden(url: str) -> str:
  """Returns the URL without its password and without other secrets."""
  parsed = _parsed(url)
  if parsed is None:
    if '://' not in url:
      return hide_url(url)
    scheme = re.match(r'[A-Za-z][A-Za-z0-9+.-]*(?=://)', url)
    return f'{scheme[0]}://{HIDDEN}' if scheme else HIDDEN
  query = dict(shown_parameter(*pair) for pair in parsed.query.items())
  shown = parsed.set(query=query).render_as_string(hide_password=True)
  return shown.replace(quote_plus(HIDDEN), HIDDEN)


def _parsed(url: str) -> URL | None:
  """SQLAlchemy's reading of a URL; None if it cannot, or cannot without doubt."""
  try:
    parsed = make_url(url)
  except (exc.ArgumentError, ValueError):
    return None
  # Where a password has characters of a URL's syntax, a part of it is taken for the
  # host or the database, which messages show.
  odd = '@' in (parsed.database or '') or '?' in (parsed.password or '')
  if parsed.drivername.partition('+')[0] != 'sqlite':
    odd |= ':' in (parsed.database or '')
  if odd or not re.fullmatch(r'[\w.:%,-]*', parsed.host or ''):
    return None
  if parsed.port is not None and not 0 < parsed.port < 65_536:
    return None
  return parsed


def first_line(error: BaseException | None) -> str:
  """The first line of a message, without secrets; those of databases have many."""
  lines = filter(None, map(str.strip, scrub(str(error)).splitlines()))
  return next(lines, type(error).__name__)
