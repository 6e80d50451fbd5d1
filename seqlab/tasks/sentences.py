"""Sentences in batches of few shapes, for what is compiled when the first one comes.

A line is never cut. One that is too long for the model or for the memory of the device
is named, and left out of its batch, so that all other lines have their results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seqlab.text.vocabulary import Vocabulary
from seqlab.text.workers import machine_memory
from seqlab.types import EOS, PAD

MAX_PIECES = 1 << 16  # of a line, EOS among them; no model was trained on as many
_MAX_CHARACTERS = 16 * MAX_PIECES  # of a line that is encoded at all


class TooLongError(Exception):
  """A batch whose rows are too long for the model or for memory."""


def encode_lines(vocabulary: Vocabulary, lines: Sequence[str]) -> list[np.ndarray]:
  """Ids of each line, [L], EOS at the end."""
  flat, offsets = vocabulary.encode(lines)
  return [np.append(flat[a:b], EOS) for a, b in itertools.pairwise(offsets)]


def encode_fitting(
  vocabulary: Vocabulary, lines: Mapping[int, str]
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
  """Encodes lines that have at most `MAX_PIECES` pieces.

  Args:
    vocabulary: gives the ids.
    lines: number of a line -> its text.

  Returns:
    For each of these lines its ids [L], EOS at the end; for each of the others why it
    was left out.
  """
  short = {i: line for i, line in lines.items() if len(line) <= _MAX_CHARACTERS}
  refused = {
    i: f'is {len(line):,} characters long; at most {_MAX_CHARACTERS:,} are read'
    for i, line in lines.items()
    if i not in short
  }
  found = dict(zip(short, encode_lines(vocabulary, [*short.values()]), strict=True))
  for i in [i for i, ids in found.items() if len(ids) > MAX_PIECES]:
    n = len(found.pop(i))
    refused[i] = f'is {n:,} pieces long; at most {MAX_PIECES:,} are read'
  return found, refused


class Fitting:
  """A jitted function that is not run on what does not fit.

  What it needs is known once it is compiled. To run it first and to catch the error
  would not do: an operating system that gives more memory than it has kills the
  process later.
  """

  def __init__(self, function: Callable):
    self._function = jax.jit(function)
    self._compiled: dict[Any, Any] = {}

  def __call__(self, variables: Any, *arrays: Any, **named: Any) -> Any:
    """Runs the function on a batch.

    Args:
      variables: first argument, of the same shapes in each call.
      *arrays: of the batch.
      **named: further ones.

    Raises:
      TooLongError: the model refuses rows of such a length, or memory is too small.
    """
    key = tuple(np.shape(x) for x in (*arrays, *named.values()))
    if key not in self._compiled:
      self._compiled[key] = self._compile(variables, *arrays, **named)
    compiled = self._compiled[key]
    if isinstance(compiled, TooLongError):
      raise compiled.with_traceback(None)
    try:
      return compiled(variables, *arrays, **named)
    except jax.errors.JaxRuntimeError as error:
      raise no_memory(error) from None

  def _compile(self, *args: Any, **named: Any) -> Any:
    try:
      lowered = self._function.lower(*args, **named)
    except ValueError as error:  # of a model that has no positions for so many words
      return TooLongError(str(error))
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      return no_memory(error)
    stats = compiled.memory_analysis()
    need = sum(
      getattr(stats, f'{kind}_size_in_bytes', 0) or 0 for kind in ('temp', 'output')
    )
    if need > (has := available_memory()):
      return TooLongError(
        f'its batch would take {need / 2**30:,.1f} GiB of memory, of which '
        f'{has / 2**30:,.1f} GiB are free: split the line'
      )
    return compiled


def no_memory(error: Exception) -> TooLongError:
  """The error of a batch that found no memory; raises any other error again."""
  if not any(x in str(error) for x in ('RESOURCE_EXHAUSTED', 'ut of memory')):
    raise error
  return TooLongError(
    f'there is no memory for its batch ({str(error).splitlines()[0][:120]}): split the '
    'line'
  )


def available_memory() -> float:
  """Bytes that are free on the first device; on a CPU, in the machine."""
  device = jax.devices()[0]
  if device.platform != 'cpu':
    stats = device.memory_stats() or {}
    limit = stats.get('bytes_limit', float('inf'))
    return float(limit - stats.get('bytes_in_use', 0))
  free = [machine_memory()]
  about = Path('/proc/meminfo')
  if about.is_file():
    rows = (row.split() for row in about.read_text('utf-8').splitlines())
    free += [1024 * int(row[1]) for row in rows if row[0] == 'MemAvailable:']
  group = Path('/sys/fs/cgroup')  # of a container
  limit, used = group / 'memory.max', group / 'memory.current'
  if limit.is_file() and used.is_file() and limit.read_text().strip().isdecimal():
    free.append(int(limit.read_text()) - int(used.read_text()))
  return float(min(free))


def batches_of(
  lengths: dict[int, int], cells: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
  """Batches sorted by length: each shape is compiled, which takes longer than padding.

  Args:
    lengths: number of a sentence -> its length.
    cells: positions in a batch, at most.

  Yields:
    Numbers of the sentences in a batch, and its shape (B, L).
  """
  order = sorted(lengths, key=lengths.__getitem__)
  start = 0
  while start < len(order):
    width = -(-lengths[order[start]] // 16) * 16
    B = max(1, cells // width)
    rows = [i for i in order[start : start + B] if lengths[i] <= width]
    # A lone line, as at a prompt, need not pay for a batch's worth of rows.
    yield rows, (1 if len(order) == 1 else B, width)
    start += len(rows)


def padded(
  sentences: Mapping[int, np.ndarray], rows: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
  """The sentences of these numbers in the first rows of a batch [B, L], else PAD."""
  batch = np.full(shape, PAD, np.int32)
  for row, i in enumerate(rows):
    batch[row, : len(sentences[i])] = sentences[i]
  return batch
