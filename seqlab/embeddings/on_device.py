"""Pairs of words counted on an accelerator, by a sort and a sum over segments."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.embeddings.contexts import Contexts
from seqlab.embeddings.runs import Run
from seqlab.types import Array

_FEWEST = 1_024  # places that a piece should have
_NOWHERE = np.int32(2**31 - 1)  # the id of no word


def limit(contexts: Contexts) -> int:
  """Number of places whose sums fit in 32 bits, whatever the words are.

  Raises:
    ValueError: those are too few to be worth a device's while.
  """
  places = (2**31 - 1) // sum(contexts.numerators)
  if places < _FEWEST:
    raise ValueError(
      f'on a device sums have 32 bits, which with weights={contexts.weights!r} and a '
      f'window of {contexts.window} are enough for {places:,} places at a time: take a '
      'narrower window, other weights, or counts.device=False'
    )
  return places


def count_pairs_on_device(
  contexts: Contexts, ids: np.ndarray, rows: np.ndarray, n: int, *, size: int
) -> Run:
  """As `contexts.count_pairs`, and equal to it, with JAX.

  Args:
    contexts: what is counted.
    ids: [n + m] below V.
    rows: [n + m]; only places with the same number make pairs.
    n: number of places; `size` at most.
    size: that arrays are filled up to, so that one program serves all pieces; `limit`
      at most.
  """
  m = min(len(ids), n + contexts.window)
  filled = np.zeros(size + contexts.window, np.int32)
  filled[:m] = ids[:m]
  row_of = -1 - np.arange(len(filled), dtype=np.int32)  # each place a row of its own
  row_of[:m] = rows[:m]
  numerators = np.array(contexts.numerators, np.int32)
  *run, found = _count(filled, row_of, np.int32(n), numerators, side=contexts.side)
  first, second, sums = (np.asarray(x[:found]).astype(np.uint64) for x in run)
  return Run(first << np.uint64(contexts.bits) | second, sums.view(np.int64))


@functools.partial(jax.jit, static_argnames='side')
def _count(
  ids: Array, rows: Array, n: Array, numerators: Array, *, side: str
) -> tuple[Array, Array, Array, Array]:
  """First and second ids, their sums, and how many there are.

  S is the number of places that a piece may have, w the window.

  Args:
    ids: [S + w].
    rows: [S + w].
    n: number of places that are there.
    numerators: [w].
    side: of the centre.

  Returns:
    [S w], [S w], [S w] and a number.
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
  first = jnp.where(together, first, _NOWHERE)  # which comes last when sorted
  second = jnp.where(together, second, 0)
  weight = jnp.broadcast_to(numerators[:, None], (w, S))
  # Two keys of 32 bits do what one of 64 would, which JAX has in its x64 mode only.
  columns = (first.reshape(-1), second.reshape(-1), weight.reshape(-1))  # [S w]
  first, second, weight = lax.sort(columns, num_keys=2, is_stable=False)
  new = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
  segment = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new)])  # [S w]
  found = segment[-1] + (first[-1] != _NOWHERE)
  spread = functools.partial(
    jnp.zeros_like(first).at[segment].set, indices_are_sorted=True
  )
  sums = jax.ops.segment_sum(weight, segment, S * w, indices_are_sorted=True)
  return spread(first), spread(second), sums, found
