"""The record of evaluations in the folder of a run."""

from collections.abc import Mapping
import datetime
import json
from pathlib import Path
import sys
from typing import Any
import zipfile

import numpy as np

from seqlab.io.files import append_line, replacing
from seqlab.train.folder import RunFolder


def timestamp() -> str:
  """Returns the date and time of now, in UTC, for a record."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def record_evaluation(
  folder: RunFolder,
  row: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray] = {},  # never changed
  *,
  name: str = '',
) -> None:
  """Adds an evaluation to the folder of a run, or says that it cannot.

  Its scores are printed by then, so a folder that is read-only is not an error.

  Args:
    folder: the folder of the run.
    row: a JSON object, which becomes a line of `evaluations.jsonl`.
    arrays: arrays to keep in `evaluations/<name>.npz`, if any. Those that it has under
      other names stay, such as BLEU's counts when another measure is compared: each is
      of the last evaluation that counted it.
    name: name of that file.
  """
  try:
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    append_line(folder.path / 'evaluations.jsonl', line)
    if arrays:
      kept = folder.path / 'evaluations' / f'{name}.npz'
      kept.parent.mkdir(exist_ok=True)
      merged = {**arrays_in(kept), **arrays}
      with replacing(kept) as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, **merged)
    folder.upload()
  except OSError as error:
    print(
      f'{folder.name}: this evaluation is not recorded there: {error}', file=sys.stderr
    )


def arrays_in(path: Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a file; none if it is missing or damaged."""
  try:
    with np.load(path) as file:
      return dict(file)
  except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
    return {}
