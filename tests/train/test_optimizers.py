import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab.train.optimizers import make_optimizer, make_schedule

KINDS = ('adam', 'adamw', 'adafactor', 'sgd')


def rate(schedule, update, peak=1.0):
  """The learning rate of an update, counted from 1 as papers do."""
  return float(schedule(update - 1, {'peak': peak}))


@pytest.mark.parametrize(
  ('kind', 'update', 'expected'),
  [  # 10 of 110 updates are warm-up, and the floor is at 0.2
    ('constant', 1, 0.1),
    ('constant', 5, 0.5),
    ('constant', 10, 1.0),
    ('constant', 110, 1.0),
    ('linear', 5, 0.5),
    ('linear', 10, 1.0),
    ('linear', 35, 0.8),
    ('linear', 60, 0.6),
    ('linear', 110, 0.2),
    ('linear', 500, 0.2),
    ('cosine', 5, 0.5),
    ('cosine', 10, 1.0),
    ('cosine', 35, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2),
    ('cosine', 60, 0.6),
    ('cosine', 110, 0.2),
    ('cosine', 500, 0.2),
    ('rsqrt', 5, 0.5),
    ('rsqrt', 10, 1.0),
    ('rsqrt', 40, 0.5),
    ('rsqrt', 1_000, 0.1),
  ],
)
def test_a_schedule_at_named_updates(kind, update, expected):
  schedule = make_schedule(kind, 10, steps=110, floor=0.2)
  assert rate(schedule, update) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ('kind', 'update', 'expected'),
  [
    ('constant', 1, 1.0),
    ('linear', 25, 0.75),
    ('linear', 100, 0.0),
    ('cosine', 50, 0.5),
    ('rsqrt', 1, 1.0),
    ('rsqrt', 25, 0.2),
  ],
)
def test_without_warmup_the_peak_comes_first(kind, update, expected):
  schedule = make_schedule(kind, steps=100)
  assert rate(schedule, update) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('update', [1, 100, 4_000, 4_001, 100_000])
def test_noam_is_the_papers_formula(update):
  # Vaswani et al. 2017, equation 3, for the base model.
  expected = 512**-0.5 * min(update**-0.5, update * 4_000**-1.5)
  schedule = make_schedule('noam', 4_000, steps=100_000, width=512)
  assert rate(schedule, update) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('kind', ['rsqrt', 'noam', 'cosine', 'linear', 'constant'])
@pytest.mark.parametrize('update', [3, 50])
def test_a_schedule_scales_with_its_peak(kind, update):
  schedule = make_schedule(kind, 10, steps=110, width=64)
  expected = 0.003 * rate(schedule, update)
  assert rate(schedule, update, peak=0.003) == pytest.approx(expected, rel=1e-5)


def test_an_unknown_schedule_is_named():
  with pytest.raises(
    ValueError, match=r"kind is 'exp'; it must be one of 'rsqrt', 'noam'"
  ):
    make_schedule('exp', steps=10)


@pytest.mark.parametrize('options', [{'width': 512}, {'warmup': 10}])
def test_noam_says_what_it_needs(options):
  with pytest.raises(ValueError, match=r'needs schedule.warmup > 0 and model.width'):
    make_schedule('noam', steps=10, **options)


def constant(step, hyper):
  del step
  return hyper['peak']


def parameters(seed=0):
  random = np.random.default_rng(seed)
  return {
    'matrix': jnp.asarray(random.normal(size=(3, 4)), jnp.float32),
    'vector': jnp.asarray(random.normal(size=4), jnp.float32),
  }


def run(tx, params, hyper, steps, **extra):
  """Parameters after some updates along gradients that differ from step to step."""
  state = tx.init(params)
  for i in range(steps):
    updates, state = tx.update(parameters(i + 1), state, params, **extra, **hyper)
    params = optax.apply_updates(params, updates)
  return params


def assert_equal(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_adam_equals_optaxs_with_the_same_schedule():
  schedule = make_schedule('cosine', 2, steps=6)
  hyper = {'peak': 0.1}
  ours = make_optimizer(schedule)
  theirs = optax.adam(lambda k: schedule(k, hyper), b1=0.9, b2=0.98, eps=1e-9)
  assert_equal(
    run(ours, parameters(), {'hyper': hyper}, 6),
    run(theirs, parameters(), {}, 6),
    rtol=1e-5,
  )


def test_weight_decay_is_decoupled_and_spares_vectors():
  hyper = {'peak': 0.1, 'weight_decay': 0.3}
  ours = make_optimizer(constant, 'adamw', b2=0.95, eps=1e-8)
  theirs = optax.adamw(
    0.1, 0.9, 0.95, 1e-8, weight_decay=0.3, mask={'matrix': True, 'vector': False}
  )
  assert_equal(
    run(ours, parameters(), {'hyper': hyper}, 4),
    run(theirs, parameters(), {}, 4),
    rtol=1e-5,
  )


@pytest.mark.parametrize('kind', KINDS)
def test_weight_decay_alone_shrinks_matrices_with_every_optimizer(kind):
  tx, params = make_optimizer(constant, kind), parameters()
  still = jax.tree.map(jnp.zeros_like, params)
  hyper = {'peak': 0.1, 'weight_decay': 0.3}
  updates, _ = tx.update(still, tx.init(params), params, hyper=hyper)
  np.testing.assert_allclose(updates['matrix'], -0.03 * params['matrix'], rtol=1e-5)
  np.testing.assert_array_equal(updates['vector'], 0)


def test_weight_decay_spares_gains_and_biases_of_stacked_layers():
  # nn.scan gives them an axis of layers, so that they look like matrices.
  layer = {
    'up': {'kernel': jnp.ones((2, 3, 4)), 'bias': jnp.ones((2, 4))},
    'norm': {'scale': jnp.ones((2, 3)), 'bias': jnp.ones((2, 3))},
  }
  params = {'table': jnp.ones((5, 3)), 'layers': layer}
  tx = make_optimizer(constant, 'sgd')
  still = jax.tree.map(jnp.zeros_like, params)
  hyper = {'peak': 0.5, 'weight_decay': 0.5}
  updates, _ = tx.update(still, tx.init(params), params, hyper=hyper)
  assert jax.tree.map(lambda x: x.min().item(), updates) == {
    'table': -0.25,
    'layers': {'up': {'kernel': -0.25, 'bias': 0}, 'norm': {'scale': 0, 'bias': 0}},
  }


@pytest.mark.parametrize('kind', KINDS)
def test_rates_and_decay_are_data(kind):
  tx, params = make_optimizer(make_schedule('linear', 3, steps=9), kind), parameters()
  traces = []

  @jax.jit
  def update(grads, state, params, hyper):
    traces.append(kind)
    return tx.update(grads, state, params, hyper=hyper)[0]

  def at(peak, decay):
    hyper = {'peak': jnp.float32(peak), 'weight_decay': jnp.float32(decay)}
    return update(parameters(1), tx.init(params), params, hyper)

  small, large, decayed = at(0.1, 0.0), at(0.4, 0.0), at(0.1, 0.5)
  assert_equal(large, jax.tree.map(lambda x: 4 * x, small), rtol=1e-5)
  expected = small['matrix'] - 0.1 / 3 * 0.5 * params['matrix']
  np.testing.assert_allclose(decayed['matrix'], expected, rtol=1e-4, atol=1e-6)
  assert len(traces) == 1


@pytest.mark.parametrize(
  ('kind', 'peak'), [('adam', 0.3), ('adamw', 0.3), ('adafactor', 0.3), ('sgd', 0.05)]
)
def test_a_quadratic_falls_to_its_minimum(kind, peak):
  schedule = make_schedule('linear', steps=200)
  tx, goal = make_optimizer(schedule, kind), parameters(7)

  def loss(params):
    return sum(((params[name] - goal[name]) ** 2).sum() for name in goal)

  def body(carry, _):
    params, state = carry
    grads = jax.grad(loss)(params)
    updates, state = tx.update(grads, state, params, hyper={'peak': peak})
    return (optax.apply_updates(params, updates), state), None

  params = parameters()
  (after, _), _ = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), length=200))(
    params
  )
  assert loss(after) < 1e-3 * loss(params)


def test_sgd_has_nesterovs_momentum():
  ours = make_optimizer(constant, 'sgd', momentum=0.8)
  theirs = optax.sgd(0.1, momentum=0.8, nesterov=True)
  assert_equal(
    run(ours, parameters(), {'hyper': {'peak': 0.1}}, 4),
    run(theirs, parameters(), {}, 4),
    rtol=1e-5,
  )


def test_sgd_without_momentum_follows_the_gradient():
  tx, grads = make_optimizer(constant, 'sgd', momentum=0), parameters(1)
  params = parameters()
  updates, _ = tx.update(grads, tx.init(params), params, hyper={'peak': 0.1})
  assert_equal(updates, jax.tree.map(lambda g: -0.1 * g, grads), rtol=1e-6)


@pytest.mark.parametrize(('size', 'clipped'), [(10.0, 1.5), (1.0, 1.0), (1.5, 1.5)])
def test_a_gradient_is_clipped_to_its_global_norm(size, clipped):
  tx, params = make_optimizer(constant, 'sgd', clip=1.5, momentum=0), parameters()
  grads = parameters(1)
  norm = optax.tree.norm(grads)
  grads = jax.tree.map(lambda g: g / norm * size, grads)
  updates, _ = tx.update(grads, tx.init(params), params, hyper={'peak': 1.0})
  expected = jax.tree.map(lambda g: -g * clipped / size, grads)
  assert_equal(updates, expected, rtol=1e-5)


def test_the_schedule_moves_on_with_each_update():
  tx = make_optimizer(make_schedule('linear', steps=4), 'sgd', momentum=0)
  params, sizes = {'w': jnp.zeros(())}, []
  state = tx.init(params)
  for _ in range(4):
    updates, state = tx.update({'w': 1.0}, state, params, hyper={'peak': 1.0})
    sizes.append(float(updates['w']))
  np.testing.assert_allclose(sizes, [-0.75, -0.5, -0.25, 0.0], atol=1e-6)


def test_an_unknown_optimizer_is_named():
  with pytest.raises(ValueError, match=r"kind is 'adma'; .* did you mean 'adam'"):
    make_optimizer(constant, 'adma')
