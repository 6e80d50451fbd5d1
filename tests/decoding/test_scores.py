"""The best next tokens, against `lax.top_k` of all scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.scores import NextTokens
from seqlab.types import BOS, EOS, PAD

N, M, K = 6, 3, 6
FORBID = (5, 300)


def _tokens(logits, i=1):
  limit = jnp.array([9, 9, 9, 2, 9, 1])  # row 3 has to end at position 1
  return NextTokens.of(logits, i, limit, FORBID)


@pytest.mark.parametrize('V', [7, 640, 1031, 1000])  # 1031 is a prime
@pytest.mark.parametrize('kind', ['normal', 'ties', 'mostly impossible'])
def test_best_equals_top_k_of_all_scores(V, kind):
  rng = np.random.default_rng(V)
  logits = rng.normal(size=(N, V)).astype(np.float32)
  if kind == 'ties':
    logits = np.round(logits)
  elif kind == 'mostly impossible':
    possible = (rng.random(logits.shape) < 0.005) | (np.arange(V) == EOS)
    logits = np.where(possible, logits, -np.inf).astype(np.float32)
  earlier = jnp.array([0.0, -1.0, -2.0, 0.0, -jnp.inf, -0.5])

  @jax.jit
  def both(logits):
    tokens = _tokens(logits)
    every = tokens.allowed_logits - tokens.log_z[:, None] + earlier[:, None]
    k = min(K, V)
    return tokens.best(k, M, earlier), jax.lax.top_k(every.reshape(N // M, -1), k)

  (values, row, token), (expected, at) = both(logits)
  np.testing.assert_array_equal(values, expected)
  real = np.isfinite(expected)
  np.testing.assert_array_equal((row * V + token)[real], at[real])


def test_only_allowed_tokens_keep_their_logits():
  V = 10
  kept = np.isfinite(_tokens(jnp.zeros((N, V))).allowed_logits)
  anywhere = ~np.isin(np.arange(V), [PAD, BOS, *FORBID])
  np.testing.assert_array_equal(kept[[0, 1, 2, 4]], [anywhere] * 4)
  np.testing.assert_array_equal(kept[[3, 5]], [np.arange(V) == EOS] * 2)


def test_log_probabilities_are_those_of_the_model_before_the_exclusion():
  logits = np.log(np.full((N, 4), [0.1, 0.2, 0.3, 0.4]))
  tokens = _tokens(logits)
  logp = tokens.log_probability(jnp.arange(N) % 4)
  np.testing.assert_allclose(np.exp(logp), [0.1, 0.2, 0.3, 0.4, 0.1, 0.2], rtol=1e-5)
