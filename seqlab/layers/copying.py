"""Copying words of the source: the pointer-generator of See et al. 2017.

"Get To The Point: Summarization with Pointer-Generator Networks", section 2.2,
https://arxiv.org/abs/1704.04368. Source and target must share one vocabulary.
"""

import jax
import jax.numpy as jnp

from seqlab.types import Array

# A logarithm of zero, finite so that differences and gradients are.
_NEVER = -1e9


def mix_copies(logits: Array, gate: Array, weights: Array, source: Array) -> Array:
  """Returns log p(v), p(v) = g softmax(logits)_v + (1 - g) Σ_s weights_s [source_s = v].

  Args:
    logits: [B, T, V] float32 of the words that are generated.
    gate: [B, T] float32, g = σ(gate) is the probability that a word is generated.
    weights: [B, T, S] attention weights.
    source: [B, S] ids.

  Returns:
    [B, T, V] float32.
  """
  nothing = jnp.zeros(logits.shape[1:], jnp.float32)
  copied = jax.vmap(lambda weights, ids: nothing.at[:, ids].add(weights))(
    weights, source
  )  # [B, T, V]
  occurs = copied > 0
  log_copied = jnp.where(occurs, jnp.log(jnp.where(occurs, copied, 1.0)), _NEVER)
  gate = gate[..., None]
  return jnp.logaddexp(
    jax.nn.log_sigmoid(gate) + jax.nn.log_softmax(logits),
    jax.nn.log_sigmoid(-gate) + log_copied,
  )
