"""Many trials on this machine, in processes that have a share of its cores each."""

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

from launch import leash
from launch.machine import environment, how_it_ended, is_suspended, share
from launch.trials import Trial, leave, run_trial
from seqlab.text.workers import all_cores

EVERY = 0.5  # seconds between two looks at what runs
_SUSPENDED = 5.0  # seconds that a worker may be suspended before that is reported


def run_many(
  trials: Sequence[Trial],
  done: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int | None = None,
  force: bool = False,
) -> None:
  """Runs trials side by side, and kills what still runs if it is interrupted.

  A trial that ends its whole process counts as failed; the others go on.

  Args:
    trials: what to run.
    done: called with each trial that ended, and its state.
    workers: how many at a time; by default one for each core.
    force: run in folders that a different experiment made.
  """
  workers = min(workers or len(all_cores()), len(trials))
  run_from(Waiting(trials).take, done, workers=workers, force=force)


def run_from(
  take: Callable[['Worker'], Trial | None],
  done: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int,
  stop: Callable[[Trial], bool] | None = None,
  force: bool = False,
) -> None:
  """Runs the trials that it is given, the next one when a worker is free.

  Args:
    take: the next trial for a worker; None if there are no more.
    done: called with each trial that ended, and its state.
    workers: how many at a time.
    stop: asked of each running trial every `EVERY` seconds: whether to stop it, by
      SIGTERM; it then ends as 'stopped', with a checkpoint, unless it has just
      finished.
    force: run in folders that a different experiment made.
  """
  cores = all_cores()
  with contextlib.ExitStack() as stack:
    selector = stack.enter_context(selectors.DefaultSelector())
    for i in range(workers):
      worker = Worker(share(cores, i, workers), alone=workers == 1)
      stack.callback(worker.kill)
      if worker.begin(take, force=force):
        selector.register(worker.results, selectors.EVENT_READ, worker)
    while selector.get_map():
      for key, _ in selector.select(EVERY):
        worker = key.data
        selector.unregister(key.fileobj)
        done(worker.trial, worker.end())
        if worker.begin(take, force=force):
          selector.register(worker.results, selectors.EVENT_READ, worker)
      for key in list(selector.get_map().values()):
        key.data.report_suspended()
        if stop and stop(key.data.trial):
          key.data.stop()


def grouped(trials: Sequence[Trial]) -> list[list[Trial]]:
  """Trials that share a compiled program together, in their order.

  Seeds and what is in `hyper` are arguments of the program: it depends only on which
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


class Waiting:
  """Trials that nobody has taken yet, in groups that share a compiled program.

  Whoever has begun a group goes on with it, so that two workers seldom compile the
  same thing at once.
  """

  def __init__(self, trials: Sequence[Trial]):
    """Puts the trials into groups, in their order."""
    self._fresh = deque(map(deque, grouped(trials)))
    self._begun: dict[Any, deque[Trial]] = {}

  def take(self, who: Any) -> Trial | None:
    """The next trial for `who`; None if there are no more."""
    if not self._begun.get(who) and self._fresh:
      self._begun[who] = self._fresh.popleft()
    own = self._begun.get(who)
    if not own:  # helps with the longest group
      own = max(self._begun.values(), key=len, default=None)
    return own.popleft() if own else None


class Worker:
  """A process that runs one trial after another."""

  def __init__(self, cores: Sequence[int], *, alone: bool):
    """Starts nothing yet; `alone` if it need not share the memory of a GPU."""
    self._cores, self._environment = cores, environment()
    if not alone:
      self._environment.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    self._process: subprocess.Popen | None = None
    self._suspended: float | None = None  # since when; infinity once it was reported

  @property
  def results(self) -> Any:
    """The file that can be read once the trial has ended."""
    return self._process.stdout

  def begin(self, take: Callable[['Worker'], Trial | None], *, force: bool) -> bool:
    """Begins with the next trial; or ends the process, as there is none."""
    self.trial, self._told = take(self), False
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
    with contextlib.suppress(BrokenPipeError):  # `end` sees that it died
      self._process.stdin.write(f'{json.dumps(order)}\n')
      self._process.stdin.flush()
    return True

  def end(self) -> dict[str, Any]:
    """The state of the trial that ended, or that the process died of."""
    line = self._process.stdout.readline()
    if line:
      return json.loads(line)
    status = self._process.wait()
    self.kill()
    if self._told and status == -signal.SIGTERM:  # before it could hear it
      reason = 'stopped, as it was told, at its start'
      return leave(self.trial, status='stopped', reason=reason)
    how = how_it_ended(status)
    reason = f'its process was ended {how}; the last lines of trial.log may say why'
    return leave(self.trial, status='failed', reason=reason, died=True)

  def stop(self) -> None:
    """Tells the trial to stop; `end` has what came of it."""
    self._told = True
    self._process.terminate()

  def report_suspended(self) -> None:
    """Says so once if the process was suspended, as its trial then never ends."""
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
    """Ends the process and those it started; a run bears that at any moment."""
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
      [
        *(sys.executable, leash.__file__, str(os.getpid())),
        *(sys.executable, '-m', 'launch.workers', json.dumps(self._cores)),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      encoding='utf-8',
      env=self._environment,
      start_new_session=True,  # Ctrl-C is for the sweep, which then ends this
    )


def work(cores: Sequence[int]) -> None:
  """What a worker does: trials come in at stdin, and their states go out at stdout."""
  if cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, cores)  # before JAX counts the cores
  # A trial hears SIGTERM by itself; that to one which has just ended is not for the next.
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
    gc.collect()  # a run that ended refers to itself, and holds its arrays
    results.write(f'{json.dumps(state)}\n')


def _read(orders: queue.Queue) -> None:
  for line in sys.stdin:
    orders.put(json.loads(line))
  os._exit(0)  # the sweep is gone, whatever ended it: nothing stays behind


def write_to(path: Path) -> None:
  """Sends all output there, that of libraries in C++ too."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a', encoding='utf-8') as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)


if __name__ == '__main__':
  work(json.loads(sys.argv[1]))
