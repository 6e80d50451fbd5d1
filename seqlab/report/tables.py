"""Tables of mean ± standard deviation, in Markdown, CSV and LaTeX."""

from collections.abc import Iterable, Sequence
import csv
import dataclasses
import io
import math
from pathlib import Path
import statistics
from typing import Any

from seqlab.config import best_is, direction
from seqlab.report.runs import Run, differing, group, read_runs, short_names

Cell = str | float | Sequence[float]  # text, a number, or one number per seed
FORMATS = ('markdown', 'csv', 'latex')

_SPECIAL = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}'}
_SPECIAL |= {'^': r'\textasciicircum{}'} | {c: f'\\{c}' for c in '&%$#_{}'}


@dataclasses.dataclass(frozen=True)
class Column:
  """One column.

  Attributes:
    title: text of the header.
    best: 'max' or 'min' to print the best mean in bold; None for no bold.
    digits: digits after the point; by default the largest mean has four in all.
  """

  title: str
  best: str | None = None
  digits: int | None = None


def table(
  rows: Sequence[Sequence[Cell]],
  columns: Sequence[Column | str],
  *,
  format: str = 'markdown',
) -> str:
  """Returns a table; cells with one number per seed become mean ± standard deviation.

  The standard deviation is that of a sample (n - 1). If any cell has several numbers, a
  last column n has the number of seeds of each row. CSV has mean and deviation in
  separate columns, unrounded, and no bold.

  Args:
    rows: one cell per column; an empty sequence is a missing number.
    columns: titles, or `Column`s for more options.
    format: 'markdown', 'csv' or 'latex' (with the rules of booktabs).

  Raises:
    ValueError: the format is unknown, or a row has too many or too few cells.
  """
  if format not in FORMATS:
    raise ValueError(f'format is {format!r}; it may be {", ".join(FORMATS)}')
  columns = [Column(c) if isinstance(c, str) else c for c in columns]
  for i, row in enumerate(rows):
    if len(row) != len(columns):
      raise ValueError(f'row {i} has {len(row)} cells for {len(columns)} columns')
  if format == 'csv':
    return _csv(rows, columns)
  latex = format == 'latex'
  parts = [
    _column([row[j] for row in rows], column, latex) for j, column in enumerate(columns)
  ]
  if any(_is_sample(cell) for row in rows for cell in row):
    parts.append((True, ['n', *map(_n, rows)]))
  right = [numeric for numeric, _ in parts]
  lines = list(zip(*(texts for _, texts in parts), strict=True))
  return (_latex if latex else _markdown)(lines, right)


def summary(
  folders: Iterable[str | Path],
  metrics: Sequence[str] | None = None,
  *,
  by: Iterable[str] | None = None,
  over: str = 'seed',
  choose: str = 'last',
  format: str = 'markdown',
) -> str:
  """Returns a table of the options that differ between runs, and of their results.

  Args:
    folders: folders of runs, or of many runs each.
    metrics: names of metrics; by default each run's `keep_best`.
    by: dotted keys; their values distinguish the rows; by default all that differ.
    over: the key over which means are taken.
    choose: 'last' value of each metric, or 'best'.
    format: one of `FORMATS`.

  Raises:
    FileNotFoundError: a folder has no finished run.
    ValueError: an option or a metric is unknown, or the runs of a row are not
      repetitions of each other.
  """
  if choose not in ('last', 'best'):
    raise ValueError(f"choose is {choose!r}; it may be 'last' or 'best'")
  runs = [run for folder in folders for run in read_runs(folder)]
  kept = {run.config.get('keep_best'): best_is(run.config) for run in runs}
  metrics = list(metrics or filter(None, kept)) or ['loss']
  modes = {name: kept.get(name) or direction(name) for name in metrics}
  for name in metrics:
    if not any(run.has(name) for run in runs):
      runs[0].series(name)  # raises an error that lists the known metrics
  by = differing(runs, over) if by is None else list(by)
  names = short_names(by)
  columns = [*(names[key] for key in by), *(Column(m, modes[m]) for m in metrics)]
  rows = [
    [*map(_text, values), *(_sample(members, m, modes[m], choose) for m in metrics)]
    for values, members in group(runs, by, over).items()
  ]
  return table(rows, columns, format=format)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
  """Returns mean and standard deviation of a sample (n - 1); 0 for a single value."""
  mean = statistics.fmean(values)
  if len(values) == 1 or not math.isfinite(mean):
    return mean, mean - mean  # NaN if the mean is infinite or NaN
  return mean, statistics.stdev(values)


def _sample(runs: Sequence[Run], metric: str, mode: str, choose: str) -> list[float]:
  runs = [run for run in runs if run.has(metric)]
  if choose == 'last':
    return [run.final(metric) for run in runs]
  return [run.best(metric, mode) for run in runs]


def _text(value: Any) -> str:
  return '-' if value is None else str(value)


def _one_line(text: str) -> str:
  """Removes line breaks, which would divide a row."""
  return ' '.join(text.split())


def _is_sample(cell: Cell) -> bool:
  return not isinstance(cell, str | float | int)


def _n(row: Sequence[Cell]) -> str:
  """Returns the number of seeds of a row: '3', or '2-3' if its cells differ."""
  sizes = sorted({len(cell) for cell in row if _is_sample(cell) and len(cell)})
  return '-'.join(dict.fromkeys(map(str, (sizes[0], sizes[-1])))) if sizes else '0'


def _column(cells: list[Cell], column: Column, latex: bool) -> tuple[bool, list[str]]:
  """Returns whether a column has numbers, and its title and texts."""
  escape = _escape_latex if latex else _escape_markdown
  samples = {
    i: list(cell) if _is_sample(cell) else [cell]
    for i, cell in enumerate(cells)
    if not isinstance(cell, str)
  }
  moments = {i: mean_and_deviation(x) for i, x in samples.items() if x}
  means = {i: m for i, (m, _) in moments.items() if math.isfinite(m)}
  digits = _digits(means.values()) if column.digits is None else column.digits
  best = None
  if means and column.best:
    # Two means that are printed the same are both the best.
    best = (max if column.best == 'max' else min)(means.values())
  texts = [escape(column.title)]
  for i, cell in enumerate(cells):
    if i not in moments:
      texts.append(escape(cell) if isinstance(cell, str) else '-')
      continue
    (mean, deviation), several = moments[i], len(samples[i]) > 1
    text = f'{mean:.{digits}f}'
    bold = best is not None and text == f'{best:.{digits}f}'
    if several:
      text += rf' \pm {deviation:.{digits}f}' if latex else f' ± {deviation:.{digits}f}'
    if latex:
      texts.append(rf'$\mathbf{{{text}}}$' if bold else f'${text}$')
    else:
      texts.append(f'**{text}**' if bold else text)
  return bool(samples), texts


def _digits(means: Iterable[float]) -> int:
  largest = max(map(abs, means), default=0.0)
  return min(max(3 - math.floor(math.log10(largest)), 0), 6) if largest else 0


def _escape_markdown(text: str) -> str:
  return _one_line(text).replace('|', r'\|')


def _escape_latex(text: str) -> str:
  return ''.join(_SPECIAL.get(c, c) for c in _one_line(text))


def _markdown(lines: list[tuple[str, ...]], right: list[bool]) -> str:
  widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]

  def line(cells: Iterable[str]) -> str:
    padded = (
      cell.rjust(w) if r else cell.ljust(w)
      for cell, w, r in zip(cells, widths, right, strict=True)
    )
    return f'| {" | ".join(padded)} |\n'

  rule = (
    '-' * (w - 1) + (':' if r else '-') for w, r in zip(widths, right, strict=True)
  )
  return ''.join([line(lines[0]), line(rule), *map(line, lines[1:])])


def _latex(lines: list[tuple[str, ...]], right: list[bool]) -> str:
  head, *body = (' & '.join(cells) + r' \\' for cells in lines)
  align = ''.join('r' if r else 'l' for r in right)
  return '\n'.join(
    [
      rf'\begin{{tabular}}{{{align}}}',
      *(r'\toprule', head, r'\midrule', *body, r'\bottomrule'),
      r'\end{tabular}',
      '',
    ]
  )


def _csv(rows: Sequence[Sequence[Cell]], columns: Sequence[Column]) -> str:
  wide = [any(_is_sample(row[j]) for row in rows) for j in range(len(columns))]
  with io.StringIO(newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    titles = (
      [f'{c.title} mean', f'{c.title} sd'] if w else [c.title]
      for c, w in zip(columns, wide, strict=True)
    )
    writer.writerow([*(t for pair in titles for t in pair), *['n'] * any(wide)])
    for row in rows:
      cells = (
        _moments(cell) if w else [cell] for cell, w in zip(row, wide, strict=True)
      )
      writer.writerow([*(x for pair in cells for x in pair), *[_n(row)] * any(wide)])
    return file.getvalue()


def _moments(cell: Cell) -> Sequence[float | str]:
  """Returns mean and deviation; the deviation of a single value is empty."""
  if isinstance(cell, str):
    return cell, ''
  values = list(cell) if _is_sample(cell) else [cell]
  if not values:
    return '', ''
  mean, deviation = mean_and_deviation(values)
  return mean, deviation if len(values) > 1 else ''
