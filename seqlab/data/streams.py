"""Running text in batches: one sequence of ids, cut into rows of one length.

Each kind reads all lines of a split one after the other; EOS is the line end, see
`text.running`. Besides the ids [B, L] of `text`, a batch has `previous` [B], the id
before each row: every id of a row is predicted, the first one too. Batch k is a pure
function of (seed, k).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from seqlab.data.store import Sides
from seqlab.domains import Count, check
from seqlab.types import EOS, PAD, Batch

STREAMS = {
  'windows': 'data.streams:Windows',
  'streams': 'data.streams:Streams',
}
ROWS, LENGTH = 32, 128  # defaults of both kinds
_SIDE = 'text'


class RunningBatches:
  """Batches of running text for training; see `tasks.interface.Batches`. Base class.

  Attributes:
    is_running: whether rows follow one another in the text, so that EOS ends a line
      and not the text.
    steps_per_epoch: number of batches in which as many ids occur as the text has.
    shapes: one empty batch, since there is one shape.
    report: counts of the data.
    tokens_per_step: number of ids per batch.
  """

  is_running: ClassVar[bool] = True

  def __init__(self, sides: Sides, *, rows: Count = ROWS, length: Count = LENGTH):
    """Reads nothing yet.

    Args:
      sides: the lines of the text, as the only side.
      rows: number of rows per batch, B.
      length: number of ids per row, L; with streams also the number of steps through
        which a gradient goes back (truncated backpropagation through time).

    Raises:
      ValueError: an option is outside its domain, there are two sides, or the text is
        shorter than a batch.
    """
    check(RunningBatches, dict(rows=rows, length=length), 'batching.')
    self._ids, self._rows, self._length = _running_ids(sides), rows, length
    self.steps_per_epoch = len(self._ids) // (rows * length)
    if not self.steps_per_epoch:
      raise ValueError(
        f'the text has {len(self._ids):,} ids, fewer than a batch of {rows:,} rows x '
        f'{length:,}: lower batching.rows or batching.length'
      )
    self.shapes = self.planned_shapes((_SIDE,), rows=rows, length=length)
    self.tokens_per_step = float(rows * length)
    self.report = {
      'lines': int((self._ids == EOS).sum()),
      'text_tokens': len(self._ids),
      'steps_per_epoch': self.steps_per_epoch,
      'shapes': 1,
    }

  @classmethod
  def planned_shapes(
    cls, sides: Sequence[str], *, rows: Count = ROWS, length: Count = LENGTH
  ) -> tuple[Batch, ...]:
    """Returns the empty batch, to plan a run without its data; see `__init__`."""
    del sides
    return (cls.arrays(np.zeros((rows, length), np.int32), np.zeros(rows, np.int32)),)

  @classmethod
  def arrays(cls, text: np.ndarray, previous: np.ndarray) -> Batch:
    """Returns the arrays that every kind has."""
    return {_SIDE: text, 'previous': previous}

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or a share of its rows; see `tasks.interface.Batches`."""
    raise NotImplementedError

  def _read(self, starts: np.ndarray) -> Batch:
    """Returns rows that start at these ids; the text starts again after its end."""
    places = starts[:, None] + np.arange(-1, self._length)  # [B, L + 1]
    ids = self._ids[places % len(self._ids)].astype(np.int32)
    return self.arrays(ids[:, 1:], ids[:, 0])


class Windows(RunningBatches):
  """Rows at random places of the text, drawn anew for every batch."""

  def __init__(self, sides: Sides, *, rows: Count = ROWS, length: Count = LENGTH):
    """See `RunningBatches`; a row has an id before it, so the text must be longer."""
    super().__init__(sides, rows=rows, length=length)
    if len(self._ids) <= length:
      raise ValueError(
        f'the text has {len(self._ids):,} ids, and a row of {length:,} needs one more, '
        'before it: lower batching.length'
      )

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or a share of its rows; see `tasks.interface.Batches`."""
    random = np.random.Generator(np.random.Philox(key=[seed, k]))
    # As many places as in nanoGPT: a row has an id before it, and ends with the text.
    starts = random.integers(1, len(self._ids) - self._length + 1, self._rows)
    return self._read(starts[_share(self._rows, rows)])


class Streams(RunningBatches):
  """Every row continues the text where the same row of the batch before ended.

  An epoch reads the text once from a random place. A model with a state hands it on
  from batch to batch. Further arrays of a batch: `row` [B], the number of each row in
  the whole batch, and `fresh` [B], 1 where a row starts anew, as in the first batch of
  an epoch.
  """

  @classmethod
  def carried_rows(cls, *, rows: Count = ROWS, length: Count = LENGTH) -> int:
    """Returns the number of rows whose state is kept; see `__init__`."""
    del length
    return rows

  @classmethod
  def arrays(cls, text: np.ndarray, previous: np.ndarray) -> Batch:
    """See `RunningBatches.arrays`."""
    numbers = np.zeros(len(text), np.int32)
    arrays = super().arrays(text, previous)
    return {**arrays, 'row': numbers, 'fresh': numbers}

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or a share of its rows; see `tasks.interface.Batches`."""
    epoch, place = divmod(k, self.steps_per_epoch)
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    start = random.integers(len(self._ids)) + place * self._length
    row = np.arange(self._rows, dtype=np.int32)[_share(self._rows, rows)]
    batch = self._read(start + row * self.steps_per_epoch * self._length)
    return {**batch, 'row': row, 'fresh': np.full(len(row), place == 0, np.int32)}


class SlidingWindows:
  """All ids of a text, each predicted once from a context; for evaluation.

  The first window is predicted as a whole. Each later one starts `stride` ids further
  and has `stride` ids that are predicted, after `context - stride` that are only read.
  With stride 1 every prediction (but the first ones) sees `context` ids; with stride
  equal to context, windows do not overlap.

  Besides `text` and `previous`, a batch has `scored` [B, L], 1 for ids that count.

  Attributes:
    context: number of ids per window.
    stride: number of ids that are predicted per window.
    steps_per_epoch: number of batches.
    shapes: one empty batch, since there is one shape.
  """

  def __init__(
    self,
    sides: Sides,
    *,
    context: int,
    stride: int,
    tokens: int = 8192,
    rows_multiple: int = 1,
  ):
    """Reads nothing yet.

    Args:
      sides: the lines of the text, as the only side.
      context: number of ids per window, L.
      stride: number of ids that are predicted per window.
      tokens: number of ids per batch, at most; more where `rows_multiple` needs it.
      rows_multiple: number of rows that a batch is a multiple of.

    Raises:
      ValueError: an option does not fit, or there are two sides.
    """
    if not 1 <= stride <= context:
      raise ValueError(
        f'stride is {stride}; it must be at least 1 and at most context={context}'
      )
    self._ids, self.context, self.stride = _running_ids(sides), context, stride
    self._length = min(context, len(self._ids))
    windows = 1 + -(-(len(self._ids) - self._length) // stride)
    fit = min(max(1, tokens // self._length), windows)
    self._rows = -(-fit // rows_multiple) * rows_multiple
    self.steps_per_epoch = -(-windows // self._rows)
    self.shapes = (self._windows(np.full(self._rows, windows)),)

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or a share of its rows; `seed` has no effect."""
    del seed
    windows = np.arange(k * self._rows, (k + 1) * self._rows)
    return self._windows(windows[_share(self._rows, rows)])

  def _windows(self, windows: np.ndarray) -> Batch:
    """Returns windows by their numbers; PAD after the end of the text."""
    start = windows[:, None] * self.stride  # [B, 1]
    places = start + np.arange(self._length)  # [B, L]
    inside = places < len(self._ids)
    text = np.where(inside, self._ids[np.where(inside, places, 0)], PAD)
    fresh = places >= np.where(start > 0, start + self._length - self.stride, 0)
    before = np.minimum(start[:, 0], len(self._ids)) - 1
    # A text starts as a line does, after the end of another one.
    previous = np.where(before >= 0, self._ids[before], EOS)
    return {
      _SIDE: text.astype(np.int32),
      'previous': previous.astype(np.int32),
      'scored': (inside & fresh).astype(np.int32),
    }


def _running_ids(sides: Sides) -> np.ndarray:
  """Returns all ids of the text, [N]."""
  if [*sides] != [_SIDE]:
    raise ValueError(
      f'running text has one side, and this corpus has {" and ".join(sides)}: set '
      "corpus.text, or batching.kind to 'buckets' or 'packed'"
    )
  return sides[_SIDE].ids


def _share(count: int, rows: tuple[int, int]) -> slice:
  """Returns the i-th of n equal shares of rows."""
  i, n = rows
  return slice(count * i // n, count * (i + 1) // n)


def is_running(kind: object) -> bool:
  """Returns whether a kind of batching reads running text; see `RunningBatches`."""
  return getattr(kind, 'is_running', False)


def carried_rows(kind: object, options: Mapping) -> int:
  """Returns the rows whose state a kind keeps between batches; 0 for none."""
  count = getattr(kind, 'carried_rows', None)
  return count(**options) if count else 0
