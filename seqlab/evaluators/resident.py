"""A split that lies on the devices, in a few shapes, ready to be evaluated."""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import inspect
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from seqlab.layers.device import concurrent_calls
from seqlab.pieces import accepted_context
from seqlab.programs import compile_program
from seqlab.tasks.interface import Batches, Task
from seqlab.tasks.sentences import Program, available_memory
from seqlab.types import Batch, PyTree, Variables, batch_shapes


def evaluation_batches(
  task: Task, split: str, sharding: NamedSharding, **options: Any
) -> Batches:
  """Returns the batches of a split, in each of which every example occurs once.

  Args:
    task: any task.
    split: name of the split.
    sharding: sharding of the rows of a batch.
    **options: options of `task.batches`, such as tokens= and shapes=; those that the
      task does not take are left out.

  Raises:
    ValueError: the task cannot make batches that are not shuffled.
  """
  parameters = inspect.signature(task.batches).parameters
  keywords = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
  if 'shuffle' not in parameters and not keywords:
    raise ValueError(
      f'{type(task).__name__}.batches takes no shuffle=: without shuffle=False a split '
      f'cannot be evaluated. Give it that parameter, or **options'
    )
  options = dict(shuffle=False, rows_multiple=sharding.num_devices, **options)
  return task.batches(split, **accepted_context(task.batches, options))


def place(x: np.ndarray, sharding: NamedSharding) -> jax.Array | jax.ShapeDtypeStruct:
  """Puts an array on devices; each process puts what its own devices hold.

  On devices that are not in the machine, and for which programs are only compiled, it
  returns the shape that an array on them would have.
  """
  device = next(iter(sharding.device_set))
  if type(device.client).__name__.startswith('CompileOnly'):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
  return jax.make_array_from_callback(x.shape, sharding, x.__getitem__)


class Resident:
  """Batches of one split on the devices, and a function compiled for each shape.

  Attributes:
    batches: on the devices.
    rows: for each batch, the line number of each row, -1 for no line; empty where the
      batches have no method `rows`.
  """

  def __init__(
    self,
    batches: Batches,
    sharding: NamedSharding,
    function: Callable[[Variables, PyTree], PyTree],
    *,
    extra: Mapping[str, np.ndarray] | None = None,
    fingerprint: str | None = None,
  ):
    """Puts a split on the devices.

    Args:
      batches: batches of the split, not shuffled; see `evaluation_batches`.
      sharding: sharding of the rows of a batch. A batch whose rows the devices do not
        divide lies on each of them as a whole.
      function: (variables, batch) -> sums over the batch; gets compiled.
      extra: further entries of a batch, given for all lines, [lines, ...]; zeros in
        rows without a line.
      fingerprint: digest of all that the function computes with besides its arguments;
        see `seqlab.programs`.

    Raises:
      ValueError: `extra` is given, and the batches have no method `rows`; or their
        rows are not each line once.
    """
    steps = range(batches.steps_per_epoch)
    rows_of = getattr(batches, 'rows', None)
    self.rows = [rows_of(k) for k in steps] if rows_of else []
    _check_rows(self.rows, extra or {})
    self._sharding = sharding
    self._everywhere = NamedSharding(sharding.mesh, PartitionSpec())

    def build(k: int) -> Batch:
      batch = dict(batches.batch(k, seed=0))
      for name, values in (extra or {}).items():
        rows = self.rows[k]
        batch[name] = np.where(_like(rows >= 0, values), values[rows], 0)
      return batch

    self.batches = [self._put(build(k)) for k in steps]
    self._fingerprint = fingerprint
    self._function = jax.jit(function, out_shardings=self._everywhere)
    self._compiled: dict[tuple, Callable] = {}

  def _put(self, batch: Batch) -> PyTree:
    even = all(len(x) % self._sharding.num_devices == 0 for x in batch.values())
    sharding = self._sharding if even else self._everywhere
    return {name: place(x, sharding) for name, x in batch.items()}

  def by_line(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the entry of each line, in the order of the lines.

    Args:
      outputs: for each batch, one entry per row.
    """
    entries = {}
    for rows, of_batch in zip(self.rows, outputs, strict=True):
      entries |= {int(row): of_batch[i] for i, row in enumerate(rows) if row >= 0}
    return [entries[line] for line in range(len(entries))]

  def compile(self, variables: Variables) -> Mapping[tuple, Callable]:
    """Compiles the function for every shape; returns `batch_shapes` -> program."""
    for batch in self.batches:
      if (shape := batch_shapes(batch)) not in self._compiled:
        self._compiled[shape] = compile_program(
          self._function, variables, batch, fingerprint=self._fingerprint
        )
    return self._compiled

  def run(self, variables: Variables) -> list[PyTree]:
    """Returns what the function returns for every batch, fetched once all are done."""
    self.compile(variables)

    def call(batch: PyTree) -> PyTree:
      return self._compiled[batch_shapes(batch)](variables, batch)

    if self._sharding.num_devices > 1:  # which must all run programs in one order
      return jax.device_get([call(batch) for batch in self.batches])
    # Several at once, as far as there is memory.
    largest = max(Program.of(x).need for x in self._compiled.values())
    fit = available_memory() // max(largest, 1)
    calls = max(1, min(concurrent_calls(), int(min(fit, len(self.batches)))))
    with concurrent.futures.ThreadPoolExecutor(calls) as pool:
      fetched = pool.map(lambda batch: jax.device_get(call(batch)), self.batches)
      return list(fetched)


def _check_rows(rows: list[np.ndarray], extra: Mapping[str, np.ndarray]) -> None:
  if extra and not rows:
    raise ValueError(f'batches without a method `rows` cannot have {", ".join(extra)}')
  lines = np.concatenate([*rows, np.zeros(0, np.int64)])
  lines = np.sort(lines[lines >= 0])
  counts = {len(x) for x in extra.values()} or {len(lines)}
  if (lines != np.arange(len(lines))).any() or counts != {len(lines)}:
    raise ValueError(
      'the rows of the batches are not each line of the split once: the method `batches` '
      'of the task must respect shuffle=False, and the method `rows` of its batches must '
      'return the line number of each row'
    )


def _like(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
  return rows.reshape(-1, *(1,) * (values.ndim - 1))


def total(sums: list[PyTree]) -> PyTree:
  """Adds up what `Resident.run` returned, in float64 or int64."""

  def add(*xs: np.ndarray) -> np.ndarray:
    wide = np.int64 if np.issubdtype(xs[0].dtype, np.integer) else np.float64
    return np.sum([np.asarray(x, wide) for x in xs], axis=0)

  return jax.tree.map(add, *sums)
