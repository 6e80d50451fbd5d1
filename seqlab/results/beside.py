"""The paper's value, printed beside that of a run."""

from collections.abc import Iterator, Mapping
import math
from pathlib import Path
import shlex
import sys
from typing import Any

from seqlab.metrics_file import read_metrics
from seqlab.results.measurement import Measurement
from seqlab.results.origin import Origin, read_origin
from seqlab.results.paper import read_paper
from seqlab.results.row import Row
from seqlab.results.signature import experiment_digest
from seqlab.results.verdicts import WITHIN, relation_of


def print_after_evaluation(folder: Path, record: Mapping[str, Any]) -> None:
  """Prints the paper's value for each row that an evaluation has measured.

  Nothing is printed for a run whose experiment is not known, has changed since, or was
  trained with other options than those of its file.

  Args:
    folder: the run, on a disk.
    record: what `seqlab evaluate` has added to `evaluations.jsonl`.
  """
  for row in rows_of_run(folder):
    measurement = Measurement.of(row)
    if 'split' in record and record['split'] != measurement.data_split({}):
      continue
    try:
      value = measurement.value(row, record)
    except (ValueError, TypeError, KeyError, AttributeError):  # of another kind
      continue
    options = f'; its options are {row.evaluate}' if row.evaluate else ''
    print(f'{compared(row, value)}{options}')


def print_after_training(folder: Path) -> None:
  """Prints the paper's value for each row of a run that has been trained.

  A row whose metric an evaluator of the run has measured is compared with its last
  value; for others the command is printed that measures them.
  """
  values = {k: x for step in _metrics(folder) for k, x in step.items() if x is not None}
  for row in rows_of_run(folder):
    if row.metric in values and not row.evaluate:
      print(compared(row, values[row.metric]))
    else:
      words = Measurement.of(row).command(str(folder), [row])
      print(f'paper: {_published(row)}; `{shlex.join(["seqlab", *words])}` measures it')


def compared(row: Row, value: float) -> str:
  """Returns the published value and that of one run, as a line."""
  difference = value - row.value
  # Scores have single precision.
  if math.isclose(value, row.value, rel_tol=1e-6):
    place = 'equal to it'
  else:
    place = f'{abs(difference):.2g} {"above" if difference > 0 else "below"} it'
  relation = relation_of(difference, row.tolerance)
  inside = 'within' if relation == WITHIN else 'outside'
  return (
    f'paper: {_published(row)}; this run: {value:.4g}, {place}, '
    f'{inside} the tolerance of {row.tolerance:g}'
  )


def _published(row: Row) -> str:
  return f'{row.metric} {row.value:g} ({row.of})'


def rows_of_run(folder: Path) -> Iterator[Row]:
  """Yields the rows of the experiment and the arguments that made a run.

  An error is a message on stderr: the results of the run are printed by then.
  """
  try:
    origin = read_origin(folder)
    if origin is not None and _is_unchanged(origin):
      yield from (x for x in read_paper(Path(origin.file)) if x.args == origin.args)
  except (ValueError, OSError) as error:
    print(f"the paper's value cannot be shown: {error}", file=sys.stderr)


def _is_unchanged(origin: Origin) -> bool:
  """Returns whether the experiment's file, without options, still makes this run."""
  path = Path(origin.file)
  if origin.overrides or not path.is_file():
    return False
  try:
    return experiment_digest(path) == origin.digest
  except SyntaxError:
    return False


def _metrics(folder: Path) -> list[dict[str, Any]]:
  path = folder / 'metrics.jsonl'
  return read_metrics(path) if path.is_file() else []
