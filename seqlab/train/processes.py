"""What several processes that train as one must agree on.

All of them run the same program, and each must call what is here at the same places.
Alone, a process waits for nobody and agrees with itself.
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

# Seconds. Who waits for a process that died is ended by its missing heartbeats, long
# before; these bounds are for one that lives and does not come.
_SOON, _LATE = 1_800, 6 * 3_600
_number = itertools.count()  # of what was agreed on: names are used once


def first() -> bool:
  """Whether this is process 0, the one that writes."""
  return jax.process_index() == 0


def wait(what: str, seconds: float = _SOON) -> None:
  """Waits until every process is here.

  Raises:
    RuntimeError: some did not come in time; the text names them.
  """
  if jax.process_count() > 1:
    client = distributed.global_state.client
    try:
      client.wait_at_barrier(_name(what), int(1_000 * seconds))
    except RuntimeError as error:
      if not (names := _late(error)):
        raise
      late = ', '.join(f'process {i}' for i in names)
      raise RuntimeError(
        f'{late} did not come to the barrier {what!r} within {seconds:,.0f} s'
      ) from error


@contextlib.contextmanager
def first_goes_ahead(what: str) -> Iterator[None]:
  """Runs the block in process 0, and then in the others: they find what it made."""
  if not first():
    wait(what, _LATE)
  try:
    yield
  finally:  # the others shall not wait in vain; what is wrong here is wrong there
    if first():
      wait(what, _LATE)


def from_first(value: Any) -> Any:
  """The value that process 0 has, anything that JSON can hold, in every process."""
  if jax.process_count() == 1:
    return value
  client, name = distributed.global_state.client, _name('value')
  if first():
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


def from_all(value: str) -> list[str]:
  """The value that each process has, in every process."""
  if jax.process_count() == 1:
    return [value]
  client, name = distributed.global_state.client, _name('values')
  client.key_value_set(f'{name}/{jax.process_index():08d}', value)
  wait('values')
  return [found for _, found in sorted(client.key_value_dir_get(f'{name}/'))]


def everywhere(here: bool) -> bool:
  """Whether it is true in every process."""
  return set(from_all(str(here))) == {'True'}


def missing(seconds: float = 5.0) -> list[int]:
  """The processes that do not call this too, within some seconds; to be called once."""
  client = distributed.global_state.client
  try:
    client.wait_at_barrier('seqlab/roll call', int(1_000 * seconds))
  except RuntimeError as error:
    return _late(error)
  return []


def _late(error: RuntimeError) -> list[int]:
  """The processes that JAX's error of a barrier names, one number per line."""
  names = str(error).partition('timed out task names:')[2].partition('RPC:')[0]
  return [int(name) for name in names.split() if name.isdecimal()]


def _name(what: str) -> str:
  return f'seqlab/{next(_number)}/{what}'


class Stopped(BaseException):
  """The run was told to stop; what there was to save is saved, and it can go on.

  No `Exception`: what tries this and that, such as older checkpoints, shall not take
  it for a failure.
  """


class EndsAtOnce:
  """Raises `Stopped` when SIGTERM comes: for as long as there is nothing to save.

  A context manager. Inside of it a `Notice` takes over. Where JAX listens for SIGTERM
  itself, which it does among several processes, they stop after their first step.
  """

  told = False

  def __enter__(self) -> 'EndsAtOnce':
    self._before = _listen(self)
    return self

  def __exit__(self, *_) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def __call__(self, *_) -> None:
    """Hears SIGTERM."""
    self.told = True  # should the exception get lost, say in a finaliser
    raise Stopped(
      'stopped, as SIGTERM asked, with nothing to save; the same command goes on'
    )


def _listen(handler: Callable[..., None]) -> Any:
  """Has SIGTERM heard by it; the handler before, None if others have to listen."""
  main = threading.current_thread() is threading.main_thread()
  if not main or jax.distributed.is_initialized():  # then JAX listens itself
    return None
  return signal.signal(signal.SIGTERM, handler)


class Notice:
  """Hears whether the run is to stop: by SIGTERM to any of its processes.

  Schedulers send that some time before they end a process. Among several processes
  JAX's preemption service spreads the word and finds a step that all have yet to
  reach. A context manager: outside of it SIGTERM does what it did before.
  """

  def __enter__(self) -> 'Notice':
    self._told, self._steps = False, 0
    self._before = _listen(lambda *_: self._hear())
    if getattr(self._before, 'told', False):
      self._told = True
    return self

  def __exit__(self, *_) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _hear(self) -> None:
    self._told = True

  def give(self) -> None:
    """Tells all processes to stop."""
    if not self._told and jax.distributed.is_initialized():
      os.kill(os.getpid(), signal.SIGTERM)
    self._told = True

  def reached(self) -> bool:
    """Whether to stop after this step; true in all processes, at the same step.

    To be asked once after each step.
    """
    if not jax.distributed.is_initialized():
      return self._told
    # Counted from here on: a run that goes on from step 500 may be told to stop before
    # it asks for the first time, and JAX then waits for step 1.
    self._steps += 1
    return multihost_utils.reached_preemption_sync_point(self._steps)
