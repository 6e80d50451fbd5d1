"""Loads the variables of a finished run from its checkpoints."""

import contextlib
from pathlib import Path
import sys

from flax import linen as nn
import jax
from jax.sharding import SingleDeviceSharding
import numpy as np

from seqlab.config import best_is
from seqlab.tasks.interface import Estimator, Task, has, traced_init
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import RunFolder
from seqlab.train.mesh import axes_of
from seqlab.train.optimizers import keeps_average
from seqlab.types import Variables


def check_finished(folder: RunFolder, kind: type) -> None:
  """Raises FileNotFoundError if a run, of a class of tasks, has no checkpoint yet."""
  if not has(kind, Estimator) and not has_checkpoint(folder):
    raise FileNotFoundError(
      f'{folder.name} has no checkpoint yet: train it first, with '
      f'`seqlab train EXPERIMENT --workdir {folder.name}`'
    )


def has_checkpoint(folder: RunFolder) -> bool:
  """Returns whether a run has a checkpoint, which may be damaged."""
  saved = folder.checkpoints
  return saved.is_dir() and any(x.name.isdigit() for x in saved.iterdir())


def open_run(run: str | Path, *, trust: bool = False) -> tuple[RunFolder, Task]:
  """Opens the folder of a run and restores its task; loads no checkpoint.

  Args:
    run: the folder.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    FileNotFoundError: it is not a run, or it has no checkpoint yet.
    ValueError: the folder is damaged, or names code that is not trusted.
  """
  folder = RunFolder.open(run, trust=trust)
  kind = folder.task_class()
  check_finished(folder, kind)
  with folder.explain_errors():
    return folder, kind.restore(folder.config, folder.vocabulary)


def restore(
  folder: RunFolder,
  task: Task,
  *,
  average: int = 1,
  choose: str = 'last',
  on_host: bool = False,
) -> tuple[Variables, list[int]]:
  """Returns variables on the first device, and the steps that they come from.

  Args:
    folder: the folder of the run.
    task: gives the variables' shapes.
    average: number of checkpoints whose parameters are averaged (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' ones or the 'best' ones.
    on_host: whether to return arrays of NumPy, in each process, in place of arrays on a
      device.

  Raises:
    FileNotFoundError: there are no checkpoints, or an estimator has not finished.
    ValueError: there are fewer checkpoints, or they hold other variables.
  """
  if has(task, Estimator):
    return _load_fitted(folder, task, average, choose), []
  config = folder.config
  # Whatever devices it trained on.
  first_device = SingleDeviceSharding(jax.devices()[0])
  boxed = jax.eval_shape(lambda: traced_init(task)(jax.random.key(0)))

  def place(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct | np.ndarray:
    if on_host:  # the content of the array is not read
      return np.empty(x.shape, x.dtype)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=first_device)

  shapes = dict(nn.unbox(boxed))
  averages = keeps_average(config, shapes['params'], axes_of(boxed['params']))
  variables = jax.tree.map(place, shapes)
  params = 'ema' if averages else 'params'
  part = {params: variables.pop('params'), 'collections': variables}
  checkpoints = Checkpoints(
    folder.checkpoints,
    keep_best=config.get('keep_best'),
    best_mode=best_is(config),
    read_only=True,
    say=lambda text: print(text, file=sys.stderr),
  )
  with contextlib.closing(checkpoints):
    steps, mean = checkpoints.average(average, part, by=choose)
  return {'params': mean[params], **mean['collections']}, steps


def _load_fitted(
  folder: RunFolder, task: Estimator, average: int, choose: str
) -> Variables:
  """Returns what an estimator has fitted; there is one result, and no checkpoints."""
  if average != 1 or choose != 'last':
    option = f'--average {average}' if average != 1 else f'--choose {choose}'
    name = folder.config['task']
    raise ValueError(f'{folder.name}: {name} has no checkpoints: leave out {option}')
  try:
    return task.load(folder.fitted)
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{folder.name} has no vectors yet, or is a run of the first edition, which kept '
      f'them in another form: run `seqlab train EXPERIMENT --workdir {folder.name}`, '
      'which fits what is missing'
    ) from None
