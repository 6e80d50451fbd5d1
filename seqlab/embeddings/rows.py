"""Adding to some rows of a table without a pass over the whole table."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from seqlab.layers.device import platform
from seqlab.types import Array

# Numbers of rows are neither negative nor too large.
_WITHIN = {'mode': 'promise_in_bounds', 'wrap_negative_indices': False}
# Rows whose comparison with each other, a few operations per pair, takes a GPU no longer
# than to start a kernel.
_MAX_COMPARED = 4_096


def take_rows(table: Array, rows: Array) -> Array:
  """Returns rows of a table: [V, D], [...] int32 from 0 to V - 1 -> [..., D].

  Plain indexing would count negative numbers from the end, and a TPU would compute that
  in an instruction of its own.
  """
  return table.at[rows].get(**_WITHIN)


def add_rows(
  table: Array,
  rows: Array,
  updates: Array,
  pairs: Array,
  max_pairs_per_row: float | None,
  row_counts: Array,
) -> tuple[Array, Array]:
  """Adds updates to rows of a table; updates of the same row are summed.

  A sum of many updates that were all computed from the same row overshoots. Where the
  updates of a row are sums over more than `max_pairs_per_row` pairs, they are scaled
  down to that number, as if the update of the mean pair had been applied so many times.

  Args:
    table: [V, D].
    rows: [...] int32, the row of each update.
    updates: [..., D].
    pairs: [...] number of pairs that each update is the sum of, at least 0.
    max_pairs_per_row: see above; None sums all.
    row_counts: [V] zeros, a buffer to count pairs in. Making a new one would be a pass
      over V numbers in every step.

  Returns:
    The table, and `row_counts`, which is zero again.
  """
  rows, updates, pairs = (replicate(x) for x in (rows, updates, pairs))
  if max_pairs_per_row is not None:
    compares = platform() == 'gpu' and rows.size <= _MAX_COMPARED
    count = _count_by_comparison if compares else _count_in_buffer
    total, row_counts = count(rows, pairs, row_counts)
    scale = jnp.minimum(1.0, max_pairs_per_row / jnp.maximum(total, 1.0))
    updates = updates * scale[..., None]
  return table.at[rows].add(updates, **_WITHIN), row_counts


def _count_in_buffer(
  rows: Array, pairs: Array, row_counts: Array
) -> tuple[Array, Array]:
  """Returns the pairs of each update's row, and the buffer, zero again."""
  row_counts = row_counts.at[rows].add(pairs, **_WITHIN)
  total = take_rows(row_counts, rows)
  # The zeros are computed from the counts that were read, so that they are written
  # afterwards and in place; given plain zeros the compiler makes a copy of
  # `row_counts`.
  return total, row_counts.at[rows].set(jnp.minimum(total, 0.0), **_WITHIN)


def _count_by_comparison(
  rows: Array, pairs: Array, row_counts: Array
) -> tuple[Array, Array]:
  """Returns the same without the buffer, by comparing each update's row with all others.

  On a GPU this is one kernel instead of three, and a block is so small that starting
  kernels takes most of its time. Thousands of comparisons per row cost too much on a CPU.
  """
  flat = rows.reshape(-1)
  same = flat[:, None] == flat
  total = jnp.where(same, pairs.reshape(-1), 0.0).sum(axis=1)
  return total.reshape(rows.shape), row_counts


def replicate(x: Array) -> Array:
  """Copies an array to all devices, where the streams of a batch are sharded.

  Without this the compiler has each device add to a table of zeros and sums these
  tables, which moves V x D numbers in every step; the updates are far fewer.
  """
  single = jax.sharding.get_abstract_mesh().empty
  return x if single else jax.lax.with_sharding_constraint(x, PartitionSpec())
