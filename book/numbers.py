"""Numbers of committed tables: Markdown or CSV, whose first cells name a row."""

from collections.abc import Iterator
import csv
import functools
from pathlib import Path
import re

_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')
_NO_BREAK = '\u00a0'


def cell(path: Path, row: tuple[str, ...], column: str) -> str:
  """Returns a cell, without its bold marks.

  Args:
    path: a file of tables.
    row: the first cells of the row, as many as are needed to name it.
    column: the heading of the column.

  Raises:
    ValueError: the file, the row or the column does not exist, or rows with this name
      have different cells.
  """
  tables = [(head, rows) for head, rows in _tables(path) if column in head]
  if not tables:
    raise ValueError(f'{path} has no table with a column {column!r}')
  found = {
    cells[head.index(column)]
    for head, rows in tables
    for cells in rows
    if cells[: len(row)] == row and len(cells) == len(head)
  }
  if len(found) != 1:
    raise ValueError(
      f'{path} has {len(found)} different cells in the column {column!r} of rows that '
      f'begin with {" / ".join(row)!r}: name one row'
    )
  return found.pop()


def in_text(path: Path, pattern: str) -> str:
  """Returns what the one group of a pattern matches in a file, without bold marks.

  Raises:
    ValueError: the file does not exist, or the pattern does not match exactly once.
  """
  text = ' '.join(_read(path).split())
  found = re.findall(pattern, text)
  if len(found) != 1 or not isinstance(found[0], str):
    raise ValueError(f'{path} has {len(found)} places of {pattern!r}; it must have one')
  return found[0].strip('*')


def localised(value: str, language: str) -> str:
  """Returns numbers as a language writes them, without line breaks within them.

  In Russian a comma precedes the decimals and a space the thousands. 2.1e-13 becomes
  2.1 · 10⁻¹³ in both.
  """
  if language == 'ru':
    value = re.sub(r'(?<=\d),(?=\d{3})', _NO_BREAK, value)
    value = re.sub(r'(?<=\d)\.(?=\d)', ',', value)
  value = re.sub(r'(?<![\w.])-(?=\d)', '−', value)  # a minus, not a hyphen
  value = re.sub(r'(?<=\d)e([+-]?)0?(\d+)', _power, value)
  return value.replace(' ± ', f'{_NO_BREAK}±{_NO_BREAK}')


def _power(match: re.Match) -> str:
  exponent = match[1].replace('+', '') + match[2]
  if match[2] == '0':
    return ''
  return f'{_NO_BREAK}·{_NO_BREAK}10' + exponent.translate(_SUPERSCRIPTS)


@functools.cache
def _tables(path: Path) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
  """Returns the heading and the rows of every table of a file."""
  text = _read(path)
  if path.suffix == '.csv':
    head, *rows = (tuple(row) for row in csv.reader(text.splitlines()))
    return [(head, rows)]
  return list(_markdown_tables(text))


def _markdown_tables(
  text: str,
) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
  for block in re.findall(r'(?:^\|.*\n?)+', text, re.MULTILINE):
    head, _, *rows = (
      tuple(x.strip().removeprefix('**').removesuffix('**') for x in _cells(line))
      for line in block.splitlines()
    )
    yield head, rows


def _cells(line: str) -> list[str]:
  return line.strip().removeprefix('|').removesuffix('|').split('|')


def _read(path: Path) -> str:
  if not path.is_file():
    raise ValueError(f'{path} does not exist')
  return path.read_text('utf-8')
