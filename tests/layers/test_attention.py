"""Masks and multi-head attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.attention import (
  KVCache,
  MultiHeadAttention,
  causal_mask,
  padding_mask,
  segment_mask,
)
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


def test_attention_with_dropout_zero_equals_attention_without():
  layer, variables, x, call = _attention()
  mask = causal_mask(5)
  plain = layer.apply(variables, x, mask, method=call)
  dropping = lambda m, x, mask: m(x, *m.project(x), mask=mask, dropout=0.0)  # noqa: E731
  rngs = {'dropout': jax.random.key(2)}
  y = layer.apply(variables, x, mask, method=dropping, rngs=rngs)
  np.testing.assert_allclose(y, plain, atol=1e-6)


def test_heads_must_divide_the_width():
  layer = MultiHeadAttention(width=8, heads=3)
  with pytest.raises(ValueError, match=r'3 heads do not divide a width of 8'):
    layer.init(jax.random.key(0), jnp.zeros((1, 2, 8)), method='project')


def test_padding_mask_hides_padding_only():
  ids = jnp.array([[5, 6, PAD]])
  np.testing.assert_array_equal(padding_mask(ids)[0, 0], [[True, True, False]])


def test_causal_mask_hides_the_future_only():
  np.testing.assert_array_equal(causal_mask(4)[0, 0], np.tril(np.ones((4, 4), bool)))


def test_segment_mask_keeps_sentences_apart():
  segment = jnp.array([[1, 1, 2, 0]])
  expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
  np.testing.assert_array_equal(
    segment_mask(segment, segment)[0, 0], np.bool_(expected)
  )


def test_cache_appends_in_place_and_knows_its_length():
  cache = KVCache.empty((2, 3, 1, 1), jnp.float32)
  for i in range(2):
    cache = cache.append(jnp.full((2, 1, 1, 1), i + 1.0), jnp.full((2, 1, 1, 1), 9.0))
  np.testing.assert_array_equal(cache.key[0, :, 0, 0], [1, 2, 0])
  np.testing.assert_array_equal(cache.mask[0, 0, 0], [True, True, False])
