"""Loads the variables of a finished run from its checkpoints."""

import contextlib
import sys

from flax import linen as nn
import jax
from jax.sharding import SingleDeviceSharding

from seqlab.config import best_is
from seqlab.tasks.interface import Estimator, Task, has, traced_init
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import RunFolder
from seqlab.train.mesh import axes_of
from seqlab.train.optimizers import keeps_average
from seqlab.types import Variables


def check_finished(folder: RunFolder, kind: type) -> None:
  """Raises FileNotFoundError if a run, of a class of tasks, has no checkpoint yet."""
  if has(kind, Estimator):
    return
  saved = folder.checkpoints
  if not saved.is_dir() or not any(x.name.isdigit() for x in saved.iterdir()):
    raise FileNotFoundError(
      f'{folder.name} has no checkpoint yet: train it first, with '
      f'`seqlab train EXPERIMENT --workdir {folder.name}`'
    )


def restore(
  folder: RunFolder, task: Task, *, average: int = 1, choose: str = 'last'
) -> tuple[Variables, list[int]]:
  """Returns variables on the first device, and the steps that they come from.

  Args:
    folder: the folder of the run.
    task: gives the variables' shapes.
    average: number of checkpoints whose parameters are averaged (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' ones or the 'best' ones.

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
  variables = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=first_device),
    dict(nn.unbox(boxed)),
  )
  averages = keeps_average(config, variables['params'], axes_of(boxed['params']))
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
