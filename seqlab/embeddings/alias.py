"""Samples from any finite distribution with two table look-ups per sample.

Walker, "An Efficient Method for Generating Random Variables with General
Distributions", 1977; tables as in Vose, "A Linear Algorithm for Generating Random
Numbers with a Given Distribution", 1991.
"""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from seqlab.types import Array


@dataclasses.dataclass(frozen=True)
class Alias:
  """A distribution over 0 ... V - 1, as V cells of equal probability.

  Attributes:
    share: [V] float32, the share of cell i that belongs to outcome i.
    other: [V] int32, the outcome that the rest of cell i belongs to.
  """

  share: np.ndarray
  other: np.ndarray

  @classmethod
  def of(cls, weights: Sequence[float]) -> 'Alias':
    """Returns the distribution with probabilities proportional to `weights`, [V]."""
    weights = np.asarray(weights, np.float64)
    scaled = (weights * (len(weights) / weights.sum())).tolist()
    other = list(range(len(scaled)))
    small = [i for i, x in enumerate(scaled) if x < 1]
    large = [i for i, x in enumerate(scaled) if x >= 1]
    while small and large:  # an outcome that exceeds its cell fills one that does not
      i, j = small.pop(), large[-1]
      other[i] = j
      scaled[j] -= 1 - scaled[i]
      if scaled[j] < 1:
        small.append(large.pop())
    return cls(np.minimum(scaled, 1).astype(np.float32), np.array(other, np.int32))

  def draw(self, rng: Array, shape: tuple[int, ...]) -> Array:
    """Returns independent samples, int32."""
    cell_rng, side_rng = jax.random.split(rng)
    cell = jax.random.randint(cell_rng, shape, 0, len(self.share))
    keeps_cell = (
      jax.random.uniform(side_rng, shape) < jax.numpy.asarray(self.share)[cell]
    )
    return jax.numpy.where(keeps_cell, cell, jax.numpy.asarray(self.other)[cell])
