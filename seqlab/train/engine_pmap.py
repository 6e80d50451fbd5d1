"""The engine of a single run whose devices each hold the whole state."""

from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from seqlab.programs import fingerprint_of
from seqlab.tasks.interface import Task
from seqlab.train.definition import Definition
from seqlab.train.engine import CompiledSteps, as_arrays, rows_of
from seqlab.train.state import TrainState
from seqlab.types import Batch, Hyper, PyTree, Sums

_AXIS = 'data'


class PmapEngine:
  """Steps of one run by `jax.pmap`: gradients are summed by the name of an axis.

  See `Engine`. Every array of a step has an axis of devices in front. Each device draws
  its own dropout masks, so with dropout the losses depend on the number of devices;
  under `JitEngine` they do not.
  """

  name = 'pmap'

  def __init__(
    self,
    config: Mapping,
    task: Task,
    steps: int,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Defines the step; see `Definition` for the arguments.

    Raises:
      ValueError: the experiment shards its state, or there are several processes.
    """
    self.definition = Definition(config, task, steps, axis_name=_AXIS, devices=devices)
    self.mesh, self.abstract = self.definition.mesh, self.definition.abstract
    if self.mesh.shape['data'] != self.mesh.size:
      raise ValueError("parallel='pmap' replicates: set mesh.fsdp=1 and mesh.tensor=1")
    if jax.process_count() > 1:
      raise ValueError("parallel='pmap' is for one process: set parallel='jit'")
    self._devices = [*self.mesh.devices.flat]
    self._steps = CompiledSteps(
      jax.pmap(
        self.definition.update,
        axis_name=_AXIS,
        in_axes=(0, 0, None),
        donate_argnums=0,
        devices=self._devices,
      ),
      fingerprint_of(self.name, self.definition.fingerprint),
    )
    self.set_hyper(self.definition.hyper)

  def init(self, seed: int) -> PyTree:
    """See `Engine`."""
    return self.join(self.definition.init(seed))

  def join(self, state: TrainState) -> PyTree:
    """See `Engine`."""
    n = len(self._devices)
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), state)
    return jax.pmap(lambda x: x, devices=self._devices)(copies)

  def member(self, state: PyTree, i: int = 0) -> TrainState:
    """See `Engine`."""
    del i

    def copy_of_one(x: jax.Array) -> np.ndarray:
      # Through the host: indexing the array on its device would compile a program
      # during the run.
      return np.asarray(x.addressable_shards[0].data).reshape(x.shape[1:])

    copies = jax.tree.map(copy_of_one, state)  # all devices hold the same
    return jax.device_put(copies, self.definition.shardings)

  def set_hyper(self, hyper: Hyper) -> None:
    """See `Engine`."""
    self._hyper = as_arrays(hyper)

  def put(self, batch: Batch) -> PyTree:
    """See `Engine`; the call of the step moves the rows."""
    n = len(self._devices)
    return {name: x.reshape(n, -1, *x.shape[1:]) for name, x in batch.items()}

  def compile(self, batch: Batch) -> jax.stages.Compiled:
    """See `Engine`."""
    n = len(self._devices)
    state = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((n, *x.shape), x.dtype), self.abstract
    )
    return self._steps.compile(state, self.put(batch), self._hyper)

  def step(
    self, state: PyTree, batch: PyTree, active: Iterable[bool] | None = None
  ) -> tuple[PyTree, Sums]:
    """See `Engine`."""
    del active
    return self._steps(state, batch, self._hyper)

  def fetch(self, sums: Sums) -> list[dict[str, float]]:
    """See `Engine`."""
    return [rows_of(jax.tree.map(lambda x: x[0], jax.device_get(sums)))]
