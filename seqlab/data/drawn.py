"""Batches of examples that are drawn at random, each independently of all others."""

from collections.abc import Mapping, Sequence
import math

import numpy as np

from seqlab.data.batching import (
  MAX_LENGTH,
  Examples,
  SentenceBatches,
  Shape,
  gather_rows,
)
from seqlab.data.buckets import divide_by_length, widths_of
from seqlab.data.store import Sides
from seqlab.domains import Count, check
from seqlab.types import Batch

_NO_SEED = 1 << 32  # keys the draws that all seeds share, which are below it


class Drawn(SentenceBatches):
  """Batches of a fixed number of examples, drawn with replacement.

  An epoch is a count: it has about as many draws as there are examples, of which it
  contains about 63 %, some of them several times. The width of a batch is that of the
  bucket of its longest example. Buckets are drawn in proportion to their sizes without
  the seed, and examples of the bucket with it: the members of a population have batches
  of the same shape, and the draws of each run are independent and uniform.

  With `together` a bucket is drawn per batch and not per example. Each example is as
  probable as before, but the examples of a batch are of similar length.

  Attributes:
    shared_shapes: True; see `tasks.interface.Batches`.
  """

  shared_shapes = True

  def __init__(
    self,
    sides: Sides,
    *,
    rows: Count = 1,
    shapes: Count = 8,
    together: bool = False,
    max_length: Count | None = MAX_LENGTH,
    reverse: Sequence[str] = (),
    sampled: Sequence[Sides] = (),
    repeats: np.ndarray | None = None,
  ):
    """Chooses the shapes.

    Args:
      sides: name of a side -> its sentences.
      rows: number of examples of a batch.
      shapes: largest number of batch shapes.
      together: whether all examples of a batch are from one bucket.
      max_length: examples with a longer side, EOS counted, are left out and counted in
        the report; None keeps all.
      reverse: see `Examples`.
      sampled: see `Examples`.
      repeats: see `Examples`. The probability of an example is proportional to it.

    Raises:
      ValueError: an option is outside its domain, or the sides differ in number.
    """
    options = dict(rows=rows, shapes=shapes, together=together, max_length=max_length)
    check(Drawn, options, 'batching.')
    context = dict(reverse=reverse, sampled=sampled, repeats=repeats)
    examples = Examples(sides, max_length=max_length, **context)
    _, groups = divide_by_length(examples, shapes)
    self._batch_rows, self._numbers = rows, np.concatenate(groups)
    self._bucket_draws = 1 if together else rows  # per batch
    sizes = np.array([len(group) for group in groups])
    self._last = np.cumsum(sizes) - 1  # of each bucket, its places in `_numbers`
    self._first = self._last - sizes + 1
    weights = np.ones(len(examples)) if repeats is None else repeats
    weights = weights[self._numbers]
    # A uniform number finds its example, or its bucket, by these sums of probabilities.
    self._cumulated = np.cumsum(weights) / np.sum(weights)
    self._ends = self._cumulated[self._last]
    self._ends[-1] = 1.0
    # A bucket is wide enough for the examples of all buckets before it.
    chosen = [
      Shape(rows, widths_of(examples, np.concatenate(groups[: i + 1])))
      for i in range(len(groups))
    ]
    total = float(weights.sum())
    steps = max(1, math.ceil(total / rows))
    draws = steps * rows / total
    super().__init__(
      examples,
      chosen,
      steps_per_epoch=steps,
      tokens={side: draws * examples.mean_tokens(side) for side in examples.lengths},
      cells=steps * self._mean_cells(chosen),
    )

  def _mean_cells(self, shapes: Sequence[Shape]) -> float:
    """Returns the expected number of positions of a batch."""
    # The bucket of a batch is at most i with the probability that each draw is.
    probabilities = np.diff(self._ends**self._bucket_draws, prepend=0.0)
    return float(probabilities @ [shape.cells for shape in shapes])

  def arrays(self, sides: Sides, rows: np.ndarray, widths: Mapping[str, int]) -> Batch:
    """Returns the ids of each side, [B, L]."""
    return gather_rows(sides, rows, widths, self._examples.reverse)

  def _make_plan(self, seed: int, epoch: int) -> list[tuple[Shape, np.ndarray]]:
    """Returns the shape and the examples of each batch of an epoch."""
    size = self.steps_per_epoch, self._batch_rows
    shared = _uniform(_NO_SEED, epoch, (self.steps_per_epoch, self._bucket_draws))
    buckets = np.searchsorted(self._ends, np.broadcast_to(shared, size), 'right')
    starts = np.append(0.0, self._ends)[buckets]
    uniform = starts + (self._ends[buckets] - starts) * _uniform(seed, epoch, size)
    places = np.searchsorted(self._cumulated, uniform, 'right')
    # A sum may round to the next bucket.
    places = np.clip(places, self._first[buckets], self._last[buckets])
    return [
      (self._shapes[bucket], rows)
      for bucket, rows in zip(buckets.max(axis=1), self._numbers[places], strict=True)
    ]


def _uniform(seed: int, epoch: int, size: tuple[int, int]) -> np.ndarray:
  """Returns numbers in [0, 1) that depend on seed and epoch alone."""
  return np.random.Generator(np.random.Philox(key=[seed, epoch])).random(size)
