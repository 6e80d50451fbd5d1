"""The interface of engines, and what all of them use."""

from collections.abc import Callable, Iterable
from typing import Protocol

import jax
from jax.sharding import Mesh
import numpy as np

from seqlab.programs import compile_program
from seqlab.train.definition import Definition
from seqlab.train.state import TrainState
from seqlab.types import Batch, Hyper, PyTree, Sums, batch_shapes


class Engine(Protocol):
  """The compiled programs that take the steps of one run, or of several at once.

  A member is one run. `JitEngine` and `PmapEngine` have one member, `PopulationEngine`
  has several. An argument with a star has one value per member, in the members' order.

  Attributes:
    name: name of the engine, for messages.
    definition: what is compiled, and where a member's state lies outside the steps.
    mesh: the devices, in the mesh by which the steps divide their work.
    abstract: shapes, dtypes and shardings of the state of a step.
  """

  name: str
  definition: Definition
  mesh: Mesh
  abstract: PyTree

  def init(self, *seeds: int) -> PyTree:
    """Returns fresh states in the form that `step` takes."""
    ...

  def join(self, *states: TrainState) -> PyTree:
    """Converts members' states, as checkpoints have them, to the form of `step`."""
    ...

  def member(self, state: PyTree, i: int = 0) -> TrainState:
    """Returns one member's state from that of a step, to save or to evaluate it."""
    ...

  def set_hyper(self, *hypers: Hyper) -> None:
    """Sets the traced hyperparameters, which compiles nothing; None leaves one out."""
    ...

  def put(self, *batches: Batch) -> PyTree:
    """Puts this process's share of the rows of each batch on the devices."""
    ...

  def compile(self, batch: Batch) -> jax.stages.Compiled:
    """Compiles the step ahead for a shape of batches; nothing is put on the devices.

    Args:
      batch: one member's batch of this shape, with the rows of all processes.
    """
    ...

  def step(
    self, state: PyTree, batch: PyTree, active: Iterable[bool] | None = None
  ) -> tuple[PyTree, Sums]:
    """Takes one step.

    Args:
      state: result of `init`, `join` or the step before; its memory is reused.
      batch: result of `put`.
      active: the members that take the step, the others stay as they are; all if None.
        An engine of one member ignores it.
    """
    ...

  def fetch(self, sums: Sums) -> list[dict[str, float]]:
    """Waits for a step's sums; divides them by their weights, for each member."""
    ...


def as_arrays(hyper: Hyper) -> dict[str, np.ndarray]:
  """Converts hyperparameters to arguments of a step: float32, without unset ones."""
  return {k: np.float32(v) for k, v in hyper.items() if v is not None}


class CompiledSteps:
  """A step compiled ahead for every shape of batches.

  `jax.jit` does not know the programs that were compiled ahead: a call of it would
  compile the same step once more. It is called for undeclared shapes only, which shows
  in the run's column `compiles`.
  """

  def __init__(self, step: Callable, fingerprint: str | None):
    """Takes the step, and the digest by which it is found in the cache.

    Args:
      step: the result of `jax.jit` or `jax.pmap`.
      fingerprint: see `seqlab.programs.compile_program`.
    """
    self._step, self._fingerprint = step, fingerprint
    self._compiled: dict[tuple, jax.stages.Compiled] = {}

  def compile(self, state: PyTree, batch: PyTree, *rest: PyTree) -> jax.stages.Compiled:
    """Compiles for arguments of these shapes, dtypes and shardings."""
    compiled = compile_program(
      self._step, state, batch, *rest, fingerprint=self._fingerprint
    )
    self._compiled[batch_shapes(batch)] = compiled
    return compiled

  def __call__(self, state: PyTree, batch: PyTree, *rest: PyTree):
    """Runs the step that was compiled for this batch."""
    step = self._compiled.get(batch_shapes(batch), self._step)
    return step(state, batch, *rest)


def rows_of(sums: Sums) -> dict[str, float]:
  """Divides the sums of one member, on the host, by their weights."""
  return {k: float(s) / max(float(w), 1e-9) for k, (s, w) in sums.items()}
