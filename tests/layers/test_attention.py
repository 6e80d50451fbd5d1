"""Masks and multi-head attention."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.attention import (
  MultiHeadAttention,
  causal_mask,
  local_mask,
  padding_mask,
  segment_mask,
)
from seqlab.layers.positions.interface import PositionTerms
from seqlab.types import PAD


def _attention(dropout=None, **kwargs):
  layer = MultiHeadAttention(width=8, heads=2, **kwargs)
  x = jax.random.normal(jax.random.key(0), (2, 5, 8))
  call = lambda m, x, mask: m(x, *m.project(x), mask=mask, dropout=dropout)  # noqa: E731
  variables = layer.init(jax.random.key(1), x, None, method=call)
  return layer, variables, x, call


def test_attention_equals_a_written_out_reference():
  layer, variables, x, call = _attention()
  mask = causal_mask(5)
  y = layer.apply(variables, x, mask, method=call)
  p = {
    k: np.asarray(v['kernel'].unbox(), np.float64)
    for k, v in variables['params'].items()
  }
  x = np.asarray(x, np.float64)
  q, k, v = (np.einsum('bld,dhk->blhk', x, p[n]) for n in ('query', 'key', 'value'))
  expected = np.zeros_like(x)
  for b in range(2):
    for i in range(5):
      for h in range(2):
        scores = np.array([q[b, i, h] @ k[b, j, h] for j in range(i + 1)]) / 2.0
        w = np.exp(scores - scores.max())
        w /= w.sum()
        expected[b, i] += sum(w[j] * v[b, j, h] for j in range(i + 1)) @ p['out'][h]
  np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(
  'projections', ['query_is_key', 'no_value', 'no_output', 'one_matrix']
)
def test_matrices_that_are_missing_are_shared_or_the_identity(projections):
  layer, variables, x, call = _attention(projections=projections)
  y = layer.apply(variables, x, causal_mask(5), method=call)
  params = nn.unbox(variables)['params']
  p = {name: np.asarray(v['kernel'], np.float64) for name, v in params.items()}
  assert {*p} == {
    'query_is_key': {'query', 'value', 'out'},
    'no_value': {'query', 'key', 'out'},
    'no_output': {'query', 'key', 'value'},
    'one_matrix': {'query', 'out'},
  }[projections]
  identity = np.eye(8).reshape(8, 2, 4)  # slices of the width, one per head
  key = p.get('key', p['query'])
  value = p.get('value', identity if projections == 'no_value' else p['query'])
  out = p.get('out', np.moveaxis(identity, 0, 2))
  x = np.asarray(x, np.float64)
  q, k, v = (np.einsum('bld,dhk->blhk', x, w) for w in (p['query'], key, value))
  scores = np.einsum('blhk,bshk->bhls', q, k) / 2.0
  weights = np.exp(scores) * np.tril(np.ones((5, 5)))
  weights /= weights.sum(axis=-1, keepdims=True)
  expected = np.einsum('bhls,bshk,hkd->bld', weights, v, out)
  np.testing.assert_allclose(y, expected, atol=1e-5)


def test_attention_with_dropout_zero_equals_attention_without_dropout():
  layer, variables, x, call = _attention()
  mask = causal_mask(5)
  plain = layer.apply(variables, x, mask, method=call)
  dropping = lambda m, x, mask: m(x, *m.project(x), mask=mask, dropout=0.0)  # noqa: E731
  rngs = {'dropout': jax.random.key(2)}
  y = layer.apply(variables, x, mask, method=dropping, rngs=rngs)
  np.testing.assert_allclose(y, plain, atol=1e-6)


def test_a_bias_has_the_same_effect_with_dropout_of_weights():
  layer, variables, x, _ = _attention()
  terms = PositionTerms(bias=jax.random.normal(jax.random.key(3), (1, 2, 5, 5)))

  def attend(m, x, dropout):
    key, value = m.project(x)
    return m(x, key, value, dropout=dropout, terms=terms)

  rngs = {'dropout': jax.random.key(2)}
  fused, written_out = (
    layer.apply(variables, x, rate, method=attend, rngs=rngs) for rate in (None, 0.0)
  )
  np.testing.assert_allclose(fused, written_out, atol=1e-6)
  unbiased = layer.apply(variables, x, None, method=lambda m, x, _: m(x, *m.project(x)))
  assert float(jnp.abs(fused - unbiased).max()) > 0.01


def test_sown_weights_sum_to_one_and_respect_the_mask():
  layer, variables, x, call = _attention(dtype=jnp.bfloat16)
  mask = causal_mask(5)
  _, sown = layer.apply(variables, x, mask, method=call, mutable=['intermediates'])
  (weights,) = sown['intermediates']['weights']
  assert weights.shape == (2, 2, 5, 5)
  assert weights.dtype == jnp.float32
  np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
  assert float(jnp.where(mask, 0.0, weights).max()) == 0.0
  assert float(jnp.where(mask, weights, 1.0).min()) > 0.0


def test_sowing_does_not_change_the_output():
  layer, variables, x, call = _attention()
  mask = causal_mask(5)
  plain = layer.apply(variables, x, mask, method=call)
  y, _ = layer.apply(variables, x, mask, method=call, mutable=['intermediates'])
  np.testing.assert_allclose(y, plain, atol=1e-6)


def test_weights_are_sown_only_on_request():
  layer, variables, x, call = _attention()
  _, changed = layer.apply(variables, x, None, method=call, mutable=['other'])
  assert not changed


def test_removing_a_head_equals_zeroing_its_rows_of_the_output_projection():
  layer, variables, x, call = _attention()
  variables = nn.unbox(variables)
  ablation = {'keep': jnp.array([1.0, 0.0])}
  ablated = layer.apply({**variables, 'ablation': ablation}, x, None, method=call)
  out = variables['params']['out']['kernel'].at[1].set(0.0)
  params = variables['params'] | {'out': {'kernel': out}}
  expected = layer.apply({'params': params}, x, None, method=call)
  np.testing.assert_allclose(ablated, expected, atol=1e-6)
  plain = layer.apply(variables, x, None, method=call)
  assert float(jnp.abs(ablated - plain).max()) > 0.01


def test_scales_multiply_the_first_values_and_outputs():
  plain, scaled = _attention(), _attention(value_scale=0.5, out_scale=0.25)
  expected, actual = (nn.unbox(v['params']) for _, v, _, _ in (plain, scaled))
  for name, scale in (('query', 1), ('key', 1), ('value', 0.5), ('out', 0.25)):
    kernel = expected[name]['kernel'] * scale
    np.testing.assert_allclose(actual[name]['kernel'], kernel, rtol=1e-5)


def test_heads_must_divide_the_width():
  layer = MultiHeadAttention(width=8, heads=3)
  with pytest.raises(ValueError, match=r'3 heads do not divide a width of 8'):
    layer.init(jax.random.key(0), jnp.zeros((1, 2, 8)), method='project')


def test_padding_mask_hides_padding_only():
  ids = jnp.array([[5, 6, PAD]])
  np.testing.assert_array_equal(padding_mask(ids)[0, 0], [[True, True, False]])


def test_causal_mask_hides_the_future_only():
  np.testing.assert_array_equal(causal_mask(4)[0, 0], np.tril(np.ones((4, 4), bool)))


def test_segment_mask_separates_sentences():
  segment = jnp.array([[1, 1, 2, 0]])
  expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(
    segment_mask(segment, segment)[0, 0], np.bool_(expected)
  )


def test_local_mask_sees_the_window():
  mask = local_mask(jnp.arange(4), jnp.arange(4), 1)[0, 0]
  distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
  np.testing.assert_array_equal(mask, distance <= 1)


def test_local_mask_depends_on_the_positions_of_each_row():
  positions = jnp.array([[0, 1, 2], [0, 1, 0]])  # two sentences in the second row
  mask = local_mask(positions, positions, 1)
  assert mask.shape == (2, 1, 3, 3)
  np.testing.assert_array_equal(mask[:, 0, 0, 2], [False, True])


def test_masks_are_composed_with_and():
  ids = jnp.array([[5, 6, 7, PAD]])
  mask = causal_mask(4) & padding_mask(ids) & local_mask(*[jnp.arange(4)] * 2, 1)
  expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]
  np.testing.assert_array_equal(mask[0, 0], np.bool_(expected))
