"""Sinks in threads of their own, so that none can stop or slow the training."""

from collections.abc import Callable, Sequence
import contextlib
import copy
from pathlib import Path
import queue
import threading
import time
from typing import Any

from seqlab import pieces
from seqlab.train.sinks import SINKS
from seqlab.train.sinks.interface import Sink

_CAPACITY = 1_000  # calls that wait for a sink, at most
_CLOSE_SECONDS = 15.0  # for all sinks together, at the end of a run
_THREAD = 'seqlab-sink'
_LEFT_OUT = 'The run and its metrics.jsonl are not affected'


class SinkThread:
  """A sink that works in a thread; calls of it return at once.

  All methods are to be called from one thread, in which messages are shown, too.
  """

  def __init__(self, name: str, make: Callable[[], Sink], say: Callable[[str], None]):
    """Starts the thread.

    Args:
      name: name of the sink, for messages.
      make: makes the sink; called in the thread, since it may wait for a network.
      say: called with a message when the sink fails or falls behind, once for each.
    """
    self._name, self._make, self._say = name, make, say
    self._calls: queue.Queue = queue.Queue(_CAPACITY)
    self._error = ''  # its text alone, since its frames would keep the sink alive
    self._num_left_out, self._is_over = 0, False
    # A daemon, since the process could otherwise not end before a sink that hangs.
    self._thread = threading.Thread(target=self._work, name=_THREAD, daemon=True)
    self._thread.start()

  def _work(self) -> None:
    try:
      sink = self._make()
      while (call := self._calls.get()) is not None:
        method, arguments = call
        getattr(sink, method)(*arguments)
      sink.close()
    except BaseException as error:  # whatever it is, the run continues
      self._error = f'{type(error).__name__}: {error}'

  def call(self, method: str, *arguments: Any) -> None:
    """Calls a method of the sink later; leaves the call out if too many wait."""
    self._report_error()
    if self._is_over:
      return
    try:
      # Copies: what a sink does to its arguments must not reach the run or other sinks.
      self._calls.put_nowait((method, copy.deepcopy(arguments)))
    except queue.Full:
      if not self._num_left_out:
        self._say(
          f'sink {self._name} is {_CAPACITY:,} calls behind: further ones are left out '
          f'until it has caught up. {_LEFT_OUT}'
        )
      self._num_left_out += 1

  def _report_error(self) -> None:
    if self._error and not self._is_over:
      self._is_over = True
      self._say(
        f'sink {self._name} has failed and is left out: {self._error}. {_LEFT_OUT}'
      )

  def request_end(self) -> None:
    """Lets the sink end after its last call; waits for nothing."""
    if self._calls.full():  # the end needs a place
      with contextlib.suppress(queue.Empty):
        self._calls.get_nowait()
        self._num_left_out += 1
    self._calls.put_nowait(None)

  def wait(self, seconds: float) -> None:
    """Waits for the end after `request_end`, not longer than some seconds."""
    self._thread.join(max(0.0, seconds))
    self._report_error()
    if self._thread.is_alive():
      self._say(
        f'sink {self._name} did not end in {_CLOSE_SECONDS:.0f} s and is given up, '
        f'with {self._calls.qsize():,} calls waiting. {_LEFT_OUT}'
      )
    elif self._num_left_out:
      self._say(f'sink {self._name}: {self._num_left_out:,} calls were left out')


def start_sinks(
  specifications: Sequence[Any], folder: Path, start: int, say: Callable[[str], None]
) -> list[SinkThread]:
  """Starts the sinks of a run, each in a thread.

  Args:
    specifications: see `sinks_of`.
    folder: folder of the run on this machine.
    start: step from which the run resumes.
    say: see `SinkThread`.
  """
  context = dict(folder=folder.absolute(), start=start)
  return [
    SinkThread(
      pieces.split(specification, f'sinks.{i}')[0],
      lambda s=specification, i=i: pieces.make(s, SINKS, f'sinks.{i}', **context),
      say,
    )
    for i, specification in enumerate(specifications)
  ]


def end_sinks(sinks: Sequence[SinkThread]) -> None:
  """Ends sinks, and waits for all of them together for a bounded time."""
  for sink in sinks:
    sink.request_end()
  deadline = time.monotonic() + _CLOSE_SECONDS
  for sink in sinks:
    sink.wait(deadline - time.monotonic())


def is_stuck() -> bool:
  """Returns whether a sink of this process was given up and has not ended since."""
  return any(thread.name == _THREAD for thread in threading.enumerate())
