"""Files of raw numbers beside a study's table: `rows.csv`, one number per line.

A table shows means. Anyone can recompute them, and a p-value, from such a file.
"""

from collections.abc import Iterable
import csv
import datetime
import io
from pathlib import Path
from typing import Any

from seqlab.io.files import write_text
from seqlab.results.provenance import commit, machine

FILE = 'rows.csv'
COLUMNS = ('trial', 'seed', 'metric', 'value', 'commit', 'machine', 'date')


def write_rows(path: Path, rows: Iterable[Iterable[Any]]) -> None:
  """Writes rows with one value per column of `COLUMNS`; numbers are not rounded."""
  with io.StringIO(newline='') as text:
    csv.writer(text, lineterminator='\n').writerows([COLUMNS, *rows])
    write_text(path, text.getvalue())


def write_computed_rows(path: Path, rows: Iterable[Iterable[Any]]) -> None:
  """Writes rows that this process has computed, today and on this machine.

  Args:
    path: the file.
    rows: values of the columns trial, seed, metric and value.
  """
  today = datetime.datetime.now(datetime.UTC).date().isoformat()
  where = named_commit(**commit()), machine(), today
  write_rows(path, ([*row, *where] for row in rows))


def named_commit(commit: str | None, dirty: bool | None) -> str:
  """Returns a commit, with '-dirty' if the code differs from it, as git names it.

  Args:
    commit: the commit; None if it is not known, which gives ''.
    dirty: whether the files differ from it.
  """
  return (commit or '') + '-dirty' * bool(commit and dirty)
