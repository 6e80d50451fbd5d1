"""Batch k of a corpus as a pure function of (seed, k).

There is no iterator state: a run that resumes continues at batch k, and on more or
fewer hosts each host gathers its rows of the same global batch.

A kind of batching is a class that inherits from `SentenceBatches`, or from
`EpochBatches` if every epoch has the same sentences. It decides which sentences share a
row and a batch; epochs, hosts and the report are common to all.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from seqlab.data.store import Sides
from seqlab.domains import Count
from seqlab.pieces import Specification, find, make, parameters
from seqlab.types import PAD, Batch

BATCHINGS = {
  'buckets': 'data.buckets:Buckets',
  'drawn': 'data.drawn:Drawn',
  'packed': 'data.packing:Packed',
}
CONTEXT = (
  'sides',
  'reverse',
  'sampled',
  'repeats',
)  # set by the task, not by an experiment
# Defaults of all kinds.
TOKENS, MAX_LENGTH, ROWS_MULTIPLE = 4_096, 256, 8
# `train.largest_batch` replaces 'auto' by a number before batches are made.
AUTO = 'auto'
Tokens = Count | Literal['auto']


def make_batches(
  specification: Specification, sides: Sides, **context: Any
) -> 'SentenceBatches':
  """Builds the batches that a section `batching` describes.

  Args:
    specification: a piece of `BATCHINGS`, or a path to one; 'buckets' if it has no
      kind.
    sides: the sentences of each side, equally many.
    **context: `reverse`, `sampled` and `repeats`, see `Examples`.

  Raises:
    ValueError: as `pieces.make`; or the sentences do not fit the options.
  """
  if isinstance(specification, Mapping):
    specification = {'kind': 'buckets', **specification}
  builder, _ = find(specification, BATCHINGS, 'batching')
  if context.get('repeats') is not None and 'repeats' not in parameters(builder):
    raise ValueError(
      f'batching {builder.__name__} takes each example once per epoch: leave out '
      "corpus.weights, or set batching.kind='buckets'"
    )
  return make(specification, BATCHINGS, 'batching', sides=sides, **context)


class Examples:
  """Sentences of one or several sides; lines of the same number belong together.

  Attributes:
    segmentations: the sides, once for each segmentation.
    lengths: name of a side -> length of each sentence, EOS counted, int32 [R]; over
      all segmentations the longest, so that shapes and the number of steps are the same
      in every epoch.
    longest: length of the longest side of each example, [R].
    kept: numbers of the examples of which no side is longer than `max_length`.
    max_length: the bound; that of the longest example if none was given.
    reverse: names of the sides that are read from their end.
    repeats: how often each example occurs per epoch, [R]; None for once.
  """

  def __init__(
    self,
    sides: Sides,
    *,
    max_length: int | None,
    reverse: Sequence[str] = (),
    sampled: Sequence[Sides] = (),
    repeats: np.ndarray | None = None,
  ):
    """Measures the sentences.

    Args:
      sides: name of a side -> its sentences.
      max_length: examples with a longer side are left out; None keeps all.
      reverse: names of sides that are read from their end (Sutskever et al. 2014,
        https://arxiv.org/abs/1409.3215); EOS stays last.
      sampled: the same sentences, segmented at random several times. Epoch e reads
        segmentation e mod n in place of `sides`.
      repeats: how often each example occurs per epoch, [R], which need not be whole
        numbers: of examples with the same number, each epoch takes the next ones of an
        endless sequence of permutations. None takes each example once.

    Raises:
      ValueError: the sides differ in number, or every example is too long.
    """
    if len({len(store) for store in sides.values()}) != 1:
      counts = ' and '.join(f'{len(store):,} {name}' for name, store in sides.items())
      raise ValueError(f'{counts} sentences; each side must have the same number')
    self.segmentations, self.reverse = tuple(sampled) or (sides,), tuple(reverse)
    self.repeats = repeats
    self.lengths = {
      name: np.max([s[name].lengths for s in self.segmentations], axis=0)
      for name in sides
    }
    self.longest = np.max(list(self.lengths.values()), axis=0)
    if max_length is None:
      max_length = int(self.longest.max(initial=1))
    self.max_length = max_length
    self.kept = np.flatnonzero(self.longest <= max_length)
    if not len(self.kept):
      raise ValueError(
        f'all {len(self):,} {self.unit} are longer than batching.max_length={max_length}'
      )

  def __len__(self) -> int:
    return len(self.longest)

  @property
  def unit(self) -> str:
    """The word for examples: 'sentences', or 'pairs' where there are two sides."""
    return 'sentences' if len(self.lengths) == 1 else 'pairs'

  def mean_tokens(self, side: str) -> float:
    """Returns the tokens of the kept examples, as a mean over segmentations."""
    lengths = [s[side].lengths[self.kept] for s in self.segmentations]
    if self.repeats is not None:
      lengths = [x * self.repeats[self.kept] for x in lengths]
    return float(np.mean([x.sum() for x in lengths]))


class Shape(NamedTuple):
  """The shape of a batch.

  Attributes:
    rows: number of rows B.
    widths: name of a side -> number of positions of a row.
  """

  rows: int
  widths: Mapping[str, int]

  @property
  def cells(self) -> int:
    """Number of positions on all sides."""
    return self.rows * sum(self.widths.values())


class SentenceBatches:
  """Batches of sentences; see `tasks.interface.Batches`. Base class of the kinds.

  Attributes:
    steps_per_epoch: number of batches of an epoch.
    shapes: one empty batch of every shape.
    report: pairs (or sentences), too_long, padding_waste, target_tokens, ...
    tokens_per_step: mean number of tokens of the last side per batch.
  """

  def __init__(
    self,
    examples: Examples,
    shapes: Sequence[Shape],
    *,
    steps_per_epoch: int,
    tokens: Mapping[str, float],
    cells: float,
  ):
    """Takes the shapes, and the counts of an epoch for the report.

    Args:
      examples: the sentences.
      shapes: all shapes that a batch may have.
      steps_per_epoch: number of batches of an epoch.
      tokens: name of a side -> mean number of tokens of an epoch.
      cells: mean number of positions of an epoch, padding counted.
    """
    self._examples, self._shapes = examples, tuple(shapes)
    self.steps_per_epoch = steps_per_epoch
    last = [*tokens][-1]
    self.tokens_per_step = round(tokens[last]) / steps_per_epoch
    self.report: dict[str, Any] = {
      examples.unit: len(examples.kept),
      'too_long': len(examples) - len(examples.kept),
      f'{last}_tokens': round(tokens[last]),
      'steps_per_epoch': steps_per_epoch,
      'shapes': len(shapes),
      'padding_waste': 1 - sum(tokens.values()) / cells,
    }
    # The plans of the last epochs of every seed: runs with other seeds share the object.
    self._plans = functools.cache(
      lambda seed: functools.lru_cache(4)(functools.partial(self._make_plan, seed))
    )

  @functools.cached_property
  def shapes(self) -> tuple[Batch, ...]:
    """One empty batch of every shape."""
    return tuple(self._empty(shape) for shape in self._shapes)

  def _empty(self, shape: Shape) -> Batch:
    rows = np.full(shape.rows, -1, np.int64)
    return self.arrays(self._examples.segmentations[0], rows, shape.widths)

  def arrays(self, sides: Sides, rows: np.ndarray, widths: Mapping[str, int]) -> Batch:
    """Builds the rows of a batch.

    Args:
      sides: a segmentation.
      rows: numbers from one group, [B]; -1 gives a row of padding.
      widths: name of a side -> number of positions of a row.
    """
    raise NotImplementedError

  def _make_plan(self, seed: int, epoch: int) -> list[tuple[Shape, np.ndarray]]:
    """Returns the shape of each batch of an epoch, and its numbers, see `arrays`."""
    raise NotImplementedError

  def _at(self, k: int, seed: int) -> tuple[Shape, np.ndarray]:
    epoch, position = divmod(k, self.steps_per_epoch)
    return self._plans(seed)(epoch)[position]

  def rows(self, k: int, *, seed: int = 0) -> np.ndarray:
    """Returns the line number in each row of batch k, -1 for none.

    Where several sentences share a row it is the number of the row.
    """
    return self._at(k, seed)[1]

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or a share of its rows.

    Args:
      k: number of the batch, counted from 0 over all epochs.
      seed: integer seed of the order.
      rows: (i, n) asks for the i-th of n equal shares of the rows.

    Returns:
      For each side its ids [B, L] int32, EOS at the end of each sentence and PAD after
      it. A kind may add further arrays.
    """
    shape, chosen = self._at(k, seed)
    i, n = rows
    chosen = chosen[len(chosen) * i // n : len(chosen) * (i + 1) // n]
    segmentations = self._examples.segmentations
    sides = segmentations[k // self.steps_per_epoch % len(segmentations)]
    return self.arrays(sides, chosen, shape.widths)


class EpochBatches(SentenceBatches):
  """Batches in which every example occurs once per epoch, or a given number of times."""

  def __init__(
    self,
    examples: Examples,
    shapes: Sequence[Shape],
    groups: Sequence[np.ndarray],
    *,
    shuffle: bool,
    repeats: Sequence[np.ndarray] | None = None,
  ):
    """Divides groups into batches.

    Args:
      examples: the sentences.
      shapes: shape of the batches of each group.
      groups: numbers that `arrays` and `by_length` understand, such as those of
        examples. Every batch is filled from one group.
      shuffle: whether the order is drawn anew in each epoch.
      repeats: for each group, how often its numbers occur per epoch; None for once.
    """
    self._groups, self._shuffle = tuple(groups), shuffle
    self._strata: list[list[_Stratum]] | None = None
    sizes = [len(group) for group in groups]
    if repeats is not None:
      self._strata = list(map(_strata, groups, repeats))
      sizes = [sum(stratum.most for stratum in x) for x in self._strata]
    self._counts = counts = [
      -(-n // shape.rows) for n, shape in zip(sizes, shapes, strict=True)
    ]
    super().__init__(
      examples,
      shapes,
      steps_per_epoch=sum(counts),
      tokens={side: examples.mean_tokens(side) for side in examples.lengths},
      cells=sum(n * shape.cells for n, shape in zip(counts, shapes, strict=True)),
    )

  def by_length(self, group: np.ndarray) -> np.ndarray:
    """Returns a group in the order of batches that are not shuffled."""
    return group

  def _make_plan(self, seed: int, epoch: int) -> list[tuple[Shape, np.ndarray]]:
    """Returns the shape and the numbers of each batch of an epoch."""
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    plan: list[tuple[Shape, np.ndarray]] = []
    for i, (group, shape) in enumerate(zip(self._groups, self._shapes, strict=True)):
      if self._strata is not None:
        drawn = [x.draw(seed, epoch, (i, j)) for j, x in enumerate(self._strata[i])]
        group = np.concatenate(drawn)
      order = random.permutation(group) if self._shuffle else self.by_length(group)
      batches = _rows_of(order, shape.rows)
      if self._strata is not None:
        batches = _spread(order, shape.rows, self._counts[i])
      plan += ((shape, rows) for rows in batches)
    if self._shuffle:
      plan = [plan[i] for i in random.permutation(len(plan))]
    return plan


class _Stratum(NamedTuple):
  """Numbers of a group that occur equally often.

  Attributes:
    numbers: the numbers.
    mean: how many of them there are in an epoch, as a mean over epochs.
  """

  numbers: np.ndarray
  mean: float

  @property
  def most(self) -> int:
    """How many of them there are in an epoch, at most."""
    return math.ceil(self.mean)

  def draw(self, seed: int, epoch: int, place: tuple[int, int]) -> np.ndarray:
    """Returns the numbers of an epoch, the mean rounded up or down of them.

    Epochs follow one another in an endless sequence of permutations, so that no number
    occurs twice before every other one has occurred.

    Args:
      seed: integer seed of the order.
      epoch: number of the epoch.
      place: number of the group and of the stratum in it, which have random bits of
        their own.
    """
    # Of all epochs together, so that the share of a small group is not rounded up or
    # down in each of them.
    start, end = (math.floor(e * self.mean) for e in (epoch, epoch + 1))
    n = len(self.numbers)
    first, last = start // n, end // n
    orders = []
    for cycle in range(first, last + 1):
      # Another counter than that of the order of batches, which has the same key.
      bits = np.random.Philox(key=[seed, cycle], counter=[0, 0, place[0] + 1, place[1]])
      orders.append(np.random.Generator(bits).permutation(self.numbers))
    return np.concatenate(orders)[start - first * n :][: end - start]


def _strata(numbers: np.ndarray, repeats: np.ndarray) -> list[_Stratum]:
  """Divides a group by how often its numbers occur."""
  parts = [(numbers[repeats == x], float(x)) for x in np.unique(repeats)]
  # A whole number of examples is often the quotient of others, and not exact.
  return [_Stratum(part, max(round(x * len(part), 6), 1e-6)) for part, x in parts]


def _rows_of(order: np.ndarray, rows: int) -> Iterator[np.ndarray]:
  """Divides numbers into batches; -1 fills the last one."""
  filled = np.concatenate([order, np.full(-len(order) % rows, -1, np.int64)])
  return iter(filled.reshape(-1, rows))


def _spread(order: np.ndarray, rows: int, batches: int) -> Iterator[np.ndarray]:
  """Divides numbers evenly into a number of batches, so that none of them is empty."""
  for part in np.array_split(order, batches):
    yield np.pad(part, (0, rows - len(part)), constant_values=-1)


def smallest_batch(batching: Mapping[str, Any]) -> int:
  """Returns the positions of the smallest batch that a section `batching` allows.

  Where `max_length` is None, which admits sentences of any length, 64 stands for it.
  """
  rows = batching.get('rows_multiple', ROWS_MULTIPLE)
  return rows * (batching.get('max_length', MAX_LENGTH) or 64)


def check_fit(length: int, tokens: Tokens, rows_multiple: int) -> None:
  """Raises ValueError if the fewest rows of the longest sentence exceed a batch."""
  if tokens == AUTO:
    raise ValueError(
      f"batching.tokens='{AUTO}' is replaced when `seqlab train` starts a single run: "
      'set a number for everything else'
    )
  if tokens < length * rows_multiple:
    raise ValueError(
      f'a batch cannot fit: {rows_multiple} rows of {length} positions are '
      f'{length * rows_multiple:,}, and batching.tokens is {tokens:,}. Raise '
      f'batching.tokens, or lower batching.max_length or batching.rows_multiple'
    )


def most_rows(tokens: int, width: int, rows_multiple: int) -> int:
  """Returns the largest multiple of `rows_multiple` that `tokens` positions hold."""
  return tokens // width // rows_multiple * rows_multiple


def gather_rows(
  sides: Sides, rows: np.ndarray, widths: Mapping[str, int], reverse: Sequence[str]
) -> Batch:
  """Returns the ids of each side, one example per row, [B, L].

  Args:
    sides: a segmentation.
    rows: numbers of examples, [B]; -1 gives a row of padding.
    widths: name of a side -> number of positions of a row.
    reverse: names of the sides that are read from their end.
  """
  batch = {side: store.gather(rows, widths[side]) for side, store in sides.items()}
  for side in reverse:
    batch[side] = reverse_sentences(batch[side])
  return batch


def reverse_sentences(ids: np.ndarray) -> np.ndarray:
  """Returns [B, L] with the tokens of each row reversed; EOS and PAD stay in place.

  An array of JAX gives an array of JAX.
  """
  xp = ids.__array_namespace__()
  lengths = (ids != PAD).sum(axis=1)[:, None] - 1  # without EOS
  column = xp.arange(ids.shape[1])
  order = xp.where(column < lengths, lengths - 1 - column, column)
  return xp.take_along_axis(ids, order, axis=1)
