"""Searches: Optuna chooses the trials, and a pruner stops those that promise little.

In an experiment's file, `search(trial)` asks for values by Optuna's own functions and
returns what they override, by dotted keys; 'arg' is for `get_config`:

  def search(trial):
    return {
      'hyper.peak': trial.suggest_float('peak', 1e-4, 1e-2, log=True),
      'model.layers': trial.suggest_int('layers', 1, 4),
    }

The experiment's `keep_best` is made best, in the direction of `best_is`: a trial counts
as much as its best evaluation, and the pruner sees each evaluation at its step. Beside
it there may be `sampler(seed)` and `pruner()`, which return any of Optuna's; without
them it is a `TPESampler(seed=seed)` and a `MedianPruner()`. `NopPruner()` stops none.

All that sweeps must know of each other is in Optuna's storage, so any number of them,
on any machines, can work on one study. Each try of a trial is one of Optuna's trials:
when the process or the machine that ran it died, another one with the same values is put
into the queue, and goes on from the checkpoint if it finds the folder. T. Akiba et al.,
"Optuna", 2019, https://arxiv.org/abs/1907.10902
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import math
from pathlib import Path
import sys
import tempfile
import threading
import time
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from launch import storage
from launch.trials import (
  Trial,
  experiment_name,
  make_trial,
  module_of,
  write_state,
)
from seqlab.config import flatten
from seqlab.experiment import load_experiment
from seqlab.metrics_file import NewRows
from seqlab.report.runs import read_run
from seqlab.report.search import write
from seqlab.train.folder import RunFolder

_DEATHS = 5  # of a trial's processes, before it counts as failed
_GRIDS = (optuna.samplers.GridSampler, optuna.samplers.BruteForceSampler)

_T = TypeVar('_T')
Maker = Callable[[FrozenTrial], optuna.samplers.BaseSampler]


@dataclasses.dataclass
class _Running:
  """A trial that runs here, and what the study was told of it."""

  trial: optuna.Trial
  name: str | None = None  # None until `search` said what it is
  rows: NewRows | None = None
  step: int = -1  # of the last evaluation that was seen
  given_up: int | None = None  # the step after which the pruner did so
  reason: str = ''  # for that


class Search:
  """The search of one experiment, as far as this process has to do with it.

  A context manager: at its end the trials that still run here are put back into the
  queue.
  """

  def __init__(
    self,
    experiment: str,
    workdir: Path,
    *,
    trials: int,
    url: str | None = None,
    seed: int = 0,
    prunes: bool = True,
    force: bool = False,
  ):
    """Opens the study, or begins it; runs nothing.

    Args:
      experiment: a file, and maybe :arguments for its `get_config`.
      workdir: folder for the studies; a trial lies in <experiment>/<number> below it.
      trials: how many the study shall have in all, whoever runs them.
      url: of a database; by default the storage is a file in the study's folder.
      seed: of the sampler.
      prunes: whether trials can be stopped where they run.
      force: go on although the experiment is not the one that began the study.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no `search` or no `keep_best`, an override does not fit it, its
        sampler is of a grid, or it changed since the study was begun; or the URL is none.
      RuntimeError: another sweep uses the file, or a driver is not installed.
      OSError: the database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    self._experiment, self._trials, self._seed = experiment, trials, seed
    base, module = load_experiment(experiment), module_of(experiment)
    self.metric, self.mode = base['keep_best'], base['best_is']
    if not self.metric:
      raise ValueError(
        f'{experiment} sets no keep_best, and a search makes that metric best: name '
        f"one, such as c.keep_best = 'valid/bleu'"
      )
    self._search = getattr(module, 'search', None)
    if self._search is None:
      raise ValueError(
        f'{experiment} has no function search(trial) that returns overrides; leave '
        f'--trials out to run a sweep(add)'
      )
    self._make_sampler = getattr(module, 'sampler', _tpe)
    if isinstance(self._make_sampler(0), _GRIDS):
      raise ValueError(
        f'the sampler of {experiment} goes through a grid: add its trials in sweep(add)'
      )
    self._prunes, self._running = prunes, []
    self._answers_since, self._nameless = time.monotonic(), {}
    self.folder = workdir / experiment_name(experiment)
    with contextlib.suppress(optuna.TrialPruned):  # whatever the values, names must fit
      self._make(optuna.create_study(sampler=_tpe(0)).ask(), 0)
    self.folder.mkdir(parents=True, exist_ok=True)
    self._stack, self._ended = contextlib.ExitStack(), threading.Event()
    with contextlib.ExitStack() as stack:
      self._server = url is not None
      if not self._server:
        stack.enter_context(RunFolder(self.folder, {}).lock())
      self._storage = storage.open_storage(url, self.folder, self._dead)
      if self._server:
        stack.callback(self._storage.engine.dispose)
        stack.callback(self._storage.remove_session)
      with storage.storage_fails(url):
        self.study = optuna.create_study(
          storage=self._storage,
          study_name=self.folder.name,
          sampler=_OnePerTrial(self._sampler),
          pruner=getattr(module, 'pruner', optuna.pruners.MedianPruner)(),
          direction={'max': 'maximize', 'min': 'minimize'}[self.mode],
          load_if_exists=True,
        )
        self._check_unchanged(base, force)
      self._stack = stack.pop_all()

  def __enter__(self) -> 'Search':
    if self._server:
      thread = threading.Thread(target=self._live, daemon=True)
      thread.start()
      self._stack.callback(thread.join)
      self._stack.callback(self._ended.set)
    self._stack.callback(self._put_back)
    return self

  def __exit__(self, *_) -> None:
    with contextlib.suppress(*storage.STORAGE_ERRORS):  # then they are taken for dead
      self._stack.close()

  def begin(self) -> None:
    """Of a study in a file: takes up what a sweep that was killed left behind."""
    if self._server:
      return
    for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
      self.study.tell(trial.number, state=TrialState.FAIL)
      self._again(trial, died=False)

  def take(self, who: Any = None) -> Trial | None:
    """The next trial, which this process has to run; None if there are no more."""
    del who
    return self._patiently(self._take)

  def _take(self) -> Trial | None:
    self._bury()
    while self._wanted():
      with storage.as_meant():
        running = _Running(self.study.ask())
      self._running.append(running)
      try:
        self._show_life()
        if trial := self._name(running):
          return trial
      except storage.STORAGE_ERRORS:  # others will take it for dead
        self._running.remove(running)
        raise
    return None

  def _name(self, running: _Running) -> Trial | None:
    """Asks the experiment what to run; None if that is nothing."""
    asked = running.trial
    number = _numbers(self.study.get_trials(deepcopy=False))[asked.number]
    if number >= self._trials and 'of' not in asked.user_attrs:
      # Another sweep was quicker: all were there before this one.
      self._end(running, TrialState.FAIL, surplus=True)
      return None
    running.name = f'{number:04d}'
    asked.set_user_attr('name', running.name)
    try:
      trial = self._make(asked, number)
    except optuna.TrialPruned as error:
      reason = f'search(trial) gave it up{f": {error}" * bool(str(error))}'
      self._end(running, TrialState.PRUNED, reason=reason)
      return None
    except storage.STORAGE_ERRORS:
      raise
    except Exception as error:
      self._end(running, TrialState.FAIL, reason=str(error))
      raise
    running.rows = NewRows(trial.folder / 'metrics.jsonl')
    return trial

  def take_many(self, n: int) -> list[Trial]:
    """The next trials, n of them at most."""
    return [trial for _ in range(n) if (trial := self.take())]

  def hopeless(self, trial: Trial) -> bool:
    """Reports what a trial measured since the last time; whether it is to stop."""
    running = self._of(trial)
    news = self._news(running)
    if running.given_up is not None:  # it was told before it could hear
      return bool(news)
    return self._patiently(lambda: self._reported(running, news))

  def _reported(self, running: _Running, news: list[tuple[int, float]]) -> bool:
    """Takes from the news what the study is told; whether the trial is to stop."""
    while news:
      step, value = news[0]
      try:
        running.trial.report(value, step)
      except UpdateFinishedTrialError:  # it was taken for dead, and is in other hands
        return True
      news.pop(0)
      if self._prunes and running.trial.should_prune():
        running.given_up = step
        running.reason = f'at step {step:,}: {self.metric} {value:.4g}'
        return True
    return False

  def done(self, trial: Trial, state: Mapping[str, Any]) -> str:
    """Tells the study how a trial ended; what came of it, in a line."""
    self.hopeless(trial)  # the last evaluations
    running, died = self._of(trial), 'died' in state
    end, value, reason, text = self._verdict(trial, running, state)
    attributes = dict(seconds=state.get('seconds', 0.0), reason=reason)
    if not self._patiently(lambda: self._end(running, end, value, **attributes)):
      return 'was taken for dead, and is in other hands'
    if end == TrialState.FAIL and (state['status'] == 'stopped' or died):
      goes_on = self._patiently(lambda: self._again(running.trial, died=died))
      text += '; it goes on' * goes_on
    return f'{text} ({_values(running.trial)})'

  def _verdict(
    self, trial: Trial, running: _Running, state: Mapping[str, Any]
  ) -> tuple[TrialState, float | None, str | None, str]:
    """How a trial ended, its value, why it has none, and what to say of it."""
    status, reason = state['status'], state['reason']
    best, last = self._best(trial)
    # Whether it heard in time is chance, and shall not matter: unless it was given up
    # at its very end it is pruned.
    cut = status == 'stopped' or (status == 'finished' and last != running.given_up)
    if cut and running.given_up is not None:
      reason = running.reason
      write_state(trial.folder, {**state, 'status': 'pruned', 'reason': reason})
      return TrialState.PRUNED, None, reason, f'pruned {reason}'
    if status == 'finished' and not math.isnan(best):
      text = f'{state["seconds"]:.0f} s, {self.metric} {best:.4g}'
      return TrialState.COMPLETE, best, None, text
    reason = reason or f'there is no number among its {self.metric}'
    what = 'stopped' if status == 'stopped' else 'failed'
    # Values that make training diverge are bad ones: the sampler shall know it.
    diverged = reason.startswith('FloatingPointError')
    end = TrialState.PRUNED if diverged else TrialState.FAIL
    return end, None, reason, f'{what}: {reason.splitlines()[0]}'

  def wait(self) -> bool:
    """Whether there is something to run; waits while that depends on others."""
    said = False
    while True:
      self._patiently(self._bury)
      if self._patiently(self._wanted):
        return True
      n = sum(t.state == TrialState.RUNNING for t in self.latest().values())
      if not n:
        return False
      if not said:
        what = f'{n} trials that run' if n > 1 else 'a trial that runs'
        print(f'waiting for {what} elsewhere', flush=True)
      said = True
      time.sleep(storage.LOOK)

  def latest(self) -> dict[int, FrozenTrial]:
    """Number of a trial, from 0 -> its last try."""
    trials = self._patiently(lambda: self.study.get_trials(deepcopy=False))
    numbers = _numbers(trials)
    return {numbers[t.number]: t for t in trials if not t.user_attrs.get('surplus')}

  @property
  def ended(self) -> int:
    """How many trials have ended, well or not."""
    return len(self._ended_trials())

  @property
  def failed(self) -> dict[str, str]:
    """Trials that failed -> the reason."""
    return {
      f'{number:04d}': trial.user_attrs.get('reason', 'the machine that ran it died')
      for number, trial in self._ended_trials().items()
      if trial.state == TrialState.FAIL
    }

  @property
  def summary(self) -> str:
    """'12 of 40 trials are finished, 5 pruned, 1 failed'."""
    states = [trial.state for trial in self._ended_trials().values()]
    more = {'pruned': TrialState.PRUNED, 'failed': TrialState.FAIL}
    counts = {name: states.count(state) for name, state in more.items()}
    return ', '.join(
      [
        f'{states.count(TrialState.COMPLETE)} of {self._trials} trials are finished',
        *(f'{n} {name}' for name, n in counts.items() if n),
      ]
    )

  def report(self) -> list[Path]:
    """Writes table.md and figures of the trials that have ended; the files."""
    trials = self._ended_trials()
    if not trials:
      return []
    # Another sweep of this study may do the same at this moment.
    with tempfile.TemporaryDirectory(prefix='.report-', dir=self.folder) as folder:
      wrote = write(trials, Path(folder), metric=self.metric, best_is=self.mode)
      return [path.replace(self.folder / path.name) for path in wrote]

  def _ended_trials(self) -> dict[int, FrozenTrial]:
    return {k: t for k, t in self.latest().items() if t.state.is_finished()}

  def _wanted(self) -> bool:
    """Whether the study has too few trials yet, or any in its queue."""
    trials = self.study.get_trials(deepcopy=False)
    fresh = sum(not {'of', 'surplus'} & {*t.user_attrs} for t in trials)
    return fresh < self._trials or any(t.state == TrialState.WAITING for t in trials)

  def _make(self, trial: optuna.Trial, number: int) -> Trial:
    """The trial that the experiment's `search` wants."""
    overrides = self._search(trial)
    if not isinstance(overrides, Mapping):
      raise ValueError(
        f'search(trial) of {self._experiment} returned {overrides!r}; let it return '
        f"overrides, such as {{'hyper.peak': trial.suggest_float('peak', 1e-4, 1e-2)}}"
      )
    made = make_trial(self._experiment, self.folder / f'{number:04d}', overrides)
    if (made.config['keep_best'], made.config['best_is']) != (self.metric, self.mode):
      raise ValueError(
        f'search(trial) of {self._experiment} changes keep_best or best_is: all trials '
        f'are compared by one metric'
      )
    return made

  def _sampler(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
    """A trial's own: what it draws depends neither on who asks nor on interruptions."""
    number = _numbers(self.study.get_trials(deepcopy=False)).get(trial.number, 0)
    (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
    return self._make_sampler(int(seed))

  def _of(self, trial: Trial) -> _Running:
    (running,) = (r for r in self._running if r.name == trial.name)
    return running

  def _news(self, running: _Running) -> list[tuple[int, float]]:
    """Steps and values of the evaluations that are new."""
    try:
      rows = running.rows.read()
    except FileNotFoundError:
      return []
    found = {row['step']: row[self.metric] for row in rows if self.metric in row}
    new = [(s, math.nan if v is None else v) for s, v in found.items()]
    new = sorted((s, v) for s, v in new if s > running.step)
    running.step = max([running.step, *(step for step, _ in new)])
    return new

  def _best(self, trial: Trial) -> tuple[float, int]:
    """Best value of a trial, and the step of its last one; NaN and -1 without any."""
    if not (trial.folder / 'config.json').is_file():
      return math.nan, -1
    run = read_run(trial.folder)
    if not run.has(self.metric):
      return math.nan, -1
    return run.best(self.metric, self.mode), run.series(self.metric)[0][-1]

  def _again(self, trial: FrozenTrial | optuna.Trial, *, died: bool) -> bool:
    """Puts a trial that was not ended into the queue again, unless it is hopeless."""
    deaths = trial.user_attrs.get('deaths', 0) + died
    if deaths > _DEATHS:
      return False
    number = _numbers(self.study.get_trials(deepcopy=False))[trial.number]
    self.study.enqueue_trial(trial.params, dict(of=number, deaths=deaths))
    return True

  def _end(
    self,
    running: _Running,
    state: TrialState,
    value: float | None = None,
    **attributes: Any,
  ) -> bool:
    """Ends a try; False if it had been ended by others, who took it for dead."""
    self._running = [r for r in self._running if r is not running]
    try:
      for key, x in attributes.items():
        running.trial.set_user_attr(key, x)
      self.study.tell(running.trial, value, state)
    except (UpdateFinishedTrialError, ValueError):
      return False
    return True

  def _dead(self, study: optuna.Study, trial: FrozenTrial) -> None:
    self._again(trial, died=True)

  def _put_back(self) -> None:
    """Puts what runs here into the queue again; the folders stay."""
    for running in self._running:
      if self._end(running, TrialState.FAIL):
        self._again(running.trial, died=False)

  def _bury(self) -> None:
    """Ends the tries of sweeps that died, and puts them into the queue again."""
    now = time.monotonic()
    if not self._server or now - self._answers_since < 2 * storage.BEAT:
      return  # those that live could not say so yet
    with storage.as_meant():
      optuna.storages.fail_stale_trials(self.study)
    # Whose sweep died before its first sign of life is not among these.
    running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    nameless = {t.number: t for t in running if 'name' not in t.user_attrs}
    self._nameless = {n: self._nameless.get(n, now) for n in nameless}
    for number, since in self._nameless.items():
      if now - since > storage.GRACE:
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):
          self.study.tell(number, state=TrialState.FAIL)
          self._again(nameless[number], died=True)

  def _patiently(self, action: Callable[[], _T]) -> _T:
    """Does something with the storage, again and again while a server is away."""
    until, said = time.monotonic() + storage.PATIENCE, False
    while True:
      try:
        with storage.storage_fails():
          return action()
      except storage.Away as error:
        self._answers_since = now = time.monotonic()
        if not self._server or now > until:
          raise
        if not said:
          print(
            f'{error}; for {storage.PATIENCE:.0f} s this waits for it', file=sys.stderr
          )
        said = True
        time.sleep(storage.LOOK)

  def _live(self) -> None:
    while not self._ended.wait(storage.BEAT):
      try:
        self._show_life()
      except Exception as error:
        self._answers_since = time.monotonic()
        print(
          f'the storage of {self.study.study_name} is not told that its trials run '
          f'({storage.first_line(error)}); after {storage.GRACE} s they are taken for dead',
          file=sys.stderr,
        )

  def _show_life(self) -> None:
    """What `Study.optimize` does in a server's storage, and who asks and tells must."""
    if self._server:
      for running in self._running:
        self._storage.record_heartbeat(running.trial._trial_id)

  def _check_unchanged(self, base: Mapping[str, Any], force: bool) -> None:
    """Refuses to mix trials of two experiments in one study."""
    now = {k: repr(v) for k, v in flatten(base).items()}
    then = self.study.user_attrs.get('experiment')
    if then is None or force:
      self.study.set_user_attr('experiment', now)
      return
    changed = [k for k in {**then, **now} if then.get(k) != now.get(k)]
    if changed:
      lines = (
        f'{k}: {then.get(k, "nothing")} there, {now.get(k, "nothing")} now'
        for k in changed
      )
      raise ValueError(
        f'the experiment changed since the search {self.study.study_name} was begun:\n  '
        + '\n  '.join(lines)
        + '\nuse another --workdir (and --storage), or --force to go on in this study'
      )


class _OnePerTrial(optuna.samplers.BaseSampler):
  """Has each trial sampled by a sampler that is made for it."""

  def __init__(self, make: Maker):
    self._make, self._own = make, None

  def before_trial(self, study, trial) -> None:
    self._own = self._make(trial)
    self._own.before_trial(study, trial)

  def infer_relative_search_space(self, study, trial) -> dict[str, Any]:
    return self._own.infer_relative_search_space(study, trial)

  def sample_relative(self, study, trial, search_space) -> dict[str, Any]:
    return self._own.sample_relative(study, trial, search_space)

  def sample_independent(self, study, trial, param_name, param_distribution) -> Any:
    return self._own.sample_independent(study, trial, param_name, param_distribution)

  def after_trial(self, study, trial, state, values) -> None:
    self._make(trial).after_trial(study, trial, state, values)


def _numbers(trials: Sequence[FrozenTrial]) -> dict[int, int]:
  """Optuna's number of each try -> the number of the trial that it is a try of.

  Trials are counted in the order in which they were asked for, which is the same for
  everybody: so is who asked for one too many.
  """
  numbers, fresh = {}, 0
  for trial in sorted(trials, key=lambda trial: trial.number):
    again = trial.user_attrs.get('of')
    numbers[trial.number] = fresh if again is None else again
    fresh += again is None and not trial.user_attrs.get('surplus')
  return numbers


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
  return optuna.samplers.TPESampler(seed=seed)


def _values(trial: optuna.Trial) -> str:
  """'peak=0.003, cell=gru'."""
  return ', '.join(
    f'{k}={v:.4g}' if isinstance(v, float) else f'{k}={v}'
    for k, v in trial.params.items()
  )
