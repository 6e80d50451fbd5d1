"""How sure a score is: bootstrap intervals and paired tests on the device.

Scores of corpora are functions of sums of integers over sentences, so a resampled
corpus is a product: how often each sentence was drawn, times its statistics. All
samples are one compiled function.

Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004,
https://aclanthology.org/W04-3250; Riezler and Maxwell 2005,
https://aclanthology.org/W05-0908, for approximate randomisation. Definitions are
sacreBLEU's (its `significance.py`), so that numbers agree but for the draw.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.metrics.bleu import bleu_score
from seqlab.types import Array

Score = Callable[[Array], Array]  # [..., C] summed statistics -> [...]


class Comparison(NamedTuple):
  """A system beside the baseline.

  Attributes:
    score: of the whole set.
    mean: over bootstrap samples.
    ci: half of the interval that holds 95 % of them.
    p_value: chance of such a difference between equal systems; None for the
      baseline.
  """

  score: float
  mean: float
  ci: float
  p_value: float | None


def bootstrap_scores(
  statistics: Array, key: Array, *, samples: int = 1_000, score: Score = bleu_score
) -> Array:
  """Scores of resampled corpora; the same sentences are drawn for all systems.

  Args:
    statistics: [R, ..., C] integers, rows R to draw from.
    key: of the draw.
    samples: number of corpora, each of R rows drawn with replacement.
    score: of summed statistics.

  Returns:
    [samples, ...].
  """
  R = statistics.shape[0]
  flat = statistics.reshape(R, -1).astype(jnp.int32)

  def one(key: Array) -> Array:
    return flat[_below(R, jax.random.bits(key, (R,)))].sum(axis=0)

  sums = lax.map(one, jax.random.split(key, samples), batch_size=min(samples, 64))
  return score(sums.reshape(samples, *statistics.shape[1:]))


def _below(n: int, bits: Array) -> Array:
  """Uniform in 0 ... n - 1 from 32 bits: n · bits / 2^32, without 64 bits."""
  if n >= 1 << 16:
    return (bits % n).astype(jnp.int32)
  high, low = bits >> 16, bits & 0xFFFF
  return ((high * n + (low * n >> 16)) >> 16).astype(jnp.int32)


def _interval(scores: Array) -> tuple[Array, Array]:
  """Mean and half width of the 95 % interval, over the first axis."""
  n = scores.shape[0]
  ordered = jnp.sort(scores, axis=0)
  return scores.mean(axis=0), (ordered[n - n // 40 - 1] - ordered[n // 40]) / 2


@functools.partial(jax.jit, static_argnames=('samples', 'score'))
def _confidence(statistics, key, samples, score):
  return _interval(bootstrap_scores(statistics, key, samples=samples, score=score))


def confidence_interval(
  statistics: np.ndarray, *, samples: int = 1_000, seed: int = 0, score=bleu_score
) -> tuple[float, float]:
  """Mean of bootstrap samples, and half of the interval that holds 95 % of them.

  Args:
    statistics: [R, C] of the sentences.
    samples: number of resampled corpora.
    seed: of the draw.
    score: of summed statistics.
  """
  mean, half = _confidence(
    jnp.asarray(statistics, jnp.int32), jax.random.key(seed), samples, score
  )
  return float(mean), float(half)


@functools.partial(jax.jit, static_argnames=('samples', 'score'))
def _paired_bootstrap(statistics, key, samples, score):
  """[R, Y, C] of Y systems -> scores, means, half widths, p-values, each [Y]."""
  scores = bootstrap_scores(statistics, key, samples=samples, score=score)
  whole = score(statistics.sum(axis=0))
  difference = jnp.abs(scores - scores[:, :1])  # [samples, Y]
  exceed = (difference - difference.mean(axis=0) > jnp.abs(whole - whole[0])).sum(0)
  return whole, *_interval(scores), (exceed + 1) / (samples + 1)


@functools.partial(jax.jit, static_argnames=('trials', 'samples', 'score'))
def _paired_randomization(statistics, key, trials, samples, score):
  """As `_paired_bootstrap`; in each trial sentences change sides by a coin."""
  R = statistics.shape[0]
  whole = score(statistics.sum(axis=0))
  flip, draw = jax.random.split(key)
  words = jax.random.bits(flip, (trials, -(-R // 32)), jnp.uint32)
  bits = (words[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
  coins = bits.reshape(trials, -1)[:, :R].astype(jnp.float32)
  # Sums stay below 2^24, where float32 is exact, for sets of a million words; the
  # halves of larger ones keep that too.
  change = statistics - statistics[:, :1]  # [R, Y, C]: what a swap adds to the base
  low, high = (
    x.reshape(R, -1).astype(jnp.float32) for x in (change % 64, change // 64)
  )
  precise = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
  moved = precise(coins, low).astype(jnp.int32) + 64 * precise(coins, high).astype(
    jnp.int32
  )
  moved = moved.reshape(trials, *change.shape[1:])  # [trials, Y, C]
  total = statistics.sum(axis=0)
  one, other = total[0] + moved, total - moved
  exceed = (jnp.abs(score(one) - score(other)) > jnp.abs(whole - whole[0])).sum(0)
  intervals = _interval(
    bootstrap_scores(statistics, draw, samples=samples, score=score)
  )
  return whole, *intervals, (exceed + 1) / (trials + 1)


def compare(
  systems: Sequence[np.ndarray],
  *,
  test: str = 'bs',
  samples: int = 1_000,
  trials: int = 10_000,
  seed: int = 0,
  score: Score = bleu_score,
) -> list[Comparison]:
  """Compares systems with the first of them, on the same sentences.

  Args:
    systems: [R, C] statistics each.
    test: 'bs', paired bootstrap, or 'ar', paired approximate randomisation.
    samples: resampled corpora, for intervals and for 'bs'.
    trials: of 'ar'.
    seed: of the draw.
    score: of summed statistics.

  Returns:
    One for each system, the baseline first.

  Raises:
    ValueError: the test is unknown, or systems have other numbers of sentences.
  """
  if test not in ('bs', 'ar'):
    raise ValueError(f"test is {test!r}; it may be 'bs' or 'ar'")
  if len({len(system) for system in systems}) != 1:
    raise ValueError(f'systems have {[len(s) for s in systems]} sentences')
  statistics = jnp.asarray(np.stack(systems, axis=1), jnp.int32)  # [R, Y, C]
  key = jax.random.key(seed)
  if test == 'bs':
    columns = _paired_bootstrap(statistics, key, samples, score)
  else:
    columns = _paired_randomization(statistics, key, trials, samples, score)
  rows = zip(*(np.asarray(c, np.float64).tolist() for c in columns), strict=True)
  return [
    Comparison(whole, mean, half, p if i else None)
    for i, (whole, mean, half, p) in enumerate(rows)
  ]
