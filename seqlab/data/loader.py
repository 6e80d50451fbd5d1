"""Builds batches before the step that needs them."""

from collections.abc import Callable, Iterator

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
