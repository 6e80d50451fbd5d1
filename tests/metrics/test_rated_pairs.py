"""Correlations with ratings of pairs, and tests of their differences."""

import numpy as np
import pytest

from seqlab.metrics.rated_pairs import PairScores, over_seeds, significance_tests


@pytest.fixture
def scores():
  """Scores of a measure that is right, of one that is not, and of one with seeds."""
  random = np.random.default_rng(0)
  ratings = {'men': random.normal(size=80)}
  noise = [{'men': random.normal(size=80)} for _ in range(3)]
  measured = {
    'right': [ratings],
    'the same order': [{'men': np.exp(ratings['men'])}],
    'noise': noise[:1],
    'noise with seeds': noise,
  }
  return PairScores(measured, ratings, samples=500)


def _difference(one, other):
  return [(1, one, 'men'), (-1, other, 'men')]


def test_a_difference_is_significant_only_if_there_is_one(scores):
  assert scores.contrast(_difference('right', 'the same order')) == (0, 1)
  for other in ('noise', 'noise with seeds'):
    value, p = scores.contrast(_difference('right', other))
    assert value == pytest.approx(1 - np.mean(scores.values(other, 'men')))
    assert p == 1 / 501
  assert scores.contrast(_difference('noise', 'noise with seeds'))[1] > 0.05


def test_a_verdict_needs_a_significant_difference(scores):
  pairs = {'large': ('right', 'noise'), 'none': ('right', 'the same order')}
  tests = significance_tests(
    scores, {label: _difference(*pair) for label, pair in pairs.items()}
  )
  (large, *_) = tests
  assert large.corrected == pytest.approx(2 / 501)
  verdicts = [test.judged(sign)[-1] for test in tests for sign in (1, -1)]
  assert verdicts == ['supported', 'refuted', 'not decided', 'not decided']


def test_a_cell_has_the_deviation_over_seeds_and_the_interval_over_pairs(scores):
  values = scores.values('noise with seeds', 'men')
  text, _, interval = scores.cell('noise with seeds', {'men': 1}).partition(' [')
  assert text == f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}'
  low, high = map(float, interval.rstrip(']').split(', '))
  assert low < np.mean(values) < high
  # One standard error of a correlation near 0 is about 1 / sqrt(80); means have less.
  assert 2 / np.sqrt(80) < high - low < 4 / np.sqrt(80)
  assert scores.cell('right', {'men': 1}) == '1.000 [1.000, 1.000]'
  assert scores.cell('right', {'men': -2}) == '-2.000 [-2.000, -2.000]'


def test_pairs_with_an_unknown_word_are_left_out():
  kept = {'men/similarity': np.array([0.1, np.nan, 0.5]), 'men/scores': np.arange(3.0)}
  scores = PairScores.of_arrays({'x': [kept]}, ('men',))
  assert scores.ratings['men'].tolist() == [0, 2]
  assert scores.values('x', 'men') == [1]


def test_samples_are_drawn_from_the_seeds_too():
  mean = over_seeds(np.array([[0.0] * 4000, [1.0] * 4000]))
  assert {*mean} == {0.0, 0.5, 1.0}
  assert mean.mean() == pytest.approx(0.5, abs=0.03)
