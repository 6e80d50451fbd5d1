"""Differences of means, compared with SciPy's, and verdicts on predictions."""

import numpy as np
import pytest
from scipy import stats

from seqlab.report.differences import (
  contrast,
  difference,
  judged,
  over_items,
  versus,
)

FIRST, SECOND = [3.0, 4.0, 5.5], [1.0, 1.25, 1.0, 0.5]


@pytest.mark.parametrize('tests', [1, 6])
def test_a_difference_is_that_of_welch(tests):
  found = difference(FIRST, SECOND, tests=tests)
  expected = stats.ttest_ind(FIRST, SECOND, equal_var=False)
  low, high = expected.confidence_interval(1 - 0.05 / tests)
  np.testing.assert_allclose(found.mean, (low + high) / 2)
  np.testing.assert_allclose(found.interval, (high - low) / 2)


@pytest.mark.parametrize('zeros', [[], [(-1, [0.0, 0.0])]])
def test_a_contrast_with_zero_is_the_interval_of_one_sample(zeros):
  found = contrast([(2, FIRST), *zeros])
  scaled = [2 * x for x in FIRST]
  low, high = stats.ttest_1samp(scaled, 0).confidence_interval()
  np.testing.assert_allclose(
    [found.mean, found.interval], [low / 2 + high / 2, high / 2 - low / 2]
  )


def test_terms_of_a_difference_are_values_of_both_groups():
  groups = {'a': FIRST, 'b': SECOND}
  doubled = [2 * x for x in FIRST], [2 * x for x in SECOND]
  terms = versus(groups, 'a', 'b', lambda x: 2 * x)
  assert terms == [(1, doubled[0]), (-1, doubled[1])]
  assert versus(groups, 'a', 'c', lambda x: x) == [(1, FIRST), (-1, [])]


def test_the_variances_of_all_groups_are_added():
  found = contrast([(1, FIRST), (-1, SECOND), (-1, FIRST), (1, SECOND)])
  assert found.mean == pytest.approx(0)
  variance = 2 * (np.var(FIRST, ddof=1) / 3 + np.var(SECOND, ddof=1) / 4)
  assert found.interval > stats.norm.ppf(0.975) * variance**0.5


def _mean(sums):
  return sums[..., 0] / sums[..., 1]


def test_the_error_over_items_is_that_of_the_mean_over_runs():
  """The items that all runs share vary it, and what a run adds to all items does not."""
  random = np.random.default_rng(0)
  shared, ours = random.normal(size=400), random.normal(scale=0.5, size=400)
  one = np.ones(400)
  first = [np.stack([shared + ours + shift, one], -1) for shift in (0, 3, 9)]
  second = [np.stack([shared + shift, one], -1) for shift in (1, 2)]
  alone = over_items([(2, first)], _mean, samples=2_000)
  assert alone == pytest.approx(2 * np.std(shared + ours) / 20, rel=0.06)
  both = over_items([(1, first), (-1, second)], _mean, samples=2_000)
  assert both == pytest.approx(np.std(ours) / 20, rel=0.06)
  assert np.isnan(over_items([(1, first), (-1, [])], _mean))
  with pytest.raises(ValueError, match=r'\[399, 400\] test items'):
    over_items([(1, first), (-1, [second[0][1:]])], _mean)


def test_variances_over_runs_and_over_items_are_added():
  assert contrast([(1, [2.0, 2.0])], items=0.5).interval == pytest.approx(
    0.98, abs=1e-4
  )
  runs = np.var(FIRST, ddof=1) / 3
  found = contrast([(1, FIRST)], items=runs**0.5)
  quantile = stats.t.ppf(0.975, 8)  # (2 v)² / (v² / 2)
  assert found.interval == pytest.approx(quantile * (2 * runs) ** 0.5)
  row = judged('a', [(1, FIRST)], above=2, items=0.1)
  assert row[1].endswith('(± 0.20 over items alone)')


@pytest.mark.parametrize(
  ('bounds', 'verdict'),
  [
    ({'above': 0}, 'supported'),
    ({'above': 3.2}, 'not decided'),
    ({'above': 9}, 'refuted'),
    ({'below': 0}, 'refuted'),
    ({'below': 9}, 'supported'),
    ({'above': -9, 'below': 9}, 'supported'),
    ({'above': -1, 'below': -0.5}, 'refuted'),
    ({'above': -1, 'below': 3.2}, 'not decided'),
  ],
)
def test_a_prediction_is_judged_by_the_whole_interval(bounds, verdict):
  row = judged('a minus b', [(1, [3.0, 3.2, 3.4]), (-1, [0.0, 0.0])], **bounds)
  assert row[:2] == ['a minus b', '+3.20 ± 0.50']
  assert row[3] == verdict


def test_one_run_decides_nothing():
  row = judged('a', [(1, [1.0]), (-1, [0.0, 0.0])], above=0)
  assert row == ['a', 'n = 1, 2', 'above 0', 'not decided']
  with pytest.raises(ValueError, match=r'two runs of each kind; there are \[1, 2\]'):
    difference([1.0], [1.0, 2.0])


def test_equal_values_have_no_interval():
  assert difference([2.0, 2.0], [1.0, 1.0]) == (1.0, 0.0)
  assert difference([0.0, 0.0], [1.5, 1.5]).text(1) == '-1.5 ± 0.0'
