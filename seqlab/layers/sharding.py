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

A step may also compute every device's rows by themselves, inside of `jax.shard_map`
(`train.row_shards`). The arrays of a layer are then those of one device, complete weights
and some of the rows, and these functions have no effect either. Only what depends on the
number of a row asks for `first_row`.
"""

from collections.abc import Callable
import math

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from seqlab.layers.exchange import Share, gather
from seqlab.types import Array


@struct.dataclass
class Weight(nn.LogicallyPartitioned):
  """The box of a weight that a layer uses in one dtype only, and only once.

  Its gradient has been rounded to this dtype, so that devices can send it as such. That
  of a weight that layers share is a sum of rounded gradients, which sending rounds again.
  """

  dtype: jnp.dtype = struct.field(default=jnp.float32, pytree_node=False)


def weight_init(
  init: nn.initializers.Initializer, axes: tuple[str | None, ...], dtype: jnp.dtype
) -> Callable[..., Weight]:
  """Returns an initialiser that puts its result into the box `Weight`."""
  return lambda *args: Weight(init(*args), axes, dtype=jnp.dtype(dtype))


def num_row_shards() -> int:
  """Returns n, the number of equal shards of a batch's rows."""
  mesh = jax.sharding.get_abstract_mesh()
  return math.prod(
    mesh.shape.get(name, 1) for name in _rule('batch') if name not in mesh.manual_axes
  )


def first_row(rows: int) -> tuple[Array | int, int]:
  """Returns the number of a device's first row, and the number of rows in the batch.

  Args:
    rows: number of rows of the array at hand, which are all rows of the batch, except
      inside of `jax.shard_map` over the rows.
  """
  manual = jax.sharding.get_abstract_mesh().manual_axes
  names = tuple(name for name in _rule('batch') if name in manual)
  if not names:
    return 0, rows
  return jax.lax.axis_index(names) * rows, jax.lax.axis_size(names) * rows


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

  def complete(weight: Array) -> Array:
    # The cast before the gather makes the backward pass scatter first, so that the sum
    # over replicas has only a part of the gradient.
    weight = jax.lax.pcast(weight, replicated, to='varying') if replicated else weight
    for axis, names in enumerate(stored):
      if gathered := tuple(name for name in names if name in rows):
        weight = gather(weight, Share(axis, gathered))
    return weight[None]

  remaining = [[name for name in names if name not in rows] for names in stored]
  return jax.shard_map(
    complete,
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


def shard_sizes(axes: tuple[str | None, ...]) -> tuple[int, ...]:
  """Returns the number of parts into which arrays with these logical axes are divided."""
  sizes = jax.sharding.get_abstract_mesh().shape
  return tuple(math.prod(sizes[name] for name in _mesh_axes(axis)) for axis in axes)


def apply_per_shard(
  function: Callable[..., Array],
  arrays: tuple[Array, ...],
  axes: tuple[tuple[str | None, ...], ...],
  result_axes: tuple[str | None, ...],
) -> Array:
  """Returns function(*arrays), computed by each device for its own part.

  This is for kernels, which the compiler cannot divide.

  Args:
    function: function that treats all parts alike.
    arrays: its operands.
    axes: logical axes of each operand.
    result_axes: logical axes of the result.
  """
  if math.prod(shard_sizes(result_axes)) == 1:
    return function(*arrays)

  def spec(names: tuple[str | None, ...]) -> PartitionSpec:
    return PartitionSpec(*map(_mesh_axes, names))

  return jax.shard_map(
    function,
    in_specs=tuple(map(spec, axes)),
    out_specs=spec(result_axes),
    check_vma=False,  # kernels do not say over which axes their results vary
  )(*arrays)


def _mesh_axes(axis: str | None) -> tuple[str, ...]:
  """Returns the axes of the current mesh along which a logical axis is divided."""
  mesh = jax.sharding.get_abstract_mesh()
  divided = set(mesh.axis_names) - set(mesh.manual_axes)
  return tuple(name for name in _rule(axis) if name in divided)


def _rule(axis: str | None) -> tuple[str, ...]:
  """Returns the mesh axes of a logical axis by the current rules."""
  for name, mesh_axes in nn.get_logical_axis_rules():
    if name == axis and mesh_axes:
      return (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes)
  return ()
