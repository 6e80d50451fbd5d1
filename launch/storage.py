"""Where Optuna keeps a search: a file in the study's folder, or a database by URL.

The trials of a server send one of Optuna's heartbeats every `HEARTBEAT` seconds, and
are marked as failed after `GRACE` seconds without one.
"""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import re
import sys
import time
from typing import TypeVar
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

# Seconds: between two heartbeats of a server's trials; without a heartbeat until a
# trial is marked as failed; without an answer until a server is given up; between two
# requests to it.
HEARTBEAT, GRACE, PATIENCE, POLL = 30, 150, 900.0, 3.0
STORAGE_ERRORS = (StorageInternalError, exc.SQLAlchemyError)
_JOURNAL = 'search.journal'

_T = TypeVar('_T')


def open_storage(
  url: str | None, folder: Path, on_stale: Callable[[optuna.Study, FrozenTrial], None]
) -> optuna.storages.BaseStorage:
  """Opens a storage, or creates it.

  Args:
    url: URL of a database; None for a file, which no other process may use meanwhile.
    folder: folder of the study, for the file.
    on_stale: called with the study and each trial of a server that was marked as
      failed because it had no heartbeat.

  Raises:
    ValueError: the URL is not a valid one.
    RuntimeError: the driver of such a database is not installed.
    OSError: it cannot be reached.
  """
  if url is None:
    return _open_file((folder / _JOURNAL).absolute())
  url = checked_url(url)
  for retries in (3, 2, 1, 0):
    try:
      with storage_errors(url), without_heartbeat_warnings():
        warnings.simplefilter('error', exc.SAWarning)  # parameters that mean nothing
        return RDBStorage(
          url,
          engine_kwargs=dict(pool_pre_ping=True),
          heartbeat_interval=HEARTBEAT,
          grace_period=GRACE,
          heartbeat_stale_trial_callback=on_stale,
        )
    except ImportError as error:
      raise RuntimeError(
        f'--storage {hidden(url)} needs a driver that is not installed '
        f'({scrub(str(error.__cause__ or error))}); for PostgreSQL: pip install '
        f"'seqlab[launch]'"
      ) from None
    except (exc.ArgumentError, exc.SAWarning, ValueError, TypeError) as error:
      raise ValueError(
        f'--storage {hidden(url)} is not a URL of a database ({first_line(error)}): '
        f'write postgresql://USER@HOST/DATABASE'
      ) from None
    except StorageFailed:
      if not retries:
        raise
      time.sleep(1)  # two processes created the tables at once
  raise AssertionError


def _open_file(path: Path) -> JournalStorage:
  """Opens the study in a file, which no other process uses now.

  The process that used it last may have been killed in the middle of a line, which
  Optuna could not read, or while it held Optuna's lock, which would never be released.
  """
  path.with_name(f'{path.name}.lock').unlink(missing_ok=True)
  if path.exists() and (whole := path.read_bytes()) and not whole.endswith(b'\n'):
    with open(path, 'r+b') as file:
      file.truncate(whole.rfind(b'\n') + 1)
  return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def without_heartbeat_warnings() -> Iterator[None]:
  """Hides two warnings: heartbeats are experimental, and not sent by `optimize`."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ExperimentalWarning)
    warnings.filterwarnings('ignore', 'Heartbeat of storage is supposed')
    yield


class StorageUnreachable(OSError):  # noqa: N818
  """A server does not answer; later it may."""


class StorageFailed(OSError):  # noqa: N818
  """The storage refused something, perhaps because another process did the same."""


@contextlib.contextmanager
def storage_errors(url: str | None = None) -> Iterator[None]:
  """Raises errors of a storage as `OSError` that names it, without secrets."""
  name = f'--storage {hidden(url)}' if url else 'the storage of the search'
  try:
    yield
  except (StorageInternalError, exc.DBAPIError) as error:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    reason = first_line(getattr(cause, 'orig', cause))
    if isinstance(cause, exc.OperationalError):
      raise StorageUnreachable(
        f'{name} cannot be reached: {reason}. Start the server, or let this user in; '
        f'then the same command continues'
      ) from error
    raise StorageFailed(
      f'{name} failed: {reason}. The same command continues'
    ) from error


class Connection:
  """Calls on a storage, repeated while its server does not answer."""

  def __init__(self, *, is_server: bool):
    """Assumes that the storage answers now.

    Args:
      is_server: whether the storage is on a server; a file is never waited for.
    """
    self.is_server = is_server
    self._up_since = time.monotonic()

  @property
  def seconds_up(self) -> float:
    """Seconds since the last call that was known to fail."""
    return time.monotonic() - self._up_since

  def note_failure(self) -> None:
    """Notes that the server did not answer just now."""
    self._up_since = time.monotonic()

  def retry(self, action: Callable[[], _T]) -> _T:
    """Returns what `action` returns, called again while a server does not answer.

    Raises:
      StorageUnreachable: it has not answered for `PATIENCE` seconds.
      StorageFailed: it refused the action.
    """
    until, reported = time.monotonic() + PATIENCE, False
    while True:
      try:
        with storage_errors():
          return action()
      except StorageUnreachable as error:
        self.note_failure()
        if not self.is_server or time.monotonic() > until:
          raise
        if not reported:
          print(f'{error}; waiting for it for {PATIENCE:.0f} s', file=sys.stderr)
        reported = True
        time.sleep(POLL)


def checked_url(url: str) -> str:
  """Returns the URL for Optuna; from then on no message shows its secrets.

  Raises:
    ValueError: it is not a URL, or it is unclear where its password ends.
  """
  if '://' not in url:
    raise ValueError(
      f'--storage {hidden(url)} is not a URL: write postgresql://USER@HOST/DATABASE, or '
      f'leave it out for a file in the folder of the study'
    )
  # SQLAlchemy would choose psycopg2; the extra `launch` installs psycopg 3.
  url = re.sub(r'^postgres(ql)?://', 'postgresql+psycopg://', url)
  parsed = _parsed(url)
  if parsed is None:
    raise ValueError(
      f'--storage {hidden(url)} is not a URL of a database: write '
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
  """Parses a URL by SQLAlchemy; None if that fails or its result is ambiguous."""
  try:
    parsed = make_url(url)
  except (exc.ArgumentError, ValueError):
    return None
  # If a password contains characters of a URL's syntax, a part of it ends up in the
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
  """Returns the first line of a message, without secrets; databases write many."""
  lines = filter(None, map(str.strip, scrub(str(error)).splitlines()))
  return next(lines, type(error).__name__)
