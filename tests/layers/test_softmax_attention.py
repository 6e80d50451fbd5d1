"""Attention with its own backward pass, compared with automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.dropout import drop
from seqlab.layers.softmax_attention import Drop, softmax_attention

B, L, S, H, K = 3, 5, 7, 2, 4


def _inputs(dtype=jnp.float32):
  rng = np.random.default_rng(0)
  shapes = [(B, L, H, K), (B, S, H, K), (B, S, H, K), (1, H, L, S)]
  query, key, value, bias = (rng.normal(size=s).astype(np.float32) for s in shapes)
  mask = rng.random((B, 1, L, S)) < 0.7
  mask[1, 0, 2] = False  # a row that attends to nothing
  arrays = (jnp.asarray(x, dtype) for x in (query, key, value))
  return *arrays, jnp.asarray(bias), jnp.asarray(mask)


def _written_out(query, key, value, bias, mask, dropout):
  scores = jnp.einsum('blhk,bshk->bhls', query, key) * K**-0.5
  scores = scores if bias is None else scores + bias
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores)
  if dropout is not None:
    weights = drop(weights, dropout.key, dropout.rate)
  return jnp.einsum('bhls,bshk->blhk', weights, value)


def _loss(attend, *fixed):
  probe = jnp.asarray(np.random.default_rng(1).normal(size=(B, L, H, K)), jnp.float32)
  return lambda *args: (probe * attend(*args, *fixed).astype(jnp.float32)).sum()


def _dropout():
  return Drop(jax.random.key(3), jnp.float32(0.4))


@pytest.mark.parametrize('with_bias', [False, True])
@pytest.mark.parametrize('with_mask', [False, True])
@pytest.mark.parametrize('dropout', [None, _dropout()])
def test_value_and_gradients_equal_those_of_the_formula(with_bias, with_mask, dropout):
  query, key, value, bias, mask = _inputs()
  fixed = (mask if with_mask else None, dropout)
  args = (query, key, value, bias if with_bias else None)
  wanted = (0, 1, 2, 3) if with_bias else (0, 1, 2)
  got, gradients = jax.value_and_grad(_loss(softmax_attention, *fixed), wanted)(*args)
  expected, want = jax.value_and_grad(_loss(_written_out, *fixed), wanted)(*args)
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  for gradient, w in zip(gradients, want, strict=True):
    np.testing.assert_allclose(gradient, w, atol=2e-6)


def test_gradients_in_bfloat16_are_those_of_float32_within_its_precision():
  *exact, bias, mask = _inputs()
  *narrow, _, _ = _inputs(jnp.bfloat16)
  gradient = jax.grad(_loss(softmax_attention, bias, mask, None), (0, 1, 2))
  for got, want in zip(gradient(*narrow), gradient(*exact), strict=True):
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(np.float32), want, atol=0.06)


def test_the_backward_pass_keeps_no_float32_array_of_all_pairs():
  query, key, value, bias, mask = _inputs(jnp.bfloat16)
  _, pullback = jax.vjp(
    lambda q, k, v: softmax_attention(q, k, v, bias, mask, None), query, key, value
  )
  pairs = [x for x in jax.tree.leaves(pullback) if x.shape == (B, H, L, S)]
  assert [x.dtype for x in pairs] == [jnp.bfloat16]


def test_a_masked_position_has_no_effect_and_no_gradient():
  query, key, value, _, mask = _inputs()
  mask = mask.at[:, :, :, 4].set(False).at[1, 0, 2].set(True).at[:, :, :, 4].set(False)
  attend = lambda k, v: softmax_attention(query, k, v, None, mask, None)  # noqa: E731
  changed = attend(key.at[:, 4].add(9.0), value.at[:, 4].add(9.0))
  np.testing.assert_array_equal(attend(key, value), changed)
  for gradient in jax.grad(lambda k, v: attend(k, v).sum(), (0, 1))(key, value):
    np.testing.assert_array_equal(gradient[:, 4], 0.0)


@pytest.mark.parametrize('shape', [(L, S), (H, L, S), (B, 1, 1, S), (1, H, 1, 1)])
def test_the_gradient_of_a_bias_has_the_shape_of_the_bias(shape):
  query, key, value, _, mask = _inputs()
  bias = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
  fixed = (mask, _dropout())
  got = jax.grad(_loss(softmax_attention, *fixed), 3)(query, key, value, bias)
  want = jax.grad(_loss(_written_out, *fixed), 3)(query, key, value, bias)
  np.testing.assert_allclose(got, want, atol=2e-6)


def test_gradients_of_scores_in_bfloat16_sum_to_zero_with_dropout():
  # The rate 0.1 is not a bfloat16: two roundings of 1 - rate would leave a sum.
  rng = np.random.default_rng(0)
  shape = (1, 64, 1, 64)
  query, key = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for _ in range(2))
  value = jnp.asarray(1 + 0.1 * rng.normal(size=shape), jnp.bfloat16)
  dropout = Drop(jax.random.key(0), jnp.float32(0.1))

  def total(bias):
    return (
      softmax_attention(query, key, value, bias, None, dropout)
      .astype(jnp.float32)
      .sum()
    )

  gradient = jax.grad(total)(jnp.zeros((1, 1, 64, 64)))
  assert abs(gradient.sum(axis=-1).mean()) < 0.02
