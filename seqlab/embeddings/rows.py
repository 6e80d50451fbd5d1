"""Adding to some rows of a table, without a pass over all of it."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from seqlab.types import Array


def add_rows(
  table: Array,
  rows: Array,
  updates: Array,
  pairs: Array,
  most: float | None,
  met: Array,
) -> tuple[Array, Array]:
  """Adds updates to rows; those that meet in one row are summed.

  A sum of many updates that were all made from the same row overshoots. Where those
  that meet stand for more than `most` pairs, they are scaled down to so many, as if
  the mean pair's update had been made `most` times.

  Args:
    table: [V, D].
    rows: [...] int32, which rows.
    updates: [..., D].
    pairs: [...], how many pairs each update is the sum of; none is negative.
    most: see above; None sums all.
    met: [V] zeros, room to count pairs in. Making it anew would be a pass over V
      numbers in every step.

  Returns:
    The table, and `met`, zeros again.
  """
  rows, updates, pairs = (everywhere(x) for x in (rows, updates, pairs))
  if most is not None:
    met = met.at[rows].add(pairs)
    found = met[rows]
    updates = updates * jnp.minimum(1.0, most / jnp.maximum(found, 1.0))[..., None]
    # The zeros are made of what was read, so that they are written after that and in
    # place; of plain zeros the compiler makes a copy of `met`.
    met = met.at[rows].set(jnp.minimum(found, 0.0))
  return table.at[rows].add(updates), met


def everywhere(x: Array) -> Array:
  """The same, brought to all devices, where the lanes of a batch are shared out.

  Left to itself the compiler lets each device add to a table of zeros, and sums these,
  V x D numbers in every step; the updates are far fewer.
  """
  alone = jax.sharding.get_abstract_mesh().empty
  return x if alone else jax.lax.with_sharding_constraint(x, PartitionSpec())
