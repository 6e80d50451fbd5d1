"""The loop over the steps of a search, in parts that compute less.

A step reads the whole cache of the model, also what no step has written yet. The cache
is therefore short at first, and grows twice. Once it has its full length, decided
sentences are dropped: the sentences of a batch end at different steps, and most of the
last steps would be computed for sentences that are decided. When few enough are left,
they continue in a smaller batch. Each length and each size is a loop of its own, which
is compiled with the others.
"""

from collections.abc import Callable, Sequence
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from seqlab.layers.device import platform
from seqlab.types import Array, PyTree

_SMALLEST = 8  # sentences; a smaller batch saves little, and is compiled too
_SHORTEST = 8  # positions, for the same reason


def smaller_sizes(batch_size: int, stages: int) -> tuple[int, ...]:
  """Returns up to `stages` - 1 smaller sizes, each half of the one before."""
  sizes = [batch_size >> i for i in range(1, stages)]
  return tuple(size for size in sizes if size >= _SMALLEST)


def cache_lengths(max_len: int) -> tuple[int, ...]:
  """Returns the lengths of a cache that grows to `max_len`, which is the last of them.

  Outputs are up to 1.5 times as long as sources by default, and most are about as long:
  they end when the cache has two thirds of its length.

  On a TPU the cache has its full length at once. Its compiler keeps a part of the
  weights on the chip in a single loop, and by its own estimate loses more without that
  than a short cache saves.
  """
  if platform() == 'tpu':
    return (max_len,)
  lengths = [-(-max_len * i // 3) for i in (1, 2)]
  return (*(x for x in lengths if x >= _SHORTEST), max_len)


def search_loop(
  extend: Callable[[PyTree], PyTree],
  state: PyTree,
  undecided: Callable[[PyTree], Array],
  results: Callable[[PyTree], PyTree],
  sizes: Sequence[int] = (),
  lengths: Sequence[int] = (),
) -> PyTree:
  """Takes steps until all sentences are decided.

  A sentence must not depend on others, and one that is decided must not change.

  Args:
    extend: takes one step.
    state: its leaves are [], or [B * n, ...] with n entries for each of B sentences.
    undecided: state -> [B] bool.
    results: state -> what is returned, leaves [B, ...].
    sizes: falling numbers of sentences below B. Once no more are undecided, only so
      many continue.
    lengths: rising numbers of steps, the last one that of all steps. Until so many
      steps are taken, parts of the state with a method `resized` have this length.

  Returns:
    The results of all sentences.
  """
  fewer = sizes[0] if sizes else 0
  if not any(map(_can_resize, jax.tree.leaves(state, is_leaf=_can_resize))):
    lengths = lengths[-1:]
  for start, end in itertools.pairwise((0, *lengths)):
    state = _steps(extend, _resized(state, end), end - start, undecided, fewer)
  if not lengths:
    state = jax.lax.while_loop(lambda s: undecided(s).sum() > fewer, extend, state)
  out = results(state)
  if not sizes:
    return out
  rows = jnp.argsort(~undecided(state), stable=True)[:fewer]  # the undecided first
  rest = _take(state, rows, len(undecided(state)))
  rest = search_loop(extend, rest, undecided, results, sizes[1:])
  return jax.tree.map(lambda whole, part: whole.at[rows].set(part), out, rest)


def _steps(
  extend: Callable[[PyTree], PyTree],
  state: PyTree,
  steps: int,
  undecided: Callable[[PyTree], Array],
  fewer: int,
) -> PyTree:
  """Takes this number of steps, or ends once no more than `fewer` are undecided."""
  # With a counter of its own, so that the number of runs can be read from the program.
  _, state = jax.lax.while_loop(
    lambda x: (x[0] < steps) & (undecided(x[1]).sum() > fewer),
    lambda x: (x[0] + 1, extend(x[1])),
    (jnp.zeros((), jnp.int32), state),
  )
  return state


def _resized(state: PyTree, length: int) -> PyTree:
  return jax.tree.map(
    lambda x: x.resized(length) if _can_resize(x) else x, state, is_leaf=_can_resize
  )


def _can_resize(part: Any) -> bool:
  return hasattr(part, 'resized')


def _take(state: PyTree, rows: Array, sentences: int) -> PyTree:
  """Returns the state of these sentences."""

  def take(x: Array) -> Array:
    if x.ndim == 0:
      return x
    each = x.reshape(sentences, -1, *x.shape[1:])
    return each[rows].reshape(-1, *x.shape[1:])

  return jax.tree.map(take, state)
