"""The raw rows of the registry: one file per experiment, to which lines are added.

`docs/results/<set>-<experiment>.jsonl` has one JSON object per line. `line` is 'seed'
for the value of one seed, written as the seed ends, and 'verdict' for the comparison of
all seeds with the published value. No line is ever changed.

`ledger.jsonl` beside it has one line per evaluation of a split; see `ledger`.
"""

from collections.abc import Iterable, Mapping, Sequence
import fcntl
import json
from pathlib import Path
from typing import Any

from seqlab.io.files import append_line
from seqlab.results.row import Row
from seqlab.results.signature import Signature

Line = dict[str, Any]


class Records:
  """The lines of one experiment."""

  def __init__(self, folder: Path, name: str):
    """Reads the lines.

    Args:
      folder: folder of the registry.
      name: name of the experiment; see `runs.short_name`.

    Raises:
      ValueError: the file is damaged.
    """
    self.path = folder / f'{name}.jsonl'
    self.lines = read_lines(self.path)
    for number, line in enumerate(self.lines, 1):
      if line.get('line') not in ('seed', 'verdict'):
        raise ValueError(
          f'entry {number:,} of {self.path} is neither a seed nor a verdict: remove it, '
          'or rename the experiment if its name is that of the ledger'
        )

  def add(self, line: Line) -> None:
    """Adds a line to the file."""
    add_line(self.path, line)
    self.lines.append(line)

  def seeds(self, row: Row) -> dict[int, Line]:
    """Returns seed -> its latest line, for the seeds of a row that were evaluated."""
    return _by_seed(self.lines, row)

  def valid_seeds(self, row: Row, signature: Signature) -> dict[int, Line]:
    """Returns those of `seeds` that the present experiment would compute again."""
    seeds = (x for x in self.lines if x['line'] == 'seed')
    same = [x for x in seeds if signature.same_numbers(signature_in(x))]
    return _by_seed(same, row)

  def verdict(self, row: Row) -> Line | None:
    """Returns the latest verdict on a row."""
    verdicts = [x for x in self.lines if _is('verdict', x, row)]
    return verdicts[-1] if verdicts else None

  def unclaimed(self, rows: Sequence[Row]) -> list[Line]:
    """Returns the latest verdicts on rows that the experiment no longer has."""
    keys = {row.key for row in rows}
    verdicts = {key_of(x): x for x in self.lines if x['line'] == 'verdict'}
    return [line for key, line in verdicts.items() if key not in keys]


def values_before(lines: Sequence[Line], verdict: Line) -> dict[int, float]:
  """Returns seed -> value of the raw lines that a verdict was derived from.

  Args:
    lines: all lines of the experiment, with the verdict among them.
    verdict: one of them.
  """
  signature, key = signature_in(verdict), key_of(verdict)
  values = {}
  for line in lines[: lines.index(verdict)]:
    same = line['line'] == 'seed' and key_of(line) == key
    if same and signature.same_numbers(signature_in(line)):
      values[line['seed']] = line['value']
  return {seed: values[seed] for seed in sorted(values) if seed < verdict['n']}


def signature_in(line: Mapping[str, Any]) -> Signature:
  """Returns the signature of the experiment when a line was written."""
  return Signature(**line['signature'])


def key_of(line: Mapping[str, Any]) -> tuple[str, str, str]:
  """Returns the `Row.key` of a line."""
  return line['metric'], line['args'], line['evaluate']


def _by_seed(lines: Iterable[Line], row: Row) -> dict[int, Line]:
  """Returns seed -> the last of the lines on it, for the seeds of a row."""
  found = {x['seed']: x for x in lines if _is('seed', x, row)}
  return {seed: found[seed] for seed in sorted(found) if seed < row.seeds}


def _is(kind: str, line: Mapping[str, Any], row: Row) -> bool:
  return line['line'] == kind and key_of(line) == row.key


def read_lines(path: Path) -> list[Line]:
  """Returns the lines of a file; none if there is no file.

  Raises:
    ValueError: a line is not a JSON object; the message has its number.
  """
  if not path.is_file():
    return []
  text = path.read_text('utf-8')
  return [_read(line, path, i) for i, line in enumerate(text.split('\n'), 1) if line]


def _read(text: str, path: Path, number: int) -> Line:
  try:
    line = json.loads(text)
  except ValueError as error:
    raise ValueError(f'line {number:,} of {path} is damaged: {error}') from None
  if not isinstance(line, dict):
    raise ValueError(f'line {number:,} of {path} is not a JSON object: remove it')
  return line


def add_line(path: Path, line: Mapping[str, Any]) -> None:
  """Adds a line to a file, whole also where other processes do the same."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(line, ensure_ascii=False, allow_nan=False)
  with open(path, 'ab') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    append_line(path, text)
