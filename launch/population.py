r"""Trials that differ in seed and hyperparameters, each group of them as one program.

  python -m launch.sweep experiments/agreement/transformer.py --on population --workdir W

Groups come one after another, in a process of their own, on all devices. --workers says
how many trials a group has at most, should all of them be too many for the memory; a
group is then cut into several. Each trial's folder is that of the same trial alone; in
its trial.json, 'population' says how many there were, 'place' which one of them it is,
and 'seconds' is its share of their time. A sweep that was interrupted has each trial
resumed at its place in a program of that width, and so has the bits of one that was
not. What the process says is in the trial.log of a group's first trial.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any
import uuid

from launch.machine import environment, how_it_ended
from launch.trials import Trial, begin, leave, write_state
from launch.workers import grouped, write_to
from seqlab.io.secrets import scrub

Done = Callable[[Trial, dict[str, Any]], None]


def run_many(
  trials: Sequence[Trial],
  done: Done,
  *,
  workers: int | None = None,
  force: bool = False,
) -> None:
  """Runs trials as populations, and kills the one that runs if it is interrupted.

  Args:
    trials: what to run.
    done: called with each trial that ended, and its state.
    workers: how many at a time, in one population; by default all of a group.
    force: run in folders that a different experiment made.
  """
  for group in grouped(trials):
    begun = _begun(group, workers)
    for seats in begun:
      _run([*seats.trials], seats, done, force)
    seated = {trial.folder for seats in begun for trial in seats.trials}
    fresh = [trial for trial in group if trial.folder not in seated]
    most = workers or len(fresh)
    for start in range(0, len(fresh), most or 1):
      part = fresh[start : start + most]
      seats = Seats(uuid.uuid4().hex, part, range(len(part)), len(part))
      for trial, place in zip(part, seats.places, strict=True):
        leave(trial, status='waiting', reason=None, **seats.of(place))
      _run(part, seats, done, force)


@dataclasses.dataclass(frozen=True)
class Seats:
  """The trials of one population that have still to run, and their places in it.

  Attributes:
    name: identifies the population.
    trials: those that have still to run.
    places: place of each.
    width: number of places.
  """

  name: str
  trials: Sequence[Trial]
  places: Sequence[int]
  width: int

  def of(self, place: int) -> dict[str, Any]:
    """What `trial.json` keeps of a place."""
    return {'population': self.width, 'place': place, 'population_name': self.name}


def _begun(trials: Sequence[Trial], workers: int | None) -> list[Seats]:
  """The populations that an earlier sweep began with these trials."""
  populations: dict[tuple[str, int], dict[int, Trial]] = {}
  for trial in trials:
    state = trial.state
    name, width, place = (
      state.get(key) for key in ('population_name', 'population', 'place')
    )
    if not isinstance(name, str) or type(width) is not int or type(place) is not int:
      continue
    # --workers may have been lowered, as memory ran out.
    if 0 <= place < width <= (workers or width):
      populations.setdefault((name, width), {}).setdefault(place, trial)
  return [
    Seats(name, [*seats.values()], [*seats], width)
    for (name, width), seats in populations.items()
    # What has no checkpoint has no bits to keep.
    if any((trial.folder / 'checkpoints').is_dir() for trial in seats.values())
  ]


def _run(trials: Sequence[Trial], seats: Seats, done: Done, force: bool) -> None:
  """Runs one population in a process of its own."""
  left = dict(enumerate(trials))
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.population'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    encoding='utf-8',
    env=environment(),
    start_new_session=True,  # Ctrl-C is for the sweep, which then ends this
  )
  try:
    orders = [
      dict(
        folder=str(trial.folder),
        overrides=trial.overrides,
        config=trial.config,
        seat=seats.of(place),
      )
      for trial, place in zip(trials, seats.places, strict=True)
    ]
    with contextlib.suppress(BrokenPipeError):  # what is below sees that it died
      process.stdin.write(f'{json.dumps(dict(trials=orders, force=force))}\n')
      process.stdin.flush()
    for line in process.stdout:
      number, state = json.loads(line)
      done(left.pop(number), state)
    status = process.wait()
    for trial in left.values():
      log = trials[0].folder / 'trial.log'
      how = how_it_ended(status)
      reason = f'its process was ended {how}; the last lines of {log} may say why'
      if len(trials) > 1:
        reason += f'. If memory ran out, take fewer than {len(trials)} by --workers'
      done(trial, leave(trial, status='failed', reason=reason, died=True))
  finally:
    _kill(process)


def _kill(process: subprocess.Popen) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  process.stdout.close()
  with contextlib.suppress(BrokenPipeError):
    process.stdin.close()


class Going:
  """The states of a population's trials, and how the time is shared among them."""

  def __init__(
    self, orders: Sequence[Mapping[str, Any]], tell: Callable[[int, dict], None]
  ):
    """Writes each `trial.json`; `tell` gets the number and the state of what ended."""
    self._folders = [Path(order['folder']) for order in orders]
    self._states = {
      i: begin(folder, order['overrides'], **order.get('seat', {}))
      for i, (folder, order) in enumerate(zip(self._folders, orders, strict=True))
    }
    self._tell, self._last = tell, time.monotonic()

  def end(self, i: int, error: Exception | None) -> None:
    """Trial number i is over."""
    if error is None:
      return self._end(i, 'finished', None)
    trace = scrub(''.join(traceback.format_exception(error)))
    print(trace, file=sys.stderr)
    if i:  # that of the first has it from stderr
      with open(self._folders[i] / 'trial.log', 'a', encoding='utf-8') as log:
        log.write(trace)
    self._end(i, 'failed', scrub(f'{type(error).__name__}: {error}'))

  def stop(self, reason: str) -> None:
    """All the others go on another time."""
    for i in list(self._states):
      self._end(i, 'stopped', reason)

  def fail(self, error: Exception) -> None:
    """None of the others can go on."""
    for i in list(self._states):
      self.end(i, error)

  def _end(self, i: int, status: str, reason: str | None) -> None:
    now = time.monotonic()
    for state in self._states.values():  # those that go on share the time
      state['seconds'] += (now - self._last) / len(self._states)
    self._last = now
    state = self._states.pop(i) | dict(status=status, reason=reason)
    write_state(self._folders[i], state)
    self._tell(i, state)


def run_population(
  orders: Sequence[Mapping[str, Any]],
  tell: Callable[[int, dict[str, Any]], None],
  *,
  force: bool = False,
) -> None:
  """Trains trials as one population in this process; an error is a state as well.

  Args:
    orders: for each trial its 'folder', 'overrides', 'config' and 'seat', the part of
      `trial.json` that says which place of which population it has.
    tell: called with the number of each trial that ended, and its state, which
      `trial.json` has too; see `launch.trials.run_trial`.
    force: run in folders that a different experiment made.
  """
  from seqlab.train.population import train_population
  from seqlab.train.processes import Stopped
  from seqlab.train.runtime import prepare

  prepare(orders[0]['config'].get('threads'))
  going = Going(orders, tell)
  configs, folders = zip(*((o['config'], o['folder']) for o in orders), strict=True)
  try:
    seats = [order['seat'] for order in orders]
    train_population(
      configs,
      folders,
      ended=going.end,
      force=force,
      places=[seat['place'] for seat in seats],
      width=seats[0]['population'],
    )
  except Stopped as stopped:
    going.stop(str(stopped))
  except Exception as error:  # whatever it is, the other populations go on
    going.fail(error)


def work() -> None:
  """What the process does: trials come in at stdin, their states go out at stdout."""
  results = os.fdopen(os.dup(1), 'w', encoding='utf-8', buffering=1)
  order = json.loads(sys.stdin.readline())
  threading.Thread(target=_end_with_the_sweep, daemon=True).start()
  first, *others = [Path(trial['folder']) for trial in order['trials']]
  write_to(first / 'trial.log')
  for folder in others:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'trial.log', 'a', encoding='utf-8') as log:
      log.write(f'in a population, whose process writes to {first / "trial.log"}\n')
  run_population(
    order['trials'],
    lambda i, state: print(json.dumps([i, state]), file=results),
    force=order['force'],
  )


def _end_with_the_sweep() -> None:
  sys.stdin.read()
  os._exit(0)  # the sweep is gone, whatever ended it: nothing stays behind


if __name__ == '__main__':
  work()
