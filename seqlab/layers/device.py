"""The kind of device that a function is compiled for.

A dtype, a chunk size or a kernel depends on the device that will run the program. That
is the device of the mesh, which need not be JAX's default: `seqlab plan` compiles for
chips that are not in the machine. JAX keeps the kind of device in the current abstract
mesh, which is part of the key of its caches of traced functions; a variable of our own
would not be, and a function traced for a CPU would be compiled for a TPU.
"""

from collections.abc import Iterable
import contextlib
import functools
import os
from pathlib import Path
import re

import jax
from jax.sharding import AbstractDevice, Mesh

from seqlab.text.workers import all_cores

_AMPERE = 8.0  # compute capability of the first GPUs with bfloat16
# Flags of the x86 processors that multiply bfloat16: in tiles, and in vectors.
_CPU_FLAGS = {'amx_bf16', 'avx512_bf16'}
ACCELERATOR = AbstractDevice('accelerator', None, 'tpu')  # any of them
# None in particular: a program that is traced for it has no form of one kind of device.
PORTABLE = AbstractDevice('portable', None, 'portable')

_stand_in = jax.make_user_context(None)  # this one is part of the key of JAX's caches


def compiled_for(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Returns a context in which functions are traced for the devices of a mesh."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def instead_of(device: AbstractDevice) -> contextlib.AbstractContextManager:
  """Returns a context in which functions are traced as for a device that is not there.

  The program is compiled for the devices of the mesh, which stand in for it.
  """
  return _stand_in(device)


def target_device() -> AbstractDevice | jax.Device:
  """Returns the kind of device that the current function is traced for.

  Its attributes are `platform` ('cpu', 'gpu', 'cuda', 'tpu', or 'portable' for
  `PORTABLE`) and `device_kind`.
  Without a current mesh it is JAX's first device.
  """
  mesh = jax.sharding.get_abstract_mesh()
  return _stand_in.value or mesh.abstract_device or jax.devices()[0]


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu' for the target device; 'portable' for `PORTABLE`."""
  name = target_device().platform
  return 'gpu' if name in ('cuda', 'rocm') else name


def has_fast_bfloat16() -> bool:
  """Returns whether the target device multiplies bfloat16 faster than float32.

  TPUs do, GPUs since Ampere, and CPUs whose flags say so; see `layers.products` for how
  much. The variable SEQLAB_CPU_DTYPE, 'float32' or 'bfloat16', decides for CPUs instead
  of their flags. A GPU that is not in the machine is taken for one of these: there is
  no description of an older one to compile for.
  """
  if platform() == 'cpu':
    chosen = chosen_cpu_dtype()
    return chosen == 'bfloat16' if chosen else _this_cpu_has_bfloat16()
  if platform() == 'gpu':
    kind = target_device().device_kind
    local = [device for device in jax.devices() if device.device_kind == kind]
    capability = getattr(local[0], 'compute_capability', 0) if local else _AMPERE
    return float(capability) >= _AMPERE
  return platform() == 'tpu'


def chosen_cpu_dtype() -> str | None:
  """Returns the dtype that SEQLAB_CPU_DTYPE sets for CPUs, None if it sets none."""
  return os.environ.get('SEQLAB_CPU_DTYPE') or None


def concurrent_calls() -> int:
  """Returns how many calls of programs should run at once on one device.

  An accelerator runs one program after another; the host reads the results of one while
  the next runs. On a CPU a program of many small operations, such as a search, keeps
  one core busy and the others part of the time: on two cores of an AMD EPYC, two
  searches with beam 5 side by side made 504 sentences/s, and 358 one after another
  (Transformer of width 128, 2026-11-30). More than four were not measured.
  """
  if platform() != 'cpu':
    return 2
  return min(4, cpu_threads())


def cpu_threads() -> int:
  """Returns the number of threads of a CPU device, which XLA reads when it starts."""
  return int(os.environ.get('NPROC') or len(all_cores()))


@functools.cache
def _this_cpu_has_bfloat16() -> bool:
  return multiplies_bfloat16(cpu_flags(Path('/proc/cpuinfo')))


def multiplies_bfloat16(flags: Iterable[str]) -> bool:
  """Returns whether a CPU with these flags has instructions for bfloat16 products."""
  return not _CPU_FLAGS.isdisjoint(flags)


def cpu_flags(file: Path) -> list[str]:
  """Returns the flags of the first processor in a file such as /proc/cpuinfo.

  The list is empty if there is no such file, as on macOS, or no flags are in it.
  """
  try:
    line = re.search(r'^flags\s*:(.*)', file.read_text('utf-8'), re.MULTILINE)
  except OSError:
    return []
  return line[1].split() if line else []
