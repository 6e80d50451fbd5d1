"""Devices that are not in the machine, for which their own compilers can compile.

The compilers of TPUs (libtpu, in the extra `tpu`) and of NVIDIA's GPUs (the plugin in
the extra `cuda`) run on any machine. They return the optimised program, which cannot be
run.
"""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
from pathlib import Path

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache

from seqlab.compile.chips import Chip, find_chip

_CUDA_PLUGINS = ('jax_plugins.xla_cuda13', 'jax_plugins.xla_cuda12')
_TARGETS = Path(__file__).parent / 'targets'  # descriptions of GPUs, in text form
# Without a device no kernel can be timed. Triton's products depend on that: their default
# tiles do not suit every shape, such as 177 rows. cuBLAS's do.
_GPU_FLAGS = ('--xla_gpu_autotune_level=0', '--xla_gpu_enable_triton_gemm=false')
_MAX_2D = 256  # chips of the largest slice of a TPU whose links form a 2-D torus


class CompilerMissingError(Exception):
  """The compiler of a chip is not installed; the message says how to install it."""


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices that programs can be compiled for.

  Attributes:
    name: key of `chips.CHIPS`.
    chip: data sheet of the devices.
    devices: devices for a mesh; no array can be put on them.
    compiler: name and version of the compiler, and the shape that it compiles for.
  """

  name: str
  chip: Chip
  devices: tuple[jax.Device, ...]
  compiler: str


def make_topology(chip_name: str, devices: int) -> Topology:
  """Returns devices of a kind that need not be in the machine.

  It has to be called before JAX is used: the compilers read their settings from the
  environment when JAX starts. JAX's cache of compiled programs is off from then on,
  since programs for devices that are not there can be written to it, but not read
  again.

  Args:
    chip_name: a key of `chips.CHIPS`.
    devices: number of devices.

  Raises:
    CompilerMissingError: the compiler of the chip is not installed.
    ValueError: the chip is unknown, or is not connected in this number.
  """
  chip = find_chip(chip_name)
  make = _tpus if chip.is_tpu else _gpus
  topology = make(chip_name.lower(), chip, devices)
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()  # else JAX remembers that it was on
  return topology


def slice_shape(devices: int, dimensions: int) -> tuple[int, ...]:
  """Returns the shape of a slice of a TPU pod: 8 -> (2, 4) in 2 dimensions.

  Raises:
    ValueError: there is no slice of this number of chips.
  """
  exponent = max(devices, 1).bit_length() - 1
  if devices != 2**exponent:
    raise ValueError(
      f'TPUs are connected in slices of 1, 2, 4, 8, ... chips, not of {devices}: plan '
      f'for {2**exponent} or {2 ** (exponent + 1)} devices'
    )
  shape = [1] * dimensions
  for i in range(exponent):
    # The first four chips are those of a host, 2 x 2 x 1.
    axis = i % 2 if i < 2 else min(range(dimensions), key=lambda a: (shape[a], a))
    shape[axis] *= 2
  return tuple(sorted(shape)) if devices > 4 else tuple(shape)


def _tpus(name: str, chip: Chip, devices: int) -> Topology:
  if importlib.util.find_spec('libtpu') is None:
    raise CompilerMissingError(
      f"the compiler of {name} is not installed: pip install '.[tpu]' (libtpu, about "
      f'150 MB, for any Linux machine)'
    )
  # Without a TPU, libtpu would look for one, and complain about its host's name.
  quiet = dict(TPU_SKIP_MDS_QUERY='1', TPU_STDERR_LOG_LEVEL='3', TPU_MIN_LOG_LEVEL='3')
  quiet |= dict(TPU_WORKER_HOSTNAMES='localhost', TPU_ACCELERATOR_TYPE=f'{name}-8')
  for key, value in (quiet | {'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'}).items():
    os.environ.setdefault(key, value)
  slices = math.ceil(devices / _MAX_2D) if chip.torus == 2 else 1
  shape = slice_shape(devices // slices, chip.torus)
  options = dict(num_slices=slices) if slices > 1 else {}
  if math.prod(shape) < 4:  # a part of a host
    options['chips_per_host_bounds'] = (*shape, 1)[:3]
  if name == 'v4':  # its two cores are used as one device
    options['chip_config_name'] = 'megacore'
  size = 'x'.join(map(str, shape))
  description = topologies.get_topology_desc(
    platform='tpu', topology_name=f'{name}:{size}', **options
  )
  compiler = f'libtpu {importlib.metadata.version("libtpu")} for {name} {size}'
  if slices > 1:
    compiler += f', {slices} slices'
  return Topology(name, chip, tuple(description.devices), compiler)


def _gpus(name: str, chip: Chip, devices: int) -> Topology:
  plugins = [x for x in _CUDA_PLUGINS if _is_installed(x)]
  if not plugins:
    raise CompilerMissingError(
      f"the compiler of {name} is not installed: pip install '.[cuda]' (about 4 GB, "
      f'for Linux; the machine needs no GPU)'
    )
  os.environ.setdefault('JAX_SKIP_CUDA_CONSTRAINTS_CHECK', '1')
  flags = os.environ.get('XLA_FLAGS', '')
  missing = (x for x in _GPU_FLAGS if x.partition('=')[0] not in flags)
  os.environ['XLA_FLAGS'] = ' '.join([flags, *missing]).strip()
  _lower_gpu_as_cuda()
  nodes = math.ceil(devices / chip.node)
  description = topologies.get_topology_desc(
    platform='cuda',
    topology_name='',
    topology=f'1x{nodes}x{math.ceil(devices / nodes)}',
    target_config=(_TARGETS / f'{name}.txtpb').read_text('utf-8'),
  )
  package = plugins[0].replace('jax_plugins.xla_', 'jax-') + '-plugin'
  compiler = f'{package} {importlib.metadata.version(package)} for {name}'
  return Topology(name, chip, tuple(description.devices[:devices]), compiler)


def _is_installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:  # not even `jax_plugins` is there
    return False


def _lower_gpu_as_cuda() -> None:
  """Lets JAX lower for a GPU without a GPU.

  JAX maps 'gpu' to 'cuda' or 'rocm' by the devices in the machine, and raises an error
  where there are none (https://github.com/jax-ml/jax/issues/23971).
  """
  from jax._src import xla_bridge

  original = xla_bridge.canonicalize_platform
  if getattr(original, 'takes_gpu_for_cuda', False):
    return

  def canonicalize(platform: str) -> str:
    return 'cuda' if platform == 'gpu' else original(platform)

  canonicalize.takes_gpu_for_cuda = True
  xla_bridge.canonicalize_platform = canonicalize
