"""Records the devices and the dtype with which a run began.

A run keeps the dtype with which it began, on whatever machine it is resumed, since its
losses would change otherwise. A finished run is used in the dtype that is fast on the
machine that uses it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from seqlab.io import files
from seqlab.layers.device import platform
from seqlab.models.interface import compute_dtype
from seqlab.tasks.interface import Task
from seqlab.train import processes
from seqlab.train.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Machine:
  """The content of `machine.json` in the folder of a run.

  Attributes:
    device: kind of the devices.
    devices: number of devices.
    processes: number of processes.
    dtype: dtype of the model's matrix products; None if the task has no such model.
    jax: version of JAX.
  """

  device: str
  devices: int
  processes: int
  dtype: str | None
  jax: str


def dtype_of(task: Task) -> str | None:
  """Returns the dtype of the products of the task's model, None if it declares none."""
  return getattr(getattr(task, 'model', None), 'dtype', None)


def dtype_in_use(model: Any) -> str | None:
  """Returns the dtype of a model's products on this machine, never 'auto'.

  None for a model that declares none.
  """
  dtype = getattr(model, 'dtype', None)
  return dtype and compute_dtype(dtype).name


def fix_dtype(task: Task, folder: RunFolder) -> None:
  """Replaces 'auto' in the task's model by the dtype that the run began with.

  A run that begins now gets the dtype that is fast on these devices.
  """
  if dtype_of(task) != 'auto':
    return
  fast = compute_dtype('auto').name
  # Process 0 decides, since processes with different dtypes would wait for each other.
  dtype = processes.broadcast_from_primary(_kept(folder) or fast)
  if dtype != fast and processes.is_primary():
    print(f'{folder.name} began in {dtype} and continues in it; {fast} is faster here')
  task.model = task.model.clone(dtype=dtype)


def _kept(folder: RunFolder) -> str | None:
  """Returns the dtype that the run in a folder began with; None if it begins now."""
  if _path(folder).is_file():
    return _recorded_dtype(folder)
  # Before there was this file, 'auto' was float32 on every CPU.
  older = (folder.path / 'config.json').is_file() and platform() == 'cpu'
  return 'float32' if older else None


def record_machine(folder: RunFolder, mesh: Mesh, task: Task) -> None:
  """Writes `machine.json`, unless an earlier start of the run wrote it with this dtype.

  It must come before `RunFolder.write_config`: to `fix_dtype` a run with a
  `config.json` alone is one of an older version.
  """
  dtype = dtype_of(task)
  if not processes.is_primary():
    return
  if _path(folder).is_file() and _recorded_dtype(folder) == dtype:
    return
  machine = Machine(
    device=mesh.devices.flat[0].device_kind,
    devices=mesh.size,
    processes=jax.process_count(),
    dtype=dtype,
    jax=jax.__version__,
  )
  files.write_text(_path(folder), f'{json.dumps(dataclasses.asdict(machine))}\n')
  folder.upload()


def _recorded_dtype(folder: RunFolder) -> str | None:
  """Returns the dtype in `machine.json`."""
  return files.read_json_object(_path(folder)).get('dtype')


def _path(folder: RunFolder) -> Path:
  return folder.path / 'machine.json'
