"""Weights as the rows of a batch need them, where rows are shared out over devices.

Left to itself the compiler may move whole batches of activations where it could move
weights, and it sums a gradient over the devices once for every use of a weight, inside
the loops that the uses are in. Here a layer says which way it should go: every share of
the rows gets a copy of the weight, gathered from the devices that hold its parts, and
the copies' gradient is summed once, each device keeping the part that it holds (Rajbhandari
et al., "ZeRO", 2020, section 5.3, https://arxiv.org/abs/1910.02054).

What lies where is told by the logical axes of a weight and by the rules in force
(`nn.logical_axis_rules`), of which 'batch' has the axes of the mesh that rows lie along.
Where no mesh is in force, or rows lie whole on one device, nothing here does anything.
"""

from collections.abc import Callable
import math

from flax import linen as nn
import jax
from jax.sharding import PartitionSpec

from seqlab.types import Array


def parts() -> int:
  """n, the equal shares that the rows of a batch lie in."""
  sizes = jax.sharding.get_abstract_mesh().shape
  return math.prod(sizes.get(name, 1) for name in _rule('batch'))


def share_out(x: Array) -> Array:
  """[B, ...] -> [n, B / n, ...]."""
  return x.reshape(parts(), -1, *x.shape[1:])


def bring_together(x: Array) -> Array:
  """[n, B / n, ...] -> [B, ...]."""
  return x.reshape(-1, *x.shape[2:])


def copies(weight: Array, axes: tuple[str | None, ...]) -> Array:
  """A weight once for every share of the rows: [...] -> [n, ...].

  Along the axes of the mesh that rows lie along it is gathered; along others
  ('tensor') each device goes on to hold its part. The gradient is summed over the
  parts that a device holds (reduce-scatter), and then over the devices that hold the
  same (all-reduce).

  Args:
    weight: sharded as its logical axes say.
    axes: the logical axes, of a parameter's `nn.with_logical_partitioning`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  many = [name for name in mesh.axis_names if mesh.shape[name] > 1]
  rows = [name for name in _rule('batch') if name in many]
  stored = [
    [name for name in _rule(axis) if name in many and size % mesh.shape[name] == 0]
    for size, axis in zip(weight.shape, axes, strict=True)
  ]
  cut = [name for names in stored for name in names]
  alike = tuple(name for name in rows if name not in cut)

  def gather(weight: Array) -> Array:
    # First said to differ, then gathered: backwards, only a part is left to be summed.
    weight = jax.lax.pcast(weight, alike, to='varying') if alike else weight
    for axis, names in enumerate(stored):
      for name in names:
        if name in rows:
          weight = jax.lax.all_gather(weight, name, axis=axis, tiled=True)
    return weight[None]

  whole = [[name for name in names if name not in rows] for names in stored]
  return jax.shard_map(
    gather,
    in_specs=PartitionSpec(*map(tuple, stored)),
    out_specs=PartitionSpec(tuple(rows), *map(tuple, whole)),
  )(weight)


def by_rows(
  function: Callable[[Array, Array], Array],
  x: Array,
  weight: Array,
  axes: tuple[str | None, ...],
) -> Array:
  """function(x, weight), which treats each row of x [B, ...] by itself -> [B, ...].

  Not kept for the backward pass is the gathered weight, which would be as large as the
  model where it is kept for all layers: it is gathered again.
  """
  if parts() == 1:
    return function(x, weight)

  @jax.checkpoint
  def run(x: Array, weight: Array) -> Array:
    return jax.vmap(function)(share_out(x), copies(weight, axes))

  return bring_together(run(x, weight))


def _rule(axis: str | None) -> tuple[str, ...]:
  """The axes of the mesh that a logical axis lies along, as the rules have it."""
  for name, found in nn.get_logical_axis_rules():
    if name == axis and found:
      return (found,) if isinstance(found, str) else tuple(found)
  return ()
