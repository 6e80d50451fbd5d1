"""Properties of every recurrent encoder-decoder, for any pieces."""

import functools

from flax import linen as nn
from flax.core import FrozenDict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import SCORES
from seqlab.layers.copying import mix_copies
from seqlab.layers.device import ACCELERATOR, instead_of
from seqlab.models.interface import Packing
from seqlab.models.recurrent import Recurrent
from seqlab.types import BOS, PAD

V = 12
PLACES = {
  'before': {'placement': 'before'},
  'after': {'placement': 'after', 'input_feeding': False},
  'after-feeding': {'placement': 'after'},
}


def _ids(rows, length, seed=0):
  return np.random.default_rng(seed).integers(4, V, (rows, length)).astype(np.int32)


SOURCE, TARGET = _ids(2, 4), _ids(2, 3, seed=1)
SOURCE[1, 2:] = PAD


_MODELS = {}


def _model(**options):
  key = repr(options)
  if key not in _MODELS:
    _MODELS[key] = _make(options)
  return _MODELS[key]


def _make(options):
  model = Recurrent(V, V, **{'width': 8, 'dtype': 'float32'} | options)
  shapes = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET))
  # Weights large enough for a difference to show; drawn here, for init compiles long.
  random = np.random.default_rng(0)
  draw = lambda x: jnp.asarray(random.normal(0, 0.4, x.shape), jnp.float32)  # noqa: E731
  return model, jax.tree.map(draw, shapes)


def _stepwise(model, variables, source, target):
  """Returns logits [N, T, V], computed word by word with the cache."""
  memory = model.apply(variables, source, method='encode')
  rows = len(target)
  cache = model.apply(variables, memory, rows, target.shape[1], method='start')
  inputs = jnp.concatenate([jnp.full((rows, 1), BOS), target[:, :-1]], axis=1)

  def step(cache, token):
    return model.apply(variables, memory, cache, token, method='step')

  return jnp.swapaxes(jax.lax.scan(step, cache, inputs.T)[1], 0, 1)


def _trains_and_decodes(**options):
  """One program: the gradient of a loss, and cached and uncached logits."""
  model, variables = _model(**options)

  @jax.jit
  def run(variables):
    def loss(variables):
      logits = model.apply(variables, SOURCE, TARGET)
      nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), TARGET[..., None], -1)
      return nll.mean(), logits

    (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
    return value, logits, gradient, _stepwise(model, variables, SOURCE, TARGET)

  before, logits, gradient, cached = run(variables)
  after, *_ = run(jax.tree.map(lambda w, g: w - 0.01 * g, variables, gradient))
  np.testing.assert_allclose(cached, logits, atol=1e-4)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  assert after < before


@pytest.mark.parametrize('context', ['start', 'always'])
@pytest.mark.parametrize('cell', ['rnn', 'gru', 'lstm'])
def test_cached_decoding_equals_training_with_a_fixed_context(cell, context):
  _trains_and_decodes(cell=cell, context=context)


def test_a_decoder_reads_the_stack_of_the_encoder():
  _trains_and_decodes(cell=FrozenDict(kind='stack_rnn', depth=5), bidirectional=False)


CELLS = ('rnn', 'gru', 'lstm')
# Scores that read the position of the step, or the weights of the steps before it.
READ_STEPS = ('local_monotonic', 'coverage')


def _combinations():
  """All combinations of cell, score and placement.

  A quick run has each score, each pair of a cell and a placement, and each placement of
  the scores that depend on the step.
  """
  for c, cell in enumerate(CELLS):
    for s, score in enumerate(SCORES):
      for p, place in enumerate(PLACES):
        is_quick = (c + s + p) % 3 == 0 and (c == s // 3 % 3 or score in READ_STEPS)
        marks = () if is_quick else pytest.mark.slow
        yield pytest.param(cell, score, place, marks=marks)


@pytest.mark.parametrize(('cell', 'score', 'place'), list(_combinations()))
def test_cached_decoding_equals_training_with_attention(cell, score, place):
  _trains_and_decodes(cell=cell, attention=score, **PLACES[place])


def nearness(query, memory):
  """A score that a user defines."""
  return -((query[:, :, None] - memory.keys[:, None]) ** 2).sum(axis=-1)


@pytest.mark.parametrize(
  'options',
  [
    {'attention': 'additive', 'attention_heads': 2},
    {'attention': 'coverage', 'attention_heads': 4, 'layers': 2},
    {
      'attention': FrozenDict(kind='local_monotonic', window=1),
    },
    {'attention': nearness, 'placement': 'before'},
    {'layers': 2, 'bidirectional': False, 'layer_norm': True},
    {'tie': 'none', 'context': 'always', 'layers': 2},
    {'copy_source': True, 'attention': 'dot', 'attention_heads': 2, 'cell': 'gru'},
    {'copy_source': True, 'attention': 'general', 'input_feeding': False},
  ],
  ids=lambda options: '-'.join(options),
)
def test_cached_decoding_equals_training_with_other_options(options):
  _trains_and_decodes(**options)


ATTENTIVE = {'attention': 'additive', 'placement': 'before'}


def test_the_gradients_of_an_accelerators_program_are_those_of_a_cpus():
  model, variables = _model(**ATTENTIVE, layers=2)

  def gradient():  # a new function, since jax.jit keeps what it has traced
    return jax.jit(jax.grad(lambda v: (model.apply(v, SOURCE, TARGET) ** 2).mean()))

  expected = gradient()(variables)
  with instead_of(ACCELERATOR):
    actual = gradient()(variables)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('options', [{}, ATTENTIVE], ids=['fixed', 'attention'])
def test_a_sentence_in_a_padded_batch_has_the_logits_it_has_alone(options):
  model, variables = _model(**options)
  both = model.apply(variables, SOURCE, TARGET)
  alone = model.apply(variables, SOURCE[1:, :2], TARGET[1:])
  np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_hypotheses_share_the_memory_of_their_sentence():
  model, variables = _model(**ATTENTIVE)
  target = _ids(6, 3, seed=2)
  shared = _stepwise(model, variables, SOURCE, target)
  repeated = _stepwise(model, variables, np.repeat(SOURCE, 3, axis=0), target)
  np.testing.assert_allclose(shared, repeated, atol=1e-5)


@functools.cache
def _outputs(**hyper):
  model, variables = _model(**ATTENTIVE)

  @jax.jit
  def run(target, key):
    rngs = {'dropout': key}
    return model.apply(variables, SOURCE, target, train=True, hyper=hyper, rngs=rngs)

  return lambda target, seed=0: run(target, jax.random.key(seed))


def test_a_copied_word_has_the_attention_weights_of_its_positions():
  random = np.random.default_rng(0)
  logits, gate = random.normal(size=(1, 2, V)), random.normal(size=(1, 2))
  weights = np.array([[[0.5, 0.2, 0.3, 0.0], [0.1, 0.0, 0.9, 0.0]]])
  source = np.array([[4, 7, 4, PAD]])
  logp = mix_copies(*(jnp.float32(x) for x in (logits, gate, weights)), source)
  g = 1 / (1 + np.exp(-gate[..., None]))
  expected = g * np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  copied = np.zeros((1, 2, V))
  copied[0, :, 4], copied[0, :, 7] = [0.8, 1.0], [0.2, 0.0]
  np.testing.assert_allclose(np.exp(logp), expected + (1 - g) * copied, atol=1e-6)


def test_a_model_that_copies_gives_log_probabilities_and_no_factors():
  model, variables = _model(copy_source=True, attention='general', input_feeding=False)
  logp = model.apply(variables, SOURCE, TARGET)
  np.testing.assert_allclose(jnp.exp(logp).sum(axis=-1), np.ones((2, 3)), atol=1e-5)
  assert model.is_mixture
  with pytest.raises(ValueError, match='call the model itself'):
    model.apply(variables, SOURCE, TARGET, method='features')


def test_a_sampling_rate_of_zero_is_teacher_forcing():
  model, variables = _model(**ATTENTIVE)
  forced = model.apply(variables, SOURCE, TARGET)
  sampled = _outputs(scheduled_sampling=0.0)(TARGET)
  np.testing.assert_allclose(sampled, forced, atol=1e-5)


def test_a_sampling_rate_of_one_reads_no_reference_word():
  run = _outputs(scheduled_sampling=1.0)
  np.testing.assert_array_equal(run(TARGET), run(_ids(2, 3, seed=9)))


def test_sampled_words_depend_on_the_key():
  run = _outputs(scheduled_sampling=1.0)
  assert np.abs(run(TARGET, 0) - run(TARGET, 1)).max() > 1e-3


def test_the_sampling_rate_is_traced():
  model, variables = _model(**ATTENTIVE)
  traces = []

  @jax.jit
  def run(rate):
    traces.append(rate)
    hyper, rngs = {'scheduled_sampling': rate}, {'dropout': jax.random.key(0)}
    return model.apply(variables, SOURCE, TARGET, train=True, hyper=hyper, rngs=rngs)

  assert np.abs(run(0.0) - run(1.0)).max() > 1e-3
  assert len(traces) == 1


OWN_TOKENS = {
  'attention': {'cell': 'gru', 'attention': 'additive', 'placement': 'before'},
  'two layers': {'layers': 2, 'bidirectional': False, 'residual': False},
}


def _free_running(model, variables, target):
  """Returns logits [N, T, V] of a decoder that reads its own most probable tokens."""
  memory = model.apply(variables, SOURCE, method='encode')
  rows = len(target)
  cache = model.apply(variables, memory, rows, target.shape[1], method='start')
  token, logits = jnp.full(rows, BOS), []
  for _ in range(target.shape[1]):
    cache, row = model.apply(variables, memory, cache, token, method='step')
    logits.append(row)
    token = jnp.argmax(jax.lax.stop_gradient(row), axis=-1)
  return jnp.stack(logits, axis=1)


def _nll(logits, target):
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1).mean()


@pytest.mark.parametrize('unit', ['token', 'sentence'])
@pytest.mark.parametrize('name', OWN_TOKENS)
def test_free_running_equals_a_loop_over_steps_in_value_and_gradient(name, unit):
  options = OWN_TOKENS[name] | {'sampling_unit': unit, 'sampling_choice': 'argmax'}
  model, variables = _model(**options)
  target = _ids(2, 6, seed=3)

  @jax.jit
  def run(variables):
    def loss(variables):
      hyper, rngs = {'scheduled_sampling': 1.0}, {'dropout': jax.random.key(0)}
      options = dict(train=True, hyper=hyper, rngs=rngs)
      return _nll(model.apply(variables, SOURCE, target, **options), target)

    def loop_loss(variables):
      return _nll(_free_running(model, variables, target), target)

    return jax.value_and_grad(loss)(variables), jax.value_and_grad(loop_loss)(variables)

  (value, gradient), (expected, expected_gradient) = run(variables)
  np.testing.assert_allclose(value, expected, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    gradient,
    expected_gradient,
  )


@pytest.mark.parametrize('name', OWN_TOKENS)
def test_a_sentence_is_forced_or_free_as_a_whole(name):
  options = OWN_TOKENS[name] | {
    'sampling_unit': 'sentence',
    'sampling_choice': 'argmax',
  }
  model, variables = _model(**options)
  target = _ids(2, 6, seed=3)

  @jax.jit
  def run(rate, key):
    hyper, rngs = {'scheduled_sampling': rate}, {'dropout': key}
    options = dict(train=True, hyper=hyper, rngs=rngs)
    return model.apply(variables, SOURCE, target, **options)

  forced = np.asarray(model.apply(variables, SOURCE, target))
  free = np.asarray(_free_running(model, variables, target))
  assert np.abs(forced - free).max(axis=(1, 2)).min() > 1e-2
  np.testing.assert_allclose(run(0.0, jax.random.key(0)), forced, atol=1e-5)
  is_free = []
  for seed in range(40):
    logits = np.asarray(run(0.25, jax.random.key(seed)))
    distances = [np.abs(logits - x).max(axis=(1, 2)) for x in (forced, free)]
    assert np.min(distances, axis=0).max() < 1e-4  # each row equals one of them
    is_free.append(distances[1] < 1e-4)
  is_free = np.array(is_free)
  assert abs(is_free.mean() - 0.25) < 4 * (0.25 * 0.75 / is_free.size) ** 0.5
  assert (is_free[:, 0] != is_free[:, 1]).any()  # rows are drawn independently


def test_dropout_acts_in_training():
  model, variables = _model(**ATTENTIVE)
  plain = model.apply(variables, SOURCE, TARGET)
  with pytest.raises(ValueError, match='set train=True'):
    model.apply(variables, SOURCE, TARGET, hyper={'dropout': 0.5})
  assert np.abs(_outputs(dropout=0.5)(TARGET) - plain).max() > 1e-2


@pytest.mark.parametrize('placement', ['before', 'after'])
def test_attention_weights_are_returned_on_request(placement):
  model, variables = _model(**ATTENTIVE | {'placement': placement})
  _, collections = model.apply(variables, SOURCE, TARGET, mutable=['intermediates'])
  (weights,) = collections['intermediates']['attend']['weights']  # [T, B, H, 1, S]
  assert weights.shape == (3, 2, 1, 1, 4)
  np.testing.assert_allclose(weights.sum(axis=-1), np.ones((3, 2, 1, 1)), atol=1e-5)


def test_packed_rows_are_refused():
  model, variables = _model()
  packing = Packing(SOURCE, SOURCE, TARGET, TARGET)
  with pytest.raises(ValueError, match=r"batching\.kind='buckets'"):
    model.apply(variables, SOURCE, TARGET, packing=packing)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'cell': 'gruu'}, r"unknown model\.cell 'gruu'"),
    ({'cell': {'kind': 'gru', 'forget_bias': 3.0}}, r'unknown key model\.cell\.forget'),
    ({'placement': 'above'}, r"model\.placement is 'above'"),
    ({'context': 'never'}, r"model\.context is 'never'"),
    ({'attention': 'dott'}, "did you mean 'dot'"),
    ({'attention': 'dot', 'attention_heads': 3}, '3 heads'),
    ({'copy_source': True}, r"set model\.attention, for example to 'additive'"),
    (
      {'copy_source': True, 'attention': 'dot', 'tie': 'none', 'source_size': V + 1},
      r'copy_source=True needs one vocabulary',
    ),
    ({'source_size': V + 1}, r'vocabulary\.shared=True'),
  ],
)
def test_wrong_options_are_refused(options, message):
  options = {'source_size': V, 'target_size': V, 'width': 8} | options
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(Recurrent(**options).init, jax.random.key(0), SOURCE, TARGET)


def test_every_parameter_has_logical_axes():
  model = Recurrent(V, V, width=8, layer_norm=True, attention='coverage')
  boxed = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    assert is_box(leaf)
    assert len(leaf.names) == leaf.value.ndim
