"""`metrics.jsonl`, the rows of a run: a JSON object a step, NaN and infinity as null."""

import json
import os
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def read_metrics(path: Path) -> Rows:
  """All rows; a last line that was cut off is left out."""
  return NewRows(path).read()


class NewRows:
  """Reads the rows that were added since it last looked, while a run writes them."""

  def __init__(self, path: Path):
    """Reads nothing yet; the file need not be there."""
    self._path, self._file, self._read = path, None, 0

  def read(self) -> Rows:
    """The rows that are new; all of them anew once a run that went back cut the file.

    Raises:
      FileNotFoundError: there is no such file.
    """
    with open(self._path, 'rb') as file:
      number = os.fstat(file.fileno()).st_ino  # who cuts it puts another in its place
      if number != self._file:
        self._file, self._read = number, 0
      file.seek(self._read)
      new = file.read()
    rows = []
    for line in new.splitlines(keepends=True):
      try:
        if line.strip():
          rows.append(json.loads(line))
      except ValueError:  # not written whole yet, or never will be
        break
      self._read += len(line)
    return rows
