"""Adding to some rows of a table, without a pass over all of it."""

import jax.numpy as jnp

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
  if most is not None:
    met = jnp.zeros(len(table)).at[rows].add(pairs)[rows]
    updates = updates * jnp.minimum(1.0, most / jnp.maximum(met, 1.0))[..., None]
  return table.at[rows].add(updates)
