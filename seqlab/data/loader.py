"""Builds batches before the step that needs them."""

import collections
from collections.abc import Callable, Iterator
import itertools

import grain

from seqlab.types import Batch


def feed(
  make_batch: Callable[[int], Batch],
  start: int,
  stop: int,
  *,
  threads: int = 2,
  buffer: int = 8,
) -> Iterator[Batch]:
  """Yields batches `start` to `stop` - 1 in order, built ahead by threads.

  Threads suffice: NumPy's gathers release the interpreter's lock, and nothing has to be
  copied between processes.

  Args:
    make_batch: k -> batch; a pure function, called from several threads.
    start: number of the first batch.
    stop: number of the last batch, plus 1.
    threads: number of threads that build batches.
    buffer: number of batches that are built ahead.
  """
  numbers = grain.MapDataset.range(start, stop)
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
  return iter(numbers.map(make_batch).to_iter_dataset(options))


class Lookahead:
  """An iterator over batches that also shows those that come next."""

  def __init__(self, batches: Iterator[Batch], size: int = 8):
    """Holds up to `size` batches besides the one that was returned last."""
    self._rest, self._size = batches, size
    self._next: collections.deque[Batch] = collections.deque()

  def __iter__(self) -> 'Lookahead':
    return self

  def __next__(self) -> Batch:
    self._fill(1)
    if not self._next:
      raise StopIteration
    return self._next.popleft()

  def upcoming(self) -> list[Batch]:
    """Returns the next batches, without removing them."""
    self._fill(self._size)
    return [*self._next]

  def _fill(self, size: int) -> None:
    missing = max(0, size - len(self._next))
    self._next.extend(itertools.islice(self._rest, missing))
