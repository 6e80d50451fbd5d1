"""Differences between the means of two groups of runs, with their intervals."""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
  """The difference of two means.

  Attributes:
    mean: mean of the first group minus that of the second.
    interval: half of the width of its 95 % interval.
    p: probability of a difference so large if the means were equal, two-sided.
  """

  mean: float
  interval: float
  p: float

  @property
  def is_effect(self) -> bool:
    """Whether the 95 % interval excludes 0."""
    return abs(self.mean) > self.interval

  def text(self, digits: int = 2) -> str:
    """Returns 'mean ± interval', with a sign."""
    return f'{self.mean:+.{digits}f} ± {self.interval:.{digits}f}'


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
  """Compares the means of two samples whose variances may differ.

  Welch 1947, "The generalization of 'Student's' problem when several different
  population variances are involved", https://doi.org/10.1093/biomet/34.1-2.28

  Args:
    first: one value per run, at least two.
    second: the same for the other group.

  Raises:
    ValueError: a group has fewer than two values.
  """
  if min(len(first), len(second)) < 2:
    raise ValueError(
      f'a difference needs two runs of each kind, and there are {len(first)} and '
      f'{len(second)}'
    )
  from scipy.special import stdtr, stdtrit  # takes long to import

  mean = math.fsum(first) / len(first) - math.fsum(second) / len(second)
  parts = [float(np.var(x, ddof=1)) / len(x) for x in (first, second)]
  variance = sum(parts)
  if variance == 0:
    return Difference(mean, 0.0, float(mean == 0))
  sizes = (len(first), len(second))
  freedom = variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
  error = math.sqrt(variance)
  p = 2 * float(stdtr(freedom, -abs(mean) / error))
  return Difference(mean, float(stdtrit(freedom, 0.975)) * error, p)
