"""Kinds of positions as a model uses them."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import POSITIONS
from seqlab.layers.attention import MultiHeadAttention, causal_mask
from seqlab.layers.positions.sinusoidal import Sinusoidal, sinusoidal
from seqlab.pieces import make

H, K, L, CLIP = 2, 4, 6, 2
OPTIONS = {'shaw': dict(clip=CLIP), 't5': dict(buckets=8, max_distance=6)}


def _positions(kind, bidirectional=True, **options):
  specification = {'kind': kind, **OPTIONS.get(kind, {}), **options}
  context = dict(width=H * K, heads=H, bidirectional=bidirectional)
  positions = make(specification, POSITIONS, 'model.positions', **context)
  places = jnp.arange(L)[None]
  variables = positions.init(
    jax.random.key(0), places, places, method='attention_terms'
  )
  return positions, variables


@pytest.mark.parametrize('kind', ['shaw', 'transformer_xl', 't5', 'alibi'])
def test_shifting_all_positions_changes_nothing(kind):
  positions, variables = _positions(kind)
  places = jnp.arange(L)[None]
  unshifted, shifted = (
    positions.apply(variables, p, p, method='attention_terms')
    for p in (places, places + 50)
  )
  jax.tree.map(np.testing.assert_array_equal, unshifted, shifted)
  assert jax.tree.leaves(unshifted)


def test_alibi_falls_with_the_distance_on_both_sides():
  positions, variables = _positions('alibi')
  places = jnp.arange(3)[None]
  bias = positions.apply(variables, places, places, method='attention_terms').bias
  distance = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
  expected = -np.array([2.0**-4, 2.0**-8])[:, None, None] * distance
  np.testing.assert_allclose(bias[0], expected)


def test_t5_adds_the_table_entry_of_the_bucket():
  positions, variables = _positions('t5', bidirectional=False)
  bias = positions.apply(
    variables, jnp.array([[5]]), jnp.array([[7, 5, 4, 2]]), method='attention_terms'
  ).bias
  # Of the 8 buckets, 4 hold a single distance.
  table = variables['params']['bias'].unbox()
  np.testing.assert_array_equal(bias[0, :, 0], table[np.array([0, 0, 1, 3])].T)


@pytest.mark.parametrize(
  ('bidirectional', 'options', 'option'),
  [
    (True, dict(buckets=3), 'buckets'),
    (True, dict(buckets=32, max_distance=8), 'max_distance'),
    (False, dict(buckets=32, max_distance=16), 'max_distance'),
  ],
)
def test_t5_refuses_buckets_without_a_distance(bidirectional, options, option):
  with pytest.raises(ValueError, match=rf'model\.positions\.{option} is'):
    _positions('t5', bidirectional, **options)


def test_relative_vectors_equal_a_loop():
  positions, _ = _positions('shaw')
  layer = MultiHeadAttention(H * K, H, positions.layer_module())
  places, mask = jnp.arange(L)[None], causal_mask(L)
  terms = positions.apply({}, places, places, method='attention_terms')
  x = jax.random.normal(jax.random.key(1), (1, L, H * K))

  def attend(m, x):
    return m(x, *m.project(x), mask=mask, terms=terms)

  variables = layer.init(jax.random.key(2), x, method=attend)
  y = layer.apply(variables, x, method=attend)[0]
  p = jax.tree.map(lambda b: np.float64(b.unbox()), variables['params'], is_leaf=_boxed)
  q, k, v = (
    np.einsum('ld,dhk->lhk', x[0], p[n]['kernel']) for n in ('query', 'key', 'value')
  )
  expected = np.zeros((L, H * K))
  for i in range(L):
    relative = [max(-CLIP, min(CLIP, j - i)) + CLIP for j in range(i + 1)]
    for h in range(H):
      scores = [
        q[i, h] @ (k[j, h] + p['relative_key'][r]) for j, r in enumerate(relative)
      ]
      w = np.exp(np.array(scores) / K**0.5)
      w /= w.sum()
      read = [w[j] * (v[j, h] + p['relative_value'][r]) for j, r in enumerate(relative)]
      expected[i] += sum(read) @ p['out']['kernel'][h]
  np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize('bidirectional', [True, False])
def test_sinusoidal_distances_equal_a_loop(bidirectional):
  positions, _ = _positions('transformer_xl', bidirectional)
  layer = MultiHeadAttention(H * K, H, positions.layer_module())
  places = jnp.arange(L)[None]
  mask = None if bidirectional else causal_mask(L)
  terms = positions.apply({}, places, places, method='attention_terms')
  x = jax.random.normal(jax.random.key(1), (1, L, H * K))

  def attend(m, x):
    return m(x, *m.project(x), mask=mask, terms=terms)

  variables = nn.unbox(layer.init(jax.random.key(2), x, method=attend))
  params = variables['params']
  for i, name in enumerate(('content_bias', 'distance_bias')):
    assert not params[name].any()
    params[name] = jax.random.normal(jax.random.key(3 + i), (H, K))
  y = layer.apply(variables, x, method=attend)[0]
  p = jax.tree.map(np.float64, params)
  q, k, v = (
    np.einsum('ld,dhk->lhk', x[0], p[n]['kernel']) for n in ('query', 'key', 'value')
  )
  expected = np.zeros((L, H * K))
  for i in range(L):
    seen = range(L if bidirectional else i + 1)
    for h in range(H):
      scores = []
      for j in seen:
        r = np.float64(sinusoidal(jnp.array(j - i), H * K)) @ p['distance_kernel'][:, h]
        content = (q[i, h] + p['content_bias'][h]) @ k[j, h]
        scores.append(content + (q[i, h] + p['distance_bias'][h]) @ r)
      w = np.exp(np.array(scores) / K**0.5)
      w /= w.sum()
      expected[i] += sum(w[j] * v[j, h] for j in seen) @ p['out']['kernel'][h]
  np.testing.assert_allclose(y, expected, atol=1e-5)


def _boxed(x):
  return hasattr(x, 'unbox')


def test_sinusoidal_positions_can_be_scaled_down():
  x, places = jnp.zeros((2, 3, H * K)), jnp.array([[0, 1, 2], [0, 1, 0]])
  for at in (places[0], places):
    full, scaled = (
      _positions('sinusoidal', scaling=name)[0].apply({}, x, at, method='embed')
      for name in ('none', 'inverse_sqrt')
    )
    np.testing.assert_allclose(scaled, full / (H * K) ** 0.5, rtol=1e-6)


def test_positions_can_take_the_place_of_the_last_dimensions():
  options = dict(width=8, heads=1, bidirectional=True)
  positions = Sinusoidal(concatenated=4, **options)
  x = jax.random.normal(jax.random.key(0), (2, 3, 8))
  places = jnp.array([[0, 1, 2], [0, 0, 1]])
  expected = np.concatenate([x[..., :4], np.asarray(sinusoidal(places, 4))], axis=-1)
  np.testing.assert_allclose(positions.embed(x, places), expected, atol=1e-6)
  np.testing.assert_allclose(
    positions.embed(x, jnp.arange(3))[0], expected[0], atol=1e-6
  )
  one = jnp.full((2, 1), 2)  # a step of decoding
  np.testing.assert_allclose(
    positions.embed(x[:, 2:], one)[0, 0], expected[0, 2], atol=1e-6
  )
  for wrong in (3, 8):
    with pytest.raises(ValueError, match=r'positions\.concatenated is \d: set it'):
      Sinusoidal(concatenated=wrong, **options).embed(x, places)


def test_learned_positions_refuse_a_longer_row():
  positions, _ = _positions('learned', max_length=4)
  x = jnp.zeros((1, 4, 8))
  variables = positions.init(jax.random.key(0), x, jnp.arange(4), method='embed')
  added = positions.apply(variables, x, jnp.arange(4), method='embed')
  assert float(jnp.abs(added[:, 0] - added[:, 3]).min()) > 0
  with pytest.raises(
    ValueError, match=r'5 positions is longer than model\.positions\.max_length=4'
  ):
    positions.apply(variables, x, jnp.arange(5), method='embed')


@pytest.mark.parametrize('kind', [*POSITIONS][2:])
def test_other_kinds_add_nothing(kind):
  positions, variables = _positions(kind)
  x = jnp.ones((1, 3, 8))
  added = positions.apply(variables, x, jnp.arange(3), method='embed')
  np.testing.assert_array_equal(added, x)
