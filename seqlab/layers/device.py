"""The kind of device that a function is compiled for.

A dtype, a chunk size or a kernel depends on the device that will run the program. That is
the device of the mesh, which need not be JAX's default: `seqlab plan` compiles for chips
that are not in the machine. JAX keeps the kind of device in the current abstract mesh,
which is part of the key of its caches of traced functions; a variable of our own would
not be, and a function traced for a CPU would be compiled for a TPU.
"""

import contextlib

import jax
from jax.sharding import AbstractDevice, Mesh

_AMPERE = 8.0  # compute capability of the first GPUs with bfloat16


def compiled_for(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Returns a context in which functions are traced for the devices of a mesh."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def target_device() -> AbstractDevice | jax.Device:
  """Returns the kind of device that the current function is traced for.

  Its attributes are `platform` ('cpu', 'gpu', 'cuda' or 'tpu') and `device_kind`. Without
  a current mesh it is JAX's first device.
  """
  return jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu' for the target device."""
  name = target_device().platform
  return 'gpu' if name in ('cuda', 'rocm') else name


def has_fast_bfloat16() -> bool:
  """Returns whether the target device multiplies bfloat16 faster than float32.

  TPUs do, and GPUs since Ampere. A GPU that is not in the machine is taken for one of
  these: there is no description of an older one to compile for.
  """
  if platform() == 'gpu':
    kind = target_device().device_kind
    local = [device for device in jax.devices() if device.device_kind == kind]
    capability = getattr(local[0], 'compute_capability', 0) if local else _AMPERE
    return float(capability) >= _AMPERE
  return platform() == 'tpu'
