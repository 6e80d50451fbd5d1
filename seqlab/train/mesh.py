"""The mesh of devices, and the sharding of arrays along its axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from seqlab.layers.exchange import TILE
from seqlab.layers.sharding import Weight
from seqlab.types import PyTree

AXES = ('data', 'fsdp', 'tensor')

# Logical axis of parameters and batches -> axis of the mesh.
RULES = (
  ('batch', ('data', 'fsdp')),
  ('vocab', 'tensor'),
  ('heads', 'tensor'),
  ('mlp', 'tensor'),
  ('embed', 'fsdp'),
  ('features', None),  # axes of vectors, too short to be worth gathering
  ('gates', None),
  ('head_dim', None),
  ('layers', None),
  ('rows', AXES),  # rows of an embedding matrix, over all devices
)


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: int | None = None,
  shard_optimizer: bool = False,
  available: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Returns a mesh of devices; one of the three sizes may be -1 for all the rest.

  Args:
    data: number of parts of a batch, with replicated parameters.
    fsdp: number of parts of a batch, with sharded parameters.
    tensor: number of parts of a layer's heads, hidden units and vocabulary.
    devices: number of devices, of which the first ones are used; None uses all.
    shard_optimizer: whether devices that have the same parameters keep a share of the
      optimiser's state each, and update a share of the parameters (ZeRO-1). It is faster
      where the update is a large part of a step (docs/accelerators.md). The mesh is the
      same; `train.definition` reads this option.
    available: devices to choose from, which may be those of a topology that is only
      compiled for; None chooses from JAX's own.

  Raises:
    ValueError: the product of the sizes is not the number of devices, or there are not
      enough devices.
  """
  del shard_optimizer
  available = jax.devices() if available is None else available
  if devices is not None and not 1 <= devices <= len(available):
    raise ValueError(
      f'mesh.devices is {devices}; it must be at least 1 and at most '
      f'{len(available)}, the number of devices'
    )
  chosen = available[:devices]
  sizes, devices = [data, fsdp, tensor], len(chosen)
  rest = int(-np.prod(sizes))  # product of the other two, if one is -1
  if sizes.count(-1) == 1 and rest > 0 and devices % rest == 0:
    sizes[sizes.index(-1)] = devices // rest
  if min(sizes) < 1 or np.prod(sizes) != devices:
    raise ValueError(
      f'mesh (data={data}, fsdp={fsdp}, tensor={tensor}) does not fit '
      f'{devices} devices: their product must be {devices}, and one may be -1'
    )
  return _arrange(sizes, chosen)


def _arrange(sizes: Sequence[int], devices: Sequence[jax.Device]) -> Mesh:
  """Returns a mesh of these sizes, in which every process holds a share of the rows.

  On the torus of a TPU pod, JAX orders the devices along rings. They may pass a host
  twice, while a host reads one share of the rows; and JAX finds no rings if a size is no
  product of sides of the torus (NotImplementedError), or if there are several slices
  (AssertionError). Then the devices are in the order of their hosts.
  """
  types = (AxisType.Auto,) * 3
  ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
  by_host = Mesh(np.array(ordered).reshape(sizes), AXES, axis_types=types)
  try:
    rings = jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=devices)
  except (NotImplementedError, AssertionError):
    return by_host
  return by_host if _has_shares(by_host) and not _has_shares(rings) else rings


def _has_shares(mesh: Mesh) -> bool:
  """Returns whether every process holds an equal contiguous share of the rows."""
  try:
    for process in {device.process_index for device in mesh.devices.flat}:
      rows_share(mesh, process)
  except ValueError:
    return False
  return True


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of rows over the data and fsdp axes."""
  return NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds."""
  return NamedSharding(mesh, PartitionSpec())


def rows_divisor(mesh: Mesh) -> int:
  """Returns the number of which the rows of a batch must be a multiple."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def rows_share(mesh: Mesh, process: int) -> tuple[int, int]:
  """Returns (i, n): a process's devices hold the i-th of n equal shares of the rows.

  Processes whose devices differ only along the tensor axis hold the same share.

  Raises:
    ValueError: the process has no device in the mesh, or the rows of its devices are
      not such a share.
  """
  parts = mesh.devices.reshape(rows_divisor(mesh), -1)  # [parts of a batch, tensor]
  local = [
    part
    for part, devices in enumerate(parts)
    if any(device.process_index == process for device in devices)
  ]
  sizes = ', '.join(f'{name}={size}' for name, size in mesh.shape.items())
  if not local:
    raise ValueError(
      f'the mesh ({sizes}) has no device of process {process}: set mesh.devices to the '
      f'number of devices of all processes, or start fewer processes'
    )
  start, count = local[0], len(local)
  if local[-1] - start + 1 != count or start % count or len(parts) % count:
    raise ValueError(
      f'the mesh ({sizes}) gives the devices of process {process} the parts '
      f'{", ".join(map(str, local))} of the {len(parts)} of a batch, which are not one '
      f'of equal contiguous shares: give every process the same number of devices, and '
      f'choose data x fsdp as a multiple or a divisor of the number of processes'
    )
  return start // count, len(parts) // count


def logical_axes(init: Callable[[jax.Array], Mapping[str, PyTree]]) -> PyTree:
  """Returns the names of the logical axes of every parameter, a tree of tuples.

  Args:
    init: makes variables from a random key, boxed with their logical axes.
  """
  return axes_of(jax.eval_shape(lambda: init(jax.random.key(0)))['params'])


def used_dtypes(boxed: PyTree) -> PyTree:
  """Returns the dtype in which each parameter is used; see `layers.sharding.Weight`."""
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  return jax.tree.map(
    lambda x: x.dtype if isinstance(x, Weight) else nn.unbox(x).dtype,
    boxed,
    is_leaf=is_box,
  )


def axes_of(boxed: PyTree) -> PyTree:
  """Returns the names of the logical axes of boxed parameters; see `logical_axes`."""

  def names(x: Any) -> tuple[str | None, ...]:
    axes = x.names if isinstance(x, nn.LogicallyPartitioned) else ()
    leaf = nn.unbox(x)
    return (*axes, *(None,) * (leaf.ndim - len(axes)))

  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  return jax.tree.map(names, boxed, is_leaf=is_box)


def state_shardings(create: Callable[..., PyTree], mesh: Mesh, *args) -> PyTree:
  """Returns the shardings of the result of `create`, by its parameters' logical axes.

  The boxes of parameters name their axes. An optimiser's state has no boxes: an array in
  it has the sharding of the parameter whose path is the end of the array's path, within
  any masks and partitions. An axis whose size is not a multiple of the mesh's, and an
  array with fewer axes than its parameter (Adafactor's factors), are replicated.
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
    parameter = next((end for end in ends if end in of_params), None)
    return spec if parameter is None else of_params[parameter]

  if hasattr(specs, 'opt_state'):
    opt_specs = jax.tree_util.tree_map_with_path(
      like_parameter, specs.opt_state, is_leaf=is_spec
    )
    specs = specs.replace(opt_state=opt_specs)
  shardings = nn.logical_to_mesh_sharding(specs, mesh, RULES)

  def fit(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
    spec = tuple(sharding.spec)
    if len(spec) > leaf.ndim:
      return replicated(mesh)
    # JAX refuses an axis that the devices do not divide evenly.
    fits = (
      name if name is None or size % _devices(mesh, name) == 0 else None
      for size, name in zip(leaf.shape, spec, strict=False)
    )
    return NamedSharding(mesh, PartitionSpec(*fits))

  return jax.tree.map(fit, nn.unbox(abstract), shardings)


def shard_over_data(params: PyTree, axes: PyTree, mesh: Mesh) -> PyTree:
  """Returns shardings that also divide parameters along the data axis of a mesh.

  Arrays of the same shapes as the parameters can be kept like this, such as gradients and
  an optimiser's moments. Vectors are left as they are: they are so small that a message
  costs more than it saves.

  Args:
    params: shapes of the parameters, with their shardings.
    axes: names of their logical axes; see `logical_axes`.
    mesh: the devices.
  """

  def divide(leaf: jax.ShapeDtypeStruct, logical: tuple) -> NamedSharding:
    padded = (*leaf.sharding.spec, *(None,) * (leaf.ndim - len(leaf.sharding.spec)))
    # Without names that divide nothing, so that 'data' may be on any axis.
    spec = [
      tuple(name for name in _as_names(entry) if mesh.shape[name] > 1)
      for entry in padded
    ]
    own = [axis for axis, name in enumerate(logical) if name != 'layers']
    if len(own) < 2:
      return leaf.sharding
    sharded = [axis for axis in own if 'fsdp' in spec[axis]]  # one axis has both names
    # The axis whose shares are tiles of a TPU's memory, or else the first that fits.
    for unit in (TILE, 1):
      for axis in sharded or own:
        entry = (*spec[axis], 'data')
        if leaf.shape[axis] % (_devices(mesh, entry) * unit) == 0:
          spec[axis] = entry
          return NamedSharding(mesh, PartitionSpec(*spec))
    return leaf.sharding

  return jax.tree.map(divide, params, axes)


def like_parameters(opt_state: PyTree, params: PyTree, shardings: PyTree) -> PyTree:
  """Returns an optimiser's state whose arrays are sharded as given for the parameters.

  An array belongs to the parameter whose path is the end of its path. It keeps its own
  sharding where it has another shape, as Adafactor's factors do.

  Args:
    opt_state: shapes and shardings of the state.
    params: shapes of the parameters.
    shardings: a sharding for each of them.
  """
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  of_params = {
    path_keys(path): (leaf.shape, sharding)
    for (path, leaf), sharding in zip(flat, jax.tree.leaves(shardings), strict=True)
  }

  def sharded(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
    keys = path_keys(path)
    ends = (of_params.get(keys[i:]) for i in range(len(keys)))
    shape, sharding = next(filter(None, ends), (None, None))
    return sharding if shape == leaf.shape else leaf.sharding

  return jax.tree_util.tree_map_with_path(sharded, opt_state)


def path_keys(path: tuple) -> tuple[str, ...]:
  """Returns the names on the path of a leaf, as `jax.tree_util` gives paths."""
  return tuple(str(getattr(key, 'key', getattr(key, 'name', key))) for key in path)


def _as_names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
  return (entry,) if isinstance(entry, str) else tuple(entry or ())


def _devices(mesh: Mesh, names: str | tuple[str, ...]) -> int:
  names = (names,) if isinstance(names, str) else names
  return int(np.prod([mesh.shape[name] for name in names]))
