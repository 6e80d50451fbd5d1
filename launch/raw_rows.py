"""`rows.csv` of a sweep: the final metrics of its finished trials."""

from collections.abc import Iterable, Iterator
from pathlib import Path
import sys
from typing import Any

from launch.trials import read_state
from seqlab.report.runs import read_run
from seqlab.results.origin import read_origin
from seqlab.results.raw_rows import FILE, named_commit, write_rows

Row = tuple[Any, ...]  # one value per column


class RawRows:
  """The file of one study, which is written again whenever a trial ends."""

  def __init__(self, folder: Path):
    """Reads nothing yet.

    Args:
      folder: folder of the study.
    """
    self.path = folder / FILE
    self._read: dict[Path, tuple[dict[str, Any] | None, list[Row]]] = {}  # with states

  def update(self, trials: Iterable[tuple[str, Path]]) -> None:
    """Writes the rows of those trials that are finished, in the order of the trials.

    A trial whose files cannot be read is left out, with a message on stderr.

    Args:
      trials: name and folder of each trial of the study. Only folders whose state has
        changed since the last call are read.
    """
    rows = [row for name, folder in trials for row in self._rows(name, folder)]
    if rows or self.path.exists():
      write_rows(self.path, rows)

  def _rows(self, name: str, folder: Path) -> list[Row]:
    state = None
    try:
      state = read_state(folder)
      known, rows = self._read.get(folder, (None, []))
      if state != known:
        rows = [*_rows_of(name, folder, state)]
        self._read[folder] = state, rows
    except (OSError, ValueError) as error:
      print(f'{self.path} leaves out trial {name}: {error}', file=sys.stderr)
      self._read[folder] = state, []  # so that the message comes once
      return []
    return rows


def _rows_of(name: str, folder: Path, state: dict[str, Any]) -> Iterator[Row]:
  """Yields one row per metric of a finished trial, with its last value."""
  if state.get('status') != 'finished':
    return
  run, origin = read_run(folder), read_origin(folder)
  commit = named_commit(origin.commit, origin.dirty) if origin else ''
  # Older trials recorded the device only.
  machine = state.get('machine') or state.get('device', '')
  seed, date = run.config.get('seed', ''), state.get('date', '')
  final = {metric: value for row in run.rows for metric, value in row.items()}
  for metric, value in final.items():
    # How fast a step was says nothing about the result.
    if metric != 'step' and not metric.startswith('speed/'):
      yield name, seed, metric, value, commit, machine, date
