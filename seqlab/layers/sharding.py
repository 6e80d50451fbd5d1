"""Gathers sharded weights for batches whose rows are sharded over devices.

Without this, the compiler may move whole batches of activations instead of weights, and
it sums a gradient over the devices once for every use of a weight, inside loops. Here a
layer makes the communication explicit: every shard of the rows gets a copy of the weight,
gathered from the devices that hold its parts. The gradient of the copies is summed once,
and each device keeps its part (Rajbhandari et al., "ZeRO", 2020, section 5.3,
https://arxiv.org/abs/1910.02054).

The sharding is given by the logical axes of a weight and by the current rules
(`nn.logical_axis_rules`); the rule of 'batch' has the mesh axes of the rows. Without a
mesh, or with all rows on one device, these functions have no effect.
"""

from collections.abc import Callable
import math

from flax import linen as nn
import jax
from jax.sharding import PartitionSpec

from seqlab.types import Array


def num_row_shards() -> int:
  """Returns n, the number of equal shards of a batch's rows."""
  sizes = jax.sharding.get_abstract_mesh().shape
  return math.prod(sizes.get(name, 1) for name in _rule('batch'))


def split_rows(x: Array) -> Array:
  """Divides rows into shards: [B, ...] -> [n, B / n, ...]."""
  return x.reshape(num_row_shards(), -1, *x.shape[1:])


def merge_rows(x: Array) -> Array:
  """Merges the shards of rows: [n, B / n, ...] -> [B, ...]."""
  return x.reshape(-1, *x.shape[2:])


def gather_weight_per_shard(weight: Array, axes: tuple[str | None, ...]) -> Array:
  """Returns one copy of a weight per shard of the rows: [...] -> [n, ...].

  The weight is gathered along the mesh axes of the rows; along others ('tensor') each
  device keeps its part. The gradient is summed over the parts of a device
  (reduce-scatter), and then over the devices that hold the same part (all-reduce).

  Args:
    weight: weight that is sharded by its logical axes.
    axes: logical axes, as in `nn.with_logical_partitioning`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  used = [name for name in mesh.axis_names if mesh.shape[name] > 1]
  rows = [name for name in _rule('batch') if name in used]
  stored = [
    [name for name in _rule(axis) if name in used and size % mesh.shape[name] == 0]
    for size, axis in zip(weight.shape, axes, strict=True)
  ]
  sharded = [name for names in stored for name in names]
  replicated = tuple(name for name in rows if name not in sharded)

  def gather(weight: Array) -> Array:
    # The cast before the gather makes the backward pass scatter first, so that the sum
    # over replicas has only a part of the gradient.
    weight = jax.lax.pcast(weight, replicated, to='varying') if replicated else weight
    for axis, names in enumerate(stored):
      for name in names:
        if name in rows:
          weight = jax.lax.all_gather(weight, name, axis=axis, tiled=True)
    return weight[None]

  remaining = [[name for name in names if name not in rows] for names in stored]
  return jax.shard_map(
    gather,
    in_specs=PartitionSpec(*map(tuple, stored)),
    out_specs=PartitionSpec(tuple(rows), *map(tuple, remaining)),
  )(weight)


def apply_row_sharded(
  function: Callable[[Array, Array], Array],
  x: Array,
  weight: Array,
  axes: tuple[str | None, ...],
) -> Array:
  """Returns function(x, weight), [B, ...] -> [B, ...], for a function of single rows.

  The backward pass gathers the weight again, because the gathered weights of all layers
  would need the memory of a complete model.
  """
  if num_row_shards() == 1:
    return function(x, weight)

  @jax.checkpoint
  def run(x: Array, weight: Array) -> Array:
    return jax.vmap(function)(split_rows(x), gather_weight_per_shard(weight, axes))

  return merge_rows(run(x, weight))


def _rule(axis: str | None) -> tuple[str, ...]:
  """Returns the mesh axes of a logical axis by the current rules."""
  for name, mesh_axes in nn.get_logical_axis_rules():
    if name == axis and mesh_axes:
      return (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes)
  return ()
