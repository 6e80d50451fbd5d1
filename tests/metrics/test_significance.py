import numpy as np
import pytest

from seqlab.metrics.significance import bootstrap_p_value, holm


def test_p_values_are_corrected_by_the_procedure_of_holm():
  # 4 x 0.005 = 0.02, 3 x 0.01 = 0.03, 2 x 0.03 = 0.06; 1 x 0.04 may not be smaller.
  corrected = holm([0.01, 0.04, 0.03, 0.005])
  np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, 0.02])
  np.testing.assert_array_equal(holm([0.6, 0.7]), [1, 1])
  assert len(holm([])) == 0


def test_a_p_value_counts_samples_as_far_from_their_mean_as_the_observation():
  differences = np.array([1.0, 2.0, 3.0, 6.0, np.nan])  # 3 from their mean at most
  assert bootstrap_p_value(differences, 2.5) == pytest.approx(2 / 5)
  assert bootstrap_p_value(differences, -1.0) == pytest.approx(4 / 5)
  assert bootstrap_p_value(differences, 3.1) == pytest.approx(1 / 5)


def test_without_a_sample_there_is_no_p_value():
  with pytest.raises(ValueError, match='no sample has a difference'):
    bootstrap_p_value(np.array([np.nan]), 1.0)
