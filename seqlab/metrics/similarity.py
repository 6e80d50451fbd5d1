"""Scores of word vectors: rank correlation with human ratings, accuracy of analogies.

For words outside the vocabulary there are two conventions in the literature. The pair
or question is left out, which favours a small vocabulary; or the pair counts with
similarity 0 and the question as wrong. A `Result` has both, with the coverage.
"""

from typing import Annotated, NamedTuple

import numpy as np
from scipy import stats

from seqlab.domains import Count, Range, check

_CELLS = 1 << 22  # number of counts in memory at a time, 32 MiB


class Estimate(NamedTuple):
  """A score with its confidence interval.

  Attributes:
    value: score of the whole set; NaN if it is not defined.
    low: lower bound of the bootstrap's 95 % interval.
    high: upper bound of the interval.
  """

  value: float
  low: float
  high: float


class Result(NamedTuple):
  """The score of a set by both conventions.

  Attributes:
    known: score of the pairs or questions whose words are all known.
    all: score of the whole set, where unknown pairs have similarity 0 and unknown
      questions are wrong.
    covered: number of pairs or questions whose words are all known.
    total: number of pairs or questions.
    lowered: number of covered pairs or questions with a word that is known only in
      lower case, not as the set spells it.
  """

  known: Estimate
  all: Estimate
  covered: int
  total: int
  lowered: int = 0

  @property
  def coverage(self) -> float:
    """Returns the share of covered pairs or questions; 0 for an empty set."""
    return self.covered / self.total if self.total else 0.0


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Returns Spearman's rank correlation; equal values have the mean of their ranks.

  Args:
    x: values, [P].
    y: values, [P].

  Returns:
    From -1 to 1; NaN if there are fewer than two pairs, or all x or all y are equal.

  Raises:
    ValueError: the lengths differ, or a value is NaN.
  """
  if np.shape(x) != np.shape(y):
    raise ValueError(f'x is {np.shape(x)}, y is {np.shape(y)}: both should be [P]')
  if np.isnan(x).any() or np.isnan(y).any():
    raise ValueError('NaN has no rank: leave such pairs out')
  return float(_weighted(np.ones((1, len(x))), *_ordered(x), *_ordered(y))[0])


def spearman_interval(
  x: np.ndarray,
  y: np.ndarray,
  *,
  samples: Count = 1_000,
  seed: Annotated[int, Range(0)] = 0,
) -> Estimate:
  """Returns Spearman's correlation and the percentile bootstrap's 95 % interval.

  Each sample draws P pairs with replacement (Efron and Tibshirani, "An Introduction to
  the Bootstrap", 1993, section 13.3). The ranks in a sample depend only on how often
  each pair was drawn, so x and y are sorted once for all samples. Samples in which all
  x or all y are equal have no correlation and are left out.

  Args:
    x: values, [P].
    y: values, [P].
    samples: number of bootstrap samples.
    seed: seed of the samples.

  Returns:
    The correlation and its interval. The bounds are NaN if no sample has a correlation,
    which is possible with few pairs.

  Raises:
    ValueError: as in `spearman`; or an option is out of range.
  """
  check(spearman_interval, dict(samples=samples, seed=seed))
  value = spearman(x, y)
  if np.isnan(value):
    return Estimate(value, value, value)
  rho = spearman_samples(x, y, samples=samples, seed=seed)
  defined = rho[~np.isnan(rho)]
  if not len(defined):
    return Estimate(value, float('nan'), float('nan'))
  low, high = np.quantile(defined, [0.025, 0.975]).tolist()
  return Estimate(value, low, high)


def spearman_samples(
  x: np.ndarray, y: np.ndarray, *, samples: int = 1_000, seed: int = 0
) -> np.ndarray:
  """Returns Spearman's correlation in bootstrap samples, [samples] float64.

  The samples depend on the seed and the number of pairs only, so that two measures of
  the same pairs can be compared sample by sample.

  Args:
    x: values, [P].
    y: values, [P].
    samples: number of samples of P pairs, drawn with replacement.
    seed: integer seed of the samples.

  Returns:
    The correlations; NaN in samples in which all x or all y are equal.
  """
  orders, P = (*_ordered(x), *_ordered(y)), len(x)
  random, at_once = np.random.default_rng(seed), max(1, _CELLS // P)
  correlations = []
  for start in range(0, samples, at_once):
    n = min(at_once, samples - start)
    drawn = random.integers(0, P, (n, P)) + P * np.arange(n)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n * P).reshape(n, P)
    correlations.append(_weighted(counts, *orders))
  return np.concatenate(correlations)


def _ordered(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the number of each value among the distinct ones, [P], and a sort order."""
  group = np.unique(x, return_inverse=True)[1]
  return group, np.argsort(group, kind='stable')


def _ranks(counts: np.ndarray, group: np.ndarray, order: np.ndarray) -> np.ndarray:
  """Returns ranks [n, P] in samples that contain value p counts[:, p] times."""
  ends = np.flatnonzero(np.diff(group[order], append=-1))  # [G] last of each group
  upto = np.cumsum(counts[:, order], axis=1)[:, ends]  # [n, G]
  before = np.concatenate([np.zeros((len(counts), 1)), upto[:, :-1]], axis=1)
  return ((before + upto + 1) / 2)[:, group]


def _weighted(
  counts: np.ndarray, x: np.ndarray, at: np.ndarray, y: np.ndarray, to: np.ndarray
) -> np.ndarray:
  """Returns Spearman's correlation in each sample, [n, P] counts -> [n]."""
  mean = (counts.sum(axis=1, keepdims=True) + 1) / 2  # of the ranks
  one, other = _ranks(counts, x, at) - mean, _ranks(counts, y, to) - mean
  product, left, right = (
    np.einsum('np,np,np->n', counts, a, b)
    for a, b in ((one, other), (one, one), (other, other))
  )
  square = left * right
  rho = product / np.sqrt(np.where(square > 0, square, np.nan))
  return np.clip(rho, -1, 1)


def pairs_result(
  similarity: np.ndarray,
  scores: np.ndarray,
  known: np.ndarray,
  *,
  samples: int = 1_000,
  seed: int = 0,
) -> Result:
  """Returns Spearman's correlation of similarities with human ratings.

  Args:
    similarity: [P] similarities of the vectors; values of unknown pairs are not read.
    scores: [P] human ratings.
    known: [P] bool, whether both words are in the vocabulary.
    samples: number of bootstrap samples.
    seed: seed of the samples.
  """
  known = np.asarray(known, bool)
  options = dict(samples=samples, seed=seed)
  filled = np.where(known, similarity, 0.0)
  return Result(
    spearman_interval(filled[known], np.asarray(scores)[known], **options),
    spearman_interval(filled, np.asarray(scores), **options),
    int(known.sum()),
    len(known),
  )


def accuracy(right: int, total: int) -> Estimate:
  """Returns a share with the percentile bootstrap's 95 % interval over questions.

  The number of right answers among `total` questions drawn with replacement is
  binomial, so this is the interval of infinitely many samples without drawing any. It
  assumes independent questions. The questions of a set of analogies share words, so the
  scores of another set of the same kind may vary more.

  Returns:
    The share and its interval; NaN if there are no questions.
  """
  if not total:
    return Estimate(*[float('nan')] * 3)
  low, high = stats.binom.ppf([0.025, 0.975], total, right / total) / total
  return Estimate(right / total, float(low), float(high))


def analogies_result(right: np.ndarray, known: np.ndarray) -> Result:
  """Returns the accuracy of answers to analogies.

  Args:
    right: [Q] bool; values of unknown questions are not read.
    known: [Q] bool, whether all four words are in the vocabulary.
  """
  known = np.asarray(known, bool)
  hits, covered = int((np.asarray(right, bool) & known).sum()), int(known.sum())
  return Result(
    accuracy(hits, covered), accuracy(hits, len(known)), covered, len(known)
  )
