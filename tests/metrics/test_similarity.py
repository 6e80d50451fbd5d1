import math

import numpy as np
import pytest
import scipy.stats

from seqlab.metrics import similarity
from seqlab.metrics.similarity import (
  accuracy,
  analogies_result,
  pairs_result,
  spearman,
  spearman_interval,
  spearman_samples,
)


def draw(seed, P=60, values=None):
  """Returns weakly correlated x and y, with `values` different values if given."""
  random = np.random.default_rng(seed)
  x = random.normal(size=P)
  y = x + random.normal(size=P)
  if values:
    x, y = (np.floor(z * values / 6) for z in (x, y))
  return x, y


@pytest.mark.parametrize('values', [None, 20, 3])
@pytest.mark.parametrize('P', [2, 7, 353])
def test_spearman_agrees_with_scipy(P, values):
  x, y = draw(P, P, values)
  expected = (
    scipy.stats.spearmanr(x, y).statistic if len({*x}) > 1 < len({*y}) else None
  )
  actual = spearman(x, y)
  assert math.isnan(actual) if expected is None else actual == pytest.approx(expected)


def test_only_ranks_matter():
  x, y = draw(0)
  assert spearman(np.exp(x), 5 * y**3) == pytest.approx(spearman(x, y), abs=1e-12)
  assert spearman(x, -x) == -1


@pytest.mark.parametrize('x', [[], [1.0], [2.0, 2.0, 2.0]])
def test_an_undefined_correlation_is_nan(x):
  y = np.arange(len(x), dtype=float)
  assert math.isnan(spearman(np.array(x), y))
  assert all(map(math.isnan, spearman_interval(np.array(x), y)))


def test_nan_and_different_lengths_are_refused():
  with pytest.raises(ValueError, match='NaN has no rank'):
    spearman(np.array([1, np.nan]), np.array([1, 2]))
  with pytest.raises(ValueError, match=r'x is \(2,\), y is \(3,\)'):
    spearman(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize('values', [None, 4])
def test_the_correlation_of_counts_is_that_of_the_sample(values):
  x, y = draw(3, 40, values)
  drawn = np.random.default_rng(1).integers(0, 40, (50, 40))
  counts = np.stack([np.bincount(row, minlength=40) for row in drawn])
  orders = *similarity._ordered(x), *similarity._ordered(y)
  expected = [scipy.stats.spearmanr(x[row], y[row]).statistic for row in drawn]
  np.testing.assert_allclose(
    similarity._weighted(counts, *orders), expected, atol=1e-12
  )


def test_the_interval_is_that_of_scipys_percentile_bootstrap():
  x, y = draw(4, 100)
  actual = spearman_interval(x, y, samples=4_000)
  expected = scipy.stats.bootstrap(
    (x, y),
    lambda x, y: scipy.stats.spearmanr(x, y).statistic,
    paired=True,
    vectorized=False,
    method='percentile',
    n_resamples=2_000,
    rng=np.random.default_rng(0),
  )
  # The error of a 2.5 % quantile of n samples with deviation s is about 2.7 s / √n.
  error = 4 * 2.7 * expected.standard_error * (1 / 2_000 + 1 / 4_000) ** 0.5
  assert actual.value == spearman(x, y)
  assert actual.low == pytest.approx(expected.confidence_interval.low, abs=error)
  assert actual.high == pytest.approx(expected.confidence_interval.high, abs=error)


def test_samples_depend_on_the_seed_and_not_on_the_memory(monkeypatch):
  x, y = draw(5)
  actual = spearman_interval(x, y, samples=100, seed=3)
  assert actual != spearman_interval(x, y, samples=100, seed=4)
  monkeypatch.setattr(similarity, '_CELLS', 7 * len(x))
  assert actual == spearman_interval(x, y, samples=100, seed=3)


def test_measures_of_the_same_pairs_share_their_samples():
  x, y = draw(6)
  samples = spearman_samples(x, y, samples=50)
  np.testing.assert_allclose(spearman_samples(np.exp(x), y, samples=50), samples)
  low, high = np.quantile(samples, [0.025, 0.975])
  assert spearman_interval(x, y, samples=50) == (spearman(x, y), low, high)


def test_zero_samples_are_refused():
  with pytest.raises(ValueError, match='samples is 0'):
    spearman_interval(*draw(0), samples=0)


def test_unknown_pairs_are_left_out_or_count_as_zero():
  x, y = draw(6, 30)
  known = np.arange(30) % 3 > 0
  actual = pairs_result(np.where(known, x, np.nan), y, known, samples=50)
  assert actual.known.value == spearman(x[known], y[known])
  assert actual.all.value == spearman(np.where(known, x, 0), y)
  assert (actual.covered, actual.total, actual.coverage) == (20, 30, 2 / 3)
  assert actual.known.low < actual.known.value < actual.known.high


def test_a_set_of_unknown_words_has_no_correlation_and_no_coverage():
  actual = pairs_result(np.full(4, np.nan), np.arange(4.0), np.zeros(4))
  assert math.isnan(actual.known.value)
  assert math.isnan(actual.all.value)
  assert actual.coverage == 0


def test_the_interval_of_an_accuracy_is_that_of_many_samples():
  right = np.arange(400) % 8 == 0
  drawn = np.random.default_rng(0).choice(right, (20_000, 400)).mean(axis=1)
  actual = accuracy(int(right.sum()), 400)
  assert actual.value == 0.125
  np.testing.assert_allclose(
    actual[1:], np.quantile(drawn, [0.025, 0.975]), atol=0.0026
  )


def test_an_accuracy_of_all_is_certain_and_one_of_nothing_is_nan():
  assert accuracy(5, 5) == (1, 1, 1)
  assert all(map(math.isnan, accuracy(0, 0)))


def test_unknown_questions_are_left_out_or_wrong():
  right, known = [True, False, True, True], [True, True, False, True]
  actual = analogies_result(np.array(right), np.array(known))
  assert (actual.known.value, actual.all.value) == (2 / 3, 2 / 4)
  assert (actual.covered, actual.total) == (3, 4)


def test_without_any_correlation_the_interval_is_nan():
  """With two pairs, half of the samples have one of them twice."""
  actual = [
    spearman_interval([1, 2], [1, 2], samples=1, seed=seed) for seed in range(20)
  ]
  assert {x.value for x in actual} == {1}
  assert any(np.isnan(x.low) for x in actual)
  assert any(x.low == 1 for x in actual)
