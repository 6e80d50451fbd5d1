"""Few shapes for many lengths: the bounds that waste least padding.

Sentences are put in order of their longer side; a bucket is a stretch of that
order, as wide as its longest source and as long as its longest target. Where
the cuts go is found exactly, by dynamic programming over lengths, since the
padding of a stretch does not depend on the others.
"""

import numpy as np


def bucket_bounds(source: np.ndarray, target: np.ndarray, shapes: int) -> np.ndarray:
  """Where to cut the lengths into at most `shapes` buckets.

  Args:
    source: [R] lengths of the source sides.
    target: [R] lengths of the target sides.
    shapes: number of buckets.

  Returns:
    [n] increasing; bucket i holds pairs whose longer side is above bound i - 1
    and at most bound i.

  Raises:
    ValueError: there are no pairs, or no bucket is allowed.
  """
  if shapes < 1:
    raise ValueError(f'batching.shapes is {shapes}; there must be one at least')
  longer = np.maximum(source, target)
  if not len(longer):
    raise ValueError('there are no sentences to make batches of')
  keys = np.unique(longer)  # [n] lengths that occur
  index = np.searchsorted(keys, longer)
  n = len(keys)
  count = np.bincount(index, minlength=n)
  widest = np.zeros((2, n), np.int64)  # longest source and target at each key
  for side, lengths in enumerate((source, target)):
    np.maximum.at(widest[side], index, lengths)

  # cost[j] of the stretch i..j, for each i: rows times the cells of a row
  best = np.full((shapes + 1, n + 1), np.inf)
  best[:, 0] = 0
  cut = np.zeros((shapes + 1, n + 1), np.int64)
  for j in range(1, n + 1):
    rows = np.cumsum(count[:j][::-1])[::-1]  # of i..j-1, for each i
    cells = sum(np.maximum.accumulate(w[:j][::-1])[::-1] for w in widest)
    cost = rows * cells
    for k in range(1, shapes + 1):
      total = best[k - 1, :j] + cost
      cut[k, j] = total.argmin()
      best[k, j] = total[cut[k, j]]

  bounds, j = [], n
  for k in range(shapes, 0, -1):
    if j == 0:
      break
    bounds.append(keys[j - 1])
    j = cut[k, j]
  return np.array(bounds[::-1])
