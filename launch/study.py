"""Studies that train nothing: a file with `study(folder)` instead of `get_config`.

`study(folder)` computes, and writes figures, table.md and raw rows (.csv) into the
folder. `launch.sweep` runs such files beside those that train.
"""

import datetime
from pathlib import Path
import time

from launch.reports import publish, report_files, shown_command, written_since
from launch.trials import experiment_name
from seqlab.experiment import load_module, split_name
from seqlab.text.workers import all_cores


def is_study(experiment: str) -> bool:
  """Returns whether a file defines `study(folder)`; False if there is no such file."""
  path, _ = split_name(experiment)
  try:
    return '\ndef study(' in path.read_text('utf-8')
  except (OSError, UnicodeDecodeError):  # reported by whoever needs the file
    return False


def run_study(file: str, workdir: str, report_to: str | None = None) -> list[Path]:
  """Runs a study; returns the files that it wrote.

  Args:
    file: path of the file.
    workdir: folder of the studies; this one writes in a folder of its name below it.
    report_to: folder to which the files are copied, in the same way.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `study(folder)`, or arguments, or nothing was written.
  """
  path, argument = split_name(file)
  if argument:
    raise ValueError(
      f'{path} trains nothing and has no arguments: leave out :{argument}'
    )
  module = load_module(path, 'study')
  folder = Path(workdir) / experiment_name(file)
  folder.mkdir(parents=True, exist_ok=True)
  before, started = report_files(folder), time.monotonic()
  module.study(folder)
  written = written_since(before, folder)
  if not written:
    raise ValueError(f'study(folder) of {file} wrote no figure and no table')
  print(f'report of {file}: {", ".join(map(str, written))}')
  if report_to:
    command = ['python', '-m', 'launch.sweep', file, '--workdir', workdir]
    made_by = (
      f'\nMade by {shown_command([*command, "--report-to", report_to])} on '
      f'{len(all_cores())} CPU cores, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, '
      f'in {time.monotonic() - started:.0f} seconds.\n'
    )
    publish(written, Path(report_to) / folder.name, made_by)
  return written
