"""The step of many members at once: one program, with an axis of members in front."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from seqlab.train.program import Program, shape_of
from seqlab.train.state import TrainState
from seqlab.types import PyTree, Sums


def stack(trees: Sequence[PyTree]) -> PyTree:
  """Members' trees of NumPy's arrays as one, [N, ...]."""
  return jax.tree.map(lambda *xs: np.stack(xs), *trees)


class Stacked:
  """The compiled step of N members, each of them whole on one device.

  Every device of `program.mesh` has as many. Where their number is no multiple of the
  devices, the first ones are there again, frozen, so that the shares are equal; what
  comes of these is dropped.

  Attributes:
    slots: [M] the member in each place of the axis; M is a multiple of the devices.
  """

  def __init__(self, program: Program, hypers: Sequence[Mapping[str, float | None]]):
    """`hypers` are the members' hyperparameters; the same ones are set in all."""
    devices = program.mesh.devices.reshape(-1)
    self._count = len(hypers)
    M = -(-self._count // len(devices)) * len(devices)
    self.slots = np.arange(M) % self._count
    mesh = Mesh(devices, ('members',), axis_types=(AxisType.Auto,))
    axis = PartitionSpec('members')
    self._sharding = NamedSharding(mesh, axis)

    def step(state, batch, hyper, alive):
      after, sums = program.update(state, batch, hyper)
      kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state)
      return kept, sums

    # The devices have nothing to tell each other; the compiler need not find that out.
    apart = jax.shard_map(
      jax.vmap(step), mesh=mesh, in_specs=axis, out_specs=axis, check_vma=False
    )
    self._step = jax.jit(apart, donate_argnums=0)
    self._member = jax.jit(
      lambda state, i: jax.tree.map(lambda x: x[i], state),
      out_shardings=program.shardings,
    )
    self._compiled: dict[tuple, Callable] = {}
    names = [name for name, value in hypers[0].items() if value is not None]
    self._hyper = self.put({k: np.float32([h[k] for h in hypers]) for k in names})

  def put(self, tree: PyTree) -> PyTree:
    """NumPy's arrays [N, ...] -> on the devices, [M, ...]."""
    tree = jax.tree.map(lambda x: x[self.slots], tree)
    return jax.device_put(tree, self._sharding)

  def alive(self, members: Sequence[bool]) -> jax.Array:
    """[N] which members take steps -> [M] which places do, on the devices."""
    first = np.arange(len(self.slots)) < self._count
    return jax.device_put(np.array(members)[self.slots] & first, self._sharding)

  def compile(self, state: PyTree, batch: PyTree) -> None:
    """Compiles for batches of this shape, and what takes out a member."""
    args = state, batch, self._hyper, self.alive([True] * self._count)
    self._compiled[shape_of(batch)] = self._step.lower(*args).compile()
    if not isinstance(self._member, jax.stages.Compiled):
      self._member = self._member.lower(state, np.int32(0)).compile()

  def step(self, state: PyTree, batch: PyTree, alive: jax.Array) -> tuple[PyTree, Sums]:
    """One update of those that are alive. The state given is used up.

    Returns:
      The states, and the sums of all of them, [M].
    """
    run = self._compiled.get(shape_of(batch), self._step)
    return run(state, batch, self._hyper, alive)

  def member(self, state: PyTree, i: int) -> TrainState:
    """The state of one member, sharded as that of a run alone."""
    return self._member(state, np.int32(i))
