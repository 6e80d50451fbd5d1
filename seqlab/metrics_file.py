"""`metrics.jsonl`: one JSON object per step of a run, with null for NaN and infinity.

A line may be damaged, by a power cut that left zeros, or by an editor. It is left out,
with a message that gives its number, and all other rows are read.
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
_LONGEST = 2**24  # bytes; a longer line is no row, and is not read into memory


class Line(NamedTuple):
  """A line of the file.

  Attributes:
    number: from 1.
    row: the row; None if the line is damaged, empty, or not written whole yet.
    text: the row's bytes, without a line end.
    end: where the next line begins, in bytes.
    damage: what is wrong with the line; empty if nothing is.
    whole: whether the line has an end.
  """

  number: int
  row: dict[str, Any] | None
  text: bytes
  end: int
  damage: str
  whole: bool


def read_metrics(path: Path, say: Callable[[str], None] | None = None) -> Rows:
  """Reads all rows; a last line that was cut off is left out.

  Args:
    path: the file.
    say: called with a message for each damaged line, which is left out; by default the
      message goes to standard error.

  Raises:
    FileNotFoundError: there is no such file.
  """
  return NewRows(path, say).read()


class NewRows:
  """Reads the rows that were added since it last looked, while a run writes them."""

  def __init__(self, path: Path, say: Callable[[str], None] | None = None):
    """Reads nothing yet; the file need not be there. `say`: see `read_metrics`."""
    self._path, self._say = path, say or _warn
    self._file, self._read, self._number = None, 0, 0

  def read(self) -> Rows:
    """The rows that are new; all of them anew once a run that went back cut the file.

    Raises:
      FileNotFoundError: there is no such file.
    """
    rows = []
    with open(self._path, 'rb') as file:
      stat = os.fstat(file.fileno())
      # Who cuts it puts another in its place.
      if stat.st_ino != self._file or stat.st_size < self._read:
        self._file, self._read, self._number = stat.st_ino, 0, 0
      file.seek(self._read)
      for line in _lines(file, self._number, self._read):
        if not line.whole and line.row is None:  # the rest may still be written
          break
        self._read, self._number = line.end, line.number
        if line.damage:
          self._say(_message(self._path, line))
        if line.row is not None:
          rows.append(line.row)
    return rows


def cut(path: Path, last: int, say: Callable[[str], None] | None = None) -> None:
  """Drops the rows after a step, and a last line that was not written whole.

  If other lines are damaged they are left out with a message, and the file as it was
  is kept beside it, as `metrics.jsonl.damaged-1` or with a higher number.

  Args:
    path: the file; need not exist.
    last: the step of the last row to keep.
    say: see `read_metrics`.

  Raises:
    OSError: the file cannot be written. The old one is as it was.
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
        # Rows come in the order of their steps: these were not of a later step.
        damaged += [
          f'{path}, line {x.number:,}: its step is {x.row["step"]:,}, and that of line '
          f'{line.number:,} is {line.row["step"]:,}; it is damaged and left out'
          for x in dropped
        ]
        dropped = []
    kept = _keep(path) if damaged else path
  for message in damaged:
    (say or _warn)(f'{message} (the file as it was: {kept.name})')


def _keep(path: Path) -> Path:
  """Gives the file as it is a second name, and returns that."""
  number = 1
  while (kept := path.with_name(f'{path.name}.damaged-{number}')).exists():
    number += 1
  try:
    os.link(path, kept)
  except OSError:  # a file system without links
    shutil.copyfile(path, kept)
  return kept


def _lines(file: BinaryIO, number: int = 0, end: int = 0) -> Iterator[Line]:
  """The lines of a file from where it stands; long ones are not held in memory."""
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
  # Zeros in place of rows are what a power cut leaves: a row may begin after them.
  content = text.strip(b'\0 \t\r\n')
  zeros = text.count(b'\0')
  damage = f'{zeros:,} bytes of it are zero' if zeros else ''
  if not content:
    return Line(number, None, b'', end, damage, whole)
  row = _row(content)
  if row is None:
    return Line(number, None, content, end, damage or 'it is no row', whole)
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
  result = 'it is left out' if line.row is None else 'what follows them is kept'
  return f'{path}, line {line.number:,} is damaged: {line.damage}; {result}'


def _warn(text: str) -> None:
  print(text, file=sys.stderr)
