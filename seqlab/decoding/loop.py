"""The loop over the steps of a search, in which decided sentences are dropped.

The sentences of a batch end at different steps, and most of the last steps would be
computed for sentences that are decided. When few enough are left, they continue in a
smaller batch. Each size is a loop of its own, which is compiled with the others.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from seqlab.types import Array, PyTree

_SMALLEST = 8  # sentences; a smaller batch saves little, and is compiled too


def smaller_sizes(batch_size: int, stages: int) -> tuple[int, ...]:
  """Returns up to `stages` - 1 smaller sizes, each half of the one before."""
  sizes = [batch_size >> i for i in range(1, stages)]
  return tuple(size for size in sizes if size >= _SMALLEST)


def search_loop(
  extend: Callable[[PyTree], PyTree],
  state: PyTree,
  undecided: Callable[[PyTree], Array],
  results: Callable[[PyTree], PyTree],
  sizes: Sequence[int] = (),
) -> PyTree:
  """Takes steps until all sentences are decided.

  A sentence must not depend on others, and one that is decided must not change.

  Args:
    extend: takes one step.
    state: its leaves are [], or [B * n, ...] with n entries for each of B sentences.
    undecided: state -> [B] bool.
    results: state -> what is returned, leaves [B, ...].
    sizes: falling numbers of sentences below B. Once no more are undecided, only so many
      continue.

  Returns:
    The results of all sentences.
  """
  fewer = sizes[0] if sizes else 0
  state = jax.lax.while_loop(lambda s: undecided(s).sum() > fewer, extend, state)
  out = results(state)
  if not sizes:
    return out
  rows = jnp.argsort(~undecided(state), stable=True)[:fewer]  # the undecided first
  rest = _take(state, rows, len(undecided(state)))
  rest = search_loop(extend, rest, undecided, results, sizes[1:])
  return jax.tree.map(lambda whole, part: whole.at[rows].set(part), out, rest)


def _take(state: PyTree, rows: Array, sentences: int) -> PyTree:
  """Returns the state of these sentences."""

  def take(x: Array) -> Array:
    if x.ndim == 0:
      return x
    each = x.reshape(sentences, -1, *x.shape[1:])
    return each[rows].reshape(-1, *x.shape[1:])

  return jax.tree.map(take, state)
