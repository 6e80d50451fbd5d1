"""The search that an experiment's file defines: values, sampler and pruner."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from launch.trials import Trial, make_trial, module_of
from seqlab.config import best_is
from seqlab.experiment import load_experiment

_GRIDS = (optuna.samplers.GridSampler, optuna.samplers.BruteForceSampler)


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """The search of one experiment.

  Attributes:
    experiment: a file, and maybe :arguments for its `get_config`.
    config: the resolved experiment without any overrides.
    suggest: the file's `search(trial)`.
    sampler: the file's `sampler(seed)`, or one that makes a `TPESampler`.
    pruner: the file's `pruner()`, or one that makes a `MedianPruner`.
  """

  experiment: str
  config: dict[str, Any]
  suggest: Callable[[optuna.Trial], Mapping[str, Any]]
  sampler: Callable[[int], optuna.samplers.BaseSampler]
  pruner: Callable[[], optuna.pruners.BasePruner]

  @classmethod
  def of(cls, experiment: str) -> 'SearchSpace':
    """Reads an experiment's file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no `search` or no `keep_best`, or its sampler is of a grid.
    """
    config, module = load_experiment(experiment), module_of(experiment)
    if not config['keep_best']:
      raise ValueError(
        f'{experiment} sets no keep_best, the metric that a search optimises: name '
        f"one, such as c.keep_best = 'valid/bleu'"
      )
    if not hasattr(module, 'search'):
      raise ValueError(
        f'{experiment} has no function search(trial) that returns overrides: define '
        f'it, or leave --trials out to run a sweep(add)'
      )
    sampler = getattr(module, 'sampler', _tpe)
    if isinstance(sampler(0), _GRIDS):
      raise ValueError(
        f'the sampler of {experiment} goes through a grid: add its trials in sweep(add)'
      )
    pruner = getattr(module, 'pruner', optuna.pruners.MedianPruner)
    return cls(experiment, config, module.search, sampler, pruner)

  @property
  def metric(self) -> str:
    """Name of the metric that is optimised."""
    return self.config['keep_best']

  @property
  def best_is(self) -> str:
    """'max' or 'min'."""
    return best_is(self.config)

  def check(self, folder: Path) -> None:
    """Makes one trial that is never run, so that a wrong name is found beforehand.

    Raises:
      ValueError: `search` returns no overrides, or they do not fit the experiment.
    """
    with contextlib.suppress(optuna.TrialPruned):
      self.make_trial(optuna.create_study(sampler=_tpe(0)).ask(), folder)

  def make_trial(self, attempt: optuna.Trial, folder: Path) -> Trial:
    """Returns the trial that the experiment's `search` asks for; starts nothing.

    Args:
      attempt: Optuna's trial, which suggests values.
      folder: folder of the run.

    Raises:
      ValueError: `search` returns no overrides, or they do not fit the experiment.
      optuna.TrialPruned: `search` raises it, to skip these values.
    """
    overrides = self.suggest(attempt)
    if not isinstance(overrides, Mapping):
      raise ValueError(
        f'search(trial) of {self.experiment} returned {overrides!r}: let it return '
        f"overrides, such as {{'hyper.peak': trial.suggest_float('peak', 1e-4, 1e-2)}}"
      )
    trial = make_trial(self.experiment, folder, overrides)
    if (trial.config['keep_best'], best_is(trial.config)) != (
      self.metric,
      self.best_is,
    ):
      raise ValueError(
        f'search(trial) of {self.experiment} changes keep_best or best_is: leave them '
        f'alone, since all trials are compared by one metric'
      )
    return trial


class SamplerPerTrial(optuna.samplers.BaseSampler):
  """Samples each trial by a sampler made for it.

  A trial's values then depend neither on which process asks for them nor on
  interruptions, if its sampler is seeded by its number.
  """

  def __init__(self, make: Callable[[FrozenTrial], optuna.samplers.BaseSampler]):
    self._make = make
    self._current: optuna.samplers.BaseSampler | None = None

  def before_trial(self, study, trial) -> None:
    """Makes the sampler of a trial, before it is sampled."""
    self._current = self._make(trial)
    self._current.before_trial(study, trial)

  def infer_relative_search_space(self, study, trial) -> dict[str, Any]:
    """Returns the parameters that are sampled together."""
    return self._current.infer_relative_search_space(study, trial)

  def sample_relative(self, study, trial, search_space) -> dict[str, Any]:
    """Returns values of the parameters that are sampled together."""
    return self._current.sample_relative(study, trial, search_space)

  def sample_independent(self, study, trial, param_name, param_distribution) -> Any:
    """Returns the value of one parameter."""
    return self._current.sample_independent(
      study, trial, param_name, param_distribution
    )

  def after_trial(self, study, trial, state, values) -> None:
    """Tells a sampler how its trial ended."""
    self._make(trial).after_trial(study, trial, state, values)


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
  return optuna.samplers.TPESampler(seed=seed)
