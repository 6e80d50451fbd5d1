"""Agreement among several processes that train as one, and requests to stop.

All processes run the same program, and each must call the functions of this module in
the same order. A single process never waits.
"""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import json
import os
import signal
import threading
from typing import Any

import jax
from jax._src import distributed  # the key-value store has no public name
from jax.experimental import multihost_utils

# Seconds. Missing heartbeats end the processes that wait for one that died, long before
# these bounds are reached: they are for a process that lives and does not arrive.
_SOON, _LATE = 1_800, 6 * 3_600
# JAX's coordination service accepts a name once: each barrier and value has its number.
_number = itertools.count()
_taking_turns: list[str] = []  # the block of `primary_first` that this process is in


def is_primary() -> bool:
  """Returns whether this is process 0, which writes the run's folder."""
  return jax.process_index() == 0


def barrier(name: str, seconds: float = _SOON) -> None:
  """Waits until every process has arrived.

  Args:
    name: what the processes wait for, for messages.
    seconds: the longest time to wait.

  Raises:
    RuntimeError: some processes did not arrive in time; the text names them.
  """
  _check_together()
  if jax.process_count() == 1:
    return
  client = distributed.global_state.client
  try:
    client.wait_at_barrier(_unique(name), int(1_000 * seconds))
  except RuntimeError as error:
    if not (indices := _named_in(error)):
      raise
    late = ', '.join(f'process {i}' for i in indices)
    raise RuntimeError(
      f'{late} did not reach the barrier {name!r} within {seconds:,.0f} s'
    ) from error


@contextlib.contextmanager
def primary_first(name: str) -> Iterator[None]:
  """Runs the block in process 0, and then in the others, which find what it made.

  In the block nothing may wait for all processes: they would wait for one another.
  """
  if not is_primary():
    barrier(name, _LATE)
  _taking_turns.append(name)
  try:
    yield
  finally:  # also after an error, which the other processes will meet as well
    _taking_turns.remove(name)
    if is_primary():
      barrier(name, _LATE)


def broadcast_from_primary(value: Any) -> Any:
  """Returns the value of process 0 in every process; anything that JSON can hold."""
  _check_together()
  if jax.process_count() == 1:
    return value
  client, name = distributed.global_state.client, _unique('value')
  if is_primary():
    client.key_value_set(name, json.dumps(value))
    return value
  try:
    return json.loads(client.blocking_key_value_get(name, 1_000 * _SOON))
  except RuntimeError as error:
    if 'DEADLINE_EXCEEDED' not in str(error):
      raise
    raise RuntimeError(
      f'the connection to process 0 gave no value within {_SOON:,} s'
    ) from error


def gather_from_all(value: str) -> list[str]:
  """Returns the values of all processes, ordered by process, in every process."""
  _check_together()
  if jax.process_count() == 1:
    return [value]
  client, name = distributed.global_state.client, _unique('values')
  client.key_value_set(f'{name}/{jax.process_index():08d}', value)
  barrier('values')
  return [text for _, text in sorted(client.key_value_dir_get(f'{name}/'))]


def _check_together() -> None:
  """Raises an error, in a single process too, where several would wait for ever."""
  if _taking_turns:
    raise AssertionError(
      f'all processes would have to meet inside of primary_first({_taking_turns[-1]!r})'
    )


def missing_processes(seconds: float = 5.0) -> list[int]:
  """Returns the processes that do not call this within some seconds.

  To be called once in the life of a process.
  """
  client = distributed.global_state.client
  try:
    client.wait_at_barrier('seqlab/roll call', int(1_000 * seconds))
  except RuntimeError as error:
    return _named_in(error)
  return []


def _named_in(error: RuntimeError) -> list[int]:
  """Returns the processes that JAX's error of a barrier names, one per line."""
  names = str(error).partition('timed out task names:')[2].partition('RPC:')[0]
  return [int(name) for name in names.split() if name.isdecimal()]


def _unique(name: str) -> str:
  return f'seqlab/{next(_number)}/{name}'


class Stopped(BaseException):
  """The run was asked to stop; its state is saved, and the same command resumes it.

  This is not a subclass of `Exception`, so that code which tries alternatives, such as
  older checkpoints, does not mistake it for a failure.
  """


class StopImmediately:
  """Raises `Stopped` when SIGTERM arrives, for as long as there is nothing to save.

  A context manager; a `StopSignal` inside of it takes over. Among several processes JAX
  itself listens for SIGTERM, and they stop after their first step.
  """

  def __init__(self):
    self.requested = False

  def __enter__(self) -> 'StopImmediately':
    self._previous = _handle_sigterm(self)
    return self

  def __exit__(self, *_) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def __call__(self, *_) -> None:
    """Handles SIGTERM."""
    # Python drops an exception that a finaliser raises; a `StopSignal` then asks this.
    self.requested = True
    raise Stopped(
      'stopped, as SIGTERM asked, with nothing to save; the same command continues'
    )


def _handle_sigterm(handler: Callable[..., None]) -> Any:
  """Sets the handler of SIGTERM.

  Returns:
    The previous handler; None where this process cannot set one, since JAX has set
    one or this is not the main thread.
  """
  main = threading.current_thread() is threading.main_thread()
  if not main or jax.distributed.is_initialized():
    return None
  return signal.signal(signal.SIGTERM, handler)


class StopSignal:
  """Knows whether the run should stop, as SIGTERM to any of its processes requests.

  Schedulers send SIGTERM some time before they end a process. Among several processes
  JAX's preemption service informs all, and finds a step that none has reached yet. A
  context manager; outside of it SIGTERM has the handler that it had before.
  """

  def __init__(self):
    self._requested, self._steps = False, 0

  def __enter__(self) -> 'StopSignal':
    self._previous = _handle_sigterm(lambda *_: self._receive())
    if getattr(self._previous, 'requested', False):
      self._requested = True
    return self

  def __exit__(self, *_) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _receive(self) -> None:
    self._requested = True

  def is_received(self) -> bool:
    """Returns whether a single process was asked; several agree in `requested`."""
    return self._requested and not jax.distributed.is_initialized()

  def request(self) -> None:
    """Asks all processes to stop."""
    if not self._requested and jax.distributed.is_initialized():
      os.kill(os.getpid(), signal.SIGTERM)
    self._requested = True

  def requested(self) -> bool:
    """Returns whether to stop after this step: the same in all processes.

    To be called once after each step.
    """
    if not jax.distributed.is_initialized():
      return self._requested
    # Steps are counted from here: a run that resumes at step 500 may be asked to stop
    # before its first call, and JAX then waits for step 1.
    self._steps += 1
    return multihost_utils.reached_preemption_sync_point(self._steps)
