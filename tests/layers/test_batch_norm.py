"""Batch statistics exclude padding, and devices share them."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from seqlab.layers.batch_norm import BatchNorm, NoisyBatchNorm, PowerNorm

B, L, D = 8, 5, 4
EPSILON = 1e-5


def _inputs(seed=0):
  """Rows of every length from 1 to L, with extreme values in the padding."""
  random = np.random.default_rng(seed)
  x = random.normal(2.0, 3.0, (B, L, D)).astype(np.float32)
  counts = np.arange(L) < random.integers(1, L + 1, B)[:, None]
  x[~counts] = 1e3
  return x, counts


def _variables(norm):
  x, _ = _inputs()
  return nn.unbox(norm.init(jax.random.key(0), x))


def _update(norm, variables, x, counts):
  y, changed = norm.apply(variables, x, counts, mutable=['batch_stats'])
  return y, variables | changed


def _devices(fewer):
  mesh = jax.make_mesh((fewer,), ('data',), axis_types=(AxisType.Auto,))
  return NamedSharding(mesh, PartitionSpec('data'))


@pytest.mark.parametrize('devices', [1, 8])
def test_batch_norm_is_that_of_the_words_without_padding(devices):
  norm, (x, counts) = BatchNorm(momentum=0.0), _inputs()
  placed = jax.device_put((x, counts), _devices(devices))
  update = jax.jit(functools.partial(_update, norm))
  y, variables = update(_variables(norm), *placed)
  words = np.float64(x[counts])
  mean, n = words.mean(axis=0), len(words)
  expected = (words - mean) / np.sqrt(words.var(axis=0) + EPSILON)
  np.testing.assert_allclose(np.asarray(y)[counts], expected, atol=1e-5)
  statistics = variables['batch_stats']
  np.testing.assert_allclose(statistics['mean'], mean, rtol=1e-5)
  unbiased = words.var(axis=0) * n / (n - 1)
  np.testing.assert_allclose(statistics['variance'], unbiased, rtol=1e-5)


@pytest.mark.parametrize('kind', [BatchNorm, PowerNorm])
def test_pmapped_devices_share_statistics_and_gradients(kind):
  x, counts = _inputs()
  alone, together = kind(), kind(axis='data')
  variables = _variables(alone)
  weights = jnp.asarray(
    np.random.default_rng(1).normal(size=x.shape) * counts[..., None]
  )

  def loss(norm, x, counts, weights):
    y, variables_after = _update(norm, variables, x, counts)
    return (y * weights).sum(), variables_after['batch_stats']

  def gradient(norm):
    return jax.value_and_grad(functools.partial(loss, norm), has_aux=True)

  (_, expected_statistics), expected = jax.jit(gradient(alone))(x, counts, weights)
  rows = [jnp.asarray(a)[:, None] for a in (x, counts, weights)]  # one row per device
  (_, statistics), gradients = jax.pmap(gradient(together), axis_name='data')(*rows)
  np.testing.assert_allclose(gradients[:, 0], expected, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), rtol=1e-5),
    statistics,
    expected_statistics,
  )


def test_running_statistics_converge_to_those_of_the_data():
  norm = BatchNorm(momentum=0.99)
  update = jax.jit(functools.partial(_update, norm))
  variables = _variables(norm)
  for seed in range(600):
    _, variables = update(variables, *_inputs(seed))
  statistics = variables['batch_stats']
  np.testing.assert_allclose(statistics['mean'], 2.0, atol=0.2)
  np.testing.assert_allclose(statistics['variance'], 9.0, atol=0.9)
  y = norm.apply(variables, np.full((1, 1, D), 2.0, np.float32))
  assert float(jnp.abs(y).max()) < 0.1


@pytest.mark.parametrize('kind', [BatchNorm, PowerNorm])
def test_a_batch_of_padding_only_changes_no_statistic(kind):
  norm, (x, counts) = kind(), _inputs()
  before = _variables(norm)
  _, after = _update(norm, before, x, np.zeros_like(counts))
  for name in set(before['batch_stats']) - {'updates'}:
    np.testing.assert_array_equal(
      after['batch_stats'][name], before['batch_stats'][name]
    )


def test_without_counts_the_running_statistics_are_used():
  norm, (x, counts) = BatchNorm(), _inputs()
  _, variables = _update(norm, _variables(norm), x, counts)
  running = variables['batch_stats']
  expected = (x - running['mean']) / np.sqrt(running['variance'] + EPSILON)
  np.testing.assert_allclose(norm.apply(variables, x), expected, rtol=1e-5)


def _power(updates):
  """PowerNorm in warmup (0 updates) or after it, with gains other than 1."""
  norm, (x, counts) = PowerNorm(momentum=0.5, warmup=1), _inputs()
  variables = _variables(norm)
  gain = jnp.linspace(0.5, 2.0, D)
  params = {'scale': gain, 'bias': jnp.full(D, 0.25)}
  square = jnp.linspace(2.0, 4.0, D)
  statistics = {'square': square, 'updates': jnp.float32(updates)}
  return norm, {'params': params, 'batch_stats': statistics}, x, counts, variables


@pytest.mark.parametrize('updates', [0, 1])
def test_power_norm_divides_by_the_quadratic_mean(updates):
  norm, variables, x, counts, _ = _power(updates)
  y, after = _update(norm, variables, x, counts)
  batch_squares = np.square(np.float64(x[counts])).mean(axis=0)
  before = np.linspace(2.0, 4.0, D)
  psi = np.sqrt((before if updates else batch_squares) + EPSILON)
  expected = np.linspace(0.5, 2.0, D) * x[counts] / psi + 0.25
  np.testing.assert_allclose(np.asarray(y)[counts], expected, rtol=1e-5)
  statistics = after['batch_stats']
  np.testing.assert_allclose(
    statistics['square'], 0.5 * before + 0.5 * batch_squares, rtol=1e-5
  )
  assert float(statistics['updates']) == updates + 1


@pytest.mark.parametrize('updates', [0, 1])
def test_power_norms_gradient_is_algorithm_2s(updates):
  norm, variables, x, counts, _ = _power(updates)
  dy = np.random.default_rng(2).normal(size=x.shape) * counts[..., None]
  loss = lambda x: (_update(norm, variables, x, counts)[0] * dy).sum()  # noqa: E731
  gradients = jax.grad(loss)(x)
  batch_squares = np.square(np.float64(x[counts])).mean(axis=0)
  psi = np.sqrt((np.linspace(2.0, 4.0, D) if updates else batch_squares) + EPSILON)
  dx_hat = np.linspace(0.5, 2.0, D) * dy
  x_hat = np.float64(x) / psi
  nu = (x_hat * dx_hat)[counts].mean(axis=0)
  expected = (dx_hat - nu * x_hat) / psi * counts[..., None]
  np.testing.assert_allclose(gradients, expected, atol=1e-5)


def test_in_warmup_power_norms_gradient_is_exact():
  norm, variables, x, counts, _ = _power(0)
  dy = np.random.default_rng(2).normal(size=x.shape) * counts[..., None]

  def plain(x):
    square = jnp.where(counts[..., None], x * x, 0.0).sum(axis=(0, 1)) / counts.sum()
    y = x / jnp.sqrt(square + EPSILON) * variables['params']['scale']
    return (y * dy).sum()

  loss = lambda x: (_update(norm, variables, x, counts)[0] * dy).sum()  # noqa: E731
  np.testing.assert_allclose(jax.grad(loss)(x), jax.grad(plain)(x), atol=1e-5)


def test_groups_are_scaled_before_power_norm():
  x, _ = _inputs()
  norm = PowerNorm(groups=2)
  variables = _variables(norm)
  y = np.asarray(norm.apply(variables, x)).reshape(B, L, 2, 2)
  np.testing.assert_allclose(np.square(y).mean(axis=-1), 1.0, atol=1e-4)


@pytest.mark.parametrize('names', [(), ('scale',), ('bias',)])
@pytest.mark.parametrize('kind', [BatchNorm, PowerNorm])
def test_gain_and_bias_can_be_left_out(kind, names):
  x, counts = _inputs()
  norm = kind(use_scale='scale' in names, use_bias='bias' in names)
  variables = _variables(norm)
  assert {*variables.get('params', {})} == {*names}
  y, _ = _update(norm, variables, x, counts)
  full = kind()
  expected, _ = _update(full, _variables(full), x, counts)
  np.testing.assert_array_equal(y, expected)  # at first they are 1 and 0


def _noisy(seed, **options):
  norm, (x, counts) = NoisyBatchNorm(**options), _inputs()
  plain, _ = _update(BatchNorm(), _variables(BatchNorm()), x, counts)
  y, _ = norm.apply(
    _variables(norm),
    x,
    counts,
    mutable=['batch_stats'],
    rngs={'dropout': jax.random.key(seed)},
  )
  return np.asarray(plain, np.float64), np.asarray(y, np.float64)


def test_noise_moves_and_stretches_each_feature_in_the_same_way_at_all_positions():
  plain, y = _noisy(0, spread=0.0)
  shifts, scales = [], []
  for d in range(D):
    scale, shift = np.polyfit(plain[..., d].ravel(), y[..., d].ravel(), 1)
    np.testing.assert_allclose(y[..., d], scale * plain[..., d] + shift, rtol=1e-4)
    shifts.append(shift)
    scales.append(scale)
  assert np.abs(shifts).max() < 0.5
  assert np.ptp(shifts) > 0.05
  assert min(scales) >= 1.0
  assert max(scales) < 1.25
  assert np.ptp(scales) > 0.01


def test_noise_differs_between_updates_and_positions():
  _, one = _noisy(0, shift=0.0, scale=1.0)
  plain, other = _noisy(1, shift=0.0, scale=1.0)
  assert (np.abs(one - other) > 0).all()
  rest = (other - plain)[np.abs(plain) < 0.1]
  assert np.ptp(rest) > 0.05
  assert np.abs(rest).max() < 0.2


def test_noise_is_added_in_training_only():
  norm, (x, _) = NoisyBatchNorm(), _inputs()
  plain = BatchNorm()
  expected = plain.apply(_variables(plain), x)
  np.testing.assert_array_equal(norm.apply(_variables(norm), x), expected)
