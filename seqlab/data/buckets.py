"""Few shapes for many lengths: the bounds that waste least padding.

Examples are put in order of their longest side; a bucket is a stretch of that order, as
wide on each side as the longest sentence there. Where the cuts lie is found exactly, by
dynamic programming over lengths, since the padding of a stretch does not depend on the
others.
"""

from collections.abc import Mapping, Sequence

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
  gather_rows,
  most_rows,
)
from seqlab.data.store import Sides
from seqlab.domains import Count, check
from seqlab.types import Batch


class Buckets(EpochBatches):
  """Batches of one example per row, examples of similar length together."""

  def __init__(
    self,
    sides: Sides,
    *,
    tokens: Tokens = TOKENS,
    shapes: Count = 8,
    max_length: Count | None = MAX_LENGTH,
    rows_multiple: Count = ROWS_MULTIPLE,
    shuffle: bool = True,
    reverse: Sequence[str] = (),
    sampled: Sequence[Sides] = (),
    repeats: np.ndarray | None = None,
  ):
    """Chooses the shapes.

    Args:
      sides: name of a side -> its sentences.
      tokens: largest number of positions of a batch on any side, padding counted.
        'auto', in an experiment, lets a run choose it; see `train.largest_batch`.
      shapes: largest number of batch shapes; they are chosen to waste least.
      max_length: examples with a longer side, EOS counted, are left out and counted in
        the report; None keeps all.
      rows_multiple: the number of rows of a batch is a multiple of this.
      shuffle: whether the order is drawn anew in each epoch; else by length.
      reverse: see `Examples`.
      sampled: see `Examples`.
      repeats: see `Examples`.

    Raises:
      ValueError: an option is outside its domain, the sides differ in number, or a
        batch cannot fit.
    """
    options = dict(tokens=tokens, shapes=shapes, max_length=max_length)
    options |= dict(rows_multiple=rows_multiple, shuffle=shuffle)
    check(Buckets, options, 'batching.')
    context = dict(reverse=reverse, sampled=sampled, repeats=repeats)
    examples = Examples(sides, max_length=max_length, **context)
    check_fit(int(examples.longest[examples.kept].max()), tokens, rows_multiple)
    bounds, groups = divide_by_length(examples, shapes)
    chosen = [
      Shape(most_rows(tokens, bound, rows_multiple), widths_of(examples, group))
      for bound, group in zip(bounds, groups, strict=True)
    ]
    if repeats is not None:
      repeats = [repeats[group] for group in groups]
    super().__init__(examples, chosen, groups, shuffle=shuffle, repeats=repeats)

  def arrays(self, sides: Sides, rows: np.ndarray, widths: Mapping[str, int]) -> Batch:
    """Returns the ids of each side, [B, L]."""
    return gather_rows(sides, rows, widths, self._examples.reverse)

  def by_length(self, group: np.ndarray) -> np.ndarray:
    """Returns examples in order of their longest side."""
    return group[np.argsort(self._examples.longest[group], kind='stable')]


def divide_by_length(
  examples: Examples, shapes: int
) -> tuple[list[int], list[np.ndarray]]:
  """Divides examples into at most `shapes` buckets that waste least padding.

  Returns:
    The bound of each bucket, which is the length of its longest side; and the numbers
    of its examples.
  """
  kept = examples.kept
  bounds = bucket_bounds([x[kept] for x in examples.lengths.values()], shapes)
  bucket = np.searchsorted(bounds, examples.longest[kept])
  return bounds.tolist(), [kept[bucket == i] for i in range(len(bounds))]


def widths_of(examples: Examples, group: np.ndarray) -> dict[str, int]:
  """Returns the positions that the examples of a group need, name of a side -> number."""
  return {side: int(x[group].max()) for side, x in examples.lengths.items()}


def bucket_bounds(lengths: Sequence[np.ndarray], shapes: int) -> np.ndarray:
  """Returns where to cut the lengths into at most `shapes` buckets.

  Args:
    lengths: lengths of the sentences of each side, [R] each.
    shapes: number of buckets.

  Returns:
    [n] increasing; bucket i holds examples whose longest side is above bound i - 1 and
    at most bound i.

  Raises:
    ValueError: there are no examples, or no bucket is allowed.
  """
  if shapes < 1:
    raise ValueError(f'batching.shapes is {shapes}; it must be at least 1')
  longest = np.max(lengths, axis=0)
  if not len(longest):
    raise ValueError('there are no sentences to make batches of')
  keys = np.unique(longest)  # [n] lengths that occur
  cut = _cheapest_cuts(keys, lengths, longest, shapes)
  bounds, j = [], len(keys)
  for k in range(shapes, 0, -1):
    if j == 0:
      break
    bounds.append(keys[j - 1])
    j = cut[k, j]
  return np.array(bounds[::-1])


def _cheapest_cuts(
  keys: np.ndarray, lengths: Sequence[np.ndarray], longest: np.ndarray, shapes: int
) -> np.ndarray:
  """Returns where the last of k buckets over j keys begins, [shapes + 1, n + 1].

  The cost of a bucket is its number of rows times the number of cells of a row.
  """
  n = len(keys)
  index = np.searchsorted(keys, longest)
  count = np.bincount(index, minlength=n)
  widest = np.zeros((len(lengths), n), np.int64)  # of each side at each key
  for side, values in enumerate(lengths):
    np.maximum.at(widest[side], index, values)
  best = np.full((shapes + 1, n + 1), np.inf)
  best[:, 0] = 0
  cut = np.zeros((shapes + 1, n + 1), np.int64)
  for j in range(1, n + 1):
    # Of the stretch i..j-1, for each i: accumulated from the end.
    rows = np.cumsum(count[:j][::-1])[::-1]
    cells = sum(np.maximum.accumulate(w[:j][::-1])[::-1] for w in widest)
    cost = rows * cells
    for k in range(1, shapes + 1):
      total = best[k - 1, :j] + cost
      cut[k, j] = total.argmin()
      best[k, j] = total[cut[k, j]]
  return cut
