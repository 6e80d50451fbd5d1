"""What a run says: rows of metrics, TensorBoard events, a progress bar, a log."""

from collections.abc import Mapping
import datetime
import json
import math
import os
from pathlib import Path
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from seqlab.train.folder import RunFolder


class Writer:
  """Writes `metrics.jsonl` and TensorBoard event files, one row a step.

  Rows of steps that a resumed run will take again are cut off first, so that a
  run which was killed and resumed has the rows of one that was not.
  """

  def __init__(self, folder: RunFolder, *, start_step: int = 0):
    """Opens the files; rows after `start_step` are dropped."""
    self._step, self._row = start_step, {}
    _cut(folder.metrics, start_step)
    self._file = open(folder.metrics, 'a', encoding='utf-8')  # noqa: SIM115
    # Written by this thread: tensorboardX's `SummaryWriter` has one of its own, which
    # dies of a full disk and leaves the run waiting for it.
    folder.events.mkdir(parents=True, exist_ok=True)
    self._events = EventsWriter(str(folder.events / 'events'), f'.{os.getpid()}')
    if start_step:  # TensorBoard drops what it has of later steps
      again = SessionLog(status=SessionLog.START)
      self._events.write_event(Event(step=start_step + 1, session_log=again))

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Adds values to the row of a step; steps do not go back."""
    if step != self._step:
      self._emit()
      self._step = step
    self._row |= row

  def _emit(self) -> None:
    if not self._row:
      return
    # JSON has no NaN and no infinity.
    row = {k: v if math.isfinite(v) else None for k, v in self._row.items()}
    self._file.write(json.dumps({'step': self._step, **row}) + '\n')
    values = [Summary.Value(tag=n, simple_value=v) for n, v in self._row.items()]
    summary = Summary(value=values)
    event = Event(step=self._step, wall_time=time.time(), summary=summary)
    self._events.write_event(event)
    self._row = {}

  def flush(self) -> None:
    """Brings every row so far to the disk, before a checkpoint says that it is."""
    self._emit()
    self._file.flush()
    os.fsync(self._file.fileno())
    self._events.flush()

  def close(self) -> None:
    """Writes what is left and closes the files."""
    self._emit()
    self._file.close()
    self._events.close()


class NoWriter:
  """Writes nothing: for processes whose rows are those that process 0 writes."""

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """See `Writer`."""

  def flush(self) -> None:
    """See `Writer`."""

  def close(self) -> None:
    """See `Writer`."""


def _cut(path: Path, last: int) -> None:
  """Drops rows after step `last`, and a last line that was not written whole."""
  if not path.exists():
    return
  kept = [row for row in read_metrics(path) if row['step'] <= last]
  temporary = path.with_suffix('.part')
  temporary.write_text(''.join(json.dumps(row) + '\n' for row in kept), 'utf-8')
  temporary.replace(path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
  """Rows of a `metrics.jsonl`; a last line that was cut off is left out."""
  rows = []
  for line in path.read_text('utf-8').split('\n'):
    try:
      rows.append(json.loads(line))
    except ValueError:
      break
  return rows


class Progress:
  """A bar at a terminal; elsewhere, and in the log file, plain lines."""

  def __init__(self, log: Path | str, *, total: int, every: float = 30.0):
    """A run of `total` steps; a plain line each `every` seconds."""
    self._log = open(log, 'a', encoding='utf-8', buffering=1)  # noqa: SIM115
    self._total, self._every = total, every
    self._next = datetime.datetime.now().timestamp() + every
    self._seconds = self._words = 0.0  # since the last line
    self._console = Console(highlight=False, soft_wrap=True)
    self._bar, self._first = None, True

  def start(self, step: int) -> None:
    """Shows the bar, where there is a terminal, with `step` steps behind it."""
    if sys.stdout.isatty():
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
    """Says something, above the bar."""
    self._console.print(text, markup=False)
    stamp = datetime.datetime.now().isoformat(sep=' ', timespec='seconds')
    self._log.write(f'{stamp} {text}\n')

  def update(self, step: int, row: Mapping[str, float]) -> None:
    """Shows how far training has come; speed is that since the last line."""
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
        stamp = datetime.datetime.now().isoformat(sep=' ', timespec='seconds')
        self._log.write(f'{stamp} {line}\n')
      else:
        self.message(line)

  def close(self) -> None:
    """Takes the bar away and closes the log."""
    if self._bar:
      self._bar.stop()
    self._log.close()
