"""Edit distance of token sequences, for a whole batch at once.

Levenshtein, "Binary Codes Capable of Correcting Deletions, Insertions, and Reversals",
1966; the table of Wagner and Fischer, "The String-to-String Correction Problem", 1974,
https://doi.org/10.1145/321796.321811.
"""

from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.metrics.tokenizers import Words, repeat_rows
from seqlab.types import Array


def edit_distance(one: Words, other: Words) -> Array:
  """Returns the smallest number of insertions, deletions and substitutions.

  Cell (i, j) of the table is the distance between the first i tokens of one side and
  the first j of the other. It depends on cells of the two anti-diagonals before its own
  only, so a loop over the K + J anti-diagonals computes each of them at once.

  Args:
    one: tokens [..., K, F], any integers of which equal tokens have the same F, and
      counts [...]. Tokens beyond a count are not read.
    other: tokens [..., J, F] and counts [...]. The distance is symmetric.

  Returns:
    [...] int32.
  """
  if one.hashes.shape[-2] > other.hashes.shape[-2]:
    one, other = other, one  # the shorter width is the one that is vectorised over
  lead, (K, F), J = one.count.shape, one.hashes.shape[-2:], other.hashes.shape[-2]
  # Rows are the last axis, so that operations are vectorised over them.
  rows = one.hashes.reshape(-1, K, F).transpose(1, 2, 0)  # [K, F, B]
  columns = other.hashes.reshape(-1, J, F).transpose(1, 2, 0)  # [J, F, B]
  dtype = jnp.int16 if K + J < _INFINITY else jnp.int32
  position = jnp.arange(max(K, J))[:, None]
  # A token beyond the end is inserted or deleted at no cost, and substituted at the cost
  # of any other. The last cell of the table is thus the distance of every pair, however
  # short its lines.
  deletion = (position[:K] < one.count.reshape(-1)).astype(dtype)  # [K, B]
  insertion = (position[:J] < other.count.reshape(-1)).astype(dtype)  # [J, B]
  # Along anti-diagonal d, cell i has j = d - i: the columns reversed, shifted by one per
  # step. Cells outside of the table are never on a path to the last cell.
  columns = jnp.pad(columns[::-1], ((K, K), (0, 0), (0, 0)))  # [K + J + K, F, B]
  insertion = jnp.pad(insertion[::-1], ((K, K + 1), (0, 0)), constant_values=1)

  def step(carry, d):
    before, last = carry  # [K + 1, B] anti-diagonals d - 2 and d - 1
    # Cell i >= 1 compares row i - 1 with column d - i - 1, at K + J - (d - i) reversed.
    facing = lax.dynamic_slice_in_dim(columns, K + J - d + 1, K)  # [K, F, B]
    beyond = (deletion == 0) | (
      lax.dynamic_slice_in_dim(insertion, K + J - d + 1, K) == 0
    )
    differs = ((rows != facing).any(axis=1) | beyond).astype(dtype)
    inserted = last + lax.dynamic_slice_in_dim(insertion, K + J - d, K + 1)
    deleted = last[:-1] + deletion
    best = jnp.minimum(jnp.minimum(deleted, before[:-1] + differs), inserted[1:])
    return (last, jnp.concatenate([inserted[:1], best])), None

  unreachable = jnp.full((K + 1, rows.shape[-1]), _INFINITY, dtype)
  # The first anti-diagonal is the single cell (0, 0).
  first = unreachable.at[0].set(0)
  steps = jnp.arange(1, K + J + 1)
  (_, last), _ = lax.scan(step, (unreachable, first), steps)
  return last[K].astype(jnp.int32).reshape(lead)


# More than any distance in 16 bits, and small enough that a sum does not overflow: one
# is added per step at most.
_INFINITY = np.iinfo(np.int16).max // 2


def nearest_edits(hypothesis: Words, references: Words) -> tuple[Array, Array]:
  """Returns the edits of the nearest reference, and its length.

  Of several references the one with the fewest edits counts, and of several with the
  same number the shortest one, whose rate is the largest. The order of the references
  has no effect, and the rate of a line is not made smaller by a tie.

  Args:
    hypothesis: tokens [..., K, F] and counts [...].
    references: tokens [..., Q, J, F] and counts [..., Q].

  Returns:
    [...] int32 edits, and [...] int32 numbers of tokens of the reference.
  """
  Q = references.count.shape[-1]
  repeated = repeat_rows(hypothesis, Q)
  edits = edit_distance(repeated, references)  # [..., Q]
  fewest = edits.min(axis=-1, keepdims=True)
  largest = jnp.iinfo(jnp.int32).max
  length = jnp.where(edits == fewest, references.count, largest).min(axis=-1)
  return fewest[..., 0], length
