"""Results of a hyperparameter search: a table of its trials, and two figures.

Trials are given as number -> Optuna's `FrozenTrial`. Optuna is in the extra `launch`.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator
import numpy as np

from seqlab.io.files import write_text
from seqlab.report.figures import bars, figure
from seqlab.report.runs import short_names
from seqlab.report.tables import Column, table

if TYPE_CHECKING:
  from optuna.distributions import BaseDistribution
  from optuna.trial import FrozenTrial

  Trials = Mapping[int, FrozenTrial]

_MIN_FINISHED = 4  # finished trials, below which an importance means nothing
_PRUNED = '#b0b0b0'


def write(
  trials: 'Trials', folder: Path, *, metric: str, best_is: str = 'max'
) -> list[Path]:
  """Writes table.md, parallel-coordinates and importance, each figure as PNG and SVG.

  A figure for which there are too few trials is left out, as table.md then notes.

  Args:
    trials: the trials that have ended.
    folder: folder of the files.
    metric: name of the metric that was optimised.
    best_is: 'max' or 'min'.

  Returns:
    The files.
  """
  written, notes = [], _notes(trials)
  if any(_finite(trial) for trial in trials.values()):
    path = folder / 'parallel-coordinates'
    written += parallel_coordinates(path, trials, metric, best_is=best_is)
  shares, method = importances(trials, best_is=best_is)
  if shares:
    label = f'share of importance for {metric} ({method})'
    series = {metric: {name: [value] for name, value in shares.items()}}
    top = 1.1 * max(shares.values())
    written += bars(folder / 'importance', series, label, ylim=(0, top), digits=2)
  else:
    notes.append(f'There is no figure of importance: {method}.')
  path = folder / 'table.md'
  text = trials_table(trials, metric, best_is=best_is)
  write_text(path, '\n'.join([text, *notes]).rstrip('\n') + '\n')
  return [*written, path]


def trials_table(trials: 'Trials', metric: str, *, best_is: str = 'max') -> str:
  """Returns one row per trial in Markdown, the best first.

  A pruned trial has its last value.
  """
  sign = -1 if best_is == 'max' else 1
  names = _names(trials)

  def rank(item: tuple[int, 'FrozenTrial']) -> tuple:
    number, trial = item
    value = sign * trial.value if _finite(trial) else math.inf
    return trial.state.name != 'COMPLETE', value, number

  rows = []
  for number, trial in sorted(trials.items(), key=rank):
    value = trial.value if _finite(trial) else '-'
    if trial.state.name != 'COMPLETE' and _finite(trial):
      value = f'{value:.4g}'  # never the best
    values = (_text(trial.params.get(name)) for name in names)
    seconds = trial.user_attrs.get('seconds')
    minutes = '-' if seconds is None else f'{seconds / 60:.1f}'
    rows.append([f'{number:04d}', *values, value, _state(trial), minutes])
  short = short_names(names).values()
  return table(rows, ['trial', *short, Column(metric, best_is), 'state', 'minutes'])


def importances(
  trials: 'Trials', *, best_is: str = 'max'
) -> tuple[dict[str, float], str]:
  """Returns the importance of each parameter, the largest first; the sum is 1.

  The importance is the share of the metric's variance by fANOVA (F. Hutter et al., "An
  Efficient Approach for Assessing Hyperparameter Importance", 2014), among the
  parameters that all finished trials have. Without scikit-learn it is that of PED-ANOVA
  (S. Watanabe et al., 2023, https://arxiv.org/abs/2304.10255), for the best tenth of
  the trials.

  Returns:
    Parameter -> importance, and the name of the method; or {}, and why there is none.
  """
  import optuna
  from optuna import importance

  finished = [t for t in trials.values() if t.state.name == 'COMPLETE' and _finite(t)]
  if len(finished) < _MIN_FINISHED:
    return {}, f'{len(finished)} trials are finished, and it needs {_MIN_FINISHED}'
  if len({trial.value for trial in finished}) == 1:
    return {}, 'all trials are equally good'
  evaluator, method = importance.PedAnovaImportanceEvaluator(), 'PED-ANOVA'
  with contextlib.suppress(ImportError):  # scikit-learn is in the extra `report`
    evaluator, method = importance.FanovaImportanceEvaluator(seed=0), 'fANOVA'
  direction = {'max': 'maximize', 'min': 'minimize'}[best_is]
  verbosity = optuna.logging.get_verbosity()
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study(direction=direction)
  optuna.logging.set_verbosity(verbosity)
  study.add_trials(finished)
  try:
    shares = importance.get_param_importances(study, evaluator=evaluator)
  except (RuntimeError, ValueError) as error:
    return {}, str(error)
  if len(shares) < 2:
    return {}, 'all trials have only one parameter in common'
  names = short_names(shares)
  return {names[key]: value for key, value in shares.items()}, method


def parallel_coordinates(
  path: str | Path, trials: 'Trials', metric: str, *, best_is: str = 'max'
) -> list[Path]:
  """Draws one line per trial through the values of its parameters to its result.

  Args:
    path: path of the figure without '.png' and '.svg'.
    trials: the trials that have ended; those that failed are not drawn.
    metric: name of the metric that was optimised: the last axis, and the colour.
    best_is: 'max' or 'min'; the best trials are dark, and on top.

  Returns:
    The two files.
  """
  names = _names(trials)
  shown = [trial for trial in trials.values() if _finite(trial)]
  finished = [trial for trial in shown if trial.state.name == 'COMPLETE']
  results = [trial.value for trial in shown]
  scales = [_scale([t.distributions[n] for t in shown if n in t.params]) for n in names]
  scales.append(_Scale.of_numbers(min(results), max(results)))
  numbers = [trial.value for trial in finished] or results
  sign = 1 if best_is == 'max' else -1
  colours = _Colours(Normalize(min(numbers), max(numbers)), best_is)
  pruned = len(shown) - len(finished)
  title = f'{len(shown)} trials' + (f', {pruned} of them pruned' if pruned else '')
  size = max(6.4, 1.6 * len(scales) + 1.2), 4.8
  with figure(path, title=title, xlabel='', ylabel='', size=size) as (axes, files):
    axes.figure.colorbar(colours.mappable, ax=axes, label=metric, pad=0.02)
    for trial in sorted(shown, key=lambda t: (t in finished, sign * t.value)):
      values = [*(trial.params.get(name, _ABSENT) for name in names), trial.value]
      heights = [scale.height(v) for scale, v in zip(scales, values, strict=True)]
      style = dict(color=colours.of(trial.value), alpha=0.85, linewidth=1.6)
      if trial not in finished:
        style = dict(color=_PRUNED, linestyle=':', linewidth=1.3)
      axes.plot(range(len(scales)), heights, **style)
    if pruned:
      label = 'pruned, with its last value'
      axes.plot([], [], color=_PRUNED, linestyle=':', label=label)
      axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.08))
    _draw_scales(axes, scales, [*short_names(names).values(), metric])
  return files


_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class _Scale:
  """One axis: the height of its values, from 0 to 1, and its labels."""

  low: float
  high: float
  log: bool = False
  choices: Sequence[Any] | None = None
  ticks: tuple[tuple[float, str], ...] = ()

  @classmethod
  def of_numbers(
    cls, low: float, high: float, *, log: bool = False, whole: bool = False
  ) -> '_Scale':
    if log:
      # The fewer decades there are, the finer the ticks.
      for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 3.0, 5.0)):
        at = LogLocator(subs=subs).tick_values(low, high)
        if sum(low <= x <= high for x in at) > 2:
          break
    else:
      at = MaxNLocator(5, integer=whole).tick_values(low, high)
    slack = 1e-9 * (high - low)
    ticks = tuple((x, f'{x:.4g}') for x in at if low - slack <= x <= high + slack)
    return cls(low, high, log, None, ticks or ((low, f'{low:.4g}'),))

  def height(self, value: Any) -> float:
    """Returns the height of a value; NaN for a parameter that a trial does not have."""
    if value is _ABSENT:
      return math.nan
    if self.choices is not None:
      value = self.choices.index(value)
    low, high = self.low, self.high
    if self.log:
      low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def _scale(distributions: Sequence['BaseDistribution']) -> _Scale:
  """Returns an axis for all values that a parameter may have."""
  first = distributions[0]
  if hasattr(first, 'choices'):
    choices = list(dict.fromkeys(c for d in distributions for c in d.choices))
    ticks = tuple((choice, _text(choice)) for choice in choices)
    return _Scale(0, len(choices) - 1, False, choices, ticks)
  low, high = min(d.low for d in distributions), max(d.high for d in distributions)
  whole = type(first).__name__ == 'IntDistribution'
  return _Scale.of_numbers(low, high, log=first.log, whole=whole)


class _Colours:
  """Colours of results: dark for good ones, and all dark enough to be seen."""

  def __init__(self, norm: Normalize, best_is: str):
    ends = (0.92, 0.0) if best_is == 'max' else (0.0, 0.92)
    shades = matplotlib.colormaps['viridis'](np.linspace(*ends, 256))
    self._map: Colormap = matplotlib.colors.ListedColormap(shades)
    self._norm, self.mappable = norm, ScalarMappable(norm, self._map)

  def of(self, value: float) -> tuple[float, ...]:
    return self._map(self._norm(value))


def _draw_scales(axes: Axes, scales: Sequence[_Scale], names: Sequence[str]) -> None:
  box = dict(boxstyle='square,pad=0.1', facecolor='white', edgecolor='none', alpha=0.8)
  for x, scale in enumerate(scales):
    axes.axvline(x, color='#555555', linewidth=1.0)
    # All lines end at the last axis, so its labels are to the right of it.
    side, align = (1, 'left') if x == len(scales) - 1 else (-1, 'right')
    for value, label in scale.ticks:
      y = scale.height(value)
      axes.plot([x + 0.015 * side, x], [y, y], color='#555555', linewidth=1.0)
      style = dict(ha=align, va='center', fontsize=9, bbox=box, zorder=5)
      axes.text(x + 0.03 * side, y, label, **style)
  axes.set_xticks(range(len(scales)), names)
  axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.4, len(scales) - 0.75))
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def _names(trials: 'Trials') -> list[str]:
  """Returns the parameters in the order in which they were first suggested."""
  return list(dict.fromkeys(name for trial in trials.values() for name in trial.params))


def _finite(trial: 'FrozenTrial') -> bool:
  return trial.value is not None and math.isfinite(trial.value)


def _state(trial: 'FrozenTrial') -> str:
  states = {'COMPLETE': 'finished', 'PRUNED': 'pruned', 'FAIL': 'failed'}
  return states[trial.state.name]


def _notes(trials: 'Trials') -> list[str]:
  """Returns one line per failed trial, with the reason."""
  failed = {n: t for n, t in trials.items() if t.state.name == 'FAIL'}
  reasons = ((n, t.user_attrs.get('reason', 'it died')) for n, t in failed.items())
  first = ((n, ''.join(reason.splitlines()[:1])) for n, reason in reasons)
  return [f'{n:04d} failed: {reason or "it gave no reason"}\n' for n, reason in first]


def _text(value: Any) -> str:
  if value is None:
    return '-'
  return f'{value:.4g}' if isinstance(value, float) else str(value)
