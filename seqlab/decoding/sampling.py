"""Sampling from any model that can take one step, and filters on its logits."""

import jax
import jax.numpy as jnp

from seqlab.decoding.beam import Step, unroll
from seqlab.decoding.rules import NO_RULES, Rules
from seqlab.decoding.scores import NextTokens
from seqlab.types import Array, PyTree


def sample(
  step: Step,
  cache: PyTree,
  rng: Array,
  *,
  batch_size: int,
  max_len: int,
  temperature: Array | float = 1.0,
  top_k: int = 0,
  top_p: Array | float = 1.0,
  epsilon: Array | float = 0.0,
  limit: Array | None = None,
  ids: Array | None = None,
  forbid: tuple[int, ...] = (),
  rules: Rules = NO_RULES,
) -> tuple[Array, Array]:
  """Samples one output per sentence.

  Logits are divided by the temperature, then filtered by `top_k`, by `top_p` and by
  `epsilon`.
  Random bits depend on `rng`, the sentence's id and the position, so that the output
  of a sentence does not depend on its batch.

  Args:
    step: (cache, tokens [B]) -> (cache, logits [B, V]).
    cache: state of the model for `step`; every leaf is [B, ...].
    rng: random key.
    batch_size: number of sentences B.
    max_len: maximum length of outputs L, including EOS.
    temperature: temperature above 0, may be traced; near 0 sampling becomes greedy.
    top_k: number of the most probable tokens that may be sampled; 0 allows all.
    top_p: total probability of the most probable tokens that may be sampled, above 0,
      may be traced; 1 allows all.
    epsilon: smallest probability of a token that may be sampled, below 1, may be
      traced; 0 allows all.
    limit: [B] maximum length of each output, as in `beam_search`.
    ids: [B] integers that identify the sentences; by default their rows.
    forbid: ids that are never chosen, in addition to PAD and BOS.
    rules: as in `beam_search`.

  Returns:
    Tokens [B, L] int32, PAD after EOS, and log p [B] under the model at temperature 1
    without filters.

  Raises:
    ValueError: temperature, `top_k`, `top_p` or `epsilon` out of range (where not
      traced), or what `beam_search` raises.
  """
  if isinstance(temperature, int | float) and temperature <= 0:
    raise ValueError(f'temperature={temperature} must be above 0; or use greedy search')
  if top_k < 0:
    raise ValueError(f'top_k={top_k} is negative; 0 allows all tokens')
  if isinstance(top_p, int | float) and not 0 < top_p <= 1:
    raise ValueError(f'top_p={top_p} must be above 0 and at most 1')
  if isinstance(epsilon, int | float) and not 0 <= epsilon < 1:
    raise ValueError(f'epsilon={epsilon} must be at least 0 and below 1')
  ids = jnp.arange(batch_size) if ids is None else ids
  # By id, since the number of a row would depend on the batch.
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, ids)  # [B]

  def draw(tokens: NextTokens, i: Array) -> Array:
    logits = tokens.allowed_logits / temperature  # [B, V]
    if top_k:
      logits = keep_top_k(logits, top_k)
    # A traced value is not known here, so it is always applied.
    if not isinstance(top_p, int | float) or top_p < 1:
      logits = keep_top_p(logits, top_p)
    if not isinstance(epsilon, int | float) or epsilon > 0:
      logits = keep_epsilon(logits, epsilon)
    at = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i)
    return jax.vmap(jax.random.categorical)(at, logits)  # [B]

  return unroll(
    step,
    cache,
    draw,
    batch_size=batch_size,
    max_len=max_len,
    limit=limit,
    forbid=forbid,
    rules=rules,
  )


def keep_top_k(logits: Array, k: int) -> Array:
  """Sets all but the k largest logits to -inf; ties with the k-th are kept.

  Fan et al., "Hierarchical Neural Story Generation", 2018, section 5.4,
  https://arxiv.org/abs/1805.04833

  Args:
    logits: [..., V].
    k: number of logits to keep, at least 1; V or more keeps all.

  Returns:
    [..., V].
  """
  lowest = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
  return jnp.where(logits >= lowest, logits, -jnp.inf)


def keep_top_p(logits: Array, p: Array | float) -> Array:
  """Keeps the smallest set of most probable tokens with a total probability of p.

  The logits of other tokens become -inf; ties with the last one kept are kept. This is
  nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration",
  2020, section 3.1, https://arxiv.org/abs/1904.09751

  Args:
    logits: [..., V].
    p: probability above 0, may be traced; the most probable token is always kept, and
      1 keeps all.

  Returns:
    [..., V].
  """
  ordered = jnp.sort(logits, axis=-1, descending=True)
  probability = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(probability, axis=-1) - probability  # of more probable tokens
  count = jnp.maximum((before < p).sum(axis=-1, keepdims=True), 1)
  lowest = jnp.take_along_axis(ordered, count - 1, axis=-1)
  # By rounding, the running sum can exceed 1 before the last token.
  return jnp.where((logits >= lowest) | (p >= 1), logits, -jnp.inf)


def keep_epsilon(logits: Array, epsilon: Array | float) -> Array:
  """Keeps the tokens with a probability of at least epsilon, and the most probable one.

  The logits of other tokens become -inf. Hewitt et al., "Truncation Sampling as
  Language Model Desmoothing", 2022, section 3, https://arxiv.org/abs/2210.15191

  Args:
    logits: [..., V].
    epsilon: probability below 1, may be traced; 0 keeps all.

  Returns:
    [..., V].
  """
  is_likely = jax.nn.softmax(logits, axis=-1) >= epsilon
  is_likely |= logits == logits.max(axis=-1, keepdims=True)
  return jnp.where(is_likely, logits, -jnp.inf)
