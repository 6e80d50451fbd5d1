"""Which failures are retried, how often, and with which messages."""

import errno

import pytest

from seqlab.train import retry as module
from seqlab.train.retry import GaveUp, lasting, may_pass, remedy, retry

FULL = OSError(errno.ENOSPC, 'No space left on device')


@pytest.fixture
def pauses(monkeypatch):
  seconds = []
  monkeypatch.setattr(module.time, 'sleep', seconds.append)
  return seconds


def _fails(times, error):
  """Returns an action that fails several times, and the numbers of its attempts."""
  tries = []

  def action(i):
    tries.append(i)
    if len(tries) <= times:
      raise error

  return action, tries


def test_temporary_failures_are_retried_with_growing_pauses(pauses):
  action, tries = _fails(3, FULL)
  messages = []
  retry(action, 'x', tries=5, say=messages.append)
  assert tries == [0, 1, 2, 3]
  assert pauses == [5, 10, 20]
  assert messages[0] == 'no space left for x; trying again in 5 s (5 more)'


def test_pauses_have_a_maximum(pauses):
  action, _ = _fails(9, FULL)
  retry(action, 'x', tries=9, say=lambda text: None)
  assert pauses[-2:] == [300, 300]


def test_the_last_error_has_the_number_of_attempts(pauses):
  action, tries = _fails(9, FULL)
  with pytest.raises(GaveUp, match=r'^no space left for x after 3 tries$'):
    retry(action, 'x', tries=2, say=lambda text: None)
  assert len(tries) == 3
  assert len(pauses) == 2


def test_other_errors_are_raised_immediately(pauses):
  action, tries = _fails(9, PermissionError(errno.EACCES, 'no'))
  with pytest.raises(PermissionError):
    retry(action, 'x', tries=2, say=lambda text: None)
  assert len(tries) == 1
  assert not pauses


def _caused(error, cause):
  error.__cause__ = cause
  return error


class _DriverError(Exception):
  __module__ = 'gcsfs.retry'


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (FULL, 'no space left'),
    (OSError(errno.EDQUOT, 'Disk quota exceeded'), 'no space left'),
    (ValueError('RESOURCE_EXHAUSTED: write failed'), 'no space left'),
    (_caused(RuntimeError('failed'), FULL), 'no space left'),
    (ConnectionResetError('reset'), 'does not answer'),
    (TimeoutError(), 'does not answer'),
    (ValueError('UNAVAILABLE: could not reach it'), 'does not answer'),
    (_DriverError('Backend Error, 503'), 'does not answer'),
    (ValueError('a shape of (503, 2) is wrong'), None),
    (RuntimeError('RESOURCE_EXHAUSTED: Out of memory'), None),
    (OSError(errno.EACCES, 'connection refused to you'), None),
    (FileNotFoundError('no such bucket'), None),
    (OSError(errno.EMFILE, 'Too many open files'), None),
    (
      ValueError('RESOURCE_EXHAUSTED: /x [OS error 24: EMFILE Too many open files]'),
      None,
    ),
    (ValueError('RESOURCE_EXHAUSTED: [OS error 27: EFBIG File too large]'), None),
  ],
)
def test_temporary_failures_are_distinguished(error, reason):
  explanation = may_pass(error)
  assert explanation is None if reason is None else reason in explanation


@pytest.mark.parametrize(
  ('error', 'reason', 'todo'),
  [
    (OSError(errno.EMFILE, 'Too many open files'), 'too many open files', 'ulimit -n'),
    (OSError(errno.ENFILE, 'in system'), 'too many open files', 'ulimit -n'),
    (
      ValueError('RESOURCE_EXHAUSTED: /x\n[OS error 24: EMFILE Too many open files]'),
      'too many open files',
      'ulimit -n',
    ),
    (OSError(errno.EROFS, 'Read-only file system'), 'not permitted', 'Allow'),
    (ValueError('PERMISSION_DENIED: /x'), 'not permitted', 'Allow'),
    (OSError(errno.EFBIG, 'File too large'), 'larger', 'ulimit -f'),
  ],
)
def test_lasting_failures_have_a_name_and_a_remedy(error, reason, todo):
  name = lasting(error)
  assert reason in name
  assert todo in remedy(name)


def test_temporary_failures_are_not_lasting():
  assert lasting(FULL) is None
  assert lasting(ConnectionResetError('reset')) is None
