"""Devices as a mesh, and which axis of which array lies along which of its axes."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from seqlab.types import PyTree

AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> axis of the mesh: of parameters, and of a batch's rows.
RULES = (
  ('batch', ('data', 'fsdp')),
  ('vocab', 'tensor'),
  ('heads', 'tensor'),
  ('mlp', 'tensor'),
  ('embed', 'fsdp'),
  ('features', None),  # of vectors, too short to be worth the gathering
  ('gates', None),
  ('head_dim', None),
  ('layers', None),
  ('rows', AXES),  # of a matrix, over all devices
)


def make_mesh(
  data: int = -1, fsdp: int = 1, tensor: int = 1, devices: int | None = None
) -> Mesh:
  """A mesh of devices; one of the three sizes may be -1, for what is left.

  Args:
    data: parts of a batch, with the parameters replicated.
    fsdp: parts of a batch, with the parameters sharded.
    tensor: parts of a layer's heads, hidden units and words.
    devices: how many to use, the first ones; all if None.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or there are
      not so many.
  """
  if devices is not None and not 1 <= devices <= jax.device_count():
    raise ValueError(f'mesh.devices is {devices}, and there are {jax.device_count()}')
  chosen = jax.devices()[:devices]
  sizes, devices = [data, fsdp, tensor], len(chosen)
  rest = int(-np.prod(sizes))  # of the other two, where one is -1
  if sizes.count(-1) == 1 and rest > 0 and devices % rest == 0:
    sizes[sizes.index(-1)] = devices // rest
  if min(sizes) < 1 or np.prod(sizes) != devices:
    raise ValueError(
      f'mesh (data={data}, fsdp={fsdp}, tensor={tensor}) does not fit '
      f'{devices} devices: the sizes must multiply to that, and one may be -1'
    )
  return jax.make_mesh(
    tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=chosen
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over the data and fsdp axes."""
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same on every device."""
  return NamedSharding(mesh, PartitionSpec())


def rows_divisor(mesh: Mesh) -> int:
  """What the rows of a batch must be a multiple of."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def rows_share(mesh: Mesh, process: int) -> tuple[int, int]:
  """(i, n): the devices of a process hold the i-th of n equal shares of a batch's rows.

  Processes whose devices differ only along the tensor axis hold the same share.

  Raises:
    ValueError: the process has no device in the mesh, or what its devices hold is no
      such share.
  """
  parts = mesh.devices.reshape(rows_divisor(mesh), -1)  # [parts of a batch, tensor]
  here = [
    part
    for part, devices in enumerate(parts)
    if any(device.process_index == process for device in devices)
  ]
  sizes = ', '.join(f'{name}={size}' for name, size in mesh.shape.items())
  if not here:
    raise ValueError(
      f'the mesh ({sizes}) has no device of process {process}: let mesh.devices be '
      f'all that the processes have, or start fewer processes'
    )
  start, count = here[0], len(here)
  if here[-1] - start + 1 != count or start % count or len(parts) % count:
    raise ValueError(
      f'the mesh ({sizes}) gives the devices of process {process} the parts '
      f'{", ".join(map(str, here))} of the {len(parts)} of a batch, which are no equal '
      f'share in one piece: give every process as many devices, and choose data x fsdp '
      f'so that it is a multiple of the processes or divides them'
    )
  return start // count, len(parts) // count


def logical_axes(init: Callable[[jax.Array], Mapping[str, PyTree]]) -> PyTree:
  """Returns the names of the logical axes of every parameter, a tree of tuples.

  Args:
    init: makes variables from a random key, boxed with their logical axes.
  """
  boxed = jax.eval_shape(lambda: init(jax.random.key(0)))['params']

  def names(x: Any) -> tuple[str | None, ...]:
    axes = x.names if isinstance(x, nn.LogicallyPartitioned) else ()
    leaf = nn.unbox(x)
    return (*axes, *(None,) * (leaf.ndim - len(axes)))

  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  return jax.tree.map(names, boxed, is_leaf=is_box)


def state_shardings(create: Callable[..., PyTree], mesh: Mesh, *args) -> PyTree:
  """Shardings of what `create` returns, from its parameters' logical axes.

  Parameters carry their axes in boxes. An optimiser's state has none: an array in it
  lies like the parameter whose path its own path ends with, through whatever masks and
  partitions. An axis that the mesh does not divide, and an array with fewer axes than
  its parameter (Adafactor's factors), is replicated.
  """
  abstract = jax.eval_shape(create, *args)
  specs = nn.get_partition_spec(abstract)
  is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
  of_params = {
    path_keys(path): spec
    for path, spec in jax.tree_util.tree_flatten_with_path(
      getattr(specs, 'params', None), is_leaf=is_spec
    )[0]
  }

  def like_parameter(path: tuple, spec: PartitionSpec) -> PartitionSpec:
    keys = path_keys(path)
    ends = (keys[i:] for i in range(len(keys)))
    found = next((end for end in ends if end in of_params), None)
    return spec if found is None else of_params[found]

  if hasattr(specs, 'opt_state'):
    own = jax.tree_util.tree_map_with_path(
      like_parameter, specs.opt_state, is_leaf=is_spec
    )
    specs = specs.replace(opt_state=own)
  shardings = nn.logical_to_mesh_sharding(specs, mesh, RULES)

  def fit(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
    spec = tuple(sharding.spec)
    if len(spec) > leaf.ndim:
      return replicated(mesh)
    fits = (
      name if name is None or size % _devices(mesh, name) == 0 else None
      for size, name in zip(leaf.shape, spec, strict=False)
    )
    return NamedSharding(mesh, PartitionSpec(*fits))

  return jax.tree.map(fit, nn.unbox(abstract), shardings)


def path_keys(path: tuple) -> tuple[str, ...]:
  """Returns the names on the path of a leaf, as `jax.tree_util` gives paths."""
  return tuple(str(getattr(key, 'key', getattr(key, 'name', key))) for key in path)


def _devices(mesh: Mesh, names: str | tuple[str, ...]) -> int:
  names = (names,) if isinstance(names, str) else names
  return int(np.prod([mesh.shape[name] for name in names]))
