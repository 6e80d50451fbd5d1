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
  terms: Sequence[tuple[float, Sequence[float]]], *, tests: int = 1, items: float = 0.0
) -> Difference:
  """Returns a sum of means with factors, of samples whose variances may differ.

  The interval of one sample is Student's. That of several is of Welch 1947, "The
  generalization of 'Student's' problem when several different population variances are
  involved", https://doi.org/10.1093/biomet/34.1-2.28

  Args:
    terms: factor and one value per run, at least two; of each group.
    tests: number of intervals that are to hold together, with a probability of 95 %
      (Bonferroni).
    items: standard error of the sum over test items, which all runs share; see
      `over_items`. Its square is one more variance, of infinite freedom.

  Raises:
    ValueError: a group has fewer than two values.
  """
  sizes = [len(values) for _, values in terms]
  if min(sizes) < 2:
    raise ValueError(f'an interval needs two runs of each kind; there are {sizes}')
  from scipy.special import stdtrit  # takes long to import

  mean = math.fsum(factor * float(np.mean(values)) for factor, values in terms)
  parts = [f**2 * float(np.var(x, ddof=1)) / len(x) for f, x in terms]
  variance = math.fsum([*parts, items**2])
  if variance == 0:
    return Difference(mean, 0.0)
  spread = sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
  freedom = variance**2 / spread if spread else math.inf
  quantile = float(stdtrit(freedom, 1 - 0.025 / tests))
  return Difference(mean, quantile * math.sqrt(variance))


def difference(
  first: Sequence[float], second: Sequence[float], *, tests: int = 1
) -> Difference:
  """Returns the mean of a sample minus that of another; see `contrast`."""
  return contrast([(1, first), (-1, second)], tests=tests)


def over_items(
  terms: Sequence[tuple[float, Sequence[np.ndarray]]],
  score: Callable[[np.ndarray], np.ndarray],
  *,
  samples: int = 1_000,
  seed: int = 0,
) -> float:
  """Returns the standard error of a sum of means over runs, over test items.

  The items are drawn with replacement, the same ones for all runs, as in the paired
  bootstrap of Koehn 2004, https://aclanthology.org/W04-3250; the runs stay. What items
  and runs vary together is in the error over runs, too, so that adding both variances
  counts it twice rather than not at all.

  Args:
    terms: factor and, of each run of a group, the integers of all items, [R, C], in the
      same order in all runs; such as `run.arrays('test')['bleu']`.
    score: function of summed integers, [samples, C] -> [samples], such as
      `seqlab.metrics.bleu.bleu_score`.
    samples: number of resampled test sets.
    seed: seed of the samples.

  Returns:
    The standard error; NaN if a group has no runs.

  Raises:
    ValueError: runs have different numbers of items.
  """
  groups = [runs for _, runs in terms]
  if not all(groups):
    return math.nan
  sizes = {len(items) for runs in groups for items in runs}
  if len(sizes) > 1:
    raise ValueError(
      f'runs have {sorted(sizes)} test items: they must share all of them'
    )
  (R,) = sizes
  random = np.random.default_rng(seed)
  counts = random.multinomial(R, np.full(R, 1 / R), samples).astype(np.float64)
  drawn = sum(
    factor * np.mean([np.asarray(score(counts @ items)) for items in runs], axis=0)
    for factor, runs in terms
  )
  return float(np.std(drawn, ddof=1))


def versus(
  groups: Mapping[Any, Sequence[Any]],
  first: Hashable,
  second: Hashable,
  of: Callable[[Any], Any],
) -> list[tuple[float, list[Any]]]:
  """Returns the terms of the mean of one group minus that of another.

  They are those of `contrast` or, if a run's value is an array, of `over_items`.

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
  items: float | None = None,
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
    items: see `contrast`. If given, the row also has the interval over items alone.
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
  found = contrast(terms, tests=tests, items=items or 0.0)
  ends = found.mean - found.interval, found.mean + found.interval
  verdict = 'not decided'
  if low < ends[0] and ends[1] < high:
    verdict = 'supported'
  elif ends[1] < low or ends[0] > high:
    verdict = 'refuted'
  text = found.text(digits)
  if items is not None:
    alone = contrast([(0, terms[0][1])], tests=tests, items=items)
    text += f' (± {alone.interval:.{digits}f} over items alone)'
  return [label, text, predicted, verdict]
