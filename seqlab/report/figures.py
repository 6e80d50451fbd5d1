"""Figures in one style, as PNG and SVG.

Colours are those of Okabe and Ito, which are distinct with any kind of colour
blindness: "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import itertools
import math
from pathlib import Path
import textwrap

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator
import numpy as np

from seqlab.report.tables import mean_and_deviation

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS, DASHES = 'os^Dv', ('-', '--', ':')
STYLE = {
  'figure.dpi': 100,
  'savefig.dpi': 150,
  'figure.constrained_layout.use': True,
  'font.family': 'DejaVu Sans',  # comes with matplotlib, and has Cyrillic
  'font.size': 11,
  'axes.titlesize': 12,
  'axes.axisbelow': True,
  'axes.edgecolor': '#555555',
  'axes.grid': True,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'grid.color': '#e3e3e3',
  'grid.linewidth': 0.8,
  'legend.frameon': False,
  'lines.linewidth': 1.8,
  'lines.markersize': 5,
  # Without this the same figure would give different bytes each time.
  'svg.hashsalt': 'seqlab',
}

_LABEL = 34  # characters of a line of the label of y

Curve = tuple[Sequence[float], Sequence[float]]  # x and y
Labels = Sequence[str]


def lines(
  path: str | Path,
  series: Mapping[str, Sequence[Curve]],
  xlabel: str,
  ylabel: str,
  *,
  title: str = '',
  spread: str = 'band',
  xlog: bool = False,
  ylog: bool = False,
  ylim: tuple[float | None, float | None] | None = None,
  reference: Mapping[str, float] | None = None,
  shaded: Mapping[str, tuple[float, float]] | None = None,
) -> list[Path]:
  """Draws means over seeds as lines, with a band of one standard deviation.

  Args:
    path: path of the figure without '.png' and '.svg'.
    series: label -> (x, y) of each seed. A mean is drawn where all seeds have an x.
    xlabel: label of x, with the unit.
    ylabel: label of y, with the unit.
    title: title of the figure, to which the number of seeds is added.
    spread: 'band' for a shaded band, 'bars' for error bars.
    xlog: whether x is logarithmic; `ylog`: whether y is.
    ylim: lowest and highest y.
    reference: label -> y of a dashed horizontal line, such as a paper's number.
    shaded: label -> lowest and highest x of a grey area, such as the range of training.

  Returns:
    The two files.

  Raises:
    ValueError: the seeds of a series have no x in common.
  """
  if spread not in ('band', 'bars'):
    raise ValueError(f"spread is {spread!r}; it may be 'band' or 'bars'")
  entries = len(series) + len(reference or ()) + len(shaded or ())
  outside = entries > 5
  size = (9.6 if outside else 6.4), 4.2
  title = _with_sizes(title, map(len, series.values()))
  with figure(path, title=title, xlabel=xlabel, ylabel=ylabel, size=size) as (
    axes,
    files,
  ):
    for label, (low, high) in (shaded or {}).items():
      axes.axvspan(low, high, color='#999999', alpha=0.2, linewidth=0, label=label)
    for i, (label, curves) in enumerate(series.items()):
      x, mean, deviation = _mean_curve(label, curves)
      style = dict(color=COLOURS[i % len(COLOURS)], label=label)
      # Dashes and markers too, since some readers cannot distinguish the colours.
      style['linestyle'] = DASHES[i // len(COLOURS) % len(DASHES)]
      style['marker'] = MARKERS[i % len(MARKERS)] if len(x) <= 20 else ''
      if len(curves) > 1 and spread == 'bars':
        axes.errorbar(x, mean, deviation, capsize=3, elinewidth=1.2, **style)
        continue
      axes.plot(x, mean, **style)
      if len(curves) > 1:
        band = mean - deviation, mean + deviation
        axes.fill_between(x, *band, color=style['color'], alpha=0.18, linewidth=0)
    if xlog:
      _log_ticks(
        axes, sorted({x for line in axes.lines for x in line.get_xdata() if x > 0})
      )
    elif all(float(x).is_integer() for line in axes.lines for x in line.get_xdata()):
      axes.xaxis.set_major_locator(MaxNLocator('auto', steps=(1, 2, 5), integer=True))
    if ylog:
      _log_scale_of_y(axes)
    if ylim:
      axes.set_ylim(*ylim)
    _references(axes, reference)
    legend(axes, entries, outside=outside)
  return files


def bars(
  path: str | Path,
  series: Mapping[str, Mapping[str, Sequence[float]]],
  ylabel: str,
  *,
  xlabel: str = '',
  title: str = '',
  ylim: tuple[float | None, float | None] | None = None,
  reference: Mapping[str, float] | None = None,
  digits: int | None = None,
) -> list[Path]:
  """Draws means over seeds as bars, with one standard deviation as error bars.

  Args:
    path: path of the figure without '.png' and '.svg'.
    series: label -> category -> value of each seed. Categories are along x, with one
      bar per series in each; a single series has no legend.
    ylabel: label of the values, with the unit.
    xlabel: label of the categories.
    title: title of the figure, to which the number of seeds is added.
    ylim: lowest and highest y.
    reference: label -> y of a dashed horizontal line, such as a paper's number.
    digits: digits after the point of the means above the bars; None for no numbers.

  Returns:
    The two files.
  """
  names = list(dict.fromkeys(name for values in series.values() for name in values))
  width = 0.8 / len(series) if len(series) > 1 else 0.6
  size = max(6.4, 0.45 * len(names) * max(len(series), 1) ** 0.8), 4.2
  title = _with_sizes(title, (len(x) for bar in series.values() for x in bar.values()))
  with figure(path, title=title, xlabel=xlabel, ylabel=ylabel, size=size) as (
    axes,
    files,
  ):
    for i, (label, values) in enumerate(series.items()):
      at = [names.index(name) + (i - (len(series) - 1) / 2) * width for name in values]
      moments = [mean_and_deviation(x) for x in values.values()]
      means, deviations = zip(*moments, strict=True)
      several = any(len(x) > 1 for x in values.values())
      drawn = axes.bar(
        at,
        means,
        width * 0.92,
        yerr=deviations if several else None,
        color=COLOURS[i % len(COLOURS)],
        label=label,
        error_kw=dict(capsize=3, elinewidth=1.2, ecolor='#333333'),
      )
      if digits is not None:
        axes.bar_label(drawn, fmt=f'%.{digits}f', padding=2, fontsize=9)
    axes.grid(False, axis='x')
    _ticks(axes, names, room=size[0] * 9)
    if ylim:
      axes.set_ylim(*ylim)
    _references(axes, reference)
    # Bars fill the axes, so the legend is outside.
    entries = (len(series) if len(series) > 1 else 0) + len(reference or ())
    legend(axes, entries, outside=True)
  return files


def heatmap(
  path: str | Path,
  matrix: Sequence[Sequence[float]],
  xlabels: Labels,
  ylabels: Labels,
  *,
  label: str,
  xlabel: str = '',
  ylabel: str = '',
  title: str = '',
  digits: int | None = None,
  limits: tuple[float | None, float | None] = (None, None),
  colours: str = 'viridis',
) -> list[Path]:
  """Draws a matrix in colours, such as attention with one target token per row.

  Args:
    path: path of the figure without '.png' and '.svg'.
    matrix: [rows, columns] numbers; NaN is left white.
    xlabels: labels of the columns.
    ylabels: labels of the rows.
    label: label of the colour bar, with the unit of the numbers.
    xlabel: label of the x axis.
    ylabel: label of the y axis.
    title: title of the figure.
    digits: digits after the point of the numbers in the cells; None for no numbers.
    limits: the numbers at the two ends of the colours.
    colours: name of a colour map of matplotlib.

  Returns:
    The two files.

  Raises:
    ValueError: the number of labels is not that of rows or columns.
  """
  matrix = np.asarray(matrix, float)
  if matrix.shape != (len(ylabels), len(xlabels)):
    raise ValueError(
      f'the matrix is {matrix.shape}; there are {len(ylabels)} labels for rows and '
      f'{len(xlabels)} for columns'
    )
  rows, columns = matrix.shape
  cell = 0.42 if digits is None else 0.6
  size = max(3.0 + cell * columns, 4.0), max(1.8 + 0.42 * rows, 2.8)
  if not any(i and j for i, j in itertools.pairwise(ylabels)):
    size = (
      min(size[0], 8.4),
      min(size[1], 6.4),
    )  # with labels so sparse, rows need not be readable
  with figure(path, title=title, xlabel=xlabel, ylabel=ylabel, size=size) as (
    axes,
    files,
  ):
    low, high = limits
    image = axes.imshow(matrix, cmap=colours, vmin=low, vmax=high, aspect='auto')
    axes.figure.colorbar(image, ax=axes, label=label).outline.set_visible(False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    _ticks(axes, xlabels, room=columns * cell * 11)
    axes.set_yticks(range(rows), ylabels)
    if digits is not None:
      for (i, j), value in np.ndenumerate(matrix):
        axes.text(
          *(j, i, f'{value:.{digits}f}' if np.isfinite(value) else ''),
          **dict(ha='center', va='center', fontsize=9),
          color=text_colour(image.cmap(image.norm(value))[:3]),
        )
  return files


def text_colour(background: Sequence[float]) -> str:
  """Returns 'black' or 'white', whichever is easier to read on a colour.

  The ratio of contrast is that of WCAG 2.2, https://www.w3.org/TR/WCAG22/; the larger of
  the two is at least 4.5, its minimum for text.

  Args:
    background: red, green and blue from 0 to 1.
  """
  red, green, blue = (
    x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in background
  )
  luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
  with_black, with_white = (luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)
  return 'black' if with_black >= with_white else 'white'


@contextlib.contextmanager
def figure(
  path: str | Path,
  *,
  title: str,
  xlabel: str,
  ylabel: str,
  size: tuple[float, float] = (6.4, 4.2),
) -> Iterator[tuple[Axes, list[Path]]]:
  """Yields axes to draw on, and the files to which they are saved on exit."""
  path = Path(path)
  stem = path.stem if path.suffix in ('.png', '.svg') else path.name
  path.parent.mkdir(parents=True, exist_ok=True)
  files = [path.with_name(f'{stem}.png'), path.with_name(f'{stem}.svg')]
  # Not pyplot, which would keep every figure and set a backend for the whole process.
  with matplotlib.rc_context(STYLE):
    axes = Figure(figsize=size).add_subplot()
    # Slanted labels of categories leave the axes little height.
    ylabel = textwrap.fill(ylabel, _LABEL)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    yield axes, files
    _disable_tex(axes.figure)
    for file, metadata in zip(files, ({'Software': None}, {'Date': None}), strict=True):
      axes.figure.savefig(file, metadata=metadata)


def _with_sizes(title: str, sizes: Iterable[int]) -> str:
  """Returns a title with the sizes of its samples, 'BLEU (n = 3)', if any is above 1."""
  sizes = sorted(set(sizes))
  if not sizes or sizes[-1] < 2:
    return title
  n = f'n = {sizes[0]}' if len(sizes) == 1 else f'n = {sizes[0]} to {sizes[-1]}'
  return f'{title} ({n})' if title else n


def _disable_tex(drawn: Figure) -> None:
  """Keeps matplotlib from reading $ as TeX, except for powers of ten on axes."""
  axes = [axis for axes in drawn.axes for axis in (axes.xaxis, axes.yaxis)]
  for axis in axes:
    axis.get_ticklabels(which='both')  # makes the ticks that are not yet there
  powers = {
    text
    for axis in axes
    if isinstance(axis.get_major_formatter(), LogFormatter)
    for tick in (*axis.majorTicks, *axis.minorTicks)
    for text in (tick.label1, tick.label2)
  }
  for text in drawn.findobj(Text):
    if text not in powers:
      text.set_parse_math(False)


def _mean_curve(
  label: str, curves: Sequence[Curve]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the x [n] that all seeds have, with mean and standard deviation [n]."""
  tables = [dict(zip(x, y, strict=True)) for x, y in curves]
  x = [at for at in tables[0] if all(at in table for table in tables)] if tables else []
  if not x:
    raise ValueError(f'the {len(curves)} curves of {label!r} have no x in common')
  y = [mean_and_deviation([table[at] for table in tables]) for at in x]
  return np.array(x), *np.array(y).T


def _references(axes: Axes, reference: Mapping[str, float] | None) -> None:
  for i, (label, y) in enumerate((reference or {}).items()):
    style = DASHES[1:][i % 2]
    axes.axhline(y, color='#555555', linewidth=1.2, linestyle=style, label=label)


def legend(axes: Axes, entries: int, *, outside: bool) -> None:
  """Adds a legend, if it has entries, inside or outside the axes."""
  if entries and outside:
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  elif entries:
    axes.legend()


def _log_ticks(axes: Axes, at: Sequence[float]) -> None:
  """Makes x logarithmic, with the points themselves as ticks if they are few."""
  axes.set_xscale('log')
  if len(at) <= 10:
    axes.set_xticks(at, _readable(at))
    axes.set_xticks([], minor=True)


def _readable(at: Sequence[float]) -> list[str]:
  """Returns labels of points on a logarithmic axis, empty where two would overlap."""
  labels, end = [], -math.inf
  span = math.log(at[-1] / at[0]) if len(at) > 1 else 1.0
  for x in at:
    # The width of a label, as a share of the axis, is about that of its characters.
    place, half = math.log(x / at[0]) / span, 0.011 * (len(f'{x:g}') + 1)
    labels.append(f'{x:g}' if place - half >= end else '')
    if labels[-1]:
      end = place + half
  return labels


def _log_scale_of_y(axes: Axes) -> None:
  """Makes y logarithmic, with plain numbers where there is hardly a power of ten."""
  axes.set_yscale('log')
  low, high = axes.get_ylim()
  if math.log10(high / low) < 2:
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _ticks(axes: Axes, labels: Labels, room: float) -> None:
  """Sets labels along x, which are slanted if they would overlap."""
  slanting = len(labels) * (max(map(len, labels), default=0) + 1) > room
  style = dict(rotation=40, ha='right', rotation_mode='anchor') if slanting else {}
  axes.set_xticks(range(len(labels)), labels, **style)
