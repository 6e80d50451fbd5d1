import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab.train import optimizers


def make_schedule(kind='rsqrt', warmup=0, *, steps, width=None, **options):
  specification = dict(kind=kind, warmup=warmup, **options)
  return optimizers.make_schedule(specification, steps=steps, width=width)


def make_optimizer(schedule, kind='adam', *, axes=None, **options):
  return optimizers.make_optimizer(dict(kind=kind, **options), schedule, axes)


KINDS = ('adam', 'adamw', 'adafactor', 'sgd', 'lion')


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


def test_every_schedule_is_tested_at_named_updates():
  assert set(optimizers.SCHEDULES) == {
    *('constant', 'linear', 'cosine', 'rsqrt', 'noam', 'wsd')
  }


@pytest.mark.parametrize(
  ('shape', 'update', 'expected'),
  [
    ('sqrt', 5, 0.5),
    ('sqrt', 79, 1.0),
    ('sqrt', 85, 1 - 0.9 * 0.5),  # a quarter of the fall, to 0.1
    ('linear', 85, 1 - 0.9 * 0.25),
    ('linear', 100, 0.1),
    ('sqrt', 100, 0.1),
  ],
)
def test_wsd_increases_stays_constant_and_decreases(shape, update, expected):
  schedule = make_schedule('wsd', 10, steps=100, floor=0.1, decay=0.2, shape=shape)
  assert rate(schedule, update) == pytest.approx(expected, rel=1e-5)


def test_a_schedule_of_optax_gives_factors_of_the_peak():
  options = dict(init_value=1.0, transition_steps=10, decay_rate=0.5)
  schedule = optimizers.make_schedule(
    dict(kind='optax:exponential_decay', **options), steps=100
  )
  assert rate(schedule, 11, peak=0.2) == pytest.approx(0.1)


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
    ValueError, match=r"unknown schedule 'exp'.* \(known: 'rsqrt', 'noam'"
  ):
    make_schedule('exp', steps=10)


@pytest.mark.parametrize('options', [{'width': 512}, {'warmup': 10}])
def test_noam_names_its_missing_option(options):
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


def test_weight_decay_is_decoupled_and_excludes_vectors():
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


def test_weight_decay_excludes_gains_and_biases_of_stacked_layers():
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
def test_learning_rate_and_weight_decay_are_traced(kind):
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
  ('kind', 'peak'),
  [
    *(('adam', 0.3), ('adamw', 0.3), ('adafactor', 0.3), ('sgd', 0.05), ('lion', 0.1)),
    *(('muon', 0.3), ('optax:adamax', 0.3), ('optax:lion', 0.1), ('optax:yogi', 0.3)),
  ],
)
def test_a_quadratic_converges_to_its_minimum(kind, peak):
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


def test_the_schedule_advances_with_each_update():
  tx = make_optimizer(make_schedule('linear', steps=4), 'sgd', momentum=0)
  params, sizes = {'w': jnp.zeros(())}, []
  state = tx.init(params)
  for _ in range(4):
    updates, state = tx.update({'w': 1.0}, state, params, hyper={'peak': 1.0})
    sizes.append(float(updates['w']))
  np.testing.assert_allclose(sizes, [-0.75, -0.5, -0.25, 0.0], atol=1e-6)


def test_an_unknown_optimizer_is_named():
  with pytest.raises(
    ValueError, match=r"unknown optimizer 'adma'; did you mean 'adam'"
  ):
    make_optimizer(constant, 'adma')


def test_every_optimizer_is_tested_on_a_quadratic():
  names = {*KINDS, 'muon', 'schedule_free'}
  assert set(optimizers.OPTIMIZERS) == names


def test_an_optimizer_of_optax_gets_rate_and_decay_at_each_step():
  schedule = make_schedule('cosine', 2, steps=6)
  hyper = {'peak': 0.1, 'weight_decay': 0.3}
  ours = make_optimizer(schedule, 'optax:lion', b1=0.8)
  theirs = optax.lion(
    lambda k: schedule(k, hyper),
    b1=0.8,
    weight_decay=0.3,
    mask={'matrix': True, 'vector': False},
  )
  assert_equal(
    run(ours, parameters(), {'hyper': hyper}, 6),
    run(theirs, parameters(), {}, 6),
    rtol=1e-5,
  )


def test_lion_by_its_short_name_is_optaxs():
  ours = make_optimizer(constant, 'lion', b1=0.8)
  theirs = optax.lion(0.1, b1=0.8, weight_decay=0.0)
  assert_equal(
    run(ours, parameters(), {'hyper': {'peak': 0.1}}, 4),
    run(theirs, parameters(), {}, 4),
    rtol=1e-5,
  )


def test_a_transformation_without_a_rate_gives_the_direction():
  ours = make_optimizer(constant, 'optax:scale_by_sign')
  updates, _ = ours.update(
    parameters(1), ours.init(parameters()), parameters(), hyper={'peak': 0.1}
  )
  assert_equal(
    updates, jax.tree.map(lambda g: -0.1 * jnp.sign(g), parameters(1)), rtol=1e-6
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(kind='optax:lion', b3=1.0), r'unknown key optimizer\.b3'),
    (dict(kind='lion', beta1=0.9), r'unknown key optimizer\.beta1 \(known: b1, b2'),
    (
      dict(kind='muon', beta=1.0),
      r'optimizer\.beta is 1\.0; it must be .* less than 1',
    ),
    (dict(kind='adam', clip=-1), r'optimizer\.clip is -1; it must be at least 0'),
    (
      dict(kind='adam', groups=[{}]),
      r"groups\.0: missing a required argument: 'match'",
    ),
    (dict(kind='adam', groups=[{'match': '('}]), r'groups\.0\.match .* a regular'),
    (dict(kind='adam', groups=[{'match': 'x', 'rate': -1}]), r'groups\.0\.rate is -1'),
    (
      dict(kind='muon', groups=[{'match': 'x', 'decay': 0}]),
      'one weight decay for all',
    ),
  ],
)
def test_wrong_options_of_an_optimizer_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    make_optimizer(constant, **options)


@pytest.mark.parametrize(
  ('options', 'hyper', 'message'),
  [
    ({'kind': 'optax:adamax'}, {'weight_decay': 0.1}, 'this optimiser has none'),
    (
      {'kind': 'muon', 'weight_decay': 0.1},
      {'weight_decay': 0.0},
      'replaces optimizer',
    ),
    ({'kind': 'adam'}, {'peak': None}, r'hyper\.peak is not set'),
  ],
)
def test_hyperparameters_without_effect_or_value_are_refused(options, hyper, message):
  with pytest.raises(ValueError, match=message):
    optimizers.check_hyper(options, constant, {'peak': 0.1, **hyper})


@pytest.mark.parametrize(
  ('options', 'hyper'),
  [
    ({'kind': 'optax:adamax'}, {'weight_decay': 0.0}),
    ({'kind': 'muon', 'weight_decay': 0.1}, {'weight_decay': None}),
    ({'kind': 'lion'}, {'weight_decay': 0.1}),
  ],
)
def test_a_weight_decay_that_is_unset_or_has_effect_is_accepted(options, hyper):
  optimizers.check_hyper(options, constant, {'peak': 0.1, **hyper})


def test_a_weight_decay_of_0_is_ignored_by_an_optimizer_that_has_none():
  tx, params = make_optimizer(constant, 'optax:adamax'), parameters()
  expected, _ = tx.update(params, tx.init(params), params, hyper={'peak': 0.1})
  hyper = {'peak': 0.1, 'weight_decay': 0.0}
  assert_equal(tx.update(params, tx.init(params), params, hyper=hyper)[0], expected)


def test_a_schedule_that_reads_no_hyperparameter_needs_none():
  optimizers.check_hyper({'kind': 'adam'}, lambda step, hyper: 0.1, {})


def averaging(learning_rate):
  """A wrapper whose name does not tell that it keeps an average."""
  return optax.contrib.schedule_free_sgd(learning_rate)


@pytest.mark.parametrize('kind', ['schedule_free', f'{__name__}:averaging'])
def test_groups_are_refused_by_an_optimizer_that_keeps_an_average(kind):
  tx = make_optimizer(constant, kind, groups=[dict(match='.', frozen=True)])
  with pytest.raises(ValueError, match=r'optimizer\.groups: this optimiser averages'):
    tx.init(parameters())


@pytest.mark.parametrize(
  ('config', 'expected'),
  [
    ({'optimizer': f'{__name__}:averaging'}, True),
    ({'optimizer': 'schedule_free'}, True),
    ({'ema': 0.9}, True),
    ({'optimizer': 'adam'}, False),
    ({}, False),
  ],
)
def test_an_average_is_found_in_the_state_of_an_optimizer(config, expected):
  assert optimizers.keeps_average(config, parameters(), None) is expected


def test_groups_scale_and_freeze_parameters_and_exclude_them_from_decay():
  groups = [
    dict(match='^frozen/', frozen=True),
    dict(match='slow', rate=0.5),
    dict(match='plain', decay=0.0),
  ]
  params = {
    name: {'kernel': jnp.ones((2, 2))} for name in ('frozen', 'slow', 'plain', 'other')
  }
  tx = make_optimizer(constant, 'sgd', momentum=0, groups=groups)
  hyper = {'peak': 1.0, 'weight_decay': 0.5}
  updates, _ = tx.update(params, tx.init(params), params, hyper=hyper)
  steps = {name: float(x['kernel'][0, 0]) for name, x in updates.items()}
  assert steps == {'frozen': 0.0, 'slow': -0.75, 'plain': -1.0, 'other': -1.5}


def test_a_group_of_no_parameters_is_named():
  tx = make_optimizer(constant, 'sgd', groups=[dict(match='nowhere')])
  with pytest.raises(ValueError, match="no parameter has 'nowhere' in its path"):
    tx.update(parameters(), tx.init(parameters()), parameters(), hyper={'peak': 1.0})


AXES = {
  'table': ('vocab', 'embed'),
  'layers': {
    'query': ('layers', 'embed', 'heads', 'head_dim'),
    'out': ('layers', 'heads', 'head_dim', 'embed'),
    'up': ('layers', 'embed', 'mlp'),
    'bias': ('layers', 'mlp'),
    'scale': ('layers', 'features'),
    'positions': (None, 'heads'),
  },
}
SIZES = dict(vocab=7, embed=6, layers=2, heads=2, head_dim=3, mlp=5, features=6)


def _model():
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda axes: jnp.asarray(
      random.normal(size=[SIZES.get(a, 4) for a in axes]), jnp.float32
    ),
    AXES,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def test_muon_makes_each_hidden_matrix_of_each_layer_orthogonal():
  params = _model()
  tx = make_optimizer(constant, 'muon', axes=AXES, consistent_rms=None, ns_steps=20)
  updates, _ = tx.update(params, tx.init(params), params, hyper={'peak': 1.0})
  query = updates['layers']['query'].reshape(2, 6, 6)  # [layers, D, H K]
  out = updates['layers']['out'].reshape(2, 6, 6)
  for matrix in (*query, *out):
    values = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(values, 1, atol=0.35)  # the iteration's own accuracy
  up = updates['layers']['up']
  for matrix in up:
    assert np.linalg.svd(matrix, compute_uv=False).max() < 1.4


@pytest.mark.parametrize(
  'path', [('table',), *(('layers', n) for n in ('bias', 'scale'))]
)
def test_muon_leaves_embeddings_norms_and_biases_to_adam(path):
  params = _model()
  pick = lambda tree: functools.reduce(lambda t, key: t[key], path, tree)  # noqa: E731
  tx = make_optimizer(constant, 'muon', axes=AXES)
  updates, _ = tx.update(params, tx.init(params), params, hyper={'peak': 0.1})
  adam = optax.nadam(0.1, b1=0.9, b2=0.98, eps=1e-8)
  expected, _ = adam.update(params, adam.init(params), params)
  np.testing.assert_allclose(pick(updates), pick(expected), rtol=1e-4)


def test_schedule_free_evaluates_with_its_average():
  tx, params = make_optimizer(constant, 'schedule_free'), parameters()
  state = tx.init(params)
  for i in range(5):
    updates, state = tx.update(parameters(i + 1), state, params, hyper={'peak': 0.1})
    params = optax.apply_updates(params, updates)
  final = optimizers.evaluated(state, params)
  z = next(
    x
    for x in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, 'z'))
    if hasattr(x, 'z')
  ).z
  expected = jax.tree.map(lambda y, z: (y - 0.1 * z) / 0.9, params, z)
  assert_equal(final, expected, rtol=1e-5)
  assert optimizers.evaluated(make_optimizer(constant).init(params), params) is None
