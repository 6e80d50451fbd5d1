"""What came of a search: a table of its trials, and two figures.

Trials are Optuna's, number -> `FrozenTrial`. Optuna is in the extra `launch`.
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

_ENOUGH = 4  # finished trials, for an importance that means something
_PRUNED = '#b0b0b0'


def write(
  trials: 'Trials', folder: Path, *, metric: str, best_is: str = 'max'
) -> list[Path]:
  """Writes table.md, parallel-coordinates and importance, each figure as PNG and SVG.

  A figure for which there are too few trials is left out, and table.md says so.

  Args:
    trials: those that have ended.
    folder: for the files.
    metric: what was made best.
    best_is: 'max' or 'min'.
  """
  wrote, notes = [], _notes(trials)
  if any(_finite(trial) for trial in trials.values()):
    path = folder / 'parallel-coordinates'
    wrote += parallel_coordinates(path, trials, metric, best_is=best_is)
  found, how = importances(trials, best_is=best_is)
  if found:
    label = f'importance for {metric}, 1 in all ({how})'
    series = {metric: {name: [value] for name, value in found.items()}}
    top = 1.1 * max(found.values())
    wrote += bars(folder / 'importance', series, label, ylim=(0, top), digits=2)
  else:
    notes.append(f'There is no figure of importance: {how}.')
  path = folder / 'table.md'
  text = trials_table(trials, metric, best_is=best_is)
  write_text(path, '\n'.join([text, *notes]).rstrip('\n') + '\n')
  return [*wrote, path]


def trials_table(trials: 'Trials', metric: str, *, best_is: str = 'max') -> str:
  """A row a trial in Markdown, the best first; a pruned one has its last value."""
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
  """How much each parameter mattered, the most first; they add up to 1.

  It is the share of the variance of the metric by fANOVA (F. Hutter et al., "An
  Efficient Approach for Assessing Hyperparameter Importance", 2014), of the parameters
  that all finished trials have; without scikit-learn, PED-ANOVA (S. Watanabe et al.,
  2023, https://arxiv.org/abs/2304.10255), which asks what mattered for the best tenth.

  Returns:
    Parameter -> importance, and the name of the method; or {}, and why there is none.
  """
  import optuna
  from optuna import importance

  finished = [t for t in trials.values() if t.state.name == 'COMPLETE' and _finite(t)]
  if len(finished) < _ENOUGH:
    return {}, f'{len(finished)} trials are finished, and it takes {_ENOUGH}'
  if len({trial.value for trial in finished}) == 1:
    return {}, 'all trials are equally good'
  evaluator, how = importance.PedAnovaImportanceEvaluator(), 'PED-ANOVA'
  with contextlib.suppress(ImportError):  # scikit-learn is in the extra `report`
    evaluator, how = importance.FanovaImportanceEvaluator(seed=0), 'fANOVA'
  direction = {'max': 'maximize', 'min': 'minimize'}[best_is]
  verbosity = optuna.logging.get_verbosity()
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study(direction=direction)
  optuna.logging.set_verbosity(verbosity)
  study.add_trials(finished)
  try:
    found = importance.get_param_importances(study, evaluator=evaluator)
  except (RuntimeError, ValueError) as error:
    return {}, str(error)
  if len(found) < 2:
    return {}, 'there is one parameter only that all trials have'
  names = short_names(found)
  return {names[key]: value for key, value in found.items()}, how


def parallel_coordinates(
  path: str | Path, trials: 'Trials', metric: str, *, best_is: str = 'max'
) -> list[Path]:
  """Draws a line for each trial through the values of its parameters to its result.

  Args:
    path: of the figure; '.png' and '.svg' are put after it.
    trials: those that have ended; the failed ones are not drawn.
    metric: what was made best; the last axis, and the colour.
    best_is: 'max' or 'min'; the best are dark, and on top.

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
  """One axis: where its values stand, from 0 to 1, and what is written at it."""

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
      # Finer marks for fewer decades.
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
    """Between 0 and 1; NaN for a parameter that a trial has not."""
    if value is _ABSENT:
      return math.nan
    if self.choices is not None:
      value = self.choices.index(value)
    low, high = self.low, self.high
    if self.log:
      low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def _scale(distributions: Sequence['BaseDistribution']) -> _Scale:
  """An axis for all that a parameter could be."""
  first = distributions[0]
  if hasattr(first, 'choices'):
    choices = list(dict.fromkeys(c for d in distributions for c in d.choices))
    ticks = tuple((choice, _text(choice)) for choice in choices)
    return _Scale(0, len(choices) - 1, False, choices, ticks)
  low, high = min(d.low for d in distributions), max(d.high for d in distributions)
  whole = type(first).__name__ == 'IntDistribution'
  return _Scale.of_numbers(low, high, log=first.log, whole=whole)


class _Colours:
  """Colours of results: dark for good ones, and none so pale that it is not seen."""

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
    # All lines end at the last axis: what is written there stands on its other side.
    side, align = (1, 'left') if x == len(scales) - 1 else (-1, 'right')
    for value, label in scale.ticks:
      y = scale.height(value)
      axes.plot([x + 0.015 * side, x], [y, y], color='#555555', linewidth=1.0)
      how = dict(ha=align, va='center', fontsize=9, bbox=box, zorder=5)
      axes.text(x + 0.03 * side, y, label, **how)
  axes.set_xticks(range(len(scales)), names)
  axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.4, len(scales) - 0.75))
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


def _names(trials: 'Trials') -> list[str]:
  """Parameters, in the order in which they were asked for first."""
  return list(dict.fromkeys(name for trial in trials.values() for name in trial.params))


def _finite(trial: 'FrozenTrial') -> bool:
  return trial.value is not None and math.isfinite(trial.value)


def _state(trial: 'FrozenTrial') -> str:
  states = {'COMPLETE': 'finished', 'PRUNED': 'pruned', 'FAIL': 'failed'}
  return states[trial.state.name]


def _notes(trials: 'Trials') -> list[str]:
  """Why trials failed, a line each."""
  failed = {n: t for n, t in trials.items() if t.state.name == 'FAIL'}
  reasons = ((n, t.user_attrs.get('reason', 'it died')) for n, t in failed.items())
  first = ((n, ''.join(reason.splitlines()[:1])) for n, reason in reasons)
  return [f'{n:04d} failed: {reason or "it gave no reason"}\n' for n, reason in first]


def _text(value: Any) -> str:
  if value is None:
    return '-'
  return f'{value:.4g}' if isinstance(value, float) else str(value)
