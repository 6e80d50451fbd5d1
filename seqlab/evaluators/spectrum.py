"""Singular values: how much of a PMI matrix is in each dimension."""

from collections.abc import Iterator

from jax.sharding import NamedSharding
import numpy as np

from seqlab.tasks.interface import HasSpectrum
from seqlab.types import Variables


class Evaluator:
  """The singular values that a run has found, for a figure.

  Attributes:
    samples: nothing.
    about: nothing.
    arrays: results of the last run, `values` [D], the largest first.
  """

  needs = (HasSpectrum,)
  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('first', 'last', 'share')
  about = ''

  def __init__(self, task: HasSpectrum, sharding: NamedSharding):
    """Compares with the matrix whose singular vectors the task finds.

    Args:
      task: gives the matrix and its singular vectors.
      sharding: is not used.
    """
    del sharding
    self._task = task
    self._square = float(np.square(task.matrix.data, dtype=np.float64).sum())
    self.arrays: dict[str, np.ndarray] = {}

  def compile(self, variables: Variables) -> None:
    """Compiles all by running it once."""
    list(self.run(variables))

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields the first and the last value, and their share of the matrix's squares."""
    values = np.asarray(self._task.parts(variables)[1], np.float64)
    self.arrays = {'values': values}
    yield 'first', float(values[0])
    yield 'last', float(values[-1])
    yield 'share', float(np.square(values).sum() / self._square)
