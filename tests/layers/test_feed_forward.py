"""The feed-forward layer with each activation, against NumPy."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from seqlab.layers.feed_forward import FeedForward

D, F = 4, 6


def _layer(**options):
  layer = FeedForward(D, F, **options)
  x = jax.random.normal(jax.random.key(0), (2, 3, D))
  variables = nn.unbox(layer.init(jax.random.key(1), x))
  return layer, jax.tree.map(lambda p: p + 0.1, variables), x  # no bias stays 0


def _dense(params, x):
  return x @ np.float64(params['kernel']) + np.float64(params.get('bias', 0.0))


@pytest.mark.parametrize('activation', ['relu', 'gelu', 'swiglu'])
def test_activations_equal_numpy(activation):
  layer, variables, x = _layer(activation=activation)
  p, z = variables['params'], np.float64(x)
  up = _dense(p['up'], z)
  if activation == 'swiglu':
    gate = _dense(p['gate'], z)
    hidden = gate / (1 + np.exp(-gate)) * up
  elif activation == 'gelu':
    hidden = up * 0.5 * (1 + erf(up / 2**0.5))
  else:
    hidden = np.maximum(up, 0.0)
  expected = _dense(p['down'], hidden)
  np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_swiglu_has_three_matrices_and_no_bias():
  _, variables, _ = _layer(activation='swiglu')
  shapes = jax.tree.map(jnp.shape, variables['params'])
  assert shapes == {
    'gate': {'kernel': (D, F)},
    'up': {'kernel': (D, F)},
    'down': {'kernel': (F, D)},
  }


def test_scales_multiply_the_first_weights():
  _, plain, _ = _layer()
  _, scaled, _ = _layer(up_scale=0.5, down_scale=0.25)
  for name, scale in (('up', 0.5), ('down', 0.25)):
    expected = (plain['params'][name]['kernel'] - 0.1) * scale
    kernel = scaled['params'][name]['kernel'] - 0.1
    np.testing.assert_allclose(kernel, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('activation', 'function'),
  [
    ('jax.numpy:tanh', np.tanh),
    (
      dict(kind='jax.nn:leaky_relu', negative_slope=0.2),
      lambda x: np.where(x > 0, x, 0.2 * x),
    ),
  ],
)
def test_any_function_is_an_activation(activation, function):
  layer, variables, x = _layer(activation=activation)
  p = variables['params']
  expected = _dense(p['down'], function(_dense(p['up'], np.float64(x))))
  np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(
  ('activation', 'message'),
  [
    ('gleu', "unknown model.activation 'gleu'; did you mean 'gelu'"),
    (dict(kind='relu', slope=1), 'unknown key model.activation.slope'),
    ('fractions:Fraction', 'is not a function of an array'),
  ],
)
def test_an_unknown_activation_is_refused(activation, message):
  with pytest.raises(ValueError, match=message):
    _layer(activation=activation)
