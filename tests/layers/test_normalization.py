"""Normalisation over features, against NumPy."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import NORMALIZATIONS
from seqlab.pieces import make

X = np.random.default_rng(0).normal(1.0, 3.0, (2, 3, 8)).astype(np.float32)


def _norm(kind, x=X, **options):
  """The layer, and variables with gains and biases that are not one and zero."""
  norm = make(kind, NORMALIZATIONS, 'model.normalization', **options)
  variables = dict(nn.unbox(norm.init(jax.random.key(0), x)))
  params = jax.tree.map(lambda p: p * 0.5 + 0.25, variables.pop('params', {}))
  return norm, {'params': params, **variables}


def test_layer_norm_equals_numpy():
  norm, variables = _norm('layer')
  x = np.float64(X)
  centred = x - x.mean(axis=-1, keepdims=True)
  expected = 0.75 * centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) + 0.25
  np.testing.assert_allclose(norm.apply(variables, X), expected, atol=1e-5)


def test_rms_norm_equals_numpy():
  norm, variables = _norm('rms')
  x = np.float64(X)
  expected = 0.75 * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(norm.apply(variables, X), expected, atol=1e-5)


def test_scale_norm_equals_numpy():
  norm, variables = _norm('scale')
  gain = 8**0.5 * 0.5 + 0.25
  expected = gain * X / np.linalg.norm(X, axis=-1, keepdims=True)
  np.testing.assert_allclose(norm.apply(variables, X), expected, atol=1e-5)
  assert jax.tree.map(jnp.shape, variables['params']) == {'gain': ()}


def test_scale_norm_has_a_gradient_at_zero():
  norm, variables = _norm('scale')
  gradient = jax.grad(lambda x: norm.apply(variables, x).sum())(jnp.zeros((1, 1, 8)))
  assert np.isfinite(gradient).all()


def test_none_changes_nothing():
  norm, variables = _norm('none')
  assert not jax.tree.leaves(variables)
  np.testing.assert_array_equal(norm.apply(variables, X), X)


@pytest.mark.parametrize('kind', [*NORMALIZATIONS][:-1])
def test_statistics_are_taken_in_float32(kind):
  """A large mean square would be rounded away in bfloat16's eight bits."""
  norm, variables = _norm(kind, dtype=jnp.bfloat16)
  y = norm.apply(variables, X)
  assert y.dtype == jnp.bfloat16
  exact = _norm(kind)[0].apply(variables, X)
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
