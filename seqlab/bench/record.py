"""What `seqlab bench --against` writes: JSON, and tables for terminal and Markdown."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import datetime
import json
from pathlib import Path
import platform
import re
import shlex
import subprocess
import sys
from typing import Any

from rich.table import Table

from seqlab.bench.turns import MAX_SHARE, Spread, Turn, ratio_of, speed_of
from seqlab.io.console import print_table
from seqlab.io.files import write_text
from seqlab.text.workers import all_cores

_COLUMNS = ('contender', 'speed', 'best of seqlab / it', 'turns', 'parameters', 'loss')


@dataclasses.dataclass(frozen=True)
class Result:
  """The turns of one comparison.

  Attributes:
    part: 'training' or 'decoding'.
    unit: unit of speeds.
    setting: the work, in words.
    turns: name of a contender -> its turns, one per round.
    facts: name of a contender -> facts that it reported.
    notes: further lines below the table.
  """

  part: str
  unit: str
  setting: str
  turns: Mapping[str, Sequence[Turn]]
  facts: Mapping[str, Mapping[str, Any]]
  notes: Sequence[str] = ()

  @property
  def best_own(self) -> str:
    """Name of the fastest contender of this project."""

    def median(name: str) -> float:
      speed = speed_of(self.turns[name])
      return speed.median if speed else 0.0

    return max((x for x in self.turns if x.startswith('seqlab')), key=median)

  def rows(self) -> list[dict[str, Any]]:
    """Returns one row per contender, for JSON."""
    own = self.turns[self.best_own]
    return [
      {
        'name': name,
        'speed': _as_dict(speed_of(turns)),
        'ratio': _as_dict(ratio_of(own, turns)),
        'kept': sum(turn.is_quiet for turn in turns),
        'left_out': sum(not turn.is_quiet for turn in turns),
        'turns': [turn._asdict() for turn in turns],
        **self.facts[name],
      }
      for name, turns in self.turns.items()
    ]

  def cells(self) -> Iterable[tuple[str, ...]]:
    """Yields the cells of the table, one row per contender, as in `_COLUMNS`."""
    own = self.turns[self.best_own]
    for name, turns in self.turns.items():
      facts, kept = self.facts[name], sum(turn.is_quiet for turn in turns)
      loss = facts.get('first_loss')
      yield (
        name,
        _show(speed_of(turns), ',.0f'),
        _show(ratio_of(own, turns), '.2f'),
        f'{kept} of {len(turns)}',
        f'{facts["parameters"]:,}',
        '' if loss is None else f'{loss:.2f}',
      )


def report(
  results: Sequence[Result],
  experiment: str,
  overrides: Sequence[str],
  output: str,
  table: str | None,
) -> None:
  """Prints tables, writes the JSON file, and the tables into a Markdown file."""
  machine = describe_machine()
  record = {
    'experiment': experiment,
    'overrides': list(overrides),
    'command': shlex.join(['seqlab', *sys.argv[1:]]),
    **machine,
    'results': [
      {
        'part': result.part,
        'unit': result.unit,
        'setting': result.setting,
        'notes': list(result.notes),
        'rows': result.rows(),
      }
      for result in results
    ],
  }
  for result in results:
    _print(result)
  write_text(output, json.dumps(record, indent=2) + '\n')
  print(f'the same as JSON: {output}')
  if table is None:
    return
  text = _read(table)
  for result in results:
    name = f'{result.part} {_subject(experiment, overrides)}'
    text = replace_section(text, name, markdown(result, record))
  write_text(table, text)
  print(f'tables written into {table}')


def check_sections(table: str, experiment: str, overrides: Sequence[str]) -> None:
  """Checks that the sections of an experiment in a Markdown file can be replaced.

  Raises:
    ValueError: a section has a begin marker without an end marker.
  """
  text, subject = _read(table), _subject(experiment, overrides)
  for name in re.findall(rf'<!-- bench (.* {re.escape(subject)}) -->', text):
    try:
      replace_section(text, name, '')
    except ValueError as error:
      raise ValueError(f'{table}: {error}') from None


def _subject(experiment: str, overrides: Sequence[str]) -> str:
  """Returns what the names of all sections of an experiment end in."""
  return shlex.join([experiment, *overrides])


def _read(path: str) -> str:
  return Path(path).read_text('utf-8') if Path(path).exists() else ''


def describe_machine() -> dict[str, Any]:
  """Returns date, commit, processor and versions of Python and the system."""
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='minutes'),
    'commit': _commit(),
    'processor': _processor(),
    'cores': len(all_cores()),
    'system': platform.platform(),
    'python': platform.python_version(),
  }


def markdown(result: Result, record: Mapping[str, Any]) -> str:
  """Returns a table with a line before it that says how it was measured."""
  versions: dict[str, str] = {}
  for facts in result.facts.values():
    versions |= facts.get('versions', {})
  listed = ', '.join(f'{name} {version}' for name, version in versions.items())
  lines = [
    f'`{record["command"]}`, {record["date"]}, commit {record["commit"]}, '
    f'{record["cores"]} cores of {record["processor"]}; {result.setting}. '
    f'{result.unit.capitalize()}: median (quartiles) of the turns in which other '
    f'processes used at most {MAX_SHARE:.0%} of the cores. Versions: {listed}.',
    '',
    '| ' + ' | '.join(_headings(result)) + ' |',
    '|---|---:|---:|---:|---:|---:|',
    *('| ' + ' | '.join(cells) + ' |' for cells in result.cells()),
  ]
  for note in result.notes:
    lines += ['', note]
  return '\n'.join(lines)


def replace_section(text: str, name: str, content: str) -> str:
  """Puts content between the markers of a section, or at the end of the text.

  Args:
    text: a Markdown file.
    name: name of the section, which its markers hold.
    content: lines to put there.

  Raises:
    ValueError: the section has a marker for its begin and none for its end.
  """
  begin, end = f'<!-- bench {name} -->', f'<!-- end of bench {name} -->'
  section = f'{begin}\n{content}\n{end}'
  before, begin_marker, rest = text.partition(begin)
  if not begin_marker:
    return f'{text.rstrip()}\n\n{section}\n'.lstrip()
  _, end_marker, after = rest.partition(end)
  if not end_marker:
    raise ValueError(f'the marker {begin!r} has no {end!r} after it: add it')
  return before + section + after


def _print(result: Result) -> None:
  table = Table(*_headings(result), title=f'{result.part}: {result.setting}')
  for cells in result.cells():
    table.add_row(*cells)
  print_table(table)
  for note in result.notes:
    print(note)


def _headings(result: Result) -> list[str]:
  names = {'speed': result.unit, 'best of seqlab / it': f'{result.best_own} / it'}
  return [names.get(x, x) for x in _COLUMNS]


def _show(spread: Spread | None, form: str) -> str:
  if spread is None:
    return 'no quiet turn'
  low, median, high = (format(x, form) for x in spread)
  return f'{median} ({low} to {high})'


def _as_dict(spread: Spread | None) -> dict[str, float] | None:
  return None if spread is None else spread._asdict()


def _commit() -> str | None:
  command = ['git', 'describe', '--always', '--dirty']
  root = Path(__file__).parent
  try:
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
  except FileNotFoundError:  # git is not installed
    return None
  return result.stdout.strip() or None


def _processor() -> str:
  path = Path('/proc/cpuinfo')
  lines = path.read_text('utf-8').splitlines() if path.exists() else []
  models = [line.partition(':')[2].strip() for line in lines if 'model name' in line]
  return models[0] if models else platform.processor()
