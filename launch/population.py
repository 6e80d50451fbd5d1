r"""Trains trials that differ only in seed and hyperparameters as one program.

  python -m launch.sweep experiments/agreement/transformer.py --on population --workdir W

Trials that share a compiled program form a group. One group runs after another, each in
its own process, on all devices. If a group needs too much memory, --workers limits its
number of trials: it is then cut into several populations. A trial's folder is the same
as that of the trial alone. In its trial.json 'population' is the number of members,
'place' the index of this one, and 'seconds' its share of their time. After an
interruption each trial resumes at its place in a program of the same width, so that its
bits do not depend on the interruption. The trial.log of the first trial has the output
of the process.
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

from launch.machine import environment
from launch.trials import (
  Trial,
  as_options,
  write_idle_state,
  write_running_state,
  write_state,
)
from launch.workers import grouped, write_to
from seqlab.io.processes import how_it_ended
from seqlab.io.secrets import scrub
from seqlab.results.origin import origin_of

OnEnd = Callable[[Trial, dict[str, Any]], None]


def run_many(
  trials: Sequence[Trial],
  on_end: OnEnd,
  *,
  workers: int | None = None,
  force: bool = False,
) -> None:
  """Runs trials as populations, and kills the one that runs if it is interrupted.

  Args:
    trials: trials to run.
    on_end: called with each trial that ended, and its state.
    workers: maximal number of trials in a population; by default all of a group.
    force: run in folders that a different experiment made.
  """
  for group in grouped(trials):
    interrupted = _interrupted_populations(group, workers)
    for population in interrupted:
      _run(population, on_end, force)
    members = {
      trial.folder for population in interrupted for trial in population.trials
    }
    new = [trial for trial in group if trial.folder not in members]
    size = workers or len(new)
    for start in range(0, len(new), size or 1):
      part = new[start : start + size]
      population = Population(uuid.uuid4().hex, part, range(len(part)), len(part))
      for trial, place in zip(part, population.places, strict=True):
        seat = population.seat(place)
        write_idle_state(trial, status='waiting', reason=None, **seat)
      _run(population, on_end, force)


@dataclasses.dataclass(frozen=True)
class Population:
  """The trials of one population that are still to run, and their places in it.

  Attributes:
    name: identifier of the population.
    trials: the trials that are still to run.
    places: place of each of them.
    width: number of places.
  """

  name: str
  trials: Sequence[Trial]
  places: Sequence[int]
  width: int

  def seat(self, place: int) -> dict[str, Any]:
    """Returns the entries of `trial.json` for a place."""
    return {'population': self.width, 'place': place, 'population_name': self.name}


def _interrupted_populations(
  trials: Sequence[Trial], workers: int | None
) -> list[Population]:
  """Returns the populations of these trials that an earlier sweep did not finish."""
  populations: dict[tuple[str, int], dict[int, Trial]] = {}
  for trial in trials:
    state = trial.state
    name, width, place = (
      state.get(key) for key in ('population_name', 'population', 'place')
    )
    if not isinstance(name, str) or type(width) is not int or type(place) is not int:
      continue
    # The user may have lowered --workers because memory ran out.
    if 0 <= place < width <= (workers or width):
      populations.setdefault((name, width), {}).setdefault(place, trial)
  return [
    Population(name, [*members.values()], [*members], width)
    for (name, width), members in populations.items()
    # Without a checkpoint there are no bits that a resumed run must reproduce.
    if any((trial.folder / 'checkpoints').is_dir() for trial in members.values())
  ]


def _run(population: Population, on_end: OnEnd, force: bool) -> None:
  """Runs one population in its own process."""
  trials = population.trials
  running = dict(enumerate(trials))
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.population'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    encoding='utf-8',
    env=environment(),
    start_new_session=True,  # Ctrl-C reaches the sweep, which then ends this
  )
  try:
    orders = [
      dict(
        folder=str(trial.folder),
        overrides=trial.overrides,
        config=trial.config,
        experiment=trial.experiment,
        seat=population.seat(place),
      )
      for trial, place in zip(trials, population.places, strict=True)
    ]
    with contextlib.suppress(BrokenPipeError):  # it died, as its exit status will show
      process.stdin.write(f'{json.dumps(dict(trials=orders, force=force))}\n')
      process.stdin.flush()
    for line in process.stdout:
      number, state = json.loads(line)
      on_end(running.pop(number), state)
    status = process.wait()
    for trial in running.values():
      log = trials[0].folder / 'trial.log'
      ending = how_it_ended(status)
      reason = f'its process was ended {ending}; the last lines of {log} may say why'
      if len(trials) > 1:
        reason += f'. If memory ran out, set --workers to less than {len(trials)}'
      state = write_idle_state(trial, status='failed', reason=reason, died=True)
      on_end(trial, state)
  finally:
    _kill(process)


def _kill(process: subprocess.Popen) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  process.stdout.close()
  with contextlib.suppress(BrokenPipeError):
    process.stdin.close()


class MemberStates:
  """The states of a population's trials; divides the time among those that run."""

  def __init__(
    self, orders: Sequence[Mapping[str, Any]], report: Callable[[int, dict], None]
  ):
    """Writes the `trial.json` of each trial.

    Args:
      orders: as in `run_population`.
      report: called with the index and the state of each trial that ended.
    """
    self._folders = [Path(order['folder']) for order in orders]
    self._states = {
      i: write_running_state(folder, order['overrides'], **order.get('seat', {}))
      for i, (folder, order) in enumerate(zip(self._folders, orders, strict=True))
    }
    self._report, self._last = report, time.monotonic()

  def end(self, i: int, error: Exception | None) -> None:
    """Ends trial i, which finished, or failed with an error."""
    if error is None:
      return self._end(i, 'finished', None)
    trace = scrub(''.join(traceback.format_exception(error)))
    print(trace, file=sys.stderr)
    if i:  # stderr is the log of trial 0
      with open(self._folders[i] / 'trial.log', 'a', encoding='utf-8') as log:
        log.write(trace)
    self._end(i, 'failed', scrub(f'{type(error).__name__}: {error}'))

  def stop(self, reason: str) -> None:
    """Ends all other trials as stopped: they resume later."""
    for i in list(self._states):
      self._end(i, 'stopped', reason)

  def fail(self, error: Exception) -> None:
    """Ends all other trials as failed."""
    for i in list(self._states):
      self.end(i, error)

  def _end(self, i: int, status: str, reason: str | None) -> None:
    now = time.monotonic()
    for state in self._states.values():  # all that were running until now
      state['seconds'] += (now - self._last) / len(self._states)
    self._last = now
    state = self._states.pop(i) | dict(status=status, reason=reason)
    write_state(self._folders[i], state)
    self._report(i, state)


def run_population(
  orders: Sequence[Mapping[str, Any]],
  report: Callable[[int, dict[str, Any]], None],
  *,
  force: bool = False,
) -> None:
  """Trains trials as one population in this process; an error is a state too.

  Args:
    orders: for each trial its 'folder', 'experiment', 'overrides', 'config' and 'seat':
      the entries of `trial.json` that name its population and its place there.
    report: called with the index of each trial that ended, and its state, which is also
      written to `trial.json`; see `launch.trials.run_trial`.
    force: run in folders that a different experiment made.
  """
  from seqlab.train.population import train_population
  from seqlab.train.processes import Stopped
  from seqlab.train.runtime import prepare

  prepare(orders[0]['config'].get('threads'))
  states = MemberStates(orders, report)
  configs, folders = zip(*((o['config'], o['folder']) for o in orders), strict=True)
  try:
    seats = [order['seat'] for order in orders]
    train_population(
      configs,
      folders,
      ended=states.end,
      force=force,
      places=[seat['place'] for seat in seats],
      width=seats[0]['population'],
      origins=[
        origin_of(order['experiment'], as_options(order['overrides']))
        for order in orders
      ],
    )
  except Stopped as stopped:
    states.stop(str(stopped))
  except Exception as error:  # of any kind: the other populations continue
    states.fail(error)


def work() -> None:
  """Runs in the process: reads trials from stdin, writes their states to stdout."""
  results = os.fdopen(os.dup(1), 'w', encoding='utf-8', buffering=1)
  order = json.loads(sys.stdin.readline())
  threading.Thread(target=_end_with_the_sweep, daemon=True).start()
  first, *others = [Path(trial['folder']) for trial in order['trials']]
  write_to(first / 'trial.log')
  for folder in others:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'trial.log', 'a', encoding='utf-8') as log:
      log.write(f'in a population: its process writes to {first / "trial.log"}\n')
  run_population(
    order['trials'],
    lambda i, state: print(json.dumps([i, state]), file=results),
    force=order['force'],
  )


def _end_with_the_sweep() -> None:
  sys.stdin.read()
  os._exit(0)  # the sweep has ended, for whatever reason: leave no process behind


if __name__ == '__main__':
  work()
