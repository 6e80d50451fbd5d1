"""What word vectors score: rank correlation with people, accuracy of analogies.

A word may be out of the vocabulary, and papers then do one of two things: they leave
its pair or question out, which flatters a small vocabulary, or count the pair as of
similarity 0 and the question as wrong. Both are given, with the coverage.
"""

from typing import Annotated, NamedTuple

import numpy as np
from scipy import stats

from seqlab.domains import Count, Range, check

_CELLS = 1 << 22  # counts of drawn pairs that are held at once, 32 MiB of them


class Estimate(NamedTuple):
  """A score and how sure it is.

  Attributes:
    value: of the whole set; NaN where it is not defined.
    low: where the bootstrap's 95 % interval begins.
    high: where it ends.
  """

  value: float
  low: float
  high: float


class Result(NamedTuple):
  """A set's score by both conventions.

  Attributes:
    known: of what the vocabulary covers, the rest left out.
    all: of the whole set, unknown pairs of similarity 0, unknown questions wrong.
    covered: number of pairs or questions whose words are all known.
    total: number of pairs or questions.
    lowered: of the covered ones, the number of those with a word that is known in lower
      case only, and not as the set spells it.
  """

  known: Estimate
  all: Estimate
  covered: int
  total: int
  lowered: int = 0

  @property
  def coverage(self) -> float:
    """Share that is covered; 0 of an empty set."""
    return self.covered / self.total if self.total else 0.0


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Spearman's rank correlation; equal values share the mean of their ranks.

  Args:
    x: [P].
    y: [P].

  Returns:
    From -1 to 1; NaN if there are fewer than two pairs, or all x or all y are equal.

  Raises:
    ValueError: they are of other lengths, or have NaN.
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
  """Spearman's correlation with the percentile bootstrap's 95 % interval over pairs.

  Each sample draws P pairs with replacement (Efron and Tibshirani, "An Introduction to
  the Bootstrap", 1993, section 13.3). How often each was drawn is all that ranks in the
  sample depend on, and so x and y are sorted once for all samples. Samples in which x or
  y has one value only have no correlation, and are left out.

  Args:
    x: [P].
    y: [P].
    samples: that are drawn.
    seed: of the draw.

  Returns:
    The bounds are NaN if no sample has a correlation, as may happen with few pairs.

  Raises:
    ValueError: as `spearman`; or an option is out of range.
  """
  check(spearman_interval, dict(samples=samples, seed=seed))
  value, P = spearman(x, y), len(x)
  if np.isnan(value):
    return Estimate(value, value, value)
  orders = *_ordered(x), *_ordered(y)
  random, at_once = np.random.default_rng(seed), max(1, _CELLS // P)
  found = []
  for start in range(0, samples, at_once):
    n = min(at_once, samples - start)
    drawn = random.integers(0, P, (n, P)) + P * np.arange(n)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n * P).reshape(n, P)
    found.append(_weighted(counts, *orders))
  rho = np.concatenate(found)
  defined = rho[~np.isnan(rho)]
  if not len(defined):
    return Estimate(value, float('nan'), float('nan'))
  low, high = np.quantile(defined, [0.025, 0.975]).tolist()
  return Estimate(value, low, high)


def _ordered(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Which distinct value each place has, counted upwards: [P]; and places in order."""
  group = np.unique(x, return_inverse=True)[1]
  return group, np.argsort(group, kind='stable')


def _ranks(counts: np.ndarray, group: np.ndarray, order: np.ndarray) -> np.ndarray:
  """Ranks [n, P] when place p is there counts[:, p] times; equal ones share theirs."""
  ends = np.flatnonzero(np.diff(group[order], append=-1))  # [G] last of each group
  upto = np.cumsum(counts[:, order], axis=1)[:, ends]  # [n, G]
  before = np.concatenate([np.zeros((len(counts), 1)), upto[:, :-1]], axis=1)
  return ((before + upto + 1) / 2)[:, group]


def _weighted(
  counts: np.ndarray, x: np.ndarray, at: np.ndarray, y: np.ndarray, to: np.ndarray
) -> np.ndarray:
  """Spearman's correlation in each sample, [n, P] counts -> [n]."""
  mean = (counts.sum(axis=1, keepdims=True) + 1) / 2  # of ranks
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
  """Spearman's correlation of similarities with people's scores.

  Args:
    similarity: [P] of the vectors; what stands for unknown pairs is not read.
    scores: [P] of people.
    known: [P] bool, whether both words are in the vocabulary.
    samples: of the bootstrap.
    seed: of its draw.
  """
  known = np.asarray(known, bool)
  how = dict(samples=samples, seed=seed)
  filled = np.where(known, similarity, 0.0)
  return Result(
    spearman_interval(filled[known], np.asarray(scores)[known], **how),
    spearman_interval(filled, np.asarray(scores), **how),
    int(known.sum()),
    len(known),
  )


def accuracy(right: int, total: int) -> Estimate:
  """A share with the percentile bootstrap's 95 % interval over questions.

  How many right ones there are among `total` that are drawn with replacement is
  binomial, so this is the interval of infinitely many samples, without drawing any. It
  takes questions to be independent. Those of a set of analogies share words, so that
  another set of the same kind may differ by more.

  Returns:
    NaN for all three if there are no questions.
  """
  if not total:
    return Estimate(*[float('nan')] * 3)
  low, high = stats.binom.ppf([0.025, 0.975], total, right / total) / total
  return Estimate(right / total, float(low), float(high))


def analogies_result(right: np.ndarray, known: np.ndarray) -> Result:
  """Accuracy of answers.

  Args:
    right: [Q] bool; what stands for unknown questions is not read.
    known: [Q] bool, whether all four words are in the vocabulary.
  """
  known = np.asarray(known, bool)
  hits, covered = int((np.asarray(right, bool) & known).sum()), int(known.sum())
  return Result(
    accuracy(hits, covered), accuracy(hits, len(known)), covered, len(known)
  )
