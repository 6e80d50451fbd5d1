"""A member of a population: all of a run but the step that it takes with others."""

from collections.abc import Callable, Iterator
import contextlib
import copy
import shutil

import jax

from seqlab.train.fallback import DivergenceError
from seqlab.train.folder import RunFolder
from seqlab.train.loop import Run
from seqlab.train.state import TrainState
from seqlab.train.writer import Writer
from seqlab.types import Batch

Ended = Callable[[Exception | None], None]


class Member(Run):
  """A run that others take their steps with.

  Its folder, history, rows, samples and checkpoints are its own, and are those of the
  same run alone. Task, program and evaluators it shares: they know neither its seed
  nor its hyperparameters, which are data.

  Attributes:
    over: whether it takes no more steps.
    place: its index on the population's axis.
    writer: of its rows, once it has begun.
  """

  def __init__(self, folder: RunFolder, ended: Ended):
    """Makes what all members share, and what this one has for itself.

    Args:
      folder: of the run.
      ended: called once, when it is over; with what went wrong, if anything did.
    """
    super().__init__(folder)
    self._join(ended)

  def beside(self, folder: RunFolder, ended: Ended) -> 'Member':
    """One more member, which shares what this one has made.

    Raises:
      ValueError: the folder's vocabulary is another one, or its run began with other
        text.
    """
    _share_vocabulary(self.folder, folder)
    self._check_text(folder)
    other = copy.copy(self)
    other._take(folder)
    other._join(ended)
    return other

  def _join(self, ended: Ended) -> None:
    self._ended, self.over, self.writer, self._closed = ended, False, None, False
    self.place = 0
    self.progress.name = self.folder.path.name

  @contextlib.contextmanager
  def apart(self) -> Iterator[None]:
    """Ends this member for what goes wrong inside, and no other."""
    try:
      yield
    except Exception as error:  # whatever it is, the others go on
      self.finish(error)

  def begin(self) -> tuple[TrainState, int] | None:
    """Its state, in NumPy's arrays, and its step; None if it has come to its end."""
    state, step = self._begin()
    if step >= self.steps or self._out_of_patience():
      return self.finish()
    self.writer = Writer(self.folder, start_step=step)
    return jax.device_get(state), step

  def take_row(self, step: int, row: dict[str, float], batch: Batch) -> None:
    """Writes the row of a step.

    Raises:
      FloatingPointError: it diverged.
    """
    diverged = None
    try:
      self._write(step, row, batch)
    except DivergenceError as error:
      diverged = error.with_traceback(None)
    if diverged:
      self._fall_back(diverged)

  def finish(self, error: Exception | None = None) -> None:
    """Closes what it has open, and says how it ended."""
    self.over = True
    try:
      self.close()
    except Exception as late:
      error = error or late
    self._ended(error)

  def close(self) -> None:
    """Waits for what is being written, and closes the files."""
    if self._closed:
      return
    self._closed = True
    with contextlib.ExitStack() as stack:
      stack.callback(self._send)
      stack.callback(self.progress.close)
      stack.callback(self.checkpoints.close)
      if self.writer:
        stack.callback(self.writer.close)


def _share_vocabulary(source: RunFolder, target: RunFolder) -> None:
  if not target.vocabulary.exists():
    if source.vocabulary.exists():
      shutil.copytree(source.vocabulary, target.vocabulary)
    return
  for file in source.vocabulary.iterdir():
    other = target.vocabulary / file.name
    if not other.is_file() or other.read_bytes() != file.read_bytes():
      raise ValueError(
        f'{other} is not that of {source.name}, which is of the same experiment: train '
        f'{target.name} by itself, or delete the folder'
      )
