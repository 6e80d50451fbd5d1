"""Word vectors compared with human ratings of pairs, and tests of their differences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlab.metrics.significance import bootstrap_p_value, holm
from seqlab.metrics.similarity import spearman, spearman_samples

LEVEL = 0.05  # of corrected p-values
Term = tuple[float, Any, str]  # factor, variant, set
Cosines = Mapping[str, np.ndarray]  # set -> [P]


class PairScores:
  """Spearman's correlations of variants on sets, and their bootstrap samples.

  Attributes:
    measured: variant -> the cosines of each seed.
    ratings: set -> human ratings, [P].
  """

  def __init__(
    self,
    measured: Mapping[Any, Sequence[Cosines]],
    ratings: Cosines,
    *,
    samples: int = 3_000,
  ):
    """Computes nothing yet.

    Args:
      measured: variant -> the cosines of each seed, of pairs whose words are known.
      ratings: set -> human ratings of the same pairs.
      samples: number of bootstrap samples.
    """
    self.measured, self.ratings, self._number = measured, ratings, samples
    self._samples: dict[tuple[Any, str], np.ndarray] = {}

  @classmethod
  def of_arrays(
    cls,
    arrays: Mapping[Any, Sequence[Cosines]],
    sets: Sequence[str],
    *,
    samples: int = 3_000,
  ) -> 'PairScores':
    """Takes what the evaluator 'similarity' has kept.

    Args:
      arrays: variant -> the evaluator's arrays of each seed. All have the same
        vocabulary.
      sets: names of sets of pairs.
      samples: number of bootstrap samples.
    """
    ratings: dict[str, np.ndarray] = {}

    def known(kept: Cosines) -> Cosines:
      cosines = {}
      for name in sets:
        values, scores = kept[f'{name}/similarity'], kept[f'{name}/scores']
        cosines[name] = values[~np.isnan(values)]
        ratings[name] = scores[~np.isnan(values)]
      return cosines

    measured = {label: [known(x) for x in seeds] for label, seeds in arrays.items()}
    return cls(measured, ratings, samples=samples)

  def values(self, variant: Any, name: str) -> list[float]:
    """Returns the correlation on a set, one per seed."""
    return [spearman(x[name], self.ratings[name]) for x in self.measured[variant]]

  def samples(self, variant: Any, name: str) -> np.ndarray:
    """Returns correlations in samples of the pairs, [seeds, samples]."""
    if (variant, name) not in self._samples:
      drawn = (
        spearman_samples(x[name], self.ratings[name], samples=self._number)
        for x in self.measured[variant]
      )
      self._samples[variant, name] = np.stack([*drawn])
    return self._samples[variant, name]

  def error(self, variant: Any, name: str) -> float:
    """Returns the standard error over pairs."""
    return float(np.nanstd(self.samples(variant, name), axis=1).mean())

  def cell(self, variant: Any, factors: Mapping[str, float]) -> str:
    """Returns 'mean ± deviation over seeds [95 % interval over pairs]'.

    The interval is the percentile bootstrap's, of the mean over seeds.

    Args:
      variant: names the variant.
      factors: set -> factor of its correlation in the sum that is shown.
    """
    terms = factors.items()
    values = sum(factor * np.array(self.values(variant, x)) for x, factor in terms)
    deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    drawn = sum(factor * self.samples(variant, x) for x, factor in terms)
    low, high = np.nanquantile(drawn.mean(axis=0), [0.025, 0.975])
    return f'{np.mean(values):.3f}{deviation} [{low:.3f}, {high:.3f}]'

  def contrast(self, terms: Sequence[Term]) -> tuple[float, float]:
    """Returns a sum of mean correlations with factors, and its p-value, not corrected.

    Each bootstrap sample draws the pairs of each set and the seeds of each variant; all
    variants have the same pairs, and variants with equally many seeds the same seeds.
    Sets are drawn independently, although two halves of a set may share pairs.
    """
    total = sum(factor * np.mean(self.values(x, name)) for factor, x, name in terms)
    drawn = sum(factor * over_seeds(self.samples(x, name)) for factor, x, name in terms)
    return float(total), bootstrap_p_value(drawn, total)


def over_seeds(samples: np.ndarray) -> np.ndarray:
  """Returns means over seeds that are drawn with replacement, [seeds, N] -> [N]."""
  seeds, N = samples.shape
  drawn = np.random.default_rng(seeds).integers(0, seeds, (seeds, N))
  return np.take_along_axis(samples, drawn, axis=0).mean(axis=0)


class Tested(NamedTuple):
  """A contrast with its p-values.

  Attributes:
    label: names what is compared.
    value: the contrast.
    p: its p-value.
    corrected: its p-value after the correction of Holm for all that were tested.
  """

  label: Any
  value: float
  p: float
  corrected: float

  @property
  def significant(self) -> bool:
    """Whether the corrected p-value is below `LEVEL`."""
    return self.corrected < LEVEL

  def judged(self, sign: int) -> list[str]:
    """Returns the cells of `PREDICTED` for a predicted sign, 1 or -1."""
    verdict = 'not decided'
    if self.significant:
      verdict = 'supported' if self.value * sign > 0 else 'refuted'
    predicted = 'above 0' if sign > 0 else 'below 0'
    return [
      str(self.label),
      f'{self.value:+.3f}',
      f'{self.corrected:.4f}',
      predicted,
      verdict,
    ]


PREDICTED = ('prediction', 'difference', 'p after Holm', 'predicted', 'verdict')


def significance_tests(
  scores: PairScores, contrasts: Mapping[Any, Sequence[Term]]
) -> list[Tested]:
  """Tests contrasts together; see `PairScores.contrast`.

  Args:
    scores: the correlations.
    contrasts: label -> terms.
  """
  found = {label: scores.contrast(terms) for label, terms in contrasts.items()}
  corrected = holm([p for _, p in found.values()])
  return [
    Tested(label, value, p, float(q))
    for (label, (value, p)), q in zip(found.items(), corrected, strict=True)
  ]
