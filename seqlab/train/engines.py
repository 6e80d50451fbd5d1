"""The engines that an experiment can choose by `parallel`."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import jax

from seqlab import domains
from seqlab.domains import OneOf
from seqlab.tasks.interface import Task
from seqlab.train.engine import Engine
from seqlab.train.engine_jit import JitEngine
from seqlab.train.engine_pmap import PmapEngine

ENGINES = {'jit': JitEngine, 'pmap': PmapEngine}


def make_engine(
  config: Mapping,
  task: Task,
  steps: int,
  devices: Sequence[jax.Device] | None = None,
) -> Engine:
  """Returns the engine of a single run.

  Args:
    config: a resolved experiment; its key `parallel` names the engine, 'jit' by
      default.
    task: made from it.
    steps: updates of the whole run.
    devices: devices to choose from; None chooses from JAX's own.

  Raises:
    ValueError: `parallel` names no engine, or the experiment is wrong.
  """
  name = config.get('parallel', 'jit')
  domains.check_value('parallel', name, Annotated[str, OneOf(ENGINES)])
  return ENGINES[name](config, task, steps, devices)
