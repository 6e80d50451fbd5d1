"""Metrics of runs as curves: one chart per metric, one line per group of runs."""

from collections.abc import Iterable, Mapping, Sequence
import math

from seqlab.pages.charts import Point, legend, line_chart
from seqlab.pages.html import Markup, element, table
from seqlab.report.runs import Run
from seqlab.report.tables import mean_and_deviation

_POINTS = 120  # of a line; a metric of more steps is averaged over as many intervals
_FIRST = ('loss', 'nll', 'accuracy')  # metrics of training that are shown at once
_OTHERS = ('learning_rate', 'grad_norm', 'speed/tokens_per_s')


def curves_section(groups: Mapping[str, Sequence[Run]]) -> list[Markup]:
  """Returns charts of all metrics; lines are means over the runs of a group.

  Metrics that were measured once have a table.

  Args:
    groups: label -> runs that differ in the seed only.
  """
  runs = [run for members in groups.values() for run in members]
  names = dict.fromkeys(name for run in runs for row in run.rows for name in row)
  measured = [n for n in names if '/' in n and not n.startswith('speed/')]
  first = [n for n in _FIRST if n in names] + measured
  series = {name: _series(name, groups) for name in (*first, *_OTHERS)}
  if not any(series[name] for name in first):
    return [element('p', 'The runs have no metrics.')]
  once = [n for n in first if series[n] and max(map(len, series[n].values())) == 1]
  charts = [line_chart(n, series[n]) for n in first if series[n] and n not in once]
  others = [line_chart(n, series[n]) for n in _OTHERS if series[n]]
  several = any(len(members) > 1 for members in groups.values())
  note = ' Bands are one standard deviation over seeds.' if several else ''
  folded = element(
    'details',
    element('summary', 'Learning rate, gradients and speed'),
    element('div', *others, class_='charts'),
  )
  return [
    element(
      'p',
      f'Metrics of training are means over intervals of up to 1/{_POINTS} of the '
      f'steps.{note}',
      class_='muted',
    ),
    legend([*groups]),
    element('div', *charts, class_='charts'),
    *([_table(groups, {name: series[name] for name in once})] if once else []),
    *([folded] if others else []),
  ]


def _series(
  name: str, groups: Mapping[str, Sequence[Run]]
) -> dict[str, Sequence[Point]]:
  """Returns label -> points of a metric; nothing if no group has it."""
  series = {label: _points(name, members) for label, members in groups.items()}
  return series if any(series.values()) else {}


def _table(
  groups: Iterable[str], series: Mapping[str, Mapping[str, Sequence[Point]]]
) -> Markup:
  """Returns the values of metrics that were measured once."""
  rows = []
  for name, by_label in series.items():
    cells = ('-' if not points else _value(*points) for points in by_label.values())
    rows.append((name, *cells))
  return table(('measured once', *groups), rows)


def _value(point: Point) -> str:
  spread = f' ± {point.deviation:.2g}' if point.deviation else ''
  return f'{point.y:.4g}{spread}'


def _points(name: str, runs: Iterable[Run]) -> list[Point]:
  """Returns the means over runs, where all of them that have the metric have a value."""
  values = [
    [(row['step'], row[name]) for row in run.rows if name in row] for run in runs
  ]
  values = [[(x, y) for x, y in one if math.isfinite(y)] for one in values]
  values = [one for one in values if one]
  if not values:
    return []
  last = max(one[-1][0] for one in values)
  width = 1 if max(map(len, values)) <= _POINTS else last / _POINTS
  curves = [_averaged(one, width) for one in values]
  common = sorted(set(curves[0]).intersection(*curves[1:]))
  points = []
  for key in common:
    mean, deviation = mean_and_deviation([curve[key][1] for curve in curves])
    points.append(Point(curves[0][key][0], mean, deviation))
  return points


def _averaged(
  values: Sequence[tuple[float, float]], width: float
) -> dict[int, tuple[float, float]]:
  """Returns number of an interval -> the mean step and the mean value in it."""
  inside: dict[int, list[tuple[float, float]]] = {}
  for x, y in values:
    # The last step ends the last interval, and has none of its own.
    inside.setdefault(math.ceil(x / width - 1e-9), []).append((x, y))
  return {
    key: tuple(sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    for key, pairs in inside.items()
  }
