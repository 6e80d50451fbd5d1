"""Charts as SVG inside a page: they follow its colours, light or dark, and print.

Lines differ by colour and dashes: six of each, so that 36 lines differ. Bars have numbers,
or a table of them where they are too narrow. So no reader depends on the colours.
"""

from collections.abc import Mapping, Sequence
import math
from typing import NamedTuple

from seqlab.pages.html import Markup, element, table

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 12, 34  # margins around the axes
_NUM_COLOURS = 6  # and as many kinds of dashes, of `report.css`
_NUMBERED = 22  # pixels of a bar that has room for its number
_TICKS = 5


class Point(NamedTuple):
  """A point of a line: the mean over runs, and its deviation."""

  x: float
  y: float
  deviation: float = 0.0


class _Scale(NamedTuple):
  """Maps numbers from [low, high] to pixels."""

  low: float
  high: float
  start: float
  end: float

  def __call__(self, value: float) -> float:
    share = (value - self.low) / ((self.high - self.low) or 1)
    return round(self.start + share * (self.end - self.start), 1)


def line_chart(
  title: str, series: Mapping[str, Sequence[Point]], *, xlabel: str = 'step'
) -> Markup:
  """Returns lines, with bands of one standard deviation where points have one.

  Args:
    title: name of y.
    series: label -> points by rising x, all of them finite. Its place gives the colour
      and the dashes.
    xlabel: name of x.
  """
  points = [p for line in series.values() for p in line]
  x = _Scale(*_limits([p.x for p in points]), _LEFT, _WIDTH - _RIGHT)
  heights = [p.y + s * p.deviation for p in points for s in (-1, 1)]
  y = _Scale(*_padded(*_limits(heights)), _HEIGHT - _BOTTOM, _TOP)
  drawn = [
    shape
    for i, line in enumerate(series.values())
    for shape in _line(line, x, y, _style(i))
  ]
  ends = ', '.join(
    f'{label}: {line[-1].y:.4g} at {xlabel} {line[-1].x:,.0f}'
    for label, line in series.items()
    if line
  )
  return _figure(title, [*_axes(x, y, xlabel), *drawn], f'{title}. {ends}')


def bar_chart(
  title: str, series: Mapping[str, Mapping[str, float]], *, xlabel: str = ''
) -> Markup:
  """Returns bars in groups, and a table of their values where they are narrow.

  Args:
    title: name of y.
    series: label -> category -> value from 0. All have the same categories.
    xlabel: name of the categories.
  """
  categories = [*next(iter(series.values()))]
  values = [x for bars in series.values() for x in bars.values()]
  y = _Scale(0, max(values, default=0) * 1.12 or 1, _HEIGHT - _BOTTOM, _TOP)
  room = (_WIDTH - _LEFT - _RIGHT) / len(categories)
  width = 0.8 * room / len(series)
  drawn = []
  size = min(11.0, 1.7 * room / max(map(len, categories)))  # long names come close
  for j, category in enumerate(categories):
    middle = _LEFT + (j + 0.5) * room
    drawn.append(_text(middle, _HEIGHT - _BOTTOM + 13, category, 'middle', size))
    for i, bars in enumerate(series.values()):
      left = _LEFT + (j + 0.1) * room + i * width
      drawn += _bar(left, width, y, bars[category], _style(i))
  described = '; '.join(
    f'{label}: {", ".join(f"{name} {value:.4g}" for name, value in bars.items())}'
    for label, bars in series.items()
  )
  axes = [*_horizontals(y), _text((_LEFT + _WIDTH) / 2, _HEIGHT - 5, xlabel, 'middle')]
  chart = _figure(title, [*axes, *drawn], f'{title} by {xlabel}. {described}')
  if width >= _NUMBERED:
    return chart
  rows = [
    (label, *(f'{bars[name]:.4g}' for name in categories))
    for label, bars in series.items()
  ]
  numbers = table((xlabel, *categories), rows)
  folded = element('details', element('summary', f'Values of {title}'), numbers)
  return element('div', chart, folded)


def legend(labels: Sequence[str]) -> Markup:
  """Returns the names of series with their lines; nothing for a single one."""
  if len(labels) < 2:
    return Markup('')
  items = [
    element(
      'li',
      element(
        'svg',
        element('line', x1=0, y1=6, x2=28, y2=6, class_=f'line {_style(i)}'),
        width=28,
        height=12,
        aria_hidden='true',
      ),
      element('span', label),
    )
    for i, label in enumerate(labels)
  ]
  return element('ul', *items, class_='legend')


def _style(i: int) -> str:
  """Returns the classes of series number `i`: its colour and its dashes.

  From the seventh series on, each colour has the dashes of a later one.
  """
  return f'c{i % _NUM_COLOURS} d{(i + i // _NUM_COLOURS) % _NUM_COLOURS}'


def _figure(title: str, shapes: Sequence[Markup], description: str) -> Markup:
  drawn = element(
    'svg',
    element('title', description),
    *shapes,
    viewBox=f'0 0 {_WIDTH} {_HEIGHT}',
    role='img',
  )
  return element('figure', element('figcaption', title), drawn, class_='chart')


def _line(points: Sequence[Point], x: _Scale, y: _Scale, style: str) -> list[Markup]:
  shapes = []
  if any(p.deviation for p in points):
    upper = [f'{x(p.x)},{y(p.y + p.deviation)}' for p in points]
    lower = [f'{x(p.x)},{y(p.y - p.deviation)}' for p in reversed(points)]
    band = ' '.join((*upper, *lower))
    shapes.append(element('polygon', points=band, class_=f'band {style}'))
  path = ' '.join(f'{x(p.x)},{y(p.y)}' for p in points)
  shapes.append(element('polyline', points=path, class_=f'line {style}'))
  if len(points) == 1:  # a line of one point cannot be seen
    (only,) = points
    place = dict(cx=x(only.x), cy=y(only.y), r=3.5)
    shapes.append(element('circle', **place, class_=f'bar {style}'))
  return shapes


def _bar(
  left: float, width: float, y: _Scale, value: float, style: str
) -> list[Markup]:
  if not math.isfinite(value):
    return []
  top = y(value)
  size = dict(x=round(left, 1), y=top, width=round(width * 0.94, 1))
  bar = element('rect', **size, height=round(y(0) - top, 1), class_=f'bar {style}')
  if width < _NUMBERED:
    return [bar]
  number = _text(left + width / 2, top - 3, f'{value:.3g}', 'middle')
  return [bar, number]


def _axes(x: _Scale, y: _Scale, xlabel: str) -> list[Markup]:
  shapes = _horizontals(y)
  for value in _ticks(x.low, x.high):
    # A long number in the middle of the last tick would leave the drawing.
    anchor = 'end' if x(value) > _WIDTH - _RIGHT - 6 else 'middle'
    shapes.append(_text(x(value), _HEIGHT - _BOTTOM + 13, _number(value), anchor))
  shapes.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 5, xlabel, 'middle'))
  return shapes


def _horizontals(y: _Scale) -> list[Markup]:
  shapes = []
  for value in _ticks(y.low, y.high):
    at = y(value)
    line = dict(x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at)
    shapes.append(element('line', **line, class_='grid'))
    shapes.append(_text(_LEFT - 5, at + 3.5, _number(value), 'end'))
  return shapes


def _text(
  x: float, y: float, text: str, anchor: str, size: float | None = None
) -> Markup:
  style = size and f'font-size: {size:.1f}px'
  place = dict(x=round(x, 1), y=round(y, 1))
  return element('text', text, **place, text_anchor=anchor, style=style)


def _limits(values: Sequence[float]) -> tuple[float, float]:
  return (min(values), max(values)) if values else (0.0, 1.0)


def _padded(low: float, high: float) -> tuple[float, float]:
  room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
  """Returns about five round numbers from low to high."""
  if not high > low:
    return [low]
  rough = (high - low) / _TICKS
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [n * step for n in range(first, last + 1)]


def _number(value: float) -> str:
  if abs(value) >= 10_000:
    return f'{value / 1000:,.4g}k'
  return f'{value:.4g}'
