"""Batches built ahead of the step that needs them."""

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

  Threads do: NumPy's gathers leave the interpreter free, and nothing is copied
  between processes.

  Args:
    make_batch: k -> batch; a pure function, called from several threads.
    start: first batch.
    stop: one past the last.
    threads: how many build batches.
    buffer: batches built ahead.
  """
  numbers = grain.MapDataset.range(start, stop)
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
  return iter(numbers.map(make_batch).to_iter_dataset(options))
