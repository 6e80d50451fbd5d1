"""Adding to some rows of a table, without a pass over all of it."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from seqlab.types import Array


def add_rows(
  table: Array, rows: Array, updates: Array, pairs: Array, most: float | None
) -> Array:
  """Adds updates to rows; those that meet in one row are summed.

  A sum of many updates that were all made from the same row overshoots. Where those
  that meet stand for more than `most` pairs, they are scaled down to so many, as if
  the mean pair's update had been made `most` times.

  Args:
    table: [V, D].
    rows: [...] int32, which rows.
    updates: [..., D].
    pairs: [...], how many pairs each update is the sum of.
    most: see above; None sums all.
  """
  rows, updates, pairs = (everywhere(x) for x in (rows, updates, pairs))
  if most is not None:
    met = jnp.zeros(len(table)).at[rows].add(pairs)[rows]
    updates = updates * jnp.minimum(1.0, most / jnp.maximum(met, 1.0))[..., None]
  return table.at[rows].add(updates)


def everywhere(x: Array) -> Array:
  """The same, brought to all devices, where the lanes of a batch are shared out.

  Left to itself the compiler lets each device add to a table of zeros, and sums these,
  V x D numbers in every step; the updates are far fewer.
  """
  alone = jax.sharding.get_abstract_mesh().empty
  return x if alone else jax.lax.with_sharding_constraint(x, PartitionSpec())
