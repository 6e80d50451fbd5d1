"""SIGTERM to a single process, before and during training."""

import contextlib
import os
import signal

import pytest

from seqlab.train.processes import EndsAtOnce, Notice, Stopped


def _terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def test_with_nothing_to_save_it_ends_at_once():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped, match='nothing to save'), EndsAtOnce():
    _terminate()
  assert signal.getsignal(signal.SIGTERM) is before


def test_what_takes_exceptions_for_failures_does_not_take_it():
  with (
    pytest.raises(Stopped),
    EndsAtOnce(),
    contextlib.suppress(Exception),
  ):
    _terminate()


def test_inside_of_a_notice_it_is_kept_for_the_end_of_a_step():
  with EndsAtOnce():
    with Notice() as notice:
      assert not notice.reached()
      _terminate()
      assert notice.reached()
    with pytest.raises(Stopped):
      _terminate()


def test_what_got_lost_is_heard_by_the_notice():
  with EndsAtOnce():
    with pytest.raises(Stopped):  # as Python does with what a finaliser raises
      _terminate()
    with Notice() as notice:
      assert notice.reached()
