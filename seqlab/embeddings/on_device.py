"""Pairs of words counted on an accelerator, by a sort and a segment sum."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.embeddings.contexts import Contexts
from seqlab.embeddings.runs import Run
from seqlab.types import Array

_MIN_POSITIONS = 1_024  # per call; fewer are slower than on the CPU
_NO_WORD = np.int32(2**31 - 1)  # greater than any id


def limit(contexts: Contexts) -> int:
  """Returns the number of positions whose sums fit in 32 bits, whatever the words are.

  Raises:
    ValueError: they are too few to be faster than the CPU.
  """
  number = (2**31 - 1) // sum(contexts.numerators)
  if number < _MIN_POSITIONS:
    raise ValueError(
      f'on a device sums have 32 bits, which with weights={contexts.weighting!r} and a '
      f'window of {contexts.window} are enough for {number:,} positions at a time: use a '
      'narrower window, other weights, or counts.device=False'
    )
  return number


def count_pairs_on_device(
  contexts: Contexts, ids: np.ndarray, rows: np.ndarray, n: int, *, size: int
) -> Run:
  """Counts with JAX what `contexts.count_pairs` counts, with the same result.

  Args:
    contexts: what is counted.
    ids: [n + m] below V.
    rows: [n + m]; only positions with the same number make pairs.
    n: number of positions, at most `size`.
    size: length that arrays are padded to, so that one program serves all calls; at
      most `limit`.
  """
  m = min(len(ids), n + contexts.window)
  filled = np.zeros(size + contexts.window, np.int32)
  filled[:m] = ids[:m]
  row_of = -1 - np.arange(
    len(filled), dtype=np.int32
  )  # padding: each position is a separate row
  row_of[:m] = rows[:m]
  numerators = np.array(contexts.numerators, np.int32)
  *run, num_pairs = _count(filled, row_of, np.int32(n), numerators, side=contexts.side)
  first, second, sums = (np.asarray(x[:num_pairs]).astype(np.uint64) for x in run)
  return Run(first << np.uint64(contexts.bits) | second, sums.view(np.int64))


@functools.partial(jax.jit, static_argnames='side')
def _count(
  ids: Array, rows: Array, n: Array, numerators: Array, *, side: str
) -> tuple[Array, Array, Array, Array]:
  """Returns first and second ids, their sums, and the number of pairs.

  S is the largest number of positions, w the window.

  Args:
    ids: [S + w].
    rows: [S + w].
    n: number of positions that are not padding.
    numerators: [w].
    side: side of the centre that contexts are on.

  Returns:
    [S w], [S w], [S w] and [].
  """
  w = len(numerators)
  S = len(ids) - w
  left = ids[:S]
  right = jnp.stack([ids[d : S + d] for d in range(1, w + 1)])  # [w, S]
  together = jnp.stack([rows[:S] == rows[d : S + d] for d in range(1, w + 1)])
  together &= jnp.arange(S) < n
  first, second = {
    'both': lambda: (jnp.minimum(left, right), jnp.maximum(left, right)),
    'right': lambda: (jnp.broadcast_to(left, (w, S)), right),
    'left': lambda: (right, jnp.broadcast_to(left, (w, S))),
  }[side]()
  first = jnp.where(together, first, _NO_WORD)  # is last when sorted
  second = jnp.where(together, second, 0)
  weight = jnp.broadcast_to(numerators[:, None], (w, S))
  # Two keys of 32 bits in place of one of 64, which JAX has in its x64 mode only.
  columns = (first.reshape(-1), second.reshape(-1), weight.reshape(-1))  # [S w]
  first, second, weight = lax.sort(columns, num_keys=2, is_stable=False)
  new = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
  segment = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new)])  # [S w]
  num_pairs = segment[-1] + (first[-1] != _NO_WORD)
  spread = functools.partial(
    jnp.zeros_like(first).at[segment].set, indices_are_sorted=True
  )
  sums = jax.ops.segment_sum(weight, segment, S * w, indices_are_sorted=True)
  return spread(first), spread(second), sums, num_pairs
