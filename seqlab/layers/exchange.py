"""Sums and gathers arrays of which every device keeps a share.

The functions are called for each device, inside of `jax.shard_map`.

The compiler of TPUs sums a complete array and discards most of it, which sends twice as
much as needed, unless two conditions hold: the devices of a group are not all devices,
and shares are whole tiles of memory. On a TPU, sums are therefore taken in two phases,
along the columns and then along the rows of a matrix of devices. Padding smaller shares
to tiles would cost more than it saves: with 256 chips, 25 ms of copies per step of a
Transformer "big".
"""

from collections.abc import Callable, Iterable
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np

from seqlab.layers.device import platform
from seqlab.types import Array, PyTree

ROWS = ('data', 'fsdp')  # axes of the mesh that the rows of a batch are divided over
TILE = 16  # rows of the largest tile, which is that of bfloat16


class Share(NamedTuple):
  """How an array is divided among devices that have different rows of a batch.

  Attributes:
    axis: the axis that is divided.
    names: axes of the mesh that it is divided along; empty if it is not divided.
  """

  axis: int
  names: tuple[str, ...]


def share_of(spec: PartitionSpec, without: Iterable = ()) -> Share:
  """Returns the share of an array with a sharding, without the names of another one."""
  known = {name for entry in without for name in _names(entry)}
  for axis, entry in enumerate(spec):
    if names := [x for x in _names(entry) if x in ROWS and x not in known]:
      return Share(axis, tuple(names))
  return Share(0, ())


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
  return (entry,) if isinstance(entry, str) else tuple(entry or ())


def sum_shares(gradients: PyTree, shares: PyTree, dtypes: PyTree) -> PyTree:
  """Returns the sums over all devices, of each array this device's share.

  Args:
    gradients: arrays of this device.
    shares: the `Share` of each.
    dtypes: dtype in which each is sent, other than on a CPU.
  """
  # The compiler of CPUs widens sums of bfloat16 itself, and aborts ("Invalid binary
  # instruction opcode copy") where the mesh has another axis of several devices.
  wide = jnp.float32 if platform() == 'cpu' else None

  def sum_of(gradient: Array, share: Share, dtype: jnp.dtype) -> Array:
    x = gradient.astype(wide or dtype)
    if share.names:
      x = _scatter(x, share)
    if rest := tuple(name for name in ROWS if name not in share.names):
      x = jax.lax.psum(x, rest)
    return x.astype(gradient.dtype)

  return jax.tree.map(sum_of, gradients, shares, dtypes)


def gather_shares(arrays: PyTree, shares: PyTree) -> PyTree:
  """Returns complete arrays.

  Args:
    arrays: this device's shares.
    shares: the `Share` of each.
  """
  return jax.tree.map(gather, arrays, shares)


def gather(x: Array, share: Share) -> Array:
  """Returns the complete array; its gradient is summed, and scattered to the shares.

  Args:
    x: this device's share.
    share: how the array is divided.
  """
  axis, names = share
  if not names:
    return x
  if not _is_tiled(x, share):
    return jax.lax.all_gather(x, names, axis=axis, tiled=True)
  whole = (*x.shape[:axis], -1, *x.shape[axis + 1 :])
  return _in_phases(jax.lax.all_gather, _view(x, axis), names, axis=1).reshape(whole)


def _scatter(x: Array, share: Share) -> Array:
  """Returns this device's share of the sum; see `gather`."""
  axis, names = share
  part = (*x.shape[:axis], -1, *x.shape[axis + 1 :])
  if not _is_tiled(x, share, jax.lax.axis_size(names)):
    return jax.lax.psum_scatter(x, names, scatter_dimension=axis, tiled=True)
  x = _in_phases(jax.lax.psum_scatter, _view(x, axis), names, scatter_dimension=1)
  return x.reshape(part)


def _is_tiled(x: Array, share: Share, parts: int = 1) -> bool:
  """Returns whether this is a TPU, and an array of this many shares is whole tiles."""
  return platform() == 'tpu' and x.shape[share.axis] % (TILE * parts) == 0


def _view(x: Array, axis: int) -> Array:
  """Returns [lead, size, rest], or [lead, size] if the axis is the last one."""
  lead = math.prod(x.shape[:axis])
  return x.reshape(lead, x.shape[axis], *((-1,) if axis < x.ndim - 1 else ()))


def _in_phases(
  operation: Callable, x: Array, names: tuple[str, ...], **options: int
) -> Array:
  """Gathers or scatters among a few devices at a time.

  The devices along an axis are a matrix, in the order of its rows. A sum is scattered
  along the columns first, so that the shares of a row are neighbours.
  """
  phases = [(name, groups) for name in names for groups in _phases(name)]
  if operation is jax.lax.all_gather:
    phases.reverse()
  for name, groups in phases:
    x = operation(x, name, tiled=True, axis_index_groups=groups, **options)
  return x


def _phases(name: str) -> list[list[list[int]] | None]:
  """Returns the groups of devices along an axis, of one phase after another."""
  n = jax.lax.axis_size(name)
  columns = max(i for i in range(1, math.isqrt(n) + 1) if n % i == 0)
  if columns == 1:
    return [None]
  devices = np.arange(n).reshape(-1, columns)
  return [devices.T.tolist(), devices.tolist()]
