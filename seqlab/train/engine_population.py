"""The engine of a population: the steps of many runs at once, as one program."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from seqlab.programs import fingerprint_of
from seqlab.train.definition import Definition
from seqlab.train.engine import CompiledSteps, as_arrays, rows_of
from seqlab.train.state import TrainState
from seqlab.types import Array, Batch, Hyper, PyTree, Sums


class PopulationEngine:
  """Steps of N runs by `jax.vmap`, each run whole on one device.

  See `Engine`. Every array of a step has an axis of M slots in front, which is divided
  evenly among the devices: M is the number of places rounded up to a multiple of them.
  A slot that no member has holds a copy of another one, which takes no steps: its
  content is never read.
  """

  name = 'population'

  def __init__(
    self,
    definition: Definition,
    hypers: Sequence[Hyper],
    places: Sequence[int] | None = None,
    width: int | None = None,
  ):
    """Defines the step.

    Args:
      definition: the program of one member.
      hypers: each member's hyperparameters; the same ones are set in all.
      places: each member's place, if they are the rest of a larger population; by
        default 0, 1, 2, ...
      width: number of places, by default one per member. A narrower program rounds
        differently: the rest of a population keeps its bits by keeping its width.
    """
    self.definition = definition
    self._places = np.array([*range(len(hypers))] if places is None else places)
    width = len(hypers) if width is None else width
    devices = definition.mesh.devices.reshape(-1)
    M = -(-width // len(devices)) * len(devices)
    by_place = {place: i for i, place in enumerate(self._places.tolist())}
    # [M] the member whose state, batch and hyperparameters a slot holds.
    self._members = [by_place.get(slot % width, 0) for slot in range(M)]
    self.mesh = Mesh(devices, ('members',), axis_types=(AxisType.Auto,))
    axis = PartitionSpec('members')
    self._sharding = NamedSharding(self.mesh, axis)
    self.abstract = self._stacked(definition.abstract)
    # By shard_map, because under jit the compiler inserts messages between devices: it
    # does not see that the members are independent.
    each_device = jax.shard_map(
      jax.vmap(self._trace),
      mesh=self.mesh,
      in_specs=axis,
      out_specs=axis,
      check_vma=False,
    )
    self._steps = CompiledSteps(
      jax.jit(each_device, donate_argnums=0),
      fingerprint_of(
        'population', self._places.tolist(), width, definition.fingerprint
      ),
    )
    self._member = jax.jit(
      lambda state, slot: jax.tree.map(lambda x: x[slot], state),
      out_shardings=definition.shardings,
    )
    self.set_hyper(*hypers)

  def _trace(self, state: TrainState, batch: Batch, hyper: Hyper, active: Array):
    after, sums = self.definition.update(state, batch, hyper)
    kept = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, state)
    return kept, sums

  def _stacked(self, tree: PyTree) -> PyTree:
    """Converts the shapes of one member's arrays to those of all slots."""
    M = len(self._members)
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((M, *x.shape), x.dtype, sharding=self._sharding),
      tree,
    )

  def _stack(self, trees: Sequence[PyTree]) -> PyTree:
    """Puts one tree of NumPy's arrays per member on the devices, as [M, ...]."""
    stacked = jax.tree.map(lambda *xs: np.stack([xs[i] for i in self._members]), *trees)
    return jax.device_put(stacked, self._sharding)

  def init(self, *seeds: int) -> PyTree:
    """See `Engine`."""
    # One member at a time, so that no device has to hold all of them.
    return self.join(*(jax.device_get(self.definition.init(seed)) for seed in seeds))

  def join(self, *states: TrainState) -> PyTree:
    """See `Engine`."""
    return self._stack(states)

  def member(self, state: PyTree, i: int = 0) -> TrainState:
    """See `Engine`."""
    return self._member(state, np.int32(self._places[i]))

  def set_hyper(self, *hypers: Hyper) -> None:
    """See `Engine`."""
    self._hyper = self._stack([as_arrays(hyper) for hyper in hypers])

  def put(self, *batches: Batch) -> PyTree:
    """See `Engine`."""
    return self._stack(batches)

  def _active(self, active: Iterable[bool] | None) -> jax.Array:
    """Returns which slots take a step, [M] on the devices."""
    slots = np.zeros(len(self._members), bool)
    slots[self._places] = True if active is None else [*active]
    return jax.device_put(slots, self._sharding)

  def compile(self, batch: Batch) -> jax.stages.Compiled:
    """See `Engine`; also compiles the function that extracts a member."""
    rows = self._stacked(batch)
    if not isinstance(self._member, jax.stages.Compiled):
      self._member = self._member.lower(self.abstract, np.int32(0)).compile()
    return self._steps.compile(self.abstract, rows, self._hyper, self._active(None))

  def step(
    self, state: PyTree, batch: PyTree, active: Iterable[bool] | None = None
  ) -> tuple[PyTree, Sums]:
    """See `Engine`."""
    return self._steps(state, batch, self._hyper, self._active(active))

  def fetch(self, sums: Sums) -> list[dict[str, float]]:
    """See `Engine`."""
    sums = jax.device_get(sums)
    return [
      rows_of({name: (s[slot], w[slot]) for name, (s, w) in sums.items()})
      for slot in self._places
    ]
