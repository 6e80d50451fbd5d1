"""The engine of a single run: global arrays, sharded over a mesh of devices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from seqlab.compile.options import compiler_options
from seqlab.layers.device import compiled_for
from seqlab.programs import fingerprint_of
from seqlab.tasks.interface import Task
from seqlab.train.definition import Definition
from seqlab.train.engine import CompiledSteps, as_arrays, rows_of
from seqlab.train.mesh import RULES, batch_sharding, replicated
from seqlab.train.state import TrainState
from seqlab.types import Batch, Hyper, PyTree, Sums


class JitEngine:
  """Steps of one run by `jax.jit`: the compiler inserts the communication.

  See `Engine`. The state of a step is the run's state as checkpoints have it, and
  losses do not depend on the number of devices.
  """

  name = 'jit'

  def __init__(
    self,
    config: Mapping,
    task: Task,
    steps: int,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Defines the step; see `Definition` for the arguments."""
    self.definition = Definition(config, task, steps, by_mesh=True, devices=devices)
    self.mesh, self.abstract = self.definition.mesh, self.definition.abstract
    shardings = self.definition.shardings
    self._rows, self._everywhere = batch_sharding(self.mesh), replicated(self.mesh)
    constants = jax.tree.map(lambda x: x.sharding, self.definition.constants)
    self._steps = CompiledSteps(
      jax.jit(
        self._trace,
        in_shardings=(shardings, self._rows, self._everywhere, *constants),
        out_shardings=(shardings, self._everywhere),
        donate_argnums=0,
        compiler_options=self._compiler_options(),
      ),
      fingerprint_of(self.name, self.definition.fingerprint),
    )
    self.set_hyper(self.definition.hyper)

  def _compiler_options(self) -> dict[str, Any] | None:
    platform = self.mesh.devices.flat[0].platform
    return compiler_options(platform, self.mesh.size) or None

  def _trace(self, state: TrainState, batch: Batch, hyper: Hyper, *constants: PyTree):
    with self._named_axes():
      return self.definition.update(state, batch, hyper, *constants)

  @contextlib.contextmanager
  def _named_axes(self) -> Iterator[None]:
    """Lets models constrain where activations lie, by the names of their axes."""
    with compiled_for(self.mesh), nn.logical_axis_rules(RULES):
      yield

  def init(self, seed: int) -> TrainState:
    """See `Engine`."""
    return self.definition.init(seed)

  def join(self, state: TrainState) -> TrainState:
    """See `Engine`."""
    return state

  def member(self, state: TrainState, i: int = 0) -> TrainState:
    """See `Engine`."""
    del i
    return state

  def set_hyper(self, hyper: Hyper) -> None:
    """See `Engine`."""
    self._hyper, self._hyper_on_devices = as_arrays(hyper), None

  def _put_hyper(self) -> dict[str, jax.Array]:
    """Returns the hyperparameters on the devices, put there once per change of them.

    A step that is only compiled has devices that hold no arrays.
    """
    if self._hyper_on_devices is None:
      # `device_put` to devices of other processes would compile a check that all agree.
      self._hyper_on_devices = {
        name: jax.make_array_from_callback(
          (), self._everywhere, lambda _, x=x: np.array(x)
        )
        for name, x in self._hyper.items()
      }
    return self._hyper_on_devices

  def put(self, batch: Batch) -> PyTree:
    """See `Engine`."""
    shares = self.definition.rows_share[1]
    return {
      name: jax.make_array_from_process_local_data(
        self._rows, x, (shares * len(x), *x.shape[1:])
      )
      for name, x in batch.items()
    }

  def compile(self, batch: Batch) -> jax.stages.Compiled:
    """See `Engine`."""
    rows = jax.tree.map(lambda x: _abstract(x, self._rows), batch)
    hyper = jax.tree.map(lambda x: _abstract(x, self._everywhere), self._hyper)
    constants = jax.tree.map(
      lambda x: _abstract(x, x.sharding), self.definition.constants
    )
    return self._steps.compile(self.abstract, rows, hyper, *constants)

  def step(
    self, state: TrainState, batch: PyTree, active: Iterable[bool] | None = None
  ) -> tuple[TrainState, Sums]:
    """See `Engine`."""
    del active
    return self._steps(state, batch, self._put_hyper(), *self.definition.constants)

  def fetch(self, sums: Sums) -> list[dict[str, float]]:
    """See `Engine`."""
    return [rows_of(jax.device_get(sums))]


def _abstract(
  x: np.ndarray | jax.Array, sharding: jax.sharding.Sharding
) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
