"""Language models: batches of running text and of documents, carried states, engines."""

import jax
import numpy as np
import pytest

from seqlab.compile.collectives import collectives
from seqlab.compile.hlo import Module
from seqlab.evaluators.bits import Evaluator
from seqlab.tasks.interface import CARRY, CountsText, Generates, Translates, has
from seqlab.tasks.language_model import LanguageModel
from seqlab.train.checks import check_experiment
from seqlab.train.definition import Definition
from seqlab.train.engine_population import PopulationEngine
from seqlab.train.engines import make_engine
from seqlab.train.loop import train
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.use.runs import load_run


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
  """A recurrent model of streams: `experiment(section=changes)`."""
  folder = tmp_path_factory.mktemp('text')
  words = np.random.default_rng(0).integers(0, 9, (60, 6))
  lines = [' '.join(f'w{i}' for i in row) for row in words]
  for split, part in (('train', lines[:50]), ('valid', lines[50:])):
    (folder / split).write_text('\n'.join(part) + '\n', 'utf-8')
  default = {
    'task': 'language_model',
    'seed': 0,
    'steps': 6,
    'corpus': {'kind': 'running'},
    'vocabulary': {'kind': 'word', 'size': 30},
    'batching': {'kind': 'streams', 'rows': 4, 'length': 5},
    'model': {'kind': 'recurrent_lm', 'width': 8, 'dtype': 'float32'},
    'hyper': {'peak': 1e-2},
    'mesh': {'data': 1, 'devices': 1},
    'schedule': {'kind': 'constant'},
    'evals': {},
  }

  def experiment(**changes):
    config = {k: changes.get(k, x) for k, x in {**default, **changes}.items()}
    files = {split: str(folder / split) for split in ('train', 'valid')}
    return {**config, 'corpus': {**config['corpus'], 'files': files}}

  return experiment


@pytest.fixture(scope='module')
def decoder():
  """The section of a tiny Transformer without an encoder."""
  sizes = dict(width=8, mlp_width=16, heads=2, layers=1)
  return dict(kind='decoder', dtype='float32', **sizes)


def updates(config, folder, steps=3):
  """Returns the losses of some updates, and the state after them."""
  task = LanguageModel.from_config(config, folder / 'vocabulary')
  engine = make_engine(config, task, steps=10)
  state, losses = engine.init(0), []
  for k in range(steps):
    batch = task.batches('train').batch(k, seed=0)
    state, sums = engine.step(state, engine.put(batch))
    losses.append(engine.fetch(sums)[0]['loss'])
  return losses, jax.device_get(engine.member(state))


def test_it_has_its_abilities():
  assert all(has(LanguageModel, x) for x in (CountsText, Generates))
  assert not has(LanguageModel, Translates)


def test_a_stream_is_one_text_for_a_model_with_a_state(experiment, tmp_path):
  """With a learning rate of 0, all batches of an epoch are one long row each."""
  config = experiment(hyper={'peak': 0.0})
  losses, _ = updates(config, tmp_path, steps=4)
  task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
  batches = [task.batches('train').batch(k, seed=0) for k in range(4)]
  variables = {'params': make_engine(config, task, steps=1).init(0).params}
  whole = np.concatenate([batch['text'] for batch in batches], axis=1)
  row = {'text': whole, 'previous': batches[0]['previous']}
  loss = task.loss(variables, row, None, {})
  np.testing.assert_allclose(np.mean(losses), loss.value / loss.weight, rtol=1e-5)
  separate = [task.loss(variables, batch, None, {}).value for batch in batches]
  assert abs(sum(separate) - float(loss.value)) > 1e-3


@pytest.mark.parametrize(
  'changes',
  [
    {'accumulate': 2},
    {'mesh': {'data': 4}},
    {'mesh': {'data': 2, 'tensor': 2}},
    {'mesh': {'data': 4}, 'parallel': 'pmap'},
  ],
  ids=str,
)
def test_no_engine_changes_losses_or_carried_states(experiment, changes, tmp_path):
  mesh = {**changes.get('mesh', {}), 'devices': 4} if 'mesh' in changes else None
  if mesh:
    changes = {**changes, 'mesh': mesh}
  losses, state = updates(experiment(), tmp_path)
  others, other = updates(experiment(**changes), tmp_path)
  np.testing.assert_allclose(others, losses, rtol=1e-5)
  assert jax.tree.leaves(state.collections[CARRY])[0].shape == (4, 8)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    other.collections[CARRY],
    state.collections[CARRY],
  )


@pytest.mark.parametrize('kind', ['decoder', 'recurrent_lm'])
def test_gradients_are_summed_once_per_update(experiment, decoder, kind, tmp_path):
  sizes = decoder if kind == 'decoder' else dict(kind=kind, width=8, layers=2)
  changes = dict(
    accumulate=2,
    batching=dict(kind='windows', rows=8, length=5),
    hyper={'peak': 1e-2, 'dropout': 0.3},
    model={**sizes, 'dtype': 'float32'},
  )
  losses, state = updates(experiment(**changes), tmp_path)
  config = experiment(**changes, mesh={'data': 2, 'devices': 2})
  others, other = updates(config, tmp_path)
  np.testing.assert_allclose(others, losses, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), other.params, state.params
  )
  task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
  engine, batch = make_engine(config, task, 10), task.batches('train').batch(0, seed=0)
  messages = collectives(Module(engine.compile(batch).as_text()))
  assert {x.runs for x in messages} == {1}  # none of them in a loop


def test_members_of_a_population_have_states_of_their_own(experiment, tmp_path):
  config = experiment(hyper={'peak': 1e-2, 'dropout': 0.2})
  losses, state = updates(config, tmp_path, steps=2)
  task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
  definition = Definition(config, task, 10)
  engine = PopulationEngine(definition, [definition.hyper] * 2)
  states = engine.init(0, 1)
  for k in range(2):
    batches = [task.batches('train').batch(k, seed=seed) for seed in (0, 1)]
    states, sums = engine.step(states, engine.put(*batches))
  each = engine.fetch(sums)
  np.testing.assert_allclose(each[0]['loss'], losses[-1], rtol=1e-5)
  first, second = (engine.member(states, i).collections[CARRY] for i in (0, 1))
  (first,), (second,) = (jax.tree.leaves(x)[:1] for x in (first, second))
  expected = jax.tree.leaves(state.collections[CARRY])[0]
  np.testing.assert_allclose(first, expected, atol=1e-5)
  assert np.abs(first - second).max() > 1e-3


def test_a_run_that_is_resumed_has_the_same_states(experiment, tmp_path):
  evals = {'valid': {'kind': 'bits', 'split': 'valid', 'every': 3}}
  config = experiment(evals=evals, keep_best='valid/bpc', best_is='min')
  config['hyper'] = {'peak': 1e-2, 'dropout': 0.2}
  train(config, tmp_path / 'whole')
  train({**config, 'steps': 3}, tmp_path / 'cut')
  train(config, tmp_path / 'cut', force=True)
  whole, cut = (load_run(tmp_path / name).variables for name in ('whole', 'cut'))
  jax.tree.map(np.testing.assert_array_equal, whole, cut)
  assert np.abs(jax.tree.leaves(whole[CARRY])[0]).max() > 0


def test_documents_are_packed_or_padded_with_one_loss(experiment, decoder, tmp_path):
  losses = []
  for kind in ('packed', 'buckets'):
    batching = dict(kind=kind, tokens=800, shapes=1, max_length=20)
    config = experiment(model=decoder, batching=batching)
    task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
    variables = {'params': make_engine(config, task, steps=1).init(0).params}
    batches = task.batches('train')
    sums = [
      task.loss(variables, batches.batch(k, seed=0), None, {})[:2]
      for k in range(batches.steps_per_epoch)
    ]
    losses.append(np.sum(sums, axis=0))
    assert (task.context, task.is_running) == (20, False)
  np.testing.assert_allclose(*losses, rtol=1e-5)
  assert losses[0][1] == 50 * 7


def test_sliding_windows_give_the_loss_of_the_whole_text(experiment, tmp_path):
  config = experiment()
  task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
  variables = {'params': make_engine(config, task, steps=1).init(0).params}

  def loss(**options):
    batches = task.batches('valid', shuffle=False, **options)
    each = [
      task.loss(variables, batches.batch(k, seed=0), None, {}).totals()['nll']
      for k in range(batches.steps_per_epoch)
    ]
    value, weight = map(sum, zip(*each, strict=True))
    assert weight == 70
    return float(value)

  whole = loss(context=70)
  near = loss(context=40, stride=1, tokens=120)
  np.testing.assert_allclose(near, whole, rtol=1e-4)
  assert abs(loss(context=5) - whole) > abs(near - whole)
  characters = sum(len(line) + 1 for line in task.corpus.read('valid')[0])
  sharding = batch_sharding(make_mesh(devices=1))
  bits = Evaluator(task, sharding, split='valid', context=70)
  values = dict(bits.run(variables))
  np.testing.assert_allclose(values['nll'], whole / 70, rtol=1e-5)
  np.testing.assert_allclose(values['bpc'], whole / np.log(2) / characters, rtol=1e-5)
  assert values['bpb'] == values['bpc']
  assert (
    bits.about
    == f'{characters} characters, {characters} bytes, context 70, stride 70 tokens'
  )


def test_the_shapes_of_a_plan_are_those_of_the_data(experiment, decoder, tmp_path):
  config = experiment(model=decoder, batching=dict(kind='windows', rows=2, length=7))
  task = LanguageModel.from_config(config, tmp_path / 'vocabulary')
  (shape,) = task.batches('train').shapes
  assert {k: x.shape for k, x in shape.items()} == {'text': (2, 7), 'previous': (2,)}
  bpe = {**config, 'vocabulary': {'kind': 'bpe', 'size': 300}}
  outline = LanguageModel.from_shapes(bpe)
  (planned,) = outline.batches('train').shapes
  assert {k: x.shape for k, x in planned.items()} == {
    k: x.shape for k, x in shape.items()
  }
  weights = 300 * 8 + sum(
    x.size for x in jax.tree.leaves(jax.eval_shape(outline.init, jax.random.key(0)))
  )
  weights -= 300 * 8
  assert outline.flops(planned) == 0 < outline._num_weights == weights


def test_a_column_with_its_vocabulary_can_be_opened_again(
  experiment, decoder, tmp_path
):
  config = experiment(model=decoder, vocabulary={}, batching={'kind': 'buckets'})
  column = {'column': 0, 'kind': 'char'}
  config['corpus'] |= {'kind': 'files', 'text': 'en', 'columns': {'text': column}}
  first, again = (LanguageModel.from_config(config, tmp_path) for _ in range(2))
  assert again.fingerprint == first.fingerprint
  assert first.vocabularies.text.size == 4 + 11  # w, a space and nine digits
  config['corpus']['reader'] = {'kind': 'csv', 'delimiter': ' ', 'header': False}
  config['corpus']['columns'] = {'text': [0, 1]}
  config['vocabulary'] = {'kind': 'char'}
  with pytest.raises(ValueError, match=r'name one column in corpus\.columns\.text'):
    LanguageModel.from_config(config, tmp_path / 'divided')


def test_a_vocabulary_of_the_side_is_planned(experiment, decoder):
  batching = dict(kind='windows', rows=2, length=7)
  config = experiment(model=decoder, batching=batching, vocabulary={'text': 'byte'})
  assert LanguageModel.from_shapes(config).model.size == 260


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model': {'kind': 'transformer'}}, r"'decoder', 'recurrent_lm'"),
    ({'batching': {'kind': 'stream'}}, r"did you mean 'streams'"),
    ({'batching': {'kind': 'windows', 'tokens': 3}}, r'batching\.tokens'),
    ({'hyper': {'peak': 0.1, 'drop': 0.1}}, r"did you mean 'dropout'"),
    ({'corpus': {'kind': 'running', 'tests': 0.1}}, r"did you mean 'test'"),
  ],
)
def test_mistakes_are_found_before_training(experiment, changes, message):
  with pytest.raises(ValueError, match=message):
    check_experiment(experiment(**changes))
