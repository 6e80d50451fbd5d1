"""Batches of arrays in memory.

def batches(self, split, **options):
  return ArrayBatches({'x': x, 'y': y}, rows=32, **options)
"""

from collections.abc import Mapping
import functools

import numpy as np

from seqlab.types import Batch


class ArrayBatches:
  """Batches of the rows of some arrays; see `tasks.interface.Batches`.

  Attributes:
    steps_per_epoch: number of batches in which every row occurs once; if shuffled, the
      rows that are left over are drawn anew in every epoch.
    shapes: an empty batch of every shape. Not shuffled, the last batch may be smaller.
    report: number of rows.
  """

  def __init__(
    self,
    arrays: Mapping[str, np.ndarray],
    *,
    rows: int,
    shuffle: bool = True,
    rows_multiple: int = 1,
    tokens: int | None = None,
    shapes: int | None = None,
  ):
    """Plans the batches; the arrays are not copied.

    Args:
      arrays: name -> [N, ...], the same N for all.
      rows: number of rows per batch, B.
      shuffle: whether each epoch has another order. False takes all rows in their
        order, as evaluation needs it.
      rows_multiple: B is lowered to a multiple of this where it can be.
      tokens: is not used; rows have no tokens to count.
      shapes: is not used; there are one or two.

    Raises:
      ValueError: the arrays differ in length, or there are too few rows for a batch.
    """
    del tokens, shapes
    self._arrays = {name: np.asarray(x) for name, x in arrays.items()}
    lengths = {name: len(x) for name, x in self._arrays.items()}
    if len(set(lengths.values())) != 1:
      raise ValueError(f'arrays of a batch must have one number of rows: {lengths}')
    self._rows = next(iter(lengths.values()))
    self._size = max(1, rows // rows_multiple) * rows_multiple
    if rows < 1 or self._rows < (self._size if shuffle else 1):
      raise ValueError(
        f'{self._rows:,} rows do not make a batch of {self._size if rows > 0 else rows}: '
        f'set rows to a number from 1 to {self._rows:,}'
      )
    self._shuffle = shuffle
    full, rest = divmod(self._rows, self._size)
    self.steps_per_epoch = full + (1 if rest and not shuffle else 0)
    sizes = [self._size] * bool(full) + [rest] * bool(rest and not shuffle)
    self.shapes = tuple(self._empty(size) for size in sizes)
    self.report = {'rows': self._rows}
    # For each seed the order of its last epochs: runs of many seeds may share this.
    self._orders = functools.lru_cache(64)(self._order)

  def _empty(self, size: int) -> Batch:
    return {n: np.zeros((size, *x.shape[1:]), x.dtype) for n, x in self._arrays.items()}

  def _order(self, seed: int, epoch: int) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return random.permutation(self._rows)

  def rows(self, k: int, *, seed: int = 0) -> np.ndarray:
    """Returns the numbers of the rows in batch k, [B]."""
    epoch, place = divmod(k, self.steps_per_epoch)
    part = slice(place * self._size, min((place + 1) * self._size, self._rows))
    if not self._shuffle:
      return np.arange(part.start, part.stop)
    return self._orders(seed, epoch)[part]

  def batch(self, k: int, *, seed: int = 0, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, a pure function of (seed, k).

    Args:
      k: number of the batch, from 0; epochs follow one another.
      seed: integer seed of the order.
      rows: (i, n) asks for the i-th of n equal shares of the rows.

    Returns:
      The arrays' names -> [B, ...].
    """
    (i, n), chosen = rows, self.rows(k, seed=seed)
    chosen = chosen[len(chosen) * i // n : len(chosen) * (i + 1) // n]
    return {name: x[chosen] for name, x in self._arrays.items()}
