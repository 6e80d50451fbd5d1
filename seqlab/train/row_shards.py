"""Gradients of a batch whose rows every device computes by itself.

Left to itself, the compiler sums the gradient of a weight over the devices wherever the
weight is used: once per micro-batch, once per layer of a loop, and in a recurrent model
once per position. Here a device has complete weights and its own rows, as if it were
alone. The weights are gathered once before, and the gradients are summed once
afterwards.
"""

from collections.abc import Callable, Mapping
import dataclasses

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqlab.layers.exchange import ROWS, gather_shares, share_of, sum_shares
from seqlab.tasks.interface import SplitsRows, Task, has
from seqlab.train.state import TrainState
from seqlab.types import Array, Batch, Hyper, PyTree, Sums, Variables

Gradients = Callable[[TrainState, Batch, Array, Hyper], tuple[PyTree, Sums, Variables]]


def splits_rows(
  task: Task, mesh: Mesh, hyper: Mapping, collections: Variables, accumulate: int
) -> bool:
  """Returns whether every device of a mesh should compute its own rows by itself.

  The loss must allow it (`SplitsRows`), and running statistics of a batch must not
  couple its rows. A model that gathers the weights of one layer at a time is left to do
  so, as parameters are sharded to save memory; except for `accumulate`, because the
  weights would be gathered again for every micro-batch.
  """
  if mesh.shape['data'] * mesh.shape['fsdp'] == 1 or collections:
    return False
  if not has(task, SplitsRows) or not task.splits_rows(hyper):
    return False
  by_layer = mesh.shape['fsdp'] > 1 and getattr(task, 'gathers_weights', False)
  return accumulate > 1 or not by_layer


@dataclasses.dataclass(frozen=True)
class RowShards:
  """Divides a batch among the devices of a mesh, and sums their gradients.

  Attributes:
    mesh: the devices.
    params: sharding of each parameter, a tree of `PartitionSpec`.
    gradients: sharding of each gradient. It may divide a gradient among devices that
      have the whole parameter; these then get a part of the sum (reduce-scatter).
    dtypes: dtype in which each gradient is sent.
  """

  mesh: Mesh
  params: PyTree
  gradients: PyTree
  dtypes: PyTree

  def __call__(self, compute: Gradients) -> Gradients:
    """Returns a function of a whole batch; `compute` is one of a device's rows."""

    def own_rows(params, state, batch, rng, hyper):
      state = state.replace(params=gather_shares(params, _shares(self.params)))
      grads, sums, collections = compute(state, batch, rng, hyper)
      grads = sum_shares(grads, _shares(self.gradients), self.dtypes)
      return grads, jax.lax.psum(sums, ROWS), collections

    manual, whole = _manual(self.mesh), PartitionSpec()
    run = jax.shard_map(
      own_rows,
      in_specs=(
        _restrict(self.params, manual),
        whole,
        PartitionSpec(ROWS),
        whole,
        whole,
      ),
      out_specs=(_restrict(self.gradients, manual), whole, whole),
      axis_names=manual,
      check_vma=False,
    )

    def all_rows(state: TrainState, batch: Batch, rng: Array, hyper: Hyper):
      rest = state.replace(params=None, opt_state=None, ema=None)
      return run(state.params, rest, batch, rng, hyper)

    return all_rows


@dataclasses.dataclass(frozen=True)
class UpdateShares:
  """Divides the update of parameters among devices that have the same parameters.

  Rajbhandari et al., "ZeRO", 2020, section 5.1 and 5.2,
  https://arxiv.org/abs/1910.02054.

  Attributes:
    mesh: the devices.
    params: sharding of each parameter, a tree of `PartitionSpec`.
    updates: sharding of each parameter's gradient, moments and update.
  """

  mesh: Mesh
  params: PyTree
  updates: PyTree

  def divide(self, tree: PyTree) -> PyTree:
    """Returns arrays of the parameters' shapes, divided like the update."""
    shardings = _map(lambda spec: NamedSharding(self.mesh, spec), self.updates)
    return jax.lax.with_sharding_constraint(tree, shardings)

  def gather(self, params: PyTree) -> PyTree:
    """Returns updated parameters, as they are between updates."""
    manual = _manual(self.mesh)
    shares = _map(share_of, self.updates, self.params)
    return jax.shard_map(
      lambda params: gather_shares(params, shares),
      in_specs=(_restrict(self.updates, manual),),
      out_specs=_restrict(self.params, manual),
      axis_names=manual,
      check_vma=False,
    )(self.divide(params))


def _manual(mesh: Mesh) -> set[str]:
  """Returns the axes of a mesh without that of tensors, which is the compiler's."""
  return {name for name in mesh.axis_names if name in ROWS or mesh.shape[name] == 1}


def _shares(specs: PyTree) -> PyTree:
  return _map(share_of, specs)


def _restrict(specs: PyTree, allowed: set[str]) -> PyTree:
  """Leaves other axes of the mesh out."""

  def restrict(spec: PartitionSpec) -> PartitionSpec:
    entries = ((x,) if isinstance(x, str) else tuple(x or ()) for x in spec)
    return PartitionSpec(*(tuple(x for x in e if x in allowed) for e in entries))

  return _map(restrict, specs)


def _map(function: Callable, specs: PyTree, *rest: PyTree) -> PyTree:
  is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
  return jax.tree.map(function, specs, *rest, is_leaf=is_spec)
