"""Sinusoidal positions."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.positions import sinusoidal


def test_first_frequency_is_one_radian_a_position():
  x = sinusoidal(jnp.arange(5), 8)
  np.testing.assert_allclose(x[:, 0], np.sin(np.arange(5)), atol=1e-6)
  np.testing.assert_allclose(x[:, 4], np.cos(np.arange(5)), atol=1e-6)


def test_longest_wavelength_is_the_base():
  x = sinusoidal(jnp.array([3]), 8, base=100.0)
  np.testing.assert_allclose(x[0, 3], np.sin(3 / 100), atol=1e-6)


def test_dot_product_depends_on_the_distance_only():
  x = np.asarray(sinusoidal(jnp.arange(40), 32))
  np.testing.assert_allclose(x[3] @ x[10], x[23] @ x[30], atol=1e-4)


def test_odd_width_is_refused():
  with pytest.raises(ValueError, match='even width'):
    sinusoidal(jnp.arange(3), 7)
