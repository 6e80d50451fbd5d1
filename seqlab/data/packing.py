"""Several examples in one row, with as little padding as first fit leaves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seqlab.data.batching import (
  MAX_LENGTH,
  ROWS_MULTIPLE,
  TOKENS,
  EpochBatches,
  Examples,
  Shape,
  Tokens,
  check_fit,
  most_rows,
)
from seqlab.data.store import Sides, TokenStore
from seqlab.domains import Count, check
from seqlab.types import PAD, Batch

_OPEN = 64  # rows that may be open at a time
_SUFFIXES = ('', '_segment', '_position')  # of the names of a side's arrays


class Packed(EpochBatches):
  """Batches of several examples per row, in one shape.

  Besides the ids of a side, `batch` returns `<side>_segment`, the number of the example
  in its row, from 1, and 0 for padding; and `<side>_position`, the position in the
  sentence, from 0.
  """

  def __init__(
    self,
    sides: Sides,
    *,
    tokens: Tokens = TOKENS,
    shapes: Count = 1,
    max_length: Count | None = MAX_LENGTH,
    rows_multiple: Count = ROWS_MULTIPLE,
    shuffle: bool = True,
    reverse: Sequence[str] = (),
    sampled: Sequence[Sides] = (),
    repeats: np.ndarray | None = None,
  ):
    """Packs the examples, in the same way for all epochs.

    Args:
      sides: name of a side -> its sentences.
      tokens: largest number of positions of a batch on any side, padding counted.
        'auto', in an experiment, lets a run choose it; see `train.largest_batch`.
      shapes: not used, so that the kinds can be swept with the other options in place.
      max_length: positions of a row; examples with a longer side, EOS counted, are left
        out and counted in the report. None takes the longest example.
      rows_multiple: the number of rows of a batch is a multiple of this.
      shuffle: whether the order is drawn anew in each epoch.
      reverse: see `Examples`.
      sampled: see `Examples`.
      repeats: see `Examples`. Examples that do not occur equally often share no row.

    Raises:
      ValueError: an option is outside its domain, the sides differ in number, or a
        batch cannot fit.
    """
    options = dict(tokens=tokens, shapes=shapes, max_length=max_length)
    options |= dict(rows_multiple=rows_multiple, shuffle=shuffle)
    check(Packed, options, 'batching.')
    context = dict(reverse=reverse, sampled=sampled, repeats=repeats)
    examples = Examples(sides, max_length=max_length, **context)
    width = examples.max_length
    shape = _shape(tuple(sides), tokens, width, rows_multiple)
    # A fixed order, so that every epoch has the same number of rows.
    order = np.random.Generator(np.random.Philox(0)).permutation(examples.kept)
    lengths = tuple(examples.lengths.values())
    frequency = np.ones(len(examples)) if repeats is None else repeats
    self._packed, row_repeats = [], []
    for value in np.unique(frequency):
      rows = pack(lengths, width, order=order[frequency[order] == value])
      self._packed += rows
      row_repeats.append(np.full(len(rows), value))
    groups, by_row = [np.arange(len(self._packed))], [np.concatenate(row_repeats)]
    by_row = None if repeats is None else by_row
    super().__init__(examples, [shape], groups, shuffle=shuffle, repeats=by_row)

  @classmethod
  def planned_shapes(
    cls,
    sides: Sequence[str],
    *,
    tokens: Tokens = TOKENS,
    shapes: Count = 1,
    max_length: Count | None = MAX_LENGTH,
    rows_multiple: Count = ROWS_MULTIPLE,
    shuffle: bool = True,
  ) -> tuple[Batch, ...] | None:
    """Returns the shapes of batches without the data, to plan a run.

    Args:
      sides: names of the sides.
      tokens: as in `__init__`, like all other options.
      shapes: not used.
      max_length: positions of a row.
      rows_multiple: divides the number of rows.
      shuffle: not used.

    Returns:
      One empty batch; None where the row's length is that of the longest example.

    Raises:
      ValueError: an option is outside its domain, or a batch cannot fit.
    """
    options = dict(tokens=tokens, max_length=max_length, rows_multiple=rows_multiple)
    check(cls, {**options, 'shapes': shapes, 'shuffle': shuffle}, 'batching.')
    if max_length is None:
      return None
    B, widths = _shape(sides, tokens, max_length, rows_multiple)
    empty = {f'{side}{x}': (B, widths[side]) for side in sides for x in _SUFFIXES}
    return ({name: np.zeros(shape, np.int32) for name, shape in empty.items()},)

  def arrays(self, sides: Sides, rows: np.ndarray, widths: Mapping[str, int]) -> Batch:
    """Returns the ids, segments and positions of each side, [B, L] each."""
    places = self._places(rows)
    batch: Batch = {}
    for side, store in sides.items():
      reverse = side in self._examples.reverse
      values, index = _laid_out(store, places, reverse=reverse)
      for suffix, x in zip(_SUFFIXES, values, strict=True):
        batch[side + suffix] = np.full((len(rows), widths[side]), PAD, np.int32)
        batch[side + suffix][index] = x
    return batch

  def _places(self, rows: np.ndarray) -> '_Places':
    none = np.zeros(0, np.int64)
    inside = [self._packed[row] if row >= 0 else none for row in rows]
    counts = np.array([len(x) for x in inside], np.int64)
    return _Places(
      examples=np.concatenate([*inside, none]).astype(np.int64),
      row=np.repeat(np.arange(len(rows)), counts),
      first=np.repeat(np.cumsum(counts) - counts, counts),
    )


class _Places(NamedTuple):
  """Where the examples of a batch lie; arrays of one entry per example.

  Attributes:
    examples: number of the example in the corpus.
    row: number of its row.
    first: index, in these arrays, of the first example in its row.
  """

  examples: np.ndarray
  row: np.ndarray
  first: np.ndarray


def _laid_out(
  store: TokenStore, places: _Places, *, reverse: bool
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, np.ndarray]]:
  """Returns ids, segments and positions of all tokens of a batch, and their cells."""
  lengths = store.lengths[places.examples].astype(np.int64)
  before = np.cumsum(lengths) - lengths  # tokens of earlier examples, in all rows
  in_row = before - before[places.first]  # tokens of earlier examples in the row
  position = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
  read = position
  if reverse:
    last = np.repeat(lengths, lengths) - 1  # EOS, which stays
    read = np.where(position == last, last, last - 1 - position)
  ids = store.ids[np.repeat(store.offsets[places.examples], lengths) + read]
  segment = np.arange(len(places.examples)) - places.first + 1
  cells = np.repeat(places.row, lengths), position + np.repeat(in_row, lengths)
  return (ids, np.repeat(segment, lengths), position), cells


def _shape(
  sides: Sequence[str], tokens: Tokens, width: int, rows_multiple: int
) -> Shape:
  check_fit(width, tokens, rows_multiple)
  B = most_rows(tokens, width, rows_multiple)
  return Shape(B, dict.fromkeys(sides, width))


def pack(
  lengths: Sequence[np.ndarray], width: int, *, order: np.ndarray
) -> list[np.ndarray]:
  """Fills rows of `width` positions on each side, first fit.

  Rows that have no room for an example of average size are closed, so that only a few
  are open at a time and packing takes linear time.

  Args:
    lengths: lengths of the sentences of each side, [R] each.
    width: positions of a row, on any side.
    order: the examples to pack, in the order in which they are placed.

  Returns:
    For each row, the examples in it.
  """
  ordered = np.stack([x[order] for x in lengths], axis=1)  # [n, sides]
  small = max(1, int(ordered.min(axis=1).mean()) // 2)
  room: list[list[int]] = []  # positions left in each open row, by side
  held: list[list[int]] = []
  rows: list[np.ndarray] = []
  for example, needed in zip(order.tolist(), ordered.tolist(), strict=True):
    i = next((i for i, free in enumerate(room) if _fits(needed, free)), len(room))
    if i == len(room):
      room.append([width] * len(needed))
      held.append([])
    room[i] = [free - n for free, n in zip(room[i], needed, strict=True)]
    held[i].append(example)
    full = i if min(room[i]) < small else 0 if len(room) > _OPEN else None
    if full is not None:
      rows.append(np.array(held.pop(full)))
      room.pop(full)
  rows += [np.array(examples) for examples in held]
  return rows


def _fits(needed: list[int], free: list[int]) -> bool:
  return all(n <= f for n, f in zip(needed, free, strict=True))
