"""Hyperparameter searches: Optuna chooses the trials, and a pruner stops poor ones.

In an experiment's file, `search(trial)` asks for values by Optuna's own functions and
returns what they override, by dotted keys; 'arg' is for `get_config`:

  def search(trial):
    return {
      'hyper.peak': trial.suggest_float('peak', 1e-4, 1e-2, log=True),
      'model.layers': trial.suggest_int('layers', 1, 4),
    }

The experiment's `keep_best` is optimised, in the direction of `best_is`: the value of a
trial is its best evaluation, and the pruner sees each evaluation at its step. The file
may also define `sampler(seed)` and `pruner()`, which return any of Optuna's; without
them they are `TPESampler(seed=seed)` and `MedianPruner()`. `NopPruner()` stops none.

All that processes must know of each other is in Optuna's storage, so any number of
them, on any machines, can work on one study (launch/trial_queue.py). A trial whose
process died is queued again, and resumes from its checkpoint where the folder is seen.
T. Akiba et al., "Optuna", 2019, https://arxiv.org/abs/1907.10902
"""

import ast
from collections.abc import Mapping
import contextlib
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from launch import storage
from launch.outcomes import outcome_of
from launch.pruning import Evaluations
from launch.search_space import SamplerPerTrial, SearchSpace
from launch.trial_queue import Claim, TrialQueue, trial_numbers
from launch.trials import Trial, experiment_name
from seqlab.config import flatten
from seqlab.report.search import write
from seqlab.train.folder import RunFolder
from seqlab.upgrade import upgrade


class HyperSearch:
  """The search of one experiment, as seen by this process.

  A context manager: on exit the trials that still run here are queued again.

  Attributes:
    folder: folder of the study.
    study: Optuna's study.
    queue: its trials.
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
    """Opens the study, or creates it; runs nothing.

    Args:
      experiment: a file, and maybe :arguments for its `get_config`.
      workdir: folder for the studies; a trial lies in <experiment>/<number> below it.
      trials: number of trials that the study is to have, whichever process runs them.
      url: URL of a database; by default the storage is a file in the study's folder.
      seed: integer seed of the sampler.
      prunes: whether trials can be stopped while they run.
      force: continue although the experiment is not the one that created the study.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no `search` or no `keep_best`, an override does not fit it, its
        sampler is of a grid, or it changed since the study was created; or the URL is
        not valid.
      RuntimeError: another process uses the file, or a driver is not installed.
      OSError: the database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    self._space = SearchSpace.of(experiment)
    self._seed, self._prunes = seed, prunes
    self._running: dict[str, tuple[Claim, Evaluations]] = {}  # by name of the trial
    self._connection = storage.Connection(is_server=url is not None)
    self.folder = workdir / experiment_name(experiment)
    self._space.check(self._folder_of(0))
    self.folder.mkdir(parents=True, exist_ok=True)
    self._stack = contextlib.ExitStack()
    with contextlib.ExitStack() as stack:
      self.study = self._open(url, stack)
      self.queue = TrialQueue(self.study, trials, self._connection)
      with storage.storage_errors(url):
        _check_unchanged(self.study, self._space.config, force)
      self._stack = stack.pop_all()

  def _open(self, url: str | None, stack: contextlib.ExitStack) -> optuna.Study:
    """Opens Optuna's study; what has to be closed goes to the stack."""
    if url is None:
      stack.enter_context(RunFolder(self.folder, {}).lock())
    opened = storage.open_storage(url, self.folder, self._requeue_stale)
    if url is not None:
      stack.callback(opened.engine.dispose)
      stack.callback(opened.remove_session)
    with storage.storage_errors(url):
      return optuna.create_study(
        storage=opened,
        study_name=self.folder.name,
        sampler=SamplerPerTrial(self._make_sampler),
        pruner=self._space.pruner(),
        direction={'max': 'maximize', 'min': 'minimize'}[self._space.best_is],
        load_if_exists=True,
      )

  def _make_sampler(self, attempt: FrozenTrial) -> optuna.samplers.BaseSampler:
    # Of `self.study`: a pruner such as Hyperband shows a sampler only some of its trials.
    number = trial_numbers(self.study).get(attempt.number, 0)
    (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
    return self._space.sampler(int(seed))

  def _requeue_stale(self, study: optuna.Study, attempt: FrozenTrial) -> None:
    self.queue.requeue(attempt, died=True)

  def __enter__(self) -> 'HyperSearch':
    self._stack.enter_context(self.queue.heartbeats())
    self._stack.callback(self.queue.requeue_claims)
    return self

  def __exit__(self, *_) -> None:
    # If the storage fails, other processes find the trials stale.
    with contextlib.suppress(*storage.STORAGE_ERRORS):
      self._stack.close()

  def next_trial(self, worker: Any = None) -> Trial | None:
    """Returns the next trial for this process to run; None after the last."""
    del worker  # each may run any trial
    return self._connection.retry(self._next_trial)

  def _next_trial(self) -> Trial | None:
    while claim := self.queue.claim():
      if trial := self._make_trial(claim):
        return trial
    return None

  def _make_trial(self, claim: Claim) -> Trial | None:
    """Asks the experiment what to run; None if it skips these values."""
    try:
      trial = self._space.make_trial(claim.attempt, self._folder_of(claim.number))
    except optuna.TrialPruned as error:
      reason = f'search(trial) skipped it{f": {error}" * bool(str(error))}'
      self.queue.close(claim, TrialState.PRUNED, reason=reason)
      return None
    except storage.STORAGE_ERRORS:
      self.queue.abandon(claim)
      raise
    except Exception as error:
      self.queue.close(claim, TrialState.FAIL, reason=str(error))
      raise
    evaluations = Evaluations(
      *(claim.attempt, trial.folder, self._space.metric, self._connection),
      prunes=self._prunes,
    )
    self._running[trial.name] = claim, evaluations
    return trial

  def next_trials(self, n: int) -> list[Trial]:
    """Returns the next trials, n of them at most."""
    return [trial for _ in range(n) if (trial := self.next_trial())]

  def should_stop(self, trial: Trial) -> bool:
    """Reports the new evaluations of a trial; returns whether it is to be stopped."""
    _, evaluations = self._running[trial.name]
    return evaluations.should_stop()

  def finish(self, trial: Trial, run_state: Mapping[str, Any]) -> str:
    """Tells the study how a trial ended.

    Args:
      trial: a trial of `next_trial`.
      run_state: what its process says of it, as in `trial.json`.

    Returns:
      The outcome in one line.
    """
    self.should_stop(trial)  # reports the last evaluations
    claim, evaluations = self._running.pop(trial.name)
    metric = self._space.metric, self._space.best_is
    outcome = outcome_of(trial, run_state, evaluations, *metric)
    details = dict(seconds=run_state.get('seconds', 0.0), reason=outcome.reason)
    if not self._connection.retry(
      lambda: self.queue.close(claim, outcome.state, outcome.value, **details)
    ):
      return 'had no heartbeat and was marked as failed; another process has it'
    text, died = outcome.text, 'died' in run_state
    if outcome.state == TrialState.FAIL and (run_state['status'] == 'stopped' or died):
      requeued = self._connection.retry(
        lambda: self.queue.requeue(claim.attempt, died=died)
      )
      text += '; it is queued again' * requeued
    return f'{text} ({_values(claim.attempt)})'

  @property
  def num_ended(self) -> int:
    """Number of trials that have ended, whether complete, pruned or failed."""
    return len(self._ended_trials())

  @property
  def failures(self) -> dict[str, str]:
    """Name of each trial that failed -> the reason."""
    return {
      f'{number:04d}': attempt.user_attrs.get('reason', 'the machine that ran it died')
      for number, attempt in self._ended_trials().items()
      if attempt.state == TrialState.FAIL
    }

  @property
  def summary(self) -> str:
    """'12 of 40 trials are finished, 5 pruned, 1 failed'."""
    states = [attempt.state for attempt in self._ended_trials().values()]
    others = {'pruned': TrialState.PRUNED, 'failed': TrialState.FAIL}
    counts = {name: states.count(state) for name, state in others.items()}
    finished = states.count(TrialState.COMPLETE)
    return ', '.join(
      [
        f'{finished} of {self.queue.size} trials are finished',
        *(f'{n} {name}' for name, n in counts.items() if n),
      ]
    )

  def report(self) -> list[Path]:
    """Writes table.md and figures of the trials that have ended; returns the files."""
    trials = self._ended_trials()
    if not trials:
      return []
    options = dict(metric=self._space.metric, best_is=self._space.best_is)
    # Another process may report on this study at the same moment.
    with tempfile.TemporaryDirectory(prefix='.report-', dir=self.folder) as folder:
      written = write(trials, Path(folder), **options)
      return [path.replace(self.folder / path.name) for path in written]

  def _ended_trials(self) -> dict[int, FrozenTrial]:
    return {k: t for k, t in self.queue.latest().items() if t.state.is_finished()}

  def _folder_of(self, number: int) -> Path:
    return self.folder / f'{number:04d}'


def _check_unchanged(
  study: optuna.Study, config: Mapping[str, Any], force: bool
) -> None:
  """Refuses to mix trials of two experiments in one study."""
  now = {k: repr(v) for k, v in flatten(config).items()}
  then = study.user_attrs.get('experiment')
  if then is None or force:
    study.set_user_attr('experiment', now)
    return
  then = _upgraded(then)
  changed = [k for k in {**then, **now} if then.get(k) != now.get(k)]
  if changed:
    lines = (
      f'{k}: {then.get(k, "nothing")} there, {now.get(k, "nothing")} now'
      for k in changed
    )
    raise ValueError(
      f'the experiment changed since the search {study.study_name} was created:\n  '
      + '\n  '.join(lines)
      + '\nuse another --workdir (and --storage), or --force to continue this study'
    )


def _upgraded(then: Mapping[str, str]) -> dict[str, str]:
  """Returns the stored experiment of a study with today's keys.

  Values are stored as Python literals. An experiment with other values is returned as
  it is.
  """
  config: dict[str, Any] = {}
  try:
    for key, text in then.items():
      *sections, last = key.split('.')
      section = config
      for name in sections:
        section = section.setdefault(name, {})
      section[last] = ast.literal_eval(text)
    upgraded = upgrade(config)
  except (ValueError, SyntaxError, AttributeError, TypeError):
    return dict(then)
  return {k: repr(v) for k, v in flatten(upgraded).items()}


def _values(attempt: optuna.Trial) -> str:
  """Returns the values of an attempt as text, such as 'peak=0.003, cell=gru'."""
  return ', '.join(
    f'{k}={v:.4g}' if isinstance(v, float) else f'{k}={v}'
    for k, v in attempt.params.items()
  )
