"""`metrics.jsonl`: one JSON object per step of a run, with null for NaN and infinity.

A power cut may leave zeros in a line, and an editor may damage it in other ways. A
damaged line is left out, with a message that gives its number; all other rows are read.
"""

from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import shutil
import sys
from typing import Any, BinaryIO, NamedTuple

from seqlab.io import files

Rows = list[dict[str, Any]]
_LONGEST = 2**24  # bytes; a longer line is not a row, and is not read into memory


class Line(NamedTuple):
  """A line of the file.

  Attributes:
    number: line number, from 1.
    row: the row; None if the line is damaged, empty, or incomplete.
    text: the row's bytes, without the line end.
    end: byte offset of the next line.
    damage: description of the damage; empty if the line is not damaged.
    whole: whether the line has a line end.
  """

  number: int
  row: dict[str, Any] | None
  text: bytes
  end: int
  damage: str
  whole: bool


def read_metrics(path: Path, say: Callable[[str], None] | None = None) -> Rows:
  """Reads all rows, except a last line that is not completely written.

  Args:
    path: the file.
    say: called with a message for each damaged line, which is left out; by default the
      message is printed to standard error.

  Raises:
    FileNotFoundError: there is no such file.
  """
  return NewRows(path, say).read()


class NewRows:
  """Reads the rows that were added since the previous call, while a run writes them."""

  def __init__(self, path: Path, say: Callable[[str], None] | None = None):
    """Reads nothing yet; the file need not exist. `say`: see `read_metrics`."""
    self._path, self._say = path, say or _warn
    self._file, self._read, self._number = None, 0, 0

  def read(self) -> Rows:
    """Returns the new rows, or all rows after `cut` has replaced the file.

    Raises:
      FileNotFoundError: there is no such file.
    """
    rows = []
    with open(self._path, 'rb') as file:
      stat = os.fstat(file.fileno())
      # `cut` replaces the file by another one.
      if stat.st_ino != self._file or stat.st_size < self._read:
        self._file, self._read, self._number = stat.st_ino, 0, 0
      file.seek(self._read)
      for line in _lines(file, self._number, self._read):
        if not line.whole and line.row is None:  # a run may still be writing the rest
          break
        self._read, self._number = line.end, line.number
        if line.damage:
          self._say(_message(self._path, line))
        if line.row is not None:
          rows.append(line.row)
    return rows


def cut(path: Path, last: int, say: Callable[[str], None] | None = None) -> None:
  """Drops the rows after a step, and a last line that is not completely written.

  If other lines are damaged, they are left out with a message, and the original file is
  kept in the same folder as `metrics.jsonl.damaged-1` or with a higher number.

  Args:
    path: the file; it need not exist.
    last: the step of the last row to keep.
    say: see `read_metrics`.

  Raises:
    OSError: the file cannot be written. The old file is unchanged.
  """
  if not path.exists():
    return
  damaged, dropped = [], []
  with open(path, 'rb') as file, files.replacing(path) as temporary:
    with open(temporary, 'wb') as target:
      for line in _lines(file):
        if line.damage and line.whole:
          damaged.append(_message(path, line))
        if line.row is None:
          continue
        if line.row['step'] > last:
          dropped.append(line)
          continue
        target.write(line.text + b'\n')
        # Rows are in the order of their steps, so the step of a dropped row before this
        # one must be wrong.
        damaged += [
          f'{path}, line {x.number:,}: its step is {x.row["step"]:,}, and that of line '
          f'{line.number:,} is {line.row["step"]:,}; it is damaged and left out'
          for x in dropped
        ]
        dropped = []
    kept = _keep(path) if damaged else path
  for message in damaged:
    (say or _warn)(f'{message} (original file: {kept.name})')


def _keep(path: Path) -> Path:
  """Gives the file a second name, and returns that name."""
  number = 1
  while (kept := path.with_name(f'{path.name}.damaged-{number}')).exists():
    number += 1
  try:
    os.link(path, kept)
  except OSError:  # a file system without links
    shutil.copyfile(path, kept)
  return kept


def _lines(file: BinaryIO, number: int = 0, end: int = 0) -> Iterator[Line]:
  """Yields the lines from the file's position; long ones are not held in memory."""
  while piece := file.readline(_LONGEST):
    number, size, whole = number + 1, len(piece), piece.endswith(b'\n')
    text = piece
    while len(piece) == _LONGEST and not whole:  # too long for a row
      text = b''
      piece = file.readline(_LONGEST)
      size, whole = size + len(piece), piece.endswith(b'\n')
    end += size
    if size > _LONGEST:
      damage = f'it has {size:,} bytes'
      yield Line(number, None, b'', end, damage, whole)
      continue
    yield _line(number, text, end, whole)


def _line(number: int, text: bytes, end: int, whole: bool) -> Line:
  # A power cut leaves zeros in place of rows; a row may begin after them.
  content = text.strip(b'\0 \t\r\n')
  zeros = text.count(b'\0')
  damage = f'{zeros:,} bytes of it are zero' if zeros else ''
  if not content:
    return Line(number, None, b'', end, damage, whole)
  row = _row(content)
  if row is None:
    return Line(number, None, content, end, damage or 'it is not a row', whole)
  return Line(number, row, content, end, damage, whole)


def _row(text: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(text)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get('step')) is not int:
    return None
  good = all(v is None or type(v) in (int, float) for v in row.values())
  return row if good else None


def _message(path: Path, line: Line) -> str:
  result = 'it is left out' if line.row is None else 'the row after them is kept'
  return f'{path}, line {line.number:,} is damaged: {line.damage}; {result}'


def _warn(text: str) -> None:
  print(text, file=sys.stderr)
