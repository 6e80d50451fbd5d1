"""The list of experiments in a folder: one line per experiment, or TSV, or JSON."""

import ast
from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
import sys
from typing import Any, NamedTuple

from seqlab.experiment_files import default_folder
from seqlab.io.columns import GAP, aligned
from seqlab.io.console import console
from seqlab.results.paper import assigned, parse, rows_of
from seqlab.results.row import Row

FORMATS = ('table', 'tsv', 'json')
_HEADER = ('experiment', 'paper', 'time', 'title')
# Characters without which a paper's number, a time and a title say nothing.
_NEEDED = (8, 8, 24)


class Entry(NamedTuple):
  """One experiment, as its file describes it."""

  path: Path
  title: str  # the docstring's first line
  paper: list[Row]
  time: str
  problem: str = ''  # why `paper` cannot be read

  def texts(self) -> tuple[str, str, str, str]:
    """Returns the texts of one line, '-' for information that is not in the file."""
    # The number comes first, because the end of a text may be cut.
    numbers = ', '.join(f'{row.value:g} {row.name}' for row in self.paper)
    paper = self.problem or numbers or '-'
    return str(self.path), paper, self.time or '-', self.title or '-'

  def plain(self) -> dict[str, Any]:
    """Returns the entry as JSON can hold it; `problem` only where there is one."""
    plain = {**self._asdict(), 'path': str(self.path)}
    plain['paper'] = [dataclasses.asdict(row) for row in self.paper]
    return {key: x for key, x in plain.items() if key != 'problem' or x}


def print_experiments(folder: Path | None, output: str = 'table') -> None:
  """Prints the experiments below a folder, without executing their files.

  Args:
    folder: folder of the experiments; files and folders that start with a dot are
      skipped. None is `experiments` in the current folder, or else seqlab's own, which
      are listed by their names, such as 'multi30k/transformer'.
    output: 'table': aligned columns, cut to the width where a terminal shows them;
      'tsv': the same with one tab between columns; 'json': a list of objects.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  entries = _known_entries() if folder is None else _entries_in(folder)
  rows = [_HEADER, *(_one_line(entry.texts()) for entry in entries)]
  if output == 'json':
    plain = [entry.plain() for entry in entries]
    lines = [json.dumps(plain, indent=2, ensure_ascii=False)]
  elif output == 'tsv':
    lines = ['\t'.join(row) for row in rows]
  else:
    lines = align(rows, console().width if sys.stdout.isatty() else None)
  for line in lines:
    print(line)


def _entries_in(folder: Path) -> list[Entry]:
  if not folder.is_dir():
    raise FileNotFoundError(f'there is no folder {folder}; give one with experiments')
  return read_experiments(folder)


def _known_entries() -> list[Entry]:
  """Returns the experiments of the current folder, or else those of seqlab."""
  folder = default_folder()
  entries = _entries_in(folder)
  if not folder.is_absolute():
    return entries
  return [
    entry._replace(path=entry.path.relative_to(folder).with_suffix(''))
    for entry in entries
  ]


def read_experiments(folder: Path) -> list[Entry]:
  """Reads what the experiments below a folder say of themselves, in order of path."""
  entries = []
  for path in sorted(folder.rglob('*.py')):
    hidden = any(part.startswith('.') for part in path.relative_to(folder).parts)
    if not hidden and (entry := _read_entry(path)):
      entries.append(entry)
  return entries


def align(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
  """Aligns rows of texts in columns, one line per row.

  Args:
    rows: path, paper's number, time and title of each row. The path is kept whole,
      since a reader will copy it.
    width: characters per line of the terminal; None keeps all texts whole.

  Returns:
    The lines. The texts after the path end in '…' where they had to be cut; the last
    columns are left out where there is no room for a readable part of them.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  if width is not None:
    widths = [widths[0], *_shrink(widths[1:], width - widths[0])]
  return aligned(
    [[_cut(text, n) for text, n in zip(row, widths, strict=False)] for row in rows]
  )


def _shrink(widths: Sequence[int], room: int) -> list[int]:
  """Shares the room among as many columns as stay readable; the widest give first."""
  needed = [min(n, k) for n, k in zip(widths, _NEEDED, strict=True)]
  while needed and sum(needed) + len(needed) * len(GAP) > room:
    needed.pop()
  shrunk = list(widths[: len(needed)])
  while sum(shrunk) + len(shrunk) * len(GAP) > room:
    spare = [n - k for n, k in zip(shrunk, needed, strict=True)]
    widest = max((i for i, n in enumerate(spare) if n), key=shrunk.__getitem__)
    shrunk[widest] -= 1
  return shrunk


def _cut(text: str, n: int) -> str:
  return text if len(text) <= n else f'{text[: n - 1]}…'


def _one_line(texts: Sequence[str]) -> tuple[str, ...]:
  """Texts without tabs and line breaks, which would divide a row."""
  return tuple(' '.join(text.split()) if text.split() else '-' for text in texts)


def _read_entry(path: Path) -> Entry | None:
  """Reads an experiment's title, its paper's numbers and its time.

  A listing must not execute the files that it lists: anybody may have written them.

  Returns:
    The entry; None if the file defines neither `get_config` nor `study`.
  """
  try:
    tree = parse(path)
  except SyntaxError as error:
    return Entry(path, f'cannot be read: {error}', [], '')
  names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
  if not {'get_config', 'study'} & set(names):
    return None
  title = (ast.get_docstring(tree) or '').partition('\n')[0]
  time = str(_constant(tree, 'TIME') or '')
  try:
    return Entry(path, title, rows_of(tree, path), time)
  except ValueError as error:  # it is shown in the place of the numbers
    return Entry(path, title, [], time, str(error))


def _constant(tree: ast.Module, name: str) -> Any:
  """Returns the value of `name = <literal>` at the top of a module, or None."""
  value = assigned(tree, name)
  try:
    return None if value is None else ast.literal_eval(value)
  except ValueError:  # computed, which would have to be run
    return None
