"""Runs: distinct keys in increasing order, each with a sum; in memory or on disk.

A text that is too large for the memory is counted in chunks, one run per chunk, and the
runs are merged one range of keys at a time, as in an external sort (Knuth, The Art of
Computer Programming, volume 3, section 5.4). Sums are integers, so the result does not
depend on the order.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

MERGE_BYTES = 80  # most bytes that a key and its sum take while they are merged


class Run(NamedTuple):
  """A run in memory.

  Attributes:
    keys: [n] uint64, increasing.
    sums: [n] integers, 1 or more.
  """

  keys: np.ndarray
  sums: np.ndarray

  def spill(self, folder: Path | None, name: str) -> 'Run | SpilledRun':
    """Writes the run to a folder; returns it if it is empty or there is no folder."""
    if folder is None or not len(self.keys):
      return self
    sums = self.sums.astype(np.min_scalar_type(int(self.sums.max())))  # often 2 bytes
    for field, array in (('keys', self.keys), ('sums', sums)):
      # The OSError of `tofile` does not say that the disk is full.
      (folder / f'{name}.{field}').write_bytes(array.data)
    return SpilledRun(folder / name, sums.dtype)


@dataclasses.dataclass(frozen=True)
class SpilledRun:
  """A run on disk; its arrays are mapped for as long as the caller holds them."""

  path: Path
  dtype: np.dtype  # of the sums

  @property
  def keys(self) -> np.ndarray:
    """[n] uint64, increasing."""
    return np.memmap(f'{self.path}.keys', np.uint64, 'r')

  @property
  def sums(self) -> np.ndarray:
    """[n] integers, 1 or more."""
    return np.memmap(f'{self.path}.sums', self.dtype, 'r')


class Slice(NamedTuple):
  """A part of a run, which is read when it is merged."""

  run: Run | SpilledRun
  start: int
  stop: int


def sum_sorted(keys: np.ndarray, values: np.ndarray | None = None) -> Run:
  """Sums the values of equal keys; without values, counts the keys.

  Args:
    keys: [n] uint64, sorted.
    values: [n] int64.
  """
  if not len(keys):
    return Run(keys, np.zeros(0, np.int64))
  new = np.empty(len(keys), bool)
  new[0] = True
  np.not_equal(keys[1:], keys[:-1], out=new[1:])
  starts = np.flatnonzero(new)
  if values is None:
    return Run(keys[starts], np.diff(starts, append=len(keys)))
  return Run(keys[starts], np.add.reduceat(values, starts))


def ranges(runs: Sequence[Run | SpilledRun], size: int) -> list[list[Slice]]:
  """Cuts all runs at the same keys, so that each range has about `size` sums in all."""
  step = max(1, size // (8 * len(runs)))  # bounds the error to an eighth
  sample = np.sort(np.concatenate([run.keys[::step] for run in runs]))
  each = max(1, size // step)
  cuts = np.unique(sample[each::each])
  places = [
    [0, *np.searchsorted(run.keys, cuts).tolist(), len(run.keys)] for run in runs
  ]
  return [
    [Slice(run, p[i], p[i + 1]) for run, p in zip(runs, places, strict=True)]
    for i in range(len(cuts) + 1)
  ]


def merge(slices: Sequence[Slice]) -> Run:
  """Returns one run with the sums of all slices."""
  keys = np.concatenate([run.keys[a:b] for run, a, b in slices])
  sums = np.concatenate([run.sums[a:b] for run, a, b in slices], dtype=np.int64)
  if not len(keys):
    return Run(keys, sums)
  low, bits = keys.min(), int(sums.max()).bit_length()
  if int(keys.max() - low).bit_length() + bits > 64:
    order = np.argsort(keys)
    return sum_sorted(keys[order], sums[order])
  # Key and sum are one number: sorting them takes a third of the time of `argsort`.
  keys = (keys - low << np.uint64(bits)) | sums.view(np.uint64)
  keys.sort()
  sums = (keys & np.uint64(2**bits - 1)).view(np.int64)
  return sum_sorted((keys >> np.uint64(bits)) + low, sums)
