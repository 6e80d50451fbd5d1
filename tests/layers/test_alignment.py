"""Scores compared with their formulas, and attention with any score."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import SCORES, alignment
from seqlab.layers.alignment import Attention, Source
from seqlab.layers.device import ACCELERATOR, instead_of

B, T, S, D = 2, 3, 5, 4


@pytest.fixture(scope='module')
def inputs():
  q, k = jax.random.split(jax.random.key(0))
  query, keys = jax.random.normal(q, (B, T, D)), jax.random.normal(k, (B, S, D))
  mask = np.arange(S) < np.array([[5], [3]])
  coverage = jax.random.uniform(jax.random.key(1), (B, T, S))
  position = jnp.broadcast_to(jnp.arange(T), (B, T))
  return query, Source(keys, jnp.asarray(mask), coverage, position)


def _scores(name, inputs, **options):
  """The score's values [B, T, S] and its parameters, in float64."""
  score = getattr(alignment, name)(D, **options)
  query, source = inputs

  def call(m, query, source):
    return m(query, source.replace(keys=m.project(source.keys)))

  variables = nn.unbox(score.init(jax.random.key(2), query, source, method=call))
  scores = score.apply(variables, query, source, method=call)
  wide = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)  # noqa: E731
  return np.asarray(scores), wide(variables.get('params', {})), wide((query, source))


def test_dot_equals_written_out_values(inputs):
  scores, _, (q, m) = _scores('Dot', inputs)
  for b, t, s in np.ndindex(B, T, S):
    assert scores[b, t, s] == pytest.approx(q[b, t] @ m.keys[b, s], abs=1e-5)


def test_scaled_dot_is_dot_over_the_root_of_the_width(inputs):
  dot, scaled = (_scores(name, inputs)[0] for name in ('Dot', 'ScaledDot'))
  np.testing.assert_allclose(scaled, dot / 2, atol=1e-6)


def test_cosine_is_between_minus_and_plus_its_sharpness(inputs):
  scores, p, (q, m) = _scores('Cosine', inputs)
  for b, t, s in np.ndindex(B, T, S):
    q1, k1 = q[b, t], m.keys[b, s]
    cosine = q1 @ k1 / np.linalg.norm(q1) / np.linalg.norm(k1)
    expected = np.exp(p['log_sharpness']) * cosine
    assert scores[b, t, s] == pytest.approx(expected, abs=1e-4)


def test_general_equals_written_out_values(inputs):
  scores, p, (q, m) = _scores('General', inputs)
  for b, t, s in np.ndindex(B, T, S):
    expected = q[b, t] @ (m.keys[b, s] @ p['key']['kernel'])
    assert scores[b, t, s] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('name', ['Additive', 'Coverage'])
def test_additive_equals_written_out_values(inputs, name):
  scores, p, (q, m) = _scores(name, inputs)
  for b, t, s in np.ndindex(B, T, S):
    inside = q[b, t] @ p['query']['kernel'] + m.keys[b, s] @ p['key']['kernel']
    inside += p['key']['bias']
    if name == 'Coverage':
      inside += m.coverage[b, t, s] * p['covered']
    expected = np.tanh(inside) @ p['energy']
    assert scores[b, t, s] == pytest.approx(expected, abs=1e-5)


def test_concat_equals_written_out_values(inputs):
  scores, p, (q, m) = _scores('Concat', inputs)
  for b, t, s in np.ndindex(B, T, S):
    both = np.concatenate([q[b, t], m.keys[b, s]])
    expected = np.tanh(both @ p['kernel']) @ p['energy']
    assert scores[b, t, s] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('name', ['Additive', 'Concat', 'Coverage'])
def test_scores_computed_again_for_gradients_equal_kept_ones(inputs, name):
  score = getattr(alignment, name)(D)
  query, source = inputs
  params = nn.unbox(score.init(jax.random.key(2), query, source))

  def loss(params, query, keys, coverage):
    memory = source.replace(keys=keys, coverage=coverage)
    return (score.apply(params, query, memory) ** 2).sum()

  step = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))
  kept = step(params, query, source.keys, source.coverage)
  with instead_of(ACCELERATOR):
    again = step(params, query, source.keys, source.coverage)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), again, kept)


def test_location_does_not_depend_on_the_words(inputs):
  query, source = inputs
  scores, p, _ = _scores('Location', inputs, positions=8)
  np.testing.assert_allclose(
    scores, np.asarray(query) @ p['places']['kernel'][:, :S], atol=1e-5
  )
  other = query, source.replace(keys=source.keys + 1)
  np.testing.assert_array_equal(_scores('Location', other, positions=8)[0], scores)


def test_location_has_no_weight_beyond_its_last_position(inputs):
  with pytest.raises(
    ValueError, match=r'5 positions is longer than model.attention.positions=4'
  ):
    _scores('Location', inputs, positions=4)


def test_local_m_sees_a_window_around_the_position_of_the_output(inputs):
  query, source = inputs
  source = source.replace(position=source.position + 2)  # 2, 3, 4
  scores, *_ = _scores('LocalMonotonic', (query, source), window=1)
  seen = np.isfinite(scores)
  assert seen[0].astype(int).tolist() == [
    [0, 1, 1, 1, 0],
    [0, 0, 1, 1, 1],
    [0, 0, 0, 1, 1],
  ]
  # The second sentence has three words, and beyond the last the window stays there.
  assert seen[1].astype(int).tolist() == [[0, 1, 1, 1, 0]] * 3
  general = _scores('General', inputs)[0]
  np.testing.assert_allclose(scores[seen], general[seen], atol=1e-6)


def test_local_p_is_general_less_the_squared_distance(inputs):
  scores, p, (q, m) = _scores('LocalPredictive', inputs, window=2)
  for b, t, s in np.ndindex(B, T, S):
    share = np.tanh(q[b, t] @ p['where']['kernel']) @ p['centre']
    centre = (m.mask[b].sum() - 1) / (1 + np.exp(-share))
    general = q[b, t] @ (m.keys[b, s] @ p['key']['kernel'])
    expected = general - (s - centre) ** 2 / (2 * 1.0**2)  # σ is half the window
    if abs(s - centre) > 2:
      assert scores[b, t, s] == -np.inf
    else:
      assert scores[b, t, s] == pytest.approx(expected, abs=1e-4)


def _attention(inputs, score, heads=1):
  attention = Attention(score, D, heads)
  query, source = inputs
  coverage = jnp.zeros((B, heads, T, S))

  def call(m, query, source):
    keys, values = m.project(source.keys)
    return m(
      *(query, keys, values),
      **dict(mask=source.mask, coverage=coverage, position=source.position),
    )

  variables = nn.unbox(attention.init(jax.random.key(3), query, source, method=call))
  return attention.apply(variables, query, source, method=call)


@pytest.mark.parametrize('heads', [1, 2])
@pytest.mark.parametrize('score', SCORES)
def test_weights_are_a_distribution_over_the_words(inputs, score, heads):
  context, weights = _attention(inputs, score, heads)
  assert context.shape == (B, T, D)
  np.testing.assert_allclose(weights.sum(axis=-1), np.ones((B, heads, T)), atol=1e-5)
  assert np.abs(weights[1, :, :, 3:]).max() == 0  # padding of the second sentence


def test_a_context_is_the_weighted_sum_of_the_states(inputs):
  context, weights = _attention(inputs, 'dot')
  expected = np.einsum('bts,bsd->btd', weights[:, 0], inputs[1].keys)
  np.testing.assert_allclose(context, expected, atol=1e-5)


def test_the_control_gives_every_word_the_same_weight(inputs):
  _, weights = _attention(inputs, 'uniform')
  mask = np.asarray(inputs[1].mask)[:, None]  # [B, 1, S]
  expected = np.broadcast_to(mask / mask.sum(axis=-1, keepdims=True), (B, T, S))
  np.testing.assert_allclose(weights[:, 0], expected, atol=1e-6)


def test_a_row_of_padding_gives_no_nan(inputs):
  query, source = inputs
  nothing = source.replace(mask=jnp.zeros((B, S), bool))
  context, weights = _attention((query, nothing), 'dot')
  assert not np.any(weights)
  assert not np.any(context)


def nearness(query, memory):
  """Minus the squared distance, as a user would write it."""
  difference = query[:, :, None] - memory.keys[:, None]  # [B, T, S, D]
  return -(difference**2).sum(axis=-1)


def learned_nearness(query, memory):
  """The same after a linear map that is learned."""
  return nearness(nn.Dense(query.shape[-1], name='map')(query), memory)


@pytest.mark.parametrize('score', [nearness, learned_nearness])
def test_a_function_is_a_score(inputs, score):
  _, weights = _attention(inputs, score)
  np.testing.assert_allclose(weights.sum(axis=-1), np.ones((B, 1, T)), atol=1e-5)


def test_heads_must_divide_the_width(inputs):
  with pytest.raises(ValueError, match=r'3 heads do not divide a width of 4'):
    _attention(inputs, 'dot', heads=3)
