"""SIGTERM to a single process, before and during training."""

import contextlib
import os
import signal

import pytest

from seqlab.train import processes
from seqlab.train.processes import StopImmediately, Stopped, StopSignal


def _terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def test_with_nothing_to_save_it_stops_immediately():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped, match='nothing to save'), StopImmediately():
    _terminate()
  assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_of_exceptions_do_not_catch_it():
  with (
    pytest.raises(Stopped),
    StopImmediately(),
    contextlib.suppress(Exception),
  ):
    _terminate()


def test_inside_of_a_stop_signal_it_waits_for_the_end_of_a_step():
  with StopImmediately():
    with StopSignal() as stop:
      assert not stop.requested()
      _terminate()
      assert stop.requested()
    with pytest.raises(Stopped):
      _terminate()


def test_a_dropped_exception_reaches_the_stop_signal():
  with StopImmediately():
    with pytest.raises(Stopped):  # as Python does with an exception of a finaliser
      _terminate()
    with StopSignal() as stop:
      assert stop.requested()


def test_processes_cannot_meet_while_they_take_turns():
  with processes.primary_first('the data'):
    for meet in (processes.broadcast_from_primary, processes.barrier):
      with pytest.raises(
        AssertionError, match=r"inside of primary_first\('the data'\)"
      ):
        meet('x')
  processes.barrier('x')  # after the block they can
