"""Many trials on this machine, in processes with a share of its cores each."""

from collections import deque
from collections.abc import Callable, Sequence
import contextlib
import gc
import json
import math
import os
from pathlib import Path
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from launch.machine import environment
from launch.trials import Trial, run_trial, write_idle_state
from seqlab.io import leash
from seqlab.io.processes import how_it_ended, is_suspended, share
from seqlab.text.workers import all_cores

POLL = 0.5  # seconds between two checks of the running trials
_SUSPENDED = 5.0  # seconds that a worker may be suspended before that is reported


def run_many(
  trials: Sequence[Trial],
  on_end: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int | None = None,
  force: bool = False,
) -> None:
  """Runs trials side by side, and kills those that still run if it is interrupted.

  A trial whose process dies counts as failed; the others continue.

  Args:
    trials: trials to run.
    on_end: called with each trial that ended, and its state.
    workers: number of trials that run at a time; by default one per core.
    force: run in folders that a different experiment made.
  """
  workers = min(workers or len(all_cores()), len(trials))
  queue = GroupedQueue(trials)
  run_from(queue.next_trial, on_end, workers=workers, force=force)


def run_from(
  next_trial: Callable[['Worker'], Trial | None],
  on_end: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int,
  should_stop: Callable[[Trial], bool] | None = None,
  force: bool = False,
) -> None:
  """Runs the trials that it is given, the next one when a worker is free.

  Args:
    next_trial: returns the next trial for a worker; None after the last.
    on_end: called with each trial that ended, and its state.
    workers: number of trials that run at a time.
    should_stop: called with each running trial every `POLL` seconds, to stop it by
      SIGTERM. It then ends as 'stopped', with a checkpoint, unless it has just
      finished.
    force: run in folders that a different experiment made.
  """
  cores = all_cores()
  with contextlib.ExitStack() as stack:
    selector = stack.enter_context(selectors.DefaultSelector())
    for i in range(workers):
      worker = Worker(share(cores, i, workers), alone=workers == 1)
      stack.callback(worker.kill)
      if worker.start_next(next_trial, force=force):
        selector.register(worker.results, selectors.EVENT_READ, worker)
    while selector.get_map():
      for key, _ in selector.select(POLL):
        worker = key.data
        selector.unregister(key.fileobj)
        on_end(worker.trial, worker.end())
        if worker.start_next(next_trial, force=force):
          selector.register(worker.results, selectors.EVENT_READ, worker)
      for key in list(selector.get_map().values()):
        key.data.report_suspended()
        if should_stop and should_stop(key.data.trial):
          key.data.stop()


def grouped(trials: Sequence[Trial]) -> list[list[Trial]]:
  """Groups trials by the compiled program that they share, in their order.

  Seeds and the values in `hyper` are arguments of the program: it depends only on which
  hyperparameters there are.
  """
  groups: dict[str, list[Trial]] = {}
  for trial in trials:
    compiled = {
      k: v
      for k, v in trial.overrides.items()
      if k != 'seed' and not k.startswith('hyper.')
    }
    hyper = [k for k, v in trial.config.get('hyper', {}).items() if v is not None]
    program = json.dumps([trial.experiment, compiled, sorted(hyper)], sort_keys=True)
    groups.setdefault(program, []).append(trial)
  return list(groups.values())


class GroupedQueue:
  """Trials that wait for a worker, in groups that share a compiled program.

  A worker continues with the group that it has started, so that two workers seldom
  compile the same program at once.
  """

  def __init__(self, trials: Sequence[Trial]):
    """Puts the trials into groups, in their order."""
    self._unassigned = deque(map(deque, grouped(trials)))
    self._assigned: dict[Any, deque[Trial]] = {}  # by worker

  def next_trial(self, worker: Any) -> Trial | None:
    """Returns the next trial for a worker; None after the last."""
    if not self._assigned.get(worker) and self._unassigned:
      self._assigned[worker] = self._unassigned.popleft()
    group = self._assigned.get(worker)
    if not group:  # help with the longest group
      group = max(self._assigned.values(), key=len, default=None)
    return group.popleft() if group else None


class Worker:
  """A process that runs one trial after another."""

  def __init__(self, cores: Sequence[int], *, alone: bool):
    """Starts nothing yet.

    Args:
      cores: cores of its process.
      alone: whether no other worker uses the memory of the GPU.
    """
    self._cores, self._environment = cores, environment()
    if not alone:
      self._environment.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    self._process: subprocess.Popen | None = None
    self._suspended: float | None = None  # since when; infinity after the report

  @property
  def results(self) -> Any:
    """The file that becomes readable when the trial has ended."""
    return self._process.stdout

  def start_next(
    self, next_trial: Callable[['Worker'], Trial | None], *, force: bool
  ) -> bool:
    """Starts the next trial, or ends the process if there is none."""
    self.trial, self._stop_requested = next_trial(self), False
    if self.trial is None:
      self.kill()
      return False
    if self._process is None:
      self._start()
    order = dict(
      experiment=self.trial.experiment,
      overrides=self.trial.overrides,
      folder=str(self.trial.folder),
      force=force,
    )
    with contextlib.suppress(BrokenPipeError):  # it died, which `end` reports
      self._process.stdin.write(f'{json.dumps(order)}\n')
      self._process.stdin.flush()
    return True

  def end(self) -> dict[str, Any]:
    """Returns the state of the trial that ended, or whose process died."""
    line = self._process.stdout.readline()
    if line:
      return json.loads(line)
    status = self._process.wait()
    self.kill()
    if self._stop_requested and status == -signal.SIGTERM:  # it had no handler yet
      reason = 'stopped at its start, by SIGTERM'
      return write_idle_state(self.trial, status='stopped', reason=reason)
    ending = how_it_ended(status)
    reason = f'its process was ended {ending}; the last lines of trial.log may say why'
    return write_idle_state(self.trial, status='failed', reason=reason, died=True)

  def stop(self) -> None:
    """Requests the trial to stop; `end` returns its state."""
    self._stop_requested = True
    self._process.terminate()

  def report_suspended(self) -> None:
    """Reports once if the process is suspended, since its trial then never ends."""
    if not is_suspended(self._process.pid):
      self._suspended = None
      return
    now = time.monotonic()
    self._suspended = self._suspended or now
    if self._suspended < now - _SUSPENDED:
      self._suspended = math.inf
      print(
        f'the process of trial {self.trial.name} is suspended: '
        f'`kill -CONT {self._process.pid}` lets it continue',
        file=sys.stderr,
      )

  def kill(self) -> None:
    """Kills the process and its children; a run survives that at any moment."""
    if self._process:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self._process.pid, signal.SIGKILL)
      self._process.wait()
      self._process.stdout.close()
      with contextlib.suppress(BrokenPipeError):
        self._process.stdin.close()
      self._process = None

  def _start(self) -> None:
    self._process = subprocess.Popen(
      leash.leashed([sys.executable, '-m', 'launch.workers', json.dumps(self._cores)]),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      encoding='utf-8',
      env=self._environment,
      start_new_session=True,  # Ctrl-C reaches the sweep, which then ends this
    )


def work(cores: Sequence[int]) -> None:
  """Runs in a worker: reads trials from stdin, and writes their states to stdout."""
  if cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, cores)  # before JAX counts the cores
  # A trial installs its own handler. A SIGTERM that arrives after its end must not stop
  # the next one.
  signal.signal(signal.SIGTERM, lambda *_: None)
  results = os.fdopen(os.dup(1), 'w', encoding='utf-8', buffering=1)
  orders: queue.Queue[dict[str, Any]] = queue.Queue()
  threading.Thread(target=_read, args=(orders,), daemon=True).start()
  while True:
    order = orders.get()
    folder = Path(order.pop('folder'))
    write_to(folder / 'trial.log')
    state = run_trial(folder=folder, **order)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()  # a run that ended is part of a cycle, which holds its arrays
    results.write(f'{json.dumps(state)}\n')


def _read(orders: queue.Queue) -> None:
  for line in sys.stdin:
    orders.put(json.loads(line))
  os._exit(0)  # the sweep has ended, for whatever reason: leave no process behind


def write_to(path: Path) -> None:
  """Redirects all output to a file, also that of libraries in C++."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a', encoding='utf-8') as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)


if __name__ == '__main__':
  work(json.loads(sys.argv[1]))
