import jax
import numpy as np
import pytest

from seqlab.embeddings.alias import Alias


@pytest.mark.parametrize('weights', [[1.0], [3, 1, 0, 2], np.arange(1, 200) ** -1.0])
def test_cells_sum_to_the_probabilities(weights):
  weights = np.asarray(weights, float)
  table = Alias.of(weights)
  chance = np.bincount(table.other, 1.0 - table.share, len(weights)) + table.share
  np.testing.assert_allclose(
    chance / len(weights), weights / weights.sum(), rtol=1e-5, atol=1e-9
  )


def test_draws_have_the_frequencies_of_their_probabilities():
  weights = np.array([5.0, 1, 3, 1])
  counts = np.bincount(
    np.asarray(Alias.of(weights).draw(jax.random.key(0), (100, 400))).ravel()
  )
  np.testing.assert_allclose(counts / counts.sum(), weights / 10, atol=0.01)
