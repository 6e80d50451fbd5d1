"""Differences of means, compared with SciPy's."""

import numpy as np
import pytest
from scipy import stats

from seqlab.report.differences import difference


def test_a_difference_is_that_of_welch():
  first, second = [3.0, 4.0, 5.5], [1.0, 1.25, 1.0, 0.5]
  found = difference(first, second)
  expected = stats.ttest_ind(first, second, equal_var=False)
  low, high = expected.confidence_interval()
  np.testing.assert_allclose(found.mean, (low + high) / 2)
  np.testing.assert_allclose(found.interval, (high - low) / 2)
  np.testing.assert_allclose(found.p, expected.pvalue)


@pytest.mark.parametrize(
  ('first', 'is_effect'), [([2.0, 2.1, 2.2], True), ([0.9, 1.5, 1.0], False)]
)
def test_an_effect_is_an_interval_without_zero(first, is_effect):
  found = difference(first, [1.0, 1.1, 1.05])
  assert found.is_effect == is_effect == (found.p < 0.05)


def test_equal_values_have_no_interval():
  assert difference([2.0, 2.0], [2.0, 2.0]) == (0.0, 0.0, 1.0)
  assert difference([2.0, 2.0], [1.0, 1.0]) == (1.0, 0.0, 0.0)


def test_the_text_has_a_sign():
  assert difference([0.0, 0.0], [1.5, 1.5]).text(1) == '-1.5 ± 0.0'


def test_one_run_has_no_interval():
  with pytest.raises(ValueError, match=r'two runs of each kind.* 1 and 2'):
    difference([1.0], [1.0, 2.0])
