"""The output of a run: rows of metrics, sinks, a progress bar, a log."""

from collections.abc import Callable, Mapping
import contextlib
import datetime
import json
import math
import os
from pathlib import Path
import sys
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from seqlab.io.console import console, has_bars
from seqlab.io.files import is_still
from seqlab.metrics_file import cut
from seqlab.metrics_file import read_metrics as read_metrics
from seqlab.train.folder import RunFolder
from seqlab.train.sinks import sinks_of
from seqlab.train.sinks.background import end_sinks, start_sinks

_CHECK_SECONDS = 1.0  # between checks that the file of rows still exists


class Lines:
  """A file to which lines are added; on a full disk they wait in memory."""

  def __init__(self, path: Path | str):
    self._path = path
    self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    self._waiting = b''

  def check(self) -> None:
    """Raises FileNotFoundError if the path no longer names the open file."""
    if not is_still(self._path, self._file):
      raise FileNotFoundError(
        f'{self._path} was removed, renamed or replaced while the run was writing it: '
        'further rows would be lost. Put it back, or start the run again, which '
        'resumes from the last remaining checkpoint'
      )

  def add(self, line: str) -> None:
    """Adds a line, which `write` writes to the file."""
    self._waiting += f'{line}\n'.encode()

  def write(self) -> None:
    """Writes all waiting lines; after an OSError the rest is still waiting."""
    while self._waiting:
      self._waiting = self._waiting[os.write(self._file, self._waiting) :]

  def sync(self) -> None:
    """Writes all waiting lines and syncs the file to the disk."""
    self.write()
    os.fsync(self._file)

  def close(self) -> None:
    """Closes the file."""
    os.close(self._file)


class Writer:
  """Writes `metrics.jsonl`, one row per step, and shows the same rows in sinks.

  Rows of steps that a resumed run will repeat are removed first. A run that was killed
  and resumed therefore has the same rows as an uninterrupted one.
  """

  def __init__(
    self,
    folder: RunFolder,
    *,
    start_step: int = 0,
    say: Callable[[str], None] | None = None,
  ):
    """Opens the file and starts the sinks; rows after `start_step` are dropped.

    Args:
      folder: the run's folder.
      start_step: the step from which the run resumes.
      say: called with a message for each damaged row, see `metrics_file.cut`, and for
        a sink that fails; by default the message is printed to standard error.
    """
    self._step, self._row = start_step, {}
    self._checked = time.monotonic()
    cut(folder.metrics, start_step, say)
    self._lines = Lines(folder.metrics)
    sinks = sinks_of(folder.config)
    self._sinks = start_sinks(sinks, folder.path, start_step, say or _print)
    self._call_sinks('configuration', folder.config)

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Adds values to the row of a step; steps must not decrease."""
    if step != self._step:
      self._emit()
      self._step = step
    self._row |= row

  def show(self, step: int, name: str, evaluator: Any) -> None:
    """Gives the sinks what an evaluator shows of its last run.

    Args:
      step: number of updates before it.
      name: name of the evaluator in the experiment.
      evaluator: has run; see `evaluators.interface`.
    """
    if not self._sinks:
      return
    if evaluator.samples:
      self._call_sinks('text', step, f'{name}/samples', '\n'.join(evaluator.samples))
    if hasattr(evaluator, 'images'):
      for image_name, image in evaluator.images().items():
        self._call_sinks('image', step, f'{name}/{image_name}', image)

  def _call_sinks(self, method: str, *arguments: Any) -> None:
    for sink in self._sinks:
      sink.call(method, *arguments)

  def _emit(self) -> None:
    if not self._row:
      return
    # JSON has no NaN and no infinity.
    row = {k: v if math.isfinite(v) else None for k, v in self._row.items()}
    self._lines.add(json.dumps({'step': self._step, **row}))
    self._call_sinks('metrics', self._step, self._row)
    self._row = {}
    now = time.monotonic()
    if now - self._checked >= _CHECK_SECONDS:
      self._checked = now
      self._lines.check()
    with contextlib.suppress(OSError):  # if the disk stays full, `flush` raises
      self._lines.write()

  def flush(self) -> None:
    """Writes and syncs all rows, which must happen before a checkpoint is saved.

    Raises:
      OSError: the disk is full. Nothing is lost; the call may be repeated.
      FileNotFoundError: the file, or the run's folder, was removed or replaced.
    """
    self._emit()
    self._lines.check()
    self._lines.sync()
    self._call_sinks('flush')

  def close(self) -> None:
    """Writes the remaining rows, closes the file, and ends the sinks."""
    try:
      self._emit()
      self._lines.write()
      self._lines.close()
    finally:
      end_sinks(self._sinks)


class NoWriter:
  """Writes nothing; for processes other than process 0, which writes the rows."""

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """See `Writer`."""

  def show(self, step: int, name: str, evaluator: Any) -> None:
    """See `Writer`."""

  def flush(self) -> None:
    """See `Writer`."""

  def close(self) -> None:
    """See `Writer`."""


def _print(text: str) -> None:
  print(text, file=sys.stderr)


class Progress:
  """A progress bar in a terminal; plain lines elsewhere and in the log file.

  Attributes:
    name: name of the run, if several runs share the output; it is printed before each
      line, but not written to the log.
  """

  name = ''

  def __init__(self, log: Path | str, *, total: int, every: float = 30.0):
    """Opens the log of a run of `total` steps, with a line every `every` seconds."""
    self._log = Lines(log)
    self._total, self._every = total, every
    self._next = datetime.datetime.now().timestamp() + every
    self._seconds = self._words = 0.0  # since the last line
    self._console = console()
    self._bar, self._first = None, True

  def start(self, step: int) -> None:
    """Shows the bar in a terminal, with `step` completed steps."""
    if has_bars():
      self._bar = Bar(
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn('{task.description}'),
        console=self._console,
      )
      self._task = self._bar.add_task('', total=self._total, completed=step)
      self._bar.start()

  def message(self, text: str) -> None:
    """Prints a message above the bar and writes it to the log."""
    self._console.print(f'{self.name}: {text}' if self.name else text)
    self._log_line(text)

  def _log_line(self, text: str) -> None:
    stamp = datetime.datetime.now().isoformat(sep=' ', timespec='seconds')
    self._log.add(f'{stamp} {text}')
    with contextlib.suppress(OSError):  # a full disk may soon have space again
      self._log.write()

  def update(self, step: int, row: Mapping[str, float]) -> None:
    """Shows the step and loss, with the speed since the last line."""
    self._seconds += row['speed/seconds']
    self._words += row['speed/seconds'] * row['speed/tokens_per_s']
    speed = self._words / max(self._seconds, 1e-9)
    text = f'loss {row["loss"]:.3f}, {speed:,.0f} tokens/s'
    if self._first:
      self.message(f'first step: {text}')
      self._first = False
    if self._bar:
      self._bar.update(self._task, completed=step, description=text)
    now = datetime.datetime.now().timestamp()
    if now >= self._next:
      self._next, self._seconds, self._words = now + self._every, 0.0, 0.0
      line = f'step {step:,} of {self._total:,}: {text}'
      if self._bar:
        self._log_line(line)
      else:
        self.message(line)

  def close(self) -> None:
    """Removes the bar and closes the log."""
    if self._bar:
      self._bar.stop()
    self._log.close()
