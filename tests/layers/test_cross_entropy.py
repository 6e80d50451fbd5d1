"""The fused loss compared with its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import cross_entropy as module
from seqlab.layers.cross_entropy import cross_entropy

B, T, D, V = 3, 7, 8, 30


def _inputs():
  rng = np.random.default_rng(0)
  hidden = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
  table = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
  labels = jnp.asarray(rng.integers(0, V, (B, T)), jnp.int32)
  weights = jnp.asarray(rng.random((B, T)) < 0.7, jnp.float32)
  return hidden, table, labels, weights


def _written_out(hidden, table, labels, weights, smoothing):
  logp = jax.nn.log_softmax(hidden @ table.T)
  target = (1 - smoothing) * jax.nn.one_hot(labels, V) + smoothing / V
  return -(weights[..., None] * target * logp).sum()


@pytest.mark.parametrize('chunk_bytes', [1, 4 * B * V * 2, 10**9])
def test_loss_and_gradients_equal_the_formula(chunk_bytes):
  hidden, table, labels, weights = _inputs()
  fused = lambda h, t: cross_entropy(h, t, labels, weights, 0.1, chunk_bytes).loss  # noqa: E731
  plain = lambda h, t: _written_out(h, t, labels, weights, 0.1)  # noqa: E731
  loss, grads = jax.value_and_grad(fused, (0, 1))(hidden, table)
  expected, expected_grads = jax.value_and_grad(plain, (0, 1))(hidden, table)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  for grad, want in zip(grads, expected_grads, strict=True):
    np.testing.assert_allclose(grad, want, atol=1e-5)


@pytest.mark.parametrize(
  ('B', 'V', 'chunks'), [(180, 10_000, 11), (18, 70_000, 2), (18, 500_000, 8)]
)
def test_a_large_table_is_read_for_few_chunks_on_a_cpu(B, V, chunks):
  def of_shape(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)

  jaxpr = jax.make_jaxpr(cross_entropy)(
    *(of_shape(B, 22, 128), of_shape(V, 128)),
    *(of_shape(B, 22, dtype=jnp.int32), of_shape(B, 22)),
  )
  assert f'length={chunks}' in str(jaxpr)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
@pytest.mark.parametrize('T', [1, 16, 19, 20, 22, 40, 100, 128])
@pytest.mark.parametrize('positions', [1, 5, 16, 21, 41, 107, 1_000])
def test_chunks_are_as_few_and_as_full_as_their_size_admits(
  monkeypatch, platform, T, positions
):
  monkeypatch.setattr(module, 'platform', lambda: platform)
  chunks, size = module._chunks(T, positions)
  least = -(-T // positions)
  assert size <= positions
  assert 0 <= chunks * size - T < chunks
  if chunks > least:
    assert (platform, size % 16, chunks * size) == ('tpu', 0, T)


def test_nll_is_the_loss_without_smoothing():
  hidden, table, labels, weights = _inputs()
  sums = cross_entropy(hidden, table, labels, weights, 0.2)
  expected = _written_out(hidden, table, labels, weights, 0.0)
  np.testing.assert_allclose(sums.nll, expected, rtol=1e-5)


def test_correct_counts_words_whose_logit_is_largest():
  hidden, table, _, weights = _inputs()
  best = jnp.argmax(hidden @ table.T, axis=-1)
  sums = cross_entropy(hidden, table, best.at[0].set((best[0] + 1) % V), weights)
  assert float(sums.correct) == float(weights[1:].sum())


def test_smoothing_is_traced():
  hidden, table, labels, weights = _inputs()
  loss = jax.jit(lambda e: cross_entropy(hidden, table, labels, weights, e).loss)
  assert float(loss(0.0)) != float(loss(0.1))
  assert loss._cache_size() == 1


def test_large_logits_stay_finite():
  hidden, table, labels, weights = _inputs()
  sums = cross_entropy(hidden * 1e4, table, labels, weights, 0.1)
  assert np.isfinite(float(sums.loss))
