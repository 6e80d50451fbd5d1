"""Retries after temporary failures: a full disk, an unreachable bucket."""

from collections.abc import Callable, Iterator
import errno
import re
import time

from seqlab.train import processes

# Seconds before the second attempt; each later pause is doubled, up to the longest.
PAUSE, LONGEST = 5.0, 300.0

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AWAY = (
  *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET),
  *(errno.ECONNABORTED, errno.EPIPE, errno.ENETDOWN, errno.ENETUNREACH),
  *(errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
# Messages of tensorstore and of the drivers of buckets, whose errors have no errno.
_FULL_TEXT = re.compile(
  'no space left|quota exceeded|'
  'RESOURCE_EXHAUSTED(?!.*(memory|too many open files|file too large))',
  re.IGNORECASE | re.DOTALL,
)
_AWAY_TEXT = re.compile(
  'UNAVAILABLE|DEADLINE_EXCEEDED|timed ?out|could ?not connect|cannot connect|'
  'connection (refused|reset|closed|error)|name resolution|slow ?down',
  re.IGNORECASE,
)
# Failures that last until the system is changed: error numbers, pattern of the message,
# name, and remedy.
_LASTING = (
  (
    (errno.EMFILE, errno.ENFILE),
    re.compile('too many open files', re.IGNORECASE),
    'too many open files',
    'Raise the limit, for example with `ulimit -n 65536`,',
  ),
  (
    (errno.EFBIG,),
    re.compile('file too large', re.IGNORECASE),
    'a file would be larger than the system allows',
    'Raise the limit (`ulimit -f`), or use another disk,',
  ),
  (
    (errno.EACCES, errno.EPERM, errno.EROFS),
    re.compile(
      'permission denied|PERMISSION_DENIED|read-only file system', re.IGNORECASE
    ),
    'writing is not permitted',
    'Allow this user to write there',
  ),
)
_DRIVERS = ('gcsfs', 's3fs', 'aiohttp', 'botocore', 'aiobotocore', 'requests', 'google')
_STATUS = re.compile(r'\b(429|5\d\d)\b')


def may_pass(error: BaseException) -> str | None:
  """Returns a short description of a temporary failure; None for other errors."""
  causes = list(_causes(error))
  if any(_is(e, _FULL, _FULL_TEXT) for e in causes):
    return 'no space left'
  for e in causes:
    disconnected = isinstance(e, ConnectionError | TimeoutError) or _answers_later(e)
    if disconnected or _is(e, _AWAY, _AWAY_TEXT):
      return f'the storage does not answer ({str(e).strip()[:200] or type(e).__name__})'
  return None


def lasting(error: BaseException) -> str | None:
  """Returns the name of a failure that lasts until the system is changed, or None."""
  for e in _causes(error):
    for numbers, text, reason, _ in _LASTING:
      if _is(e, numbers, text):
        return reason
  return None


def _is(error: BaseException, numbers: tuple[int, ...], text: re.Pattern) -> bool:
  number = getattr(error, 'errno', None)
  return number in numbers if number else bool(text.search(str(error)))


def _answers_later(error: BaseException) -> bool:
  """Returns whether a server has asked to try later: status 429, or one of the 5xx."""
  driver = type(error).__module__.partition('.')[0] in _DRIVERS
  return driver and bool(_STATUS.search(str(error)))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an error and its causes."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


class GaveUp(OSError):  # noqa: N818
  """All attempts of an action have failed."""


def remedy(reason: str) -> str:
  """Returns advice for a failure that `may_pass` or `lasting` has described."""
  action = 'Free some space' if reason == 'no space left' else 'Wait until it does'
  action = next((todo for *_, name, todo in _LASTING if name == reason), action)
  return f'{action} and run the same command again: it resumes from the last checkpoint'


def retry(
  action: Callable[[int], object],
  title: str,
  *,
  tries: int,
  say: Callable[[str], None],
) -> None:
  """Calls a function, and repeats the call after temporary failures.

  All processes call it together: if it fails in one of them, all repeat it.

  Args:
    action: function of the number of the attempt, from 0.
    title: name of the object in messages, such as 'a checkpoint in runs/x'.
    tries: maximum number of attempts after the first one.
    say: called with a message after each failed attempt.

  Raises:
    GaveUp: the last attempt failed.
    Exception: `action` raised an error that is not temporary.
  """
  for i in range(tries + 1):
    error = None
    try:
      action(i)
    except Exception as caught:  # orbax and the drivers of buckets raise many types
      if not may_pass(caught):
        raise
      error = caught
    reasons = processes.gather_from_all(may_pass(error) or '' if error else '')
    reason = next(filter(None, reasons), None)
    if not reason:
      return
    if i == tries:
      times = f' after {tries + 1} tries' if tries else ''
      raise GaveUp(f'{reason} for {title}{times}') from error
    pause = min(PAUSE * 2**i, LONGEST)
    say(f'{reason} for {title}; trying again in {pause:g} s ({tries - i} more)')
    time.sleep(pause)
