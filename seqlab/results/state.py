"""What the registry has on the rows of experiments: their results, and what is stale."""

from collections.abc import Iterable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from seqlab.experiment import split_name
from seqlab.results import ledger
from seqlab.results.origin import short_name
from seqlab.results.paper import read_paper
from seqlab.results.records import Line, Records, read_lines, signature_in
from seqlab.results.row import Row
from seqlab.results.runs import signature_of
from seqlab.results.signature import Signature
from seqlab.results.verdicts import WITHIN


@dataclasses.dataclass(frozen=True)
class Result:
  """What the registry has on one row.

  Attributes:
    experiment: path of the experiment's file.
    row: the row.
    verdict: the latest line of its verdict; None if there is none.
    seeds: seed -> latest line.
    stale: reasons why the result no longer belongs to the experiment; empty if it does.
    evaluations: number of evaluations of the split after training, over all seeds.
  """

  experiment: Path
  row: Row
  verdict: Line | None
  seeds: dict[int, Line]
  stale: list[str]
  evaluations: int

  @property
  def state(self) -> str:
    """The verdict, or 'not run', or '1 of 3 seeds'."""
    if self.verdict is not None:
      verdict, relation = self.verdict['verdict'], self.verdict['relation']
      where = 'within the tolerance' if relation == WITHIN else relation
      return verdict if verdict == relation else f'{verdict} ({where})'
    if not self.seeds:
      return 'not run'
    return f'unfinished: {len(self.seeds)} of {self.row.seeds} seeds'

  @property
  def here(self) -> str:
    """The mean and its interval, or the values of the seeds there are."""
    if self.verdict is not None:
      return shown(self.verdict['mean'], self.verdict['interval'])
    return ', '.join(f'{line["value"]:.4g}' for line in self.seeds.values())

  @property
  def date(self) -> str:
    """Day of the last seed."""
    return max((line['date'] for line in self.seeds.values()), default='')[:10]

  def texts(self) -> tuple[str, ...]:
    """Returns the cells of one line of the table."""
    cells = (
      str(self.experiment),
      self.row.name,
      f'{self.row.value:g}',
      self.here,
      str(self.verdict['n'] if self.verdict else len(self.seeds)),
      self.state,
      '; '.join(self.stale),
      str(self.evaluations),
      self.date,
    )
    return tuple(cell or '-' for cell in cells)

  def plain(self) -> dict[str, Any]:
    """Returns all of it as JSON can hold it."""
    return {
      'experiment': str(self.experiment),
      **dataclasses.asdict(self.row),
      'state': self.state,
      'stale': self.stale,
      'values': {str(seed): line['value'] for seed, line in self.seeds.items()},
      'evaluations': self.evaluations,
      'verdict': self.verdict,
    }


def shown(mean: float, interval: float | None) -> str:
  """Returns a mean with four digits and half of its interval with two: '41.1 ± 0.23'."""
  return f'{mean:.4g}' if interval is None else f'{mean:.4g} ± {interval:.2g}'


def read_results(names: Sequence[str], folder: Path) -> list[Result]:
  """Returns what the registry has on the rows of experiments, in their order.

  Args:
    names: files, maybe with arguments after a colon, or folders of files.
    folder: folder of the registry.

  Raises:
    FileNotFoundError: there is no such experiment.
    ValueError: PAPER of an experiment is wrong, or a file of the registry is damaged.
  """
  entered = read_lines(folder / ledger.NAME)
  results = []
  for path, args in _experiments(names):
    rows, records = read_paper(path), Records(folder, short_name(path))
    wanted = [row for row in rows if row.has_args(args)]
    results += [_result(path, row, rows, records, entered) for row in wanted]
    removed = _removed(path, rows, records, entered)
    results += [result for result in removed if result.row.has_args(args)]
  return results


def _removed(
  path: Path, rows: Sequence[Row], records: Records, entered: list[Line]
) -> Iterable[Result]:
  """Yields results on rows that the experiment no longer has.

  A row does not disappear with a verdict that was not wanted.
  """
  names = {row.name for row in rows}
  for verdict in records.unclaimed(rows):
    if verdict['row'] not in names:
      row = _row_of(verdict)
      total = ledger.total(entered, short_name(path), row.args, verdict['split'])
      stale = ['the experiment no longer has this row']
      yield Result(path, row, verdict, records.seeds(row), stale, total)


def _row_of(verdict: Line) -> Row:
  """Returns the row that a verdict is on."""
  fields = {field.name for field in dataclasses.fields(Row)} & {*verdict}
  known = {name: verdict[name] for name in fields}
  return Row(**known, value=verdict['paper'], seeds=verdict['n'])


def _experiments(names: Sequence[str]) -> Iterable[tuple[Path, str]]:
  """Yields the files that names stand for, with the arguments of each."""
  for name in names:
    if Path(name).is_dir():
      yield from ((path, '') for path in sorted(Path(name).rglob('*.py')))
    else:
      yield split_name(name)


def _result(
  path: Path, row: Row, rows: Sequence[Row], records: Records, entered: list[Line]
) -> Result:
  seeds, verdict = records.seeds(row), records.verdict(row)
  stale, split = [], row.split
  if former := _former(row, rows, records):
    verdict = verdict if seeds else former
    stale.append(f'evaluate was {former["evaluate"]!r} and is {row.evaluate!r}')
  if seeds:
    split = next(iter(seeds.values()))['split']
  if seeds or verdict:
    stale += reasons(row, verdict, seeds, _signature(path, row))
  total = ledger.total(entered, short_name(path), row.args, split)
  return Result(path, row, verdict, seeds, stale, total)


def _former(row: Row, rows: Sequence[Row], records: Records) -> Line | None:
  """Returns a verdict on the same metric with other options, if no row has it now."""
  former = [x for x in records.unclaimed(rows) if x['row'] == row.name]
  return former[-1] if former else None


def _signature(path: Path, row: Row) -> Signature | str:
  """Returns the present signature of a row, or why it has none."""
  try:
    return signature_of(path, row.args)
  except Exception as error:  # of any kind: the user's file is executed
    return f'the experiment cannot be loaded: {error}'


def reasons(
  row: Row, verdict: Line | None, seeds: dict[int, Line], now: Signature | str
) -> list[str]:
  """Returns why a result is stale; empty if it is not.

  A published value or a tolerance that was changed after a seed was evaluated stays a
  reason, also if the verdict is newer.

  Args:
    row: the row as the experiment has it.
    verdict: the latest verdict on it, if there is one.
    seeds: seed -> its latest line.
    now: present signature of the experiment, or why it has none.
  """
  if isinstance(now, str):
    return [now]
  if verdict is not None:
    found = now.changes_since(signature_in(verdict))
    missing = row.seeds - verdict['n']
    found += [f'{row.seeds} seeds are asked for, of {verdict["n"]}'] * (missing != 0)
    found += ['differs has changed'] * (bool(row.differs) != bool(verdict['differs']))
  else:
    changes = (now.changes_since(signature_in(line)) for line in seeds.values())
    found = [*dict.fromkeys(change for changed in changes for change in changed)]
  lines = [*seeds.values()] or [verdict]
  for name in ('seeds', 'differs', 'prediction'):
    if any(line.get(name, getattr(row, name)) != getattr(row, name) for line in lines):
      found.append(f'{name} was changed after the run')
  for name, value in (('paper', row.value), ('tolerance', row.tolerance)):
    then = dict.fromkeys(line[name] for line in lines if line[name] != value)
    label = 'the published value' if name == 'paper' else name
    found += [f'{label} was {x:g} at the run and is {value:g}' for x in then]
  return found
