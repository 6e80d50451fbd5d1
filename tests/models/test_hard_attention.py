"""Hard attention compared with the sum over all alignments, and its parts."""

import functools
import itertools

from flax import linen as nn
from flax.core import FrozenDict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import testing
from seqlab.decoding.beam import beam_search, greedy_search
from seqlab.layers import TRANSITIONS
from seqlab.layers.cross_entropy import mixture_cross_entropy
from seqlab.models.hard_attention import HardAttention
from seqlab.models.interface import attention_weights
from seqlab.tasks.translation import SequenceToSequence
from seqlab.types import EOS, PAD

V = 9
SOURCE = np.array([[4, 5, 6, EOS], [7, 8, EOS, PAD], [PAD] * 4], np.int32)
TARGET = np.array([[5, 6, EOS], [8, EOS, PAD], [PAD] * 3], np.int32)
LENGTHS = (4, 3), (3, 2)  # positions of source and target of the first two sentences


@pytest.fixture(scope='module', params=TRANSITIONS)
def trained(request):
  """A model with each transition, and variables in which a difference shows."""
  model = HardAttention(V, V, width=6, dtype='float32', transition=request.param)
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(0), SOURCE, TARGET))
  return model, jax.tree.map(lambda x: 2 * x, variables)


def _exhaustive(model, variables):
  """Returns log p of the first two targets, each summed over all alignments."""
  scores, logits = model.apply(variables, SOURCE, TARGET, method='potentials')
  totals = []
  for b, (S, T) in enumerate(LENGTHS):
    emission = jax.nn.log_softmax(logits[b, :T, :S])  # [T, S, V]
    reachable = np.ones((S, S), bool)
    if model.transition == 'monotone':
      reachable = np.triu(reachable)
    each = jnp.where(reachable, scores[b, :T, None, :S], -jnp.inf)
    transition = jax.nn.log_softmax(each)  # [T, S, S], from and to
    a = np.array(list(itertools.product(range(S), repeat=T)))  # [alignments, T]
    if model.transition == 'monotone':
      a = a[(np.diff(a) >= 0).all(axis=1)]
    before, t = np.pad(a, ((0, 0), (1, 0)))[:, :-1], np.arange(T)
    terms = transition[t, before, a] + emission[t, a, TARGET[b, :T]]
    totals.append(jax.nn.logsumexp(terms.sum(axis=1)))
  return jnp.stack(totals)


def _marginal(model, variables):
  """Returns log p of the first two targets by the forward algorithm."""
  logp = model.apply(variables, SOURCE, TARGET)
  of_words = jnp.take_along_axis(logp, TARGET[..., None], axis=-1)[..., 0]
  return jnp.where(TARGET != PAD, of_words, 0.0).sum(axis=1)[:2]


def test_the_marginal_and_its_gradient_equal_the_sum_over_all_alignments(trained):
  model, variables = trained

  @functools.partial(jax.jit, static_argnums=0)
  def both(log_p, variables):
    values, pull = jax.vjp(lambda v: log_p(model, v), variables)
    return values, pull(jnp.array([1.0, 0.5]))[0]

  actual, expected = (both(log_p, variables) for log_p in (_marginal, _exhaustive))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), actual, expected
  )


def test_each_step_is_a_distribution_over_words_and_over_positions(trained):
  model, variables = trained
  logp = model.apply(variables, SOURCE, TARGET)
  np.testing.assert_allclose(jnp.exp(logp).sum(axis=-1), np.ones((3, 3)), atol=1e-5)
  (weights,) = attention_weights(model, variables, SOURCE, TARGET)['cross']
  assert weights.shape == (3, 1, 3, 4)
  np.testing.assert_allclose(weights.sum(axis=-1), np.ones((3, 1, 3)), atol=1e-5)
  assert weights[1, :, :, 3].max() == 0


@pytest.mark.parametrize(
  'options',
  [
    dict(score=FrozenDict(kind='local_monotonic', window=1), layers=2, cell='gru'),
    dict(score='additive', context='always', bidirectional=False, tie='all'),
  ],
  ids=['local', 'context'],
)
def test_cached_decoding_equals_training_with_other_options(options):
  testing.check_cached_decoding('hard_attention', **options)


def _search(model, variables, beam):
  memory = model.apply(variables, SOURCE[:2], method='encode')
  state = model.apply(variables, memory, 2 * (beam or 1), 4, method='start')
  step = lambda s, token: model.apply(variables, memory, s, token, method='step')  # noqa: E731
  if beam:
    return beam_search(step, state, batch_size=2, beam_size=beam, max_len=4, alpha=0.0)
  return greedy_search(step, state, batch_size=2, max_len=4)


def test_the_scores_of_a_search_are_log_p_of_its_outputs(trained):
  model, variables = trained
  tokens, scores = jax.jit(lambda v: _search(model, v, 3))(variables)
  outputs = tokens.reshape(6, 4)
  logp = model.apply(variables, np.repeat(SOURCE[:2], 3, axis=0), outputs)
  of_words = jnp.take_along_axis(logp, outputs[..., None], axis=-1)[..., 0]
  expected = jnp.where(outputs != PAD, of_words, 0.0).sum(axis=1).reshape(2, 3)
  np.testing.assert_allclose(scores, expected, atol=1e-4)
  _, greedy = jax.jit(lambda v: _search(model, v, None))(variables)
  assert (scores[:, 0] >= greedy - 1e-4).all()


def test_a_row_of_padding_has_a_finite_gradient(trained):
  model, variables = trained

  def loss(variables):
    batch = {'source': SOURCE, 'target': TARGET}
    task = SequenceToSequence(model, V)
    return task.loss(variables, batch, None, {'label_smoothing': 0.1}).value

  value, gradient = jax.jit(jax.value_and_grad(loss))(variables)
  assert np.isfinite(value)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_the_loss_of_a_mixture_is_smoothed_over_its_distribution():
  p = np.array([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]])
  labels, weights = np.array([[0, 2]]), np.array([[1.0, 0.5]])
  sums = mixture_cross_entropy(jnp.log(p), labels, weights, 0.3)
  nll = -(np.log(0.5) + 0.5 * np.log(0.1))
  uniform = -(np.log(p).mean(axis=-1) * weights).sum()
  assert float(sums.nll) == pytest.approx(nll, rel=1e-5)
  assert float(sums.loss) == pytest.approx(0.7 * nll + 0.3 * uniform, rel=1e-5)
  assert float(sums.correct) == 1.0


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'transition': 'monoton'}, "did you mean 'monotone'"),
    ({'score': 'coverage'}, r"model\.score='coverage' reads the attention of earlier"),
    ({'score': 'dott'}, "did you mean 'dot'"),
  ],
)
def test_wrong_options_are_refused(options, message):
  model = HardAttention(V, V, width=6, **options)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)
