"""Trying again what fails for a while: a full disk, a bucket out of reach."""

from collections.abc import Callable, Iterator
import errno
import re
import time

from seqlab.train import processes

# Seconds before the second try; each later pause is twice as long, up to the longest.
PAUSE, LONGEST = 5.0, 300.0

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AWAY = (
  *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET),
  *(errno.ECONNABORTED, errno.EPIPE, errno.ENETDOWN, errno.ENETUNREACH),
  *(errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
# What tensorstore and the drivers of buckets say where there is no errno to go by.
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
# What stays wrong until somebody changes it: error numbers, texts, what it is called,
# and what to do.
_LASTING = (
  (
    (errno.EMFILE, errno.ENFILE),
    re.compile('too many open files', re.IGNORECASE),
    'too many open files',
    'Raise the limit, say with `ulimit -n 65536`,',
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
  """What is wrong, in few words, if it may be gone the next time; else None."""
  causes = list(_causes(error))
  if any(_is(e, _FULL, _FULL_TEXT) for e in causes):
    return 'no space left'
  for e in causes:
    gone = isinstance(e, ConnectionError | TimeoutError) or _answers_later(e)
    if gone or _is(e, _AWAY, _AWAY_TEXT):
      return f'the storage does not answer ({str(e).strip()[:200] or type(e).__name__})'
  return None


def lasting(error: BaseException) -> str | None:
  """The name of a fault that stays until somebody changes the system; else None."""
  for e in _causes(error):
    for numbers, text, reason, _ in _LASTING:
      if _is(e, numbers, text):
        return reason
  return None


def _is(error: BaseException, numbers: tuple[int, ...], text: re.Pattern) -> bool:
  number = getattr(error, 'errno', None)
  return number in numbers if number else bool(text.search(str(error)))


def _answers_later(error: BaseException) -> bool:
  """Whether a server said so: 429, or one of the 5xx."""
  driver = type(error).__module__.partition('.')[0] in _DRIVERS
  return driver and bool(_STATUS.search(str(error)))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """An error, and those that it came from."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


class GaveUp(OSError):  # noqa: N818
  """What was tried failed each time."""


def remedy(reason: str) -> str:
  """What to do about what `may_pass` or `lasting` says."""
  first = 'Free some space' if reason == 'no space left' else 'Wait until it does'
  first = next((todo for *_, name, todo in _LASTING if name == reason), first)
  return f'{first} and run the same command again: it goes on from the last checkpoint'


def retry(
  action: Callable[[int], object],
  what: str,
  *,
  tries: int,
  say: Callable[[str], None],
) -> None:
  """Does something, and does it again while it fails for what may pass by itself.

  Several processes do it together: if it fails in one, all do it again.

  Args:
    action: is given the number of the try, from 0.
    what: it is, for messages ('a checkpoint in runs/x').
    tries: how many more there are after the first.
    say: told of each try that failed.

  Raises:
    GaveUp: the last try failed.
    Exception: whatever `action` raises that will not pass.
  """
  for i in range(tries + 1):
    error = None
    try:
      action(i)
    except Exception as caught:  # orbax and the drivers of buckets raise many kinds
      if not may_pass(caught):
        raise
      error = caught
    reasons = processes.gather_from_all(may_pass(error) or '' if error else '')
    reason = next(filter(None, reasons), None)
    if not reason:
      return
    if i == tries:
      times = f' after {tries + 1} tries' if tries else ''
      raise GaveUp(f'{reason} for {what}{times}') from error
    pause = min(PAUSE * 2**i, LONGEST)
    say(f'{reason} for {what}; trying again in {pause:g} s ({tries - i} more)')
    time.sleep(pause)
