"""Counting the n-grams that two token sequences share."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.metrics.tokenizers import Words
from seqlab.types import Array

_PAIRWISE = 384  # tokens up to which comparing all pairs is faster than sorting


def clipped_matches(hypothesis: Words, references: Words, order: int) -> Array:
  """For n = 1 ... order, n-grams of the hypothesis that a reference has.

  Each counts as often as it stands in the reference that has it most often, at
  most (Papineni et al. 2002, section 2.1).

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
  """Compares every place with every place; words [B, K, 2] and [B, R, J, 2]."""
  K, J = hypothesis.hashes.shape[1], references.hashes.shape[2]
  here = hypothesis.hashes.transpose(1, 0, 2)  # [K, B, 2]
  there = references.hashes.transpose(2, 1, 0, 3)  # [J, R, B, 2]
  inside = jnp.arange(J)[:, None, None] < references.count.T
  there = jnp.where(inside[..., None], there, _NOWHERE)
  # The r-th time an n-gram comes it matches if a reference has it r times: summed
  # that is min(count here, largest count there).
  nth = _occurrences(here, here[:, None], order, earlier=True)  # [K, 1, B] each
  available = _occurrences(here, there, order)  # [K, R, B] each
  place = jnp.arange(K)[:, None]
  matches = [
    ((place + n < hypothesis.count) & (a[:, 0] <= b.max(axis=1))).sum(axis=0)
    for n, (a, b) in enumerate(zip(nth, available, strict=True))
  ]
  return jnp.stack(matches, axis=-1).astype(jnp.int32)  # [B, order]


_NOWHERE = np.uint32(0xFFFFFFFF)  # no token's hash


def _occurrences(
  here: Array, there: Array, order: int, *, earlier: bool = False
) -> list[Array]:
  """How often the n-gram that begins at each place of `here` begins in `there`.

  Goes through `there` from its end and keeps, for each place of `here`, how long
  the two run on equal. The run is kept in unary, a lane of bits for each n, so that
  adding it up counts all orders at once; a longer run than `order` drops out at
  the top. Rows lie side by side in memory, and so are worked on together.

  Args:
    here: [K, B, 2].
    there: [J, R, B, 2].
    order: the largest n.
    earlier: count only places up to that of the n-gram itself, with here = there.

  Returns:
    For n = 1 ... order, [K, R, B] uint32.
  """
  K, J, R, B = here.shape[0], *there.shape[:3]
  bits = 8 if J < 1 << 8 else 16  # of a lane; no count is above J
  lanes = 32 // bits
  here, place = here[:, None], jnp.arange(K)[:, None, None]

  def step(carry, inputs):
    run, counts = carry
    j, token = inputs  # [R, B, 2]
    same = (here == token).all(axis=-1)  # [K, R, B]
    ahead = [jnp.concatenate([r[1:], jnp.zeros_like(r[:1])]) for r in run]
    carried = [jnp.uint32(1), *(r >> (32 - bits) for r in ahead)]
    run = tuple(
      jnp.where(same, r << bits | c, 0) for r, c in zip(ahead, carried, strict=False)
    )
    seen = tuple(jnp.where(place >= j, r, 0) for r in run) if earlier else run
    return (run, tuple(c + r for c, r in zip(counts, seen, strict=True))), None

  none = (jnp.zeros((K, R, B), jnp.uint32),) * -(-order // lanes)
  (_, counts), _ = lax.scan(step, (none, none), (jnp.arange(J), there), reverse=True)
  mask = (1 << bits) - 1
  return [counts[n // lanes] >> (n % lanes * bits) & mask for n in range(order)]


def _by_sorting(hypothesis: Words, references: Words, order: int) -> Array:
  """Numbers equal n-grams by sorting, for long lines: memory grows as K."""
  K, (R, K_ref) = hypothesis.hashes.shape[0], references.hashes.shape[:2]
  keys = jnp.concatenate([hypothesis.hashes, references.hashes.reshape(-1, 2)])
  sizes = jnp.concatenate([jnp.full(K, 0), jnp.repeat(jnp.arange(1, R + 1), K_ref)])
  place = jnp.concatenate([jnp.arange(K), jnp.tile(jnp.arange(K_ref), R)])
  count = jnp.concatenate([hypothesis.count[None], references.count])[sizes]
  number = one = _numbered(keys[:, 0], keys[:, 1])
  matches = []
  for n in range(1, order + 1):
    if n > 1:
      number = _numbered(number, jnp.roll(one, 1 - n))
    whole = (place + n <= count).astype(jnp.int32)
    # Occurrences of each n-gram in the hypothesis and in each reference.
    table = jnp.zeros((R + 1, len(number)), jnp.int32).at[sizes, number].add(whole)
    matches.append(jnp.minimum(table[0], table[1:].max(axis=0)).sum())
  return jnp.stack(matches).astype(jnp.int32)


def _numbered(first: Array, second: Array) -> Array:
  """The same number for equal pairs, below their count; [N] -> [N] int32."""
  place = jnp.arange(len(first))
  a, b, place = lax.sort((first, second, place), num_keys=2)
  new = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
  group = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
  return jnp.zeros(len(first), jnp.int32).at[place].set(group)
