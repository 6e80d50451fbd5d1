"""The terminal: literal text, tables and progress bars."""

from collections.abc import Iterable, Iterator
import sys
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import (
  BarColumn,
  Progress,
  TaskProgressColumn,
  TextColumn,
  TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_T = TypeVar('_T')
_WIDE = 100_000  # columns; the width of an output that is not a terminal


def console(file: IO[str] | None = None) -> Console:
  """Returns a console that prints text literally.

  By default Rich interprets [brackets] as markup and :names: as emoji, and limits
  tables to 80 columns without a terminal, which would damage paths, run names and
  sentences. All modules print with this function; a test forbids `Console(` elsewhere.

  Args:
    file: stream to print to; by default standard output.
  """
  file = sys.stdout if file is None else file
  return Console(
    file=file,
    markup=False,
    emoji=False,
    highlight=False,
    soft_wrap=True,
    width=None if file.isatty() else _WIDE,
  )


def print_table(table: Table, file: IO[str] | None = None) -> None:
  """Prints a table; in a narrow terminal cells are wrapped, not truncated."""
  for column in table.columns:
    column.overflow = 'fold'
  console(file).print(table, soft_wrap=False)


def verbatim(text: object) -> Text:
  """Returns text without markup, for titles and cells of tables."""
  return Text(str(text))


def has_bars(out: IO[str] | None = None) -> bool:
  """Returns whether a stream is a terminal that can redraw a line (not TERM=dumb)."""
  terminal = console(out)
  return terminal.is_terminal and not terminal.is_dumb_terminal


def track(
  items: Iterable[_T], label: str, total: int, *, show: bool = True
) -> Iterator[_T]:
  """Yields items with a progress bar on standard error, if it is a terminal.

  Args:
    items: items to process.
    label: label of the bar.
    total: number of items.
    show: whether to show a bar.
  """
  with progress_bar(show=show) as progress:
    yield from progress.track(items, total, description=label)


def progress_bar(*, show: bool = True) -> Progress:
  """Returns a transient progress bar on standard error, whose labels are plain text."""
  return Progress(
    TextColumn('{task.description}', markup=False),
    BarColumn(),
    TaskProgressColumn(),
    TimeRemainingColumn(),
    console=console(sys.stderr),
    transient=True,
    disable=not (show and has_bars(sys.stderr)),
  )


def amount(size: float, largest: str = 'GB') -> str:
  """Formats a number of bytes: '12.3 MB'.

  Args:
    size: number of bytes.
    largest: largest unit, which any larger number has, too.
  """
  for unit in ('B', 'kB', 'MB', 'GB', 'TB'):
    if size < 1000 or unit == largest:
      return f'{size:.3g} {unit}' if size < 1000 else f'{size:,.0f} {unit}'
    size /= 1000
  raise AssertionError
