"""Hard attention to one source position per target word, summed over all positions.

The position a_t that word t is aligned with is a latent variable, and the probability of
a sentence is the sum over all alignments. The forward algorithm computes it exactly, one
word after another: Wu et al. 2018, "Hard Non-Monotonic Attention for Character-Level
Transduction", https://arxiv.org/abs/1808.10024, and Wu and Cotterell 2019, "Exact Hard
Monotonic Attention for Character-Level Transduction", https://arxiv.org/abs/1905.06319.

A transition is a function of two arrays, `transition(past, scores) -> [N, S]`: from
log p(a_{t-1} | y_{<t}) and the scores of the positions it returns log p(a_t | y_{<t}).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqlab.types import Array

Transition = Callable[[Array, Array], Array]

# A logarithm of zero, finite so that differences and gradients are.
NEVER = -1e9


def independent(past: Array, scores: Array) -> Array:
  """p(a_t) ∝ exp(score(a_t)), whatever a_{t-1} was: order 0, Wu et al. 2018."""
  del past
  return jax.nn.log_softmax(scores)


def monotone(past: Array, scores: Array) -> Array:
  """p(a_t | a_{t-1}) ∝ exp(score(a_t)) for a_t ≥ a_{t-1}: Wu and Cotterell 2019.

  It is of order 1, without a matrix of all pairs of positions: their sums are sums over
  the positions up to one, and from one on.
  """
  from_here = jax.lax.cumlogsumexp(scores, axis=1, reverse=True)  # [N, S]
  arriving = scores + jax.lax.cumlogsumexp(past - from_here, axis=1)
  # The sum is 1 unless a score excludes every position from a_{t-1} on.
  return jax.nn.log_softmax(arriving)


def initial(rows: int, positions: int) -> Array:
  """Returns log p(a_0), [N, S]: before the first word the alignment is at the start."""
  return jnp.full((rows, positions), NEVER).at[:, 0].set(0.0)


def observe(predicted: Array, evidence: Array) -> Array:
  """Returns log p(a_t | y_{≤t}) of log p(a_t | y_{<t}) and log p(y_t | a_t): [N, S]."""
  return jax.nn.log_softmax(predicted + evidence)


def predict(transition: Transition, scores: Array, evidence: Array) -> Array:
  """Returns log p(a_t | y_{<t}) of every word by the forward algorithm.

  Args:
    transition: such as `monotone`.
    scores: [T, B, S] scores of the positions.
    evidence: [T, B, S] log p(y_t | a_t), plus any constant per word.

  Returns:
    [T, B, S] float32.
  """

  def step(past: Array, word: tuple[Array, Array]) -> tuple[Array, Array]:
    scores, evidence = word
    predicted = transition(past, scores)
    return observe(predicted, evidence), predicted

  first = initial(*scores.shape[1:])
  return jax.lax.scan(step, first, (scores, evidence))[1]
