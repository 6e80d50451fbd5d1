"""A split that lies on the devices, in a few shapes, ready to be evaluated."""

from collections.abc import Callable, Mapping

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from seqlab.data.pairs import PairBatches
from seqlab.domains import Count
from seqlab.tasks.translation import Translation
from seqlab.types import PyTree, Variables


class Resident:
  """Batches of one split on the devices, and a function compiled for each shape.

  Attributes:
    lines: sentences in the split.
    rows: for each batch, the corpus's line number of each row, -1 for no line.
  """

  def __init__(
    self,
    task: Translation,
    split: str,
    sharding: NamedSharding,
    function: Callable[[Variables, PyTree], PyTree],
    *,
    tokens: Count,
    shapes: Count,
    more: Mapping[str, np.ndarray] | None = None,
  ):
    """Puts the split on the devices.

    Args:
      task: gives the token stores.
      split: its name.
      sharding: of a batch's rows.
      function: (variables, batch) -> sums over the batch; gets compiled.
      tokens: positions in a batch, at most.
      shapes: number of shapes.
      more: further entries of a batch, given for all lines, [lines, ...]; zeros in
        rows without a line.
    """
    source, target = task.stores(split)
    self.lines = len(source)
    longest = int(max(source.lengths.max(), target.lengths.max()))
    batches = PairBatches(
      source,
      target,
      tokens=max(tokens, longest * sharding.num_devices),
      shapes=shapes,
      max_length=longest,
      rows_multiple=sharding.num_devices,
      shuffle=False,
      reverse_source=task.reverse_source,
    )
    steps = range(batches.steps_per_epoch)
    self.rows = [batches.rows(k) for k in steps]

    def put(k: int) -> PyTree:
      batch, rows = batches.batch(k, seed=0), self.rows[k]
      for name, values in (more or {}).items():
        batch[name] = np.where(_like(rows >= 0, values), values[rows], 0)
      return {  # each process puts what its own devices hold
        name: jax.make_array_from_callback(x.shape, sharding, x.__getitem__)
        for name, x in batch.items()
      }

    self.batches = [put(k) for k in steps]
    if sum(int((rows >= 0).sum()) for rows in self.rows) != self.lines:
      raise AssertionError(f'{split}: the batches do not hold its {self.lines} lines')
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    self._function = jax.jit(function, out_shardings=everywhere)
    self._compiled: dict[tuple, Callable] = {}

  def compile(self, variables: Variables) -> None:
    """Compiles the function for every shape."""
    for batch in self.batches:
      shape = batch['source'].shape + batch['target'].shape
      if shape not in self._compiled:
        self._compiled[shape] = self._function.lower(variables, batch).compile()

  def run(self, variables: Variables) -> list[PyTree]:
    """What the function returns for every batch, fetched once all are done."""
    self.compile(variables)
    out = [
      self._compiled[b['source'].shape + b['target'].shape](variables, b)
      for b in self.batches
    ]
    return jax.device_get(out)


def _like(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
  return rows.reshape(-1, *(1,) * (values.ndim - 1))


def total(sums: list[PyTree]) -> PyTree:
  """Adds up what `Resident.run` returned, in float64 or int64."""

  def add(*xs: np.ndarray) -> np.ndarray:
    wide = np.int64 if np.issubdtype(xs[0].dtype, np.integer) else np.float64
    return np.sum([np.asarray(x, wide) for x in xs], axis=0)

  return jax.tree.map(add, *sums)
