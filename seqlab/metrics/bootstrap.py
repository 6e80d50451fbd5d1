"""Confidence intervals and paired tests of scores, by resampling on the device.

The score of a corpus is a function of integers summed over its sentences. The sums of a
resampled corpus are the product of how often each sentence was drawn and the sentences'
statistics. All samples together are one matrix product.

Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004,
https://aclanthology.org/W04-3250; Riezler and Maxwell 2005,
https://aclanthology.org/W05-0908, for approximate randomisation. The test statistics
are those of sacreBLEU's `significance.py`, so results agree up to the random samples.

A p-value is (n + 1) / (N + 1), where n of N samples have a statistic that is at least
as large as the observed one (Phipson and Smyth, "Permutation P-values Should Never Be
Zero", 2010, https://doi.org/10.2202/1544-6115.1585). sacreBLEU counts only larger ones.
The two differ if samples are equal to the observation: for two systems with the same
outputs, p is 1 here and 1 / (N + 1) in sacreBLEU.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Annotated, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.domains import Count, Range, checked
from seqlab.metrics.bleu import bleu_score
from seqlab.types import Array

Score = Callable[[Array], Array]  # [..., C] summed statistics -> [...]

_CELLS = 1 << 24  # number of counts in memory at a time, 64 MiB


class Comparison(NamedTuple):
  """A system compared with the baseline.

  Attributes:
    score: score of the whole set.
    mean: mean score of the bootstrap samples.
    ci: half width of the 95 % interval of the samples' scores.
    p_value: probability of at least this difference between equal systems, as defined
      above; None for the baseline.
  """

  score: float
  mean: float
  ci: float
  p_value: float | None


def bootstrap_scores(
  statistics: Array, key: Array, *, samples: int = 1_000, score: Score = bleu_score
) -> Array:
  """Returns the scores of resampled corpora, with the same sentences for all systems.

  The counts of R rows in R draws are multinomial, and so are independent Poisson counts
  with a given sum (used for bootstraps by Hanley and MacGibbon, "Creating
  Non-parametric Bootstrap Samples Using Poisson Frequencies", 2006, Computer Methods
  and Programs in Biomedicine 83). The counts of the rows are therefore drawn
  independently, with a mean slightly below 1. Candidates whose sum is above R, or far
  below R, are rejected; the missing draws of the others are made one by one. Rejection
  depends only on the sum, so it favours no row.

  A count uses 16 random bits, so its probabilities have an error of up to 2^-16. The
  expected count of each row is still exactly 1. The relative error of its variance is
  less than 0.03 %, while 1,000 samples determine it to 4 %. Sums are exact if a corpus
  has fewer than 2^24 words, and have six correct digits otherwise.

  Args:
    statistics: integers of R rows, [R, ..., C].
    key: random key of the samples.
    samples: number of corpora, each of R rows drawn with replacement.
    score: function of summed statistics.

  Returns:
    Scores, [samples, ...].

  Raises:
    ValueError: the number of rows or samples is 0.
  """
  R = len(statistics)
  if R < 1 or samples < 1:
    raise ValueError(f'{samples} samples of {R} sentences: both must be 1 or more')
  chunks = -(-samples * R // _CELLS)
  n = -(-samples // chunks)
  plan = _plan(R, n)
  # Two functions that are compiled separately: in a single one, XLA would generate the
  # random counts again for each of their uses.
  scores = [
    _scores(_candidates(key, k, R, plan), key, k, statistics, n, plan, score)
    for k in map(np.uint32, range(chunks))
  ]
  return jnp.concatenate(scores)[:samples] if chunks > 1 else scores[0]


class _Plan(NamedTuple):
  """Constants for drawing samples of R rows.

  Attributes:
    left: maximum number of draws per candidate that are made one by one.
    cuts: thresholds; a count is the number of them that 16 random bits reach.
    candidates: number of candidates, so that sufficiently many are usable.
  """

  left: int
  cuts: tuple[int, ...]
  candidates: int


@functools.lru_cache
def _plan(R: int, samples: int) -> _Plan:
  left = min(R, 4 * math.ceil(R**0.5))  # 2 deviations of the sum on both sides
  mean = R - left / 2
  cuts = np.rint(np.cumsum(_poisson(range(16), mean / R)) * 2**16).astype(int)
  usable = _poisson(range(R - left, R + 1), mean).sum()
  # With a probability of one in a million fewer than `samples` candidates are usable;
  # then one of them is used twice.
  spread = 5 * (samples * (1 - usable)) ** 0.5 + 5
  candidates = math.ceil((samples + spread) / usable)
  return _Plan(left, tuple(cuts[cuts < 2**16].tolist()), candidates)


def _poisson(counts: range, mean: float) -> np.ndarray:
  """Returns the probability of each count."""
  return np.exp([k * math.log(mean) - mean - math.lgamma(k + 1) for k in counts])


def _threefry(key: Array, i: Array, j: Array) -> tuple[Array, Array]:
  """Returns two random words per pair of counters: Threefry-2x32 with 20 rounds.

  Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011,
  https://doi.org/10.1145/2063384.2063405. JAX uses the same generator, but on a CPU it
  loops over the rounds and takes several times as long as this unrolled version.
  """
  keys = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)
  x, y = i + keys[0], j + keys[1]
  for n in range(5):
    for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[n % 2]:
      x = x + y
      y = x ^ (y << turn | y >> 32 - turn)
    x, y = x + keys[(n + 1) % 3], y + keys[(n + 2) % 3] + jnp.uint32(n + 1)
  return x, y


def _words(key: Array, use: int, chunk: Array, n: int, m: int) -> tuple[Array, Array]:
  """Returns two arrays [n, m] of random words that depend on the chunk and the use."""
  i, j = jnp.arange(n, dtype=jnp.uint32), jnp.arange(m, dtype=jnp.uint32)
  keys = jax.random.bits(key, (2, 2))
  return _threefry(keys[use], (chunk * n + i)[:, None], j)


@functools.partial(jax.jit, static_argnames=('R', 'plan'))
def _candidates(key, chunk, R, plan):
  """Returns Poisson counts, those of four rows per word: [candidates, Q] uint32.

  Byte k of word j is the count of row k Q + j, where Q = ⌈R / 4⌉. Counts are below 256.
  """
  Q = -(-R // 4)
  halves = (
    half
    for word in _words(key, 0, chunk, plan.candidates, Q)
    for half in (word & 0xFFFF, word >> 16)
  )
  packed = jnp.zeros((), jnp.uint32)
  for k, half in enumerate(halves):
    count = sum((half >= np.uint32(cut)).astype(jnp.uint32) for cut in plan.cuts)
    packed |= jnp.where(jnp.arange(Q) < R - k * Q, count, 0) << 8 * k
  return packed


def _completed(packed, key, chunk, R, samples, plan):
  """Selects usable candidates and makes their missing draws: [samples, Q]."""
  Q = packed.shape[1]
  left = R - sum(_unpacked(packed)).sum(axis=1, dtype=jnp.int32)
  usable = (left >= 0) & (left <= plan.left)
  chosen = jnp.flatnonzero(usable, size=samples, fill_value=usable.argmax())
  words = jnp.concatenate(_words(key, 1, chunk, samples, -(-plan.left // 2)), axis=1)
  rows = _below(R, words)  # [samples, left]
  missing = jnp.arange(rows.shape[1]) < left[chosen, None]
  one = jnp.where(missing, jnp.uint32(1) << (8 * (rows // Q)).astype(jnp.uint32), 0)
  return packed[chosen].at[jnp.arange(samples)[:, None], rows % Q].add(one)


def _unpacked(packed: Array) -> list[Array]:
  """Returns the counts of each quarter of the rows: [..., Q] -> four [..., Q]."""
  return [packed >> 8 * k & 0xFF for k in range(4)]


_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=('samples', 'plan', 'score'))
def _scores(packed, key, chunk, statistics, samples, plan, score):
  """Completes the counts and returns the scores of their sums of statistics."""
  R, *shape = statistics.shape
  packed = _completed(packed, key, chunk, R, samples, plan)  # [samples, Q]
  table = statistics.reshape(R, -1).astype(jnp.float32)
  quarters = jnp.pad(table, ((0, -R % 4), (0, 0))).reshape(4, packed.shape[1], -1)
  counts = [x.astype(jnp.float32) for x in _unpacked(packed)]
  sums = sum(_product(*pair) for pair in zip(counts, quarters, strict=True))
  return score(sums.astype(jnp.int32).reshape(samples, *shape))


def _below(n: int, bits: Array) -> Array:
  """Returns uniform integers in 0 ... n - 1: n · bits / 2^32, in 32-bit arithmetic."""
  if n >= 1 << 16:
    return (bits % n).astype(jnp.int32)
  high, low = bits >> 16, bits & 0xFFFF
  return ((high * n + (low * n >> 16)) >> 16).astype(jnp.int32)


@jax.jit
def _interval(scores: Array) -> tuple[Array, Array]:
  """Returns the mean and the half width of the 95 % interval over the first axis."""
  n = scores.shape[0]
  ordered = jnp.sort(scores, axis=0)
  return scores.mean(axis=0), (ordered[n - n // 40 - 1] - ordered[n // 40]) / 2


Seed = Annotated[int, Range(0, 2**32 - 1)]


@checked
def confidence_interval(
  statistics: np.ndarray, *, samples: Count = 1_000, seed: Seed = 0, score=bleu_score
) -> tuple[float, float]:
  """Returns the mean and the half width of the 95 % interval of bootstrap samples.

  Args:
    statistics: statistics of the sentences, [R, C].
    samples: number of resampled corpora.
    seed: seed of the samples.
    score: function of summed statistics.
  """
  rows = jnp.asarray(statistics, jnp.int32)
  scores = bootstrap_scores(rows, jax.random.key(seed), samples=samples, score=score)
  mean, half = _interval(scores)
  return float(mean), float(half)


@functools.partial(jax.jit, static_argnames='score')
def _paired_bootstrap(statistics, scores, score):
  """Returns the columns of `Comparison`, [Y] each.

  Args:
    statistics: statistics of Y systems, [R, Y, C].
    scores: scores of the bootstrap samples, [samples, Y].
    score: function of summed statistics.
  """
  whole = score(statistics.sum(axis=0))
  difference = jnp.abs(scores - scores[:, :1])  # [samples, Y]
  p = _p_value(difference - difference.mean(axis=0), whole)
  return whole, *_interval(scores), p


def _p_value(drawn: Array, whole: Array) -> Array:
  """Returns the p-values [Y] of |whole - whole[0]| among sampled statistics [N, Y].

  Scores have single precision, so equal values may differ by rounding. A sample that is
  smaller than the observation by at most 1e-5 of the score therefore counts as equal.
  """
  rounding = 1e-5 * jnp.abs(whole).max()
  reach = (drawn >= jnp.abs(whole - whole[0]) - rounding).sum(axis=0)
  return (reach + 1) / (len(drawn) + 1)


@functools.partial(jax.jit, static_argnames=('trials', 'score'))
def _paired_randomization(statistics, scores, key, trials, score):
  """As `_paired_bootstrap`; each trial swaps every sentence with probability 1/2."""
  R = len(statistics)
  whole = score(statistics.sum(axis=0))
  words = jax.random.bits(key, (trials, -(-R // 32)), jnp.uint32)
  bits = (words[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
  coins = bits.reshape(trials, -1)[:, :R].astype(jnp.float32)
  change = statistics - statistics[:, :1]  # [R, Y, C]: effect of a swap on the baseline
  moved = _product(coins, change.reshape(R, -1).astype(jnp.float32)).astype(jnp.int32)
  moved = moved.reshape(trials, *change.shape[1:])  # [trials, Y, C]
  total = statistics.sum(axis=0)
  one, other = total[0] + moved, total - moved
  p = _p_value(jnp.abs(score(one) - score(other)), whole)
  return whole, *_interval(scores), p


@checked
def compare(
  systems: Sequence[np.ndarray],
  *,
  test: str = 'bs',
  samples: Count = 1_000,
  trials: Count = 10_000,
  seed: Seed = 0,
  score: Score = bleu_score,
) -> list[Comparison]:
  """Compares systems with the first of them, on the same sentences.

  Args:
    systems: statistics of each system, [R, C].
    test: 'bs' for the paired bootstrap, or 'ar' for paired approximate randomisation.
    samples: number of resampled corpora, for intervals and for 'bs'.
    trials: number of trials of 'ar'.
    seed: seed of the samples and trials.
    score: function of summed statistics.

  Returns:
    One comparison per system, the baseline first.

  Raises:
    ValueError: the test is unknown, or systems have different numbers of sentences.
  """
  if test not in ('bs', 'ar'):
    raise ValueError(f"test is {test!r}; it may be 'bs' or 'ar'")
  if len({len(system) for system in systems}) != 1:
    raise ValueError(
      f'systems have {[len(s) for s in systems]} sentences; give outputs of one test set'
    )
  statistics = jnp.asarray(np.stack(systems, axis=1), jnp.int32)  # [R, Y, C]
  key = jax.random.key(seed)
  scores = bootstrap_scores(statistics, key, samples=samples, score=score)
  if test == 'bs':
    columns = _paired_bootstrap(statistics, scores, score)
  else:
    coins = jax.random.fold_in(key, 1)
    columns = _paired_randomization(statistics, scores, coins, trials, score)
  rows = zip(*(column.tolist() for column in jax.device_get(columns)), strict=True)
  return [
    Comparison(whole, mean, half, p if i else None)
    for i, (whole, mean, half, p) in enumerate(rows)
  ]
