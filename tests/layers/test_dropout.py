"""Dropout with a traced rate and counter-based bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.dropout import Dropout, random_bits


def _drop(x, rate, seed=0):
  return Dropout().apply({}, x, rate, rngs={'dropout': jax.random.key(seed)})


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
def test_share_of_zeros_is_the_rate(rate):
  zeros = float((_drop(jnp.ones((400, 250)), rate) == 0).mean())
  assert abs(zeros - rate) < 5 * (rate * (1 - rate) / 1e5) ** 0.5


def test_the_expectation_does_not_change():
  assert abs(float(_drop(jnp.ones((400, 250)), 0.3).mean()) - 1) < 0.01


def test_rate_zero_and_none_change_nothing():
  x = jax.random.normal(jax.random.key(1), (7, 5))
  np.testing.assert_array_equal(_drop(x, 0.0), x)
  np.testing.assert_array_equal(_drop(x, None), x)


def test_another_rate_compiles_nothing():
  with jax.log_compiles(False):
    drop = jax.jit(_drop)
    for rate in (0.1, 0.2, 0.3):
      drop(jnp.ones(8), jnp.float32(rate))
    assert drop._cache_size() == 1


def test_bits_are_uniform_and_uncorrelated():
  bits = np.asarray(random_bits(jax.random.key(3), (1 << 16,)))
  ones = np.unpackbits(bits.view(np.uint8)).reshape(-1, 32).astype(float)
  assert np.abs(ones.mean(axis=0) - 0.5).max() < 5 * 0.5 / 256
  lag = np.corrcoef(bits[:-1].astype(float), bits[1:].astype(float))[0, 1]
  assert abs(lag) < 5 / 256


def test_different_keys_give_different_bits():
  first, second = (random_bits(jax.random.key(i), (64,)) for i in range(2))
  assert int((first == second).sum()) == 0
