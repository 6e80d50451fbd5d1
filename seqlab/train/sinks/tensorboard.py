"""TensorBoard: event files in the folder `events` of a run."""

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import time
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from seqlab.config import flatten
from seqlab.train.sinks.interface import Sink


class TensorBoard(Sink):
  """Writes scalars, texts, images and the options of the experiment.

  tensorboardX's `SummaryWriter` has a thread that dies on a full disk, after which the
  run would wait for it forever. Here events wait until the disk has space.
  """

  def __init__(self, folder: Path, start: int):
    """Opens a new file.

    Args:
      folder: folder of the run.
      start: step from which the run resumes; TensorBoard drops the events after it.
    """
    self._waiting: list[Event] = []  # not yet written, because the disk was full
    events = folder / 'events'
    events.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in events.iterdir())  # two files may begin in one second
    self._events = EventsWriter(str(events / 'events'), f'.{os.getpid()}.{number}')
    if start:
      again = SessionLog(status=SessionLog.START)
      self._events.write_event(Event(step=start + 1, session_log=again))
    self._end: Summary | None = None

  def configuration(self, config: Mapping[str, Any]) -> None:
    """Writes the options, for TensorBoard's page of hyperparameters."""
    options = {name: _plain(value) for name, value in flatten(config).items()}
    shown = dict.fromkeys(filter(None, ('loss', config.get('keep_best'))), 0.0)
    experiment, begin, self._end = summary.hparams(options, shown)
    for part in (experiment, begin):
      self._add(0, part)

  def metrics(self, step: int, row: Mapping[str, float]) -> None:
    """Writes one scalar per metric."""
    values = [Summary.Value(tag=n, simple_value=v) for n, v in row.items()]
    self._add(step, Summary(value=values))

  def text(self, step: int, name: str, text: str) -> None:
    """Writes a text with its line breaks: TensorBoard reads texts as Markdown."""
    code = '\n'.join(f'    {line}' for line in text.split('\n'))
    self._add(step, summary.text(name, code))

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes an image as PNG."""
    self._add(step, summary.image(name, image, dataformats='HWC'))

  def _add(self, step: int, part: Summary) -> None:
    self._waiting.append(Event(step=step, wall_time=time.time(), summary=part))
    with contextlib.suppress(OSError):  # the disk is full, and may soon have space
      self._write_out()

  def _write_out(self) -> None:
    while self._waiting:
      self._events.write_event(self._waiting[0])
      self._waiting.pop(0)

  def flush(self) -> None:
    """Writes all events to the disk, if it is not full."""
    with contextlib.suppress(OSError):
      self._write_out()
      self._events.flush()

  def close(self) -> None:
    """Writes the remaining events and closes the file."""
    if self._end is not None:
      self._add(0, self._end)
    try:
      self._write_out()
      self._events.close()
    finally:  # on a full disk `EventsWriter.close` raises before it closes the file
      with contextlib.suppress(OSError):
        self._events._py_recordio_writer.close()


def _plain(value: Any) -> bool | int | float | str | None:
  """Returns a value as TensorBoard can show it."""
  return value if value is None or isinstance(value, int | float) else str(value)
