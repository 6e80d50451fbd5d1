"""Counting the n-grams that two token sequences share."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.metrics.tokenizers import Words
from seqlab.types import Array

_PAIRWISE = 384  # tokens up to which comparing all pairs is faster than sorting


def clipped_matches(hypothesis: Words, references: Words, order: int) -> Array:
  """Counts the n-grams of the hypothesis that occur in a reference, n = 1 ... order.

  The count of each n-gram is clipped by its largest count in one reference (Papineni
  et al. 2002, section 2.1).

  Args:
    hypothesis: tokens [..., K, 2] and counts [...].
    references: tokens [..., R, K', 2] and counts [..., R].
    order: the largest n.

  Returns:
    [..., order] int32.
  """
  lead, K = hypothesis.count.shape, hypothesis.hashes.shape[-2]
  R, J = references.hashes.shape[-3:-1]
  method = _by_pairs if max(K, J) <= _PAIRWISE else jax.vmap(_by_sorting, (0, 0, None))
  flat = method(
    Words(hypothesis.hashes.reshape(-1, K, 2), hypothesis.count.reshape(-1)),
    Words(references.hashes.reshape(-1, R, J, 2), references.count.reshape(-1, R)),
    order,
  )
  return flat.reshape(*lead, order)


def _by_pairs(hypothesis: Words, references: Words, order: int) -> Array:
  """Compares all pairs of positions; words [B, K, 2] and [B, R, J, 2]."""
  K, J = hypothesis.hashes.shape[1], references.hashes.shape[2]
  queries = hypothesis.hashes.transpose(1, 0, 2)  # [K, B, 2]
  texts = references.hashes.transpose(2, 1, 0, 3)  # [J, R, B, 2]
  inside = jnp.arange(J)[:, None, None] < references.count.T
  texts = jnp.where(inside[..., None], texts, _NO_TOKEN)
  # The r-th occurrence of an n-gram matches if a reference has it at least r times. The
  # sum over r is min(count in the hypothesis, largest count in a reference).
  nth = _occurrences(queries, queries[:, None], order, earlier=True)  # [K, 1, B] each
  available = _occurrences(queries, texts, order)  # [K, R, B] each
  position = jnp.arange(K)[:, None]
  matches = [
    ((position + n < hypothesis.count) & (a[:, 0] <= b.max(axis=1))).sum(axis=0)
    for n, (a, b) in enumerate(zip(nth, available, strict=True))
  ]
  return jnp.stack(matches, axis=-1).astype(jnp.int32)  # [B, order]


_NO_TOKEN = np.uint32(0xFFFFFFFF)  # differs from the hash of every token


def _occurrences(
  queries: Array, texts: Array, order: int, *, earlier: bool = False
) -> list[Array]:
  """Counts how often the n-gram at each position of `queries` occurs in `texts`.

  The loop visits the positions of `texts` from the last to the first. For each position
  of `queries` it keeps the length of the longest common run of tokens that begins at
  both positions. The length is kept in unary, one bit field per n, so that a sum of
  runs counts all orders together; a run longer than `order` is shifted out at the top.
  Rows are the last axis, so that operations are vectorised over them.

  Args:
    queries: hashes [K, B, 2].
    texts: hashes [J, R, B, 2].
    order: the largest n.
    earlier: count only positions up to that of the n-gram itself, if both arrays are
      the same text.

  Returns:
    Counts [K, R, B] uint32 for each n = 1 ... order.
  """
  K, J, R, B = queries.shape[0], *texts.shape[:3]
  bits = 8 if J < 1 << 8 else 16  # of a field; counts are at most J
  fields = 32 // bits
  queries, position = queries[:, None], jnp.arange(K)[:, None, None]

  def step(carry, inputs):
    run, counts = carry
    j, token = inputs  # [R, B, 2]
    equal = (queries == token).all(axis=-1)  # [K, R, B]
    following = [jnp.concatenate([r[1:], jnp.zeros_like(r[:1])]) for r in run]
    carried = [jnp.uint32(1), *(r >> (32 - bits) for r in following)]
    run = tuple(
      jnp.where(equal, r << bits | c, 0)
      for r, c in zip(following, carried, strict=False)
    )
    added = tuple(jnp.where(position >= j, r, 0) for r in run) if earlier else run
    return (run, tuple(c + r for c, r in zip(counts, added, strict=True))), None

  zeros = (jnp.zeros((K, R, B), jnp.uint32),) * -(-order // fields)
  (_, counts), _ = lax.scan(step, (zeros, zeros), (jnp.arange(J), texts), reverse=True)
  mask = (1 << bits) - 1
  return [counts[n // fields] >> (n % fields * bits) & mask for n in range(order)]


def _by_sorting(hypothesis: Words, references: Words, order: int) -> Array:
  """Numbers equal n-grams by sorting; for long lines, because memory is linear in K."""
  K, (R, K_ref) = hypothesis.hashes.shape[0], references.hashes.shape[:2]
  keys = jnp.concatenate([hypothesis.hashes, references.hashes.reshape(-1, 2)])
  sizes = jnp.concatenate([jnp.full(K, 0), jnp.repeat(jnp.arange(1, R + 1), K_ref)])
  position = jnp.concatenate([jnp.arange(K), jnp.tile(jnp.arange(K_ref), R)])
  count = jnp.concatenate([hypothesis.count[None], references.count])[sizes]
  number = one = _numbered(keys[:, 0], keys[:, 1])
  matches = []
  for n in range(1, order + 1):
    if n > 1:
      number = _numbered(number, jnp.roll(one, 1 - n))
    whole = (position + n <= count).astype(jnp.int32)
    # Occurrences of each n-gram in the hypothesis and in each reference.
    table = jnp.zeros((R + 1, len(number)), jnp.int32).at[sizes, number].add(whole)
    matches.append(jnp.minimum(table[0], table[1:].max(axis=0)).sum())
  return jnp.stack(matches).astype(jnp.int32)


def _numbered(first: Array, second: Array) -> Array:
  """Numbers the distinct pairs (first, second) from 0; [N], [N] -> [N] int32."""
  position = jnp.arange(len(first))
  a, b, position = lax.sort((first, second, position), num_keys=2)
  new = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
  group = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
  return jnp.zeros(len(first), jnp.int32).at[position].set(group)
