"""One update is the same on any number of devices."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.compile.collectives import collectives
from seqlab.compile.hlo import Module
from seqlab.tasks.translation import Translation
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.compile_counter import CompileCounter
from seqlab.train.engines import make_engine
from seqlab.train.overview import shard_bytes

RECURRENT = {'kind': 'recurrent', 'width': 8, 'layers': 2, 'attention': 'additive'}


@pytest.fixture(scope='module')
def losses(tiny, tmp_path_factory):
  """(changes to the experiment) -> losses of three updates, the state after, engine."""
  # Each run once for all tests: compiling is what takes long here.
  vocabulary = tmp_path_factory.mktemp('program') / 'vocabulary'
  done = {}

  def run(**changes):
    if (key := repr(changes)) not in done:
      config = tiny | changes
      task = Translation.from_config(config, vocabulary)
      engine = make_engine(config, task, steps=10)
      state, values = engine.init(0), []
      for k in range(3):
        batch = task.batches('train').batch(k, seed=0)
        state, sums = engine.step(state, engine.put(batch))
        values.append(engine.fetch(sums)[0]['loss'])
      done[key] = values, jax.device_get(engine.member(state).params), engine, batch
    return done[key][:2]

  run.engine = lambda **changes: done[repr(changes)][2]
  run.program = lambda **changes: _program(*done[repr(changes)][2:])
  return run


def _program(engine, batch):
  """Returns the messages of a step between devices that divide the rows."""
  module = Module(engine.compile(batch).as_text())
  axes = {'data', 'fsdp'}
  return [x for x in collectives(module) if axes & set(x.axes(engine.mesh.shape))]


@pytest.mark.parametrize(
  'mesh',
  [
    {'data': 2, 'devices': 2},
    {'data': 8},
    {'data': 2, 'fsdp': 2, 'tensor': 2},
  ],
  ids=lambda mesh: '-'.join(f'{k}{v}' for k, v in mesh.items()),
)
def test_a_mesh_changes_no_loss(losses, mesh):
  one, params = losses()
  sharded, others = losses(mesh=mesh)
  np.testing.assert_allclose(sharded, one, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), params, others)


@pytest.mark.parametrize('fsdp', [1, 2])
def test_a_mesh_changes_a_bfloat16_loss_by_rounding_only(tiny, losses, fsdp):
  """On a CPU these products have rules of their own for gradients, and their sums."""
  model = tiny['model'] | {'dtype': 'bfloat16'}
  one, _ = losses(model=model)
  mesh = {'data': 2, 'fsdp': fsdp, 'tensor': 2, 'devices': 4 * fsdp}
  sharded, _ = losses(model=model, mesh=mesh)
  np.testing.assert_allclose(sharded, one, rtol=2e-3)
  assert one != losses()[0]  # it does compute in bfloat16


def test_pmap_takes_the_same_steps_as_jit(losses):
  hyper = {'peak': 1e-2}  # with pmap each device drops different units
  one, _ = losses(hyper=hyper)
  pmapped, _ = losses(hyper=hyper, parallel='pmap', mesh={'data': 8})
  np.testing.assert_allclose(pmapped, one, rtol=1e-5)


@pytest.mark.slow
def test_pmap_drops_different_units_on_each_device(losses):
  hyper = {'peak': 1e-2, 'dropout': 0.5}
  one, _ = losses(hyper=hyper)
  pmapped, _ = losses(hyper=hyper, parallel='pmap', mesh={'data': 8})
  assert one[0] != pytest.approx(pmapped[0], rel=1e-4)


def test_micro_batches_change_no_loss(losses):
  hyper = {'peak': 1e-2}
  one, _ = losses(hyper=hyper)
  parts, _ = losses(hyper=hyper, accumulate=4)
  np.testing.assert_allclose(parts, one, rtol=1e-5)


@pytest.mark.parametrize(
  ('model', 'mesh', 'accumulate'),
  [
    ('transformer', {'data': 2, 'fsdp': 2, 'tensor': 2}, 4),
    pytest.param('recurrent', {'data': 2, 'fsdp': 4}, 2, marks=pytest.mark.slow),
  ],
)
def test_gradients_are_summed_once_per_update(losses, tiny, model, mesh, accumulate):
  changes = {} if model == 'transformer' else {'model': RECURRENT}
  one, params = losses(**changes, accumulate=accumulate)
  changes |= {'mesh': mesh, 'accumulate': accumulate}
  sharded, others = losses(**changes)
  np.testing.assert_allclose(sharded, one, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), params, others)
  assert {x.runs for x in losses.program(**changes)} == {1}  # none of them in a loop


def test_own_tokens_are_the_same_on_any_mesh(losses):
  changes = {'model': RECURRENT | {'layers': 1, 'sampling_unit': 'sentence'}}
  changes['hyper'] = {'peak': 1e-2, 'scheduled_sampling': 0.5}
  one, _ = losses(**changes)
  sharded, _ = losses(**changes, mesh={'data': 2, 'devices': 2})
  np.testing.assert_allclose(sharded, one, rtol=1e-4)


@pytest.mark.parametrize(
  ('mesh', 'changes'),
  [
    ({'data': 4, 'devices': 4}, {'accumulate': 4}),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, {}),
  ],
)
def test_devices_can_share_the_state_of_the_optimiser(losses, mesh, changes):
  one, params = losses(**changes)
  whole = losses.engine(**changes).abstract
  changes = {**changes, 'mesh': {**mesh, 'shard_optimizer': True}}
  sharded, others = losses(**changes)
  np.testing.assert_allclose(sharded, one, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), params, others)
  engine = losses.engine(**changes)
  share = shard_bytes(engine.abstract.opt_state) / shard_bytes(whole.opt_state)
  assert share < 1.5 / engine.mesh.size  # vectors are not divided
  if 'fsdp' not in mesh:
    assert shard_bytes(engine.abstract.params) == shard_bytes(whole.params)
    program = losses.program(**changes)
    assert {x.runs for x in program} == {1}
    assert {'reduce-scatter', 'all-gather'} <= {x.kind for x in program}


def test_a_run_resumes_with_the_optimiser_shared_or_whole(losses, tmp_path):
  one = {'accumulate': 4}
  four = {**one, 'mesh': {'data': 4, 'devices': 4, 'shard_optimizer': True}}
  losses(**one)
  losses(**four)
  for step, (saved, loaded) in enumerate([(one, four), (four, one)]):
    state, engine = losses.engine(**saved).init(step), losses.engine(**loaded)
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    checkpoints.save(step, {'state': state, 'meta': {'best': None}}, wait=True)
    parts = checkpoints.load(step, {'state': engine.abstract, 'meta': None})
    checkpoints.close()
    equal = jax.tree.map(np.array_equal, parts['state'], state)
    assert all(jax.tree.leaves(equal))
    shardings = jax.tree.map(lambda x: x.sharding, parts['state'].opt_state)
    assert shardings == engine.definition.shardings.opt_state


def test_packed_rows_have_the_gradients_of_single_sentences(tiny, tmp_path):
  """Compares the summed loss and gradients of an epoch in packed and single rows."""
  config = tiny | {'hyper': {'peak': 1e-2}}
  sums = {}
  for kind, options in (('buckets', {}), ('packed', {'max_length': 20})):
    batching = {'kind': kind, 'tokens': 160, 'shapes': 1} | options
    task = Translation.from_config(
      config | {'batching': batching}, tmp_path / 'vocabulary'
    )
    variables = nn.unbox(jax.jit(task.init)(jax.random.key(0)))

    @jax.jit
    def gradients(variables, batch, task=task):
      def loss(variables):
        return task.loss(variables, batch, jax.random.key(0), {}).value

      return jax.value_and_grad(loss)(variables)

    parts = [
      gradients(variables, task.batches('train').batch(k, seed=0))
      for k in range(task.batches('train').steps_per_epoch)
    ]
    sums[kind] = jax.tree.map(lambda *x: np.sum(x, axis=0), *parts)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3),
    sums['buckets'],
    sums['packed'],
  )


def test_hyperparameters_are_traced(tiny, tmp_path):
  task = Translation.from_config(tiny, tmp_path / 'vocabulary')
  engine = make_engine(tiny, task, steps=10)
  batch = engine.put(task.batches('train').batch(0, seed=0))
  state = engine.init(0)
  engine.compile(task.batches('train').batch(0, seed=0))
  state, _ = engine.step(state, batch)
  compiles = CompileCounter()
  for name, value in (('peak', 0.5), ('dropout', 0.7), ('label_smoothing', 0.0)):
    engine.set_hyper(tiny['hyper'] | {name: value})
    state, _ = engine.step(state, batch)
  assert compiles.count == 0


def test_the_moving_average_lags_behind(tiny, tmp_path):
  config = tiny | {'ema': 0.5}
  task = Translation.from_config(config, tmp_path / 'vocabulary')
  engine = make_engine(config, task, steps=10)
  first = engine.init(0)
  before = jax.device_get(first.params)
  state, _ = engine.step(first, engine.put(task.batches('train').batch(0, seed=0)))
  jax.tree.map(
    lambda old, new, mean: np.testing.assert_allclose(mean, (old + new) / 2, atol=1e-6),
    before,
    jax.device_get(state.params),
    jax.device_get(state.averaged['params']),
  )


def test_fsdp_and_tensor_axes_shard_the_parameters(tiny, tmp_path):
  config = tiny | {'mesh': {'data': 1, 'fsdp': 2, 'tensor': 4}}
  config['model'] = config['model'] | {'heads': 4}
  task = Translation.from_config(config, tmp_path / 'vocabulary')
  state = make_engine(config, task, steps=10).init(0)
  query = state.params['encoder']['self_attention']['query']['kernel']
  assert query.shape == (1, 16, 4, 4)  # [layers, D, H, K]
  assert query.addressable_shards[0].data.shape == (1, 8, 1, 4)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'parallel': 'pmpa'}, "one of 'jit', 'pmap'"),
    ({'parallel': 'pmap', 'mesh': {'data': 2, 'fsdp': 4}}, r'mesh\.fsdp=1'),
    ({'mesh': {'data': 3}}, 'does not fit 8 devices'),
    ({'parallel': 'pmap', 'mesh': {'shard_optimizer': True}}, "set parallel='jit'"),
    ({'hyper': {'peak': 1.0, 'dropuot': 0.1}}, "did you mean 'dropout'"),
    ({'hyper': {}}, r'hyper\.peak is not set'),
  ],
)
def test_wrong_options_are_refused(tiny, tmp_path, changes, message):
  config = tiny | changes
  task = Translation.from_config(config, tmp_path / 'vocabulary')
  with pytest.raises(ValueError, match=message):
    make_engine(config, task, steps=10)


def test_rows_must_be_divisible_among_devices(tiny, tmp_path):
  config = tiny | {'accumulate': 3}
  task = Translation.from_config(config, tmp_path / 'vocabulary')
  engine = make_engine(config, task, steps=10)
  with pytest.raises(ValueError, match=r'set batching\.rows_multiple=3'):
    engine.definition.check(task.batches('train').shapes)
