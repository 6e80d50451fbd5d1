import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.sampling import keep_epsilon, keep_top_k, keep_top_p, sample
from seqlab.types import BOS, EOS, PAD

V, L = 8, 6


@functools.partial(jax.jit, static_argnames=('step', 'L', 'top_k'))
def _draw(step, table, rng, limit, ids, temperature, top_p, *, L, top_k):
  return sample(
    functools.partial(step, table),
    {'state': jnp.zeros(len(table), jnp.int32)},
    rng,
    batch_size=len(table),
    max_len=L,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    limit=limit,
    ids=ids,
  )


@pytest.fixture(scope='module')
def draw(toy):
  def run(
    table, *, seed=0, ids=None, limit=L, temperature=1.0, top_k=0, top_p=1.0, L=L
  ):
    B = len(table)
    ids = np.arange(B) if ids is None else ids
    limit = np.broadcast_to(limit, B)
    rng = jax.random.key(seed)
    out = _draw(toy.step, table, rng, limit, ids, temperature, top_p, L=L, top_k=top_k)
    return jax.device_get(out)

  return run


@pytest.fixture(scope='module')
def model(toy):
  return toy(6, V, seed=7)


def kept(logits):
  return np.isfinite(np.asarray(logits))


@pytest.mark.parametrize('epsilon', [0.0, 0.1, 0.9])
def test_epsilon_keeps_probable_tokens_and_the_most_probable_one(epsilon):
  logits = np.random.default_rng(3).normal(size=(20, V)).astype(np.float32)
  probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  expected = probability >= epsilon
  expected[np.arange(20), probability.argmax(axis=1)] = True
  np.testing.assert_array_equal(kept(keep_epsilon(logits, epsilon)), expected)


@pytest.mark.parametrize('k', [1, 3, V, V + 5])
def test_top_k_keeps_the_k_largest_logits(k):
  logits = np.random.default_rng(k).normal(size=(20, V)).astype(np.float32)
  ranks = (-logits).argsort(axis=1).argsort(axis=1)
  np.testing.assert_array_equal(
    keep_top_k(logits, k), np.where(ranks < k, logits, -np.inf)
  )


@pytest.mark.parametrize('p', [1e-6, 0.3, 0.9, 1.0])
def test_top_p_keeps_the_smallest_set_with_probability_p(p):
  logits = np.random.default_rng(1).normal(0, 2, size=(50, V)).astype(np.float32)
  filtered = jax.jit(keep_top_p)(logits, p)  # p is traced
  for row, mask in zip(logits.astype(np.float64), kept(filtered), strict=True):
    order = row.argsort()[::-1]
    mass = np.exp(row[order] - np.logaddexp.reduce(row)).cumsum()
    count = V if p == 1 else np.searchsorted(mass, p) + 1
    assert set(np.flatnonzero(mask)) == set(order[:count])


def test_top_p_keeps_ties_whatever_their_order():
  np.testing.assert_array_equal(
    kept(keep_top_p(jnp.array([0.0, 5.0, 0.0, 5.0, -jnp.inf]), 0.4)),
    [False, True, False, True, False],
  )


def test_filters_keep_forbidden_words_forbidden():
  logits = jnp.array([[-jnp.inf, 1.0, -jnp.inf, 0.0]])
  np.testing.assert_array_equal(kept(keep_top_p(logits, 1.0)), kept(logits))
  np.testing.assert_array_equal(kept(keep_top_k(logits, 3)), kept(logits))


def test_a_sentence_draws_the_same_alone_as_in_a_batch(model, draw):
  ids = np.array([40, 7, 3, 99, 0, 12])
  tokens, logp = draw(model.table, ids=ids)
  for b in range(6):
    alone, score = draw(model.table[b : b + 1], ids=ids[b : b + 1])
    np.testing.assert_array_equal(alone[0], tokens[b])
    np.testing.assert_array_equal(score[0], logp[b])


def test_samples_depend_on_ids_and_the_key(model, draw):
  table = np.repeat(model.table[:1], 32, axis=0)
  repeated, _ = draw(table, ids=np.zeros(32, np.int32))
  assert (repeated == repeated[0]).all()
  differ, _ = draw(table)
  assert len(np.unique(differ, axis=0)) > 5
  other_key, _ = draw(table, seed=1)
  assert (differ != other_key).any()


def test_frequencies_are_the_models_probabilities(model, draw):
  n, temperature = 1000, 1.5
  first = np.array([model.logp(0, (w,)) for w in range(V)])
  expected = np.exp(first / temperature)
  expected[[PAD, BOS]] = 0.0
  expected /= expected.sum()
  table = np.repeat(model.table[:1], n, axis=0)
  tokens, _ = draw(table, temperature=temperature, limit=2, L=2)
  frequencies = np.bincount(tokens[:, 0], minlength=V) / n
  np.testing.assert_allclose(frequencies, expected, atol=4 * 0.5 / np.sqrt(n))


def test_log_p_is_that_of_the_model_at_any_temperature(model, draw):
  tokens, logp = draw(model.table, temperature=3.0)
  expected = [model.logp(b, y[y != PAD]) for b, y in enumerate(tokens)]
  np.testing.assert_allclose(logp, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'narrow', [{'temperature': 1e-4}, {'top_k': 1}, {'top_p': 1e-6}]
)
def test_sampling_from_one_word_is_greedy(model, draw, greedy, narrow):
  limit = np.arange(6) + 1
  expected, _ = greedy(model.table, limit, L=L)
  np.testing.assert_array_equal(draw(model.table, limit=limit, **narrow)[0], expected)


def test_outputs_end_within_their_limits(model, draw):
  limit = np.arange(6) + 1
  tokens, _ = draw(model.table, limit=limit)
  assert ((tokens == EOS).sum(axis=1) == 1).all()
  assert ((tokens != PAD).sum(axis=1) <= limit).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'temperature': 0.0}, r'temperature=0.0 must be above 0'),
    ({'top_k': -1}, r'top_k=-1 is negative'),
    ({'epsilon': 1.0}, r'epsilon=1.0 must'),
    ({'top_p': 1.5}, r'top_p=1.5 must be above 0'),
  ],
)
def test_arguments_out_of_range_are_named(change, message):
  def step(cache, token):
    return cache, jnp.zeros((2, V))

  with pytest.raises(ValueError, match=message):
    sample(step, {}, jax.random.key(0), batch_size=2, max_len=3, **change)
