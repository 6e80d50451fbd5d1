"""Sentences in batches of few shapes, for functions that are compiled at first use.

A line is never cut. One that is too long for the model or for the memory of the device
is reported, and left out of its batch, so that all other lines have their results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seqlab.programs import compile_program
from seqlab.text.vocabulary import Vocabulary
from seqlab.text.workers import machine_memory
from seqlab.types import EOS, PAD

WIDTH = 16  # positions; a batch is as wide as a multiple of it
MAX_PIECES = 1 << 16  # per line, EOS included; no model was trained on longer ones
_MAX_CHARACTERS = 16 * MAX_PIECES  # per line; longer ones are not even encoded


class TooLongError(Exception):
  """A batch whose rows are too long for the model or for memory."""


def encode_lines(vocabulary: Vocabulary, lines: Sequence[str]) -> list[np.ndarray]:
  """Returns the ids of each line, [L], EOS at the end."""
  flat, offsets = vocabulary.encode(lines)
  return [np.append(flat[a:b], EOS) for a, b in itertools.pairwise(offsets)]


def encode_fitting(
  vocabulary: Vocabulary, lines: Mapping[int, str]
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
  """Encodes lines that have at most `MAX_PIECES` pieces, and all of their parts.

  Args:
    vocabulary: gives the ids.
    lines: number of a line -> its text.

  Returns:
    For each of these lines its ids [L], EOS at the end; for each of the others why it
    was left out.
  """
  problems = {i: _problem(vocabulary, line) for i, line in lines.items()}
  refused = {i: problem for i, problem in problems.items() if problem}
  short = {i: line for i, line in lines.items() if i not in refused}
  encoded = dict(zip(short, encode_lines(vocabulary, [*short.values()]), strict=True))
  for i in [i for i, ids in encoded.items() if len(ids) > MAX_PIECES]:
    n = len(encoded.pop(i))
    refused[i] = f'is {n:,} pieces long; at most {MAX_PIECES:,} are read'
  return encoded, refused


def _problem(vocabulary: Vocabulary, line: str) -> str:
  """Returns why a line cannot be encoded; '' if it can."""
  if len(line) > _MAX_CHARACTERS:
    return f'is {len(line):,} characters long; at most {_MAX_CHARACTERS:,} are read'
  return vocabulary.problem(line) if hasattr(vocabulary, 'problem') else ''


class Program(NamedTuple):
  """A compiled function of a batch.

  Attributes:
    call: takes what it was compiled for.
    need: bytes that a call takes, besides its arguments.
  """

  call: Callable
  need: int

  @classmethod
  def of(cls, compiled: jax.stages.Compiled) -> 'Program':
    """Returns a compiled program with the memory that it needs."""
    stats = compiled.memory_analysis()
    kinds = ('temp', 'output')
    need = sum(getattr(stats, f'{kind}_size_in_bytes', 0) or 0 for kind in kinds)
    return cls(compiled, need)

  def check_fits(self, free: float) -> None:
    """Raises TooLongError if a call takes more than the free bytes."""
    if self.need > free:
      raise TooLongError(
        f'its batch would take {self.need / 2**30:,.1f} GiB of memory, of which '
        f'{free / 2**30:,.1f} GiB are free: split the line'
      )


class Fitting:
  """A jitted function that is not run where its memory would not suffice.

  The memory that it needs is known once it is compiled. Running it and catching the
  error does not work: an operating system that overcommits memory kills the process
  later, without an error to catch.
  """

  def __init__(self, function: Callable, fingerprint: str | None = None):
    """Takes the function, and its digest; see `seqlab.programs`."""
    self._function, self._fingerprint = jax.jit(function), fingerprint
    self._programs: dict[Any, Program | TooLongError] = {}

  def __call__(self, variables: Any, *arrays: Any, **named: Any) -> Any:
    """Runs the function on a batch.

    Args:
      variables: first argument, of the same shapes in each call.
      *arrays: arrays of the batch.
      **named: further arrays of the batch.

    Raises:
      TooLongError: the model refuses rows of this length, or memory does not suffice.
    """
    program = self.prepare(variables, *arrays, **named)
    program.check_fits(available_memory())
    try:
      return program.call(variables, *arrays, **named)
    except jax.errors.JaxRuntimeError as error:
      raise no_memory(error) from None

  def prepare(self, variables: Any, *arrays: Any, **named: Any) -> Program:
    """Returns the program for a batch, compiled if its shape is new.

    Raises:
      TooLongError: the model refuses rows of this length, or there is not even enough
        memory to compile.
    """
    key = tuple(np.shape(x) for x in (*arrays, *named.values()))
    if key not in self._programs:
      self._programs[key] = self._compile(variables, *arrays, **named)
    program = self._programs[key]
    if isinstance(program, TooLongError):
      raise program.with_traceback(None)
    return program

  def _compile(self, *args: Any, **named: Any) -> Program | TooLongError:
    options = {'fingerprint': self._fingerprint, **named}
    try:
      return Program.of(compile_program(self._function, *args, **options))
    except ValueError as error:  # from a model that has too few positions
      return TooLongError(str(error))
    except jax.errors.JaxRuntimeError as error:
      return no_memory(error)


def no_memory(error: Exception) -> TooLongError:
  """Returns the error of a batch that did not fit; raises any other error again."""
  if not any(x in str(error) for x in ('RESOURCE_EXHAUSTED', 'ut of memory')):
    raise error
  return TooLongError(
    f'there is no memory for its batch ({str(error).splitlines()[0][:120]}): split the '
    'line'
  )


def available_memory() -> float:
  """Returns the free bytes on the first device; on a CPU, those of the machine."""
  device = jax.devices()[0]
  if device.platform != 'cpu':
    stats = device.memory_stats() or {}
    limit = stats.get('bytes_limit', float('inf'))
    return float(limit - stats.get('bytes_in_use', 0))
  free = [machine_memory()]
  meminfo = Path('/proc/meminfo')
  if meminfo.is_file():
    rows = (row.split() for row in meminfo.read_text('utf-8').splitlines())
    free += [1024 * int(row[1]) for row in rows if row[0] == 'MemAvailable:']
  group = Path('/sys/fs/cgroup')  # limits of a container
  limit, used = group / 'memory.max', group / 'memory.current'
  if limit.is_file() and used.is_file() and limit.read_text().strip().isdecimal():
    free.append(int(limit.read_text()) - int(used.read_text()))
  return float(min(free))


def batches_of(
  lengths: dict[int, int], cells: int, widest: int | None = None
) -> Iterator[tuple[list[int], tuple[int, int]]]:
  """Makes batches of sentences sorted by length, of few shapes.

  Each shape is compiled, which takes longer than computing on some padding.

  Args:
    lengths: number of a sentence -> its length.
    cells: number of positions in a batch, at most.
    widest: number of positions in a row that the model admits, not less than any
      length; None for any number. The widest batches may have as many.

  Yields:
    Numbers of the sentences in a batch, and its shape (B, L).
  """
  order = sorted(lengths, key=lengths.__getitem__)
  start = 0
  while start < len(order):
    width = -(-lengths[order[start]] // WIDTH) * WIDTH
    width = width if widest is None else min(width, widest)
    B = max(1, cells // width)
    rows = [i for i in order[start : start + B] if lengths[i] <= width]
    # A single line, as at a prompt, should not cost as much as a batch of many rows.
    yield rows, (1 if len(order) == 1 else B, width)
    start += len(rows)


def padded(
  sentences: Mapping[int, np.ndarray], rows: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
  """Returns a batch [B, L] with these sentences in its first rows, PAD elsewhere."""
  batch = np.full(shape, PAD, np.int32)
  for row, i in enumerate(rows):
    batch[row, : len(sentences[i])] = sentences[i]
  return batch
