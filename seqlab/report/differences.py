"""Differences between groups of runs, and what they say about a prediction."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

PREDICTIONS = ('prediction', 'difference', 'predicted', 'verdict')  # titles of `judged`


class Difference(NamedTuple):
  """A sum of means with factors, such as the difference of two means.

  Attributes:
    mean: the sum.
    interval: half of the width of its 95 % interval; of the intervals of all tests
      together, if there are several.
  """

  mean: float
  interval: float

  def text(self, digits: int = 2) -> str:
    """Returns 'mean ± interval', with a sign."""
    return f'{self.mean:+.{digits}f} ± {self.interval:.{digits}f}'


def contrast(
  terms: Sequence[tuple[float, Sequence[float]]], *, tests: int = 1
) -> Difference:
  """Returns a sum of means with factors, of samples whose variances may differ.

  The interval of one sample is Student's. That of several is of Welch 1947, "The generalization of 'Student's' problem when several different
  population variances are involved", https://doi.org/10.1093/biomet/34.1-2.28

  Args:
    terms: factor and one value per run, at least two; of each group.
    tests: number of intervals that are to hold together, with a probability of 95 %
      (Bonferroni).

  Raises:
    ValueError: a group has fewer than two values.
  """
  sizes = [len(values) for _, values in terms]
  if min(sizes) < 2:
    raise ValueError(f'an interval needs two runs of each kind; there are {sizes}')
  from scipy.special import stdtrit  # takes long to import

  mean = math.fsum(factor * float(np.mean(values)) for factor, values in terms)
  parts = [f**2 * float(np.var(x, ddof=1)) / len(x) for f, x in terms]
  variance = math.fsum(parts)
  if variance == 0:
    return Difference(mean, 0.0)
  freedom = variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
  quantile = float(stdtrit(freedom, 1 - 0.025 / tests))
  return Difference(mean, quantile * math.sqrt(variance))


def difference(
  first: Sequence[float], second: Sequence[float], *, tests: int = 1
) -> Difference:
  """Returns the mean of a sample minus that of another; see `contrast`."""
  return contrast([(1, first), (-1, second)], tests=tests)


def versus(
  groups: Mapping[Any, Sequence[Any]],
  first: Hashable,
  second: Hashable,
  of: Callable[[Any], float],
) -> list[tuple[float, list[float]]]:
  """Returns the terms of the mean of one group minus that of another; see `contrast`.

  Args:
    groups: name -> its runs. A group that is missing has no values.
    first: name of the group that counts positively.
    second: name of the other group.
    of: returns the value of a run.
  """
  pairs = ((1, first), (-1, second))
  return [(factor, [of(run) for run in groups.get(name, ())]) for factor, name in pairs]


def judged(
  label: str,
  terms: Sequence[tuple[float, Sequence[float]]],
  *,
  above: float | None = None,
  below: float | None = None,
  tests: int = 1,
  digits: int = 2,
) -> list[str]:
  """Returns a row of a table of predictions, whose titles are `PREDICTIONS`.

  A prediction is supported if the whole interval is where it was predicted, refuted if
  the whole interval is elsewhere, and otherwise not decided; so it is where a group has
  fewer than two runs.

  Args:
    label: what is compared.
    terms: see `contrast`.
    above: predicted lower bound, if there is one.
    below: predicted upper bound, if there is one.
    tests: see `contrast`.
    digits: digits after the point.
  """
  low = -math.inf if above is None else above
  high = math.inf if below is None else below
  if above is None or below is None:
    predicted = f'above {above:g}' if below is None else f'below {below:g}'
  else:
    predicted = f'between {above:g} and {below:g}'
  sizes = [len(values) for _, values in terms]
  if min(sizes) < 2:
    return [label, f'n = {", ".join(map(str, sizes))}', predicted, 'not decided']
  found = contrast(terms, tests=tests)
  ends = found.mean - found.interval, found.mean + found.interval
  verdict = 'not decided'
  if low < ends[0] and ends[1] < high:
    verdict = 'supported'
  elif ends[1] < low or ends[0] > high:
    verdict = 'refuted'
  return [label, found.text(digits), predicted, verdict]
