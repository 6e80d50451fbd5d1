"""The terminal: text as it is, and tables that are cut nowhere but at a terminal."""

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
_WIDE = 100_000  # columns, where there is no terminal whose width would matter


def console(file: IO[str] | None = None) -> Console:
  """Returns a console that prints text as it is.

  Rich reads [brackets] as markup, :names: as emoji, and cuts tables to 80 columns
  where there is no terminal. Paths, run names and sentences are none of these, so
  every module prints through this function; a test keeps `Console(` out of the rest.

  Args:
    file: where it prints; by default standard output.
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
  """Prints a table. Cells that a narrow terminal cuts are wrapped, not shortened."""
  for column in table.columns:
    column.overflow = 'fold'
  console(file).print(table, soft_wrap=False)


def verbatim(text: object) -> Text:
  """Returns text that no console interprets, for titles and cells of tables."""
  return Text(str(text))


def has_bars(out: IO[str] | None = None) -> bool:
  """Whether a stream is a terminal that can redraw a line; TERM=dumb cannot."""
  shown = console(out)
  return shown.is_terminal and not shown.is_dumb_terminal


def track(
  things: Iterable[_T], label: str, total: int, *, show: bool = True
) -> Iterator[_T]:
  """Yields things with a progress bar on standard error, if that can show one.

  Args:
    things: what is worked on, one after the other.
    label: text beside the bar.
    total: number of things.
    show: whether a bar is wanted at all.
  """
  with progress_bar(show=show) as progress:
    yield from progress.track(things, total, description=label)


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
