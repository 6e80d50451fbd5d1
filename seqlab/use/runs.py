"""Opens finished runs.

All that is needed is the folder of the run: `config.json`, `vocabulary/` and
`checkpoints/`. It may have been made on another machine.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from seqlab.domains import Count, checked
from seqlab.tasks.interface import Task
from seqlab.train.folder import RunFolder
from seqlab.train.restore import open_run, restore
from seqlab.types import Variables

Run = str | Path  # the folder of a run
Choice = Literal['last', 'best']  # of checkpoints


class LoadedRun(NamedTuple):
  """A run, ready to be used.

  Attributes:
    folder: the folder of the run.
    task: the task, restored.
    variables: variables of the checkpoints, on the first device.
    steps: steps of the checkpoints that the variables come from.
  """

  folder: RunFolder
  task: Task
  variables: Variables
  steps: list[int]


@checked
def load_run(
  run: Run, *, average: Count = 1, choose: Choice = 'last', trust: bool = False
) -> LoadedRun:
  """Opens a run and loads its parameters.

  Args:
    run: the folder.
    average: number of checkpoints whose parameters are averaged (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' checkpoints or the 'best' ones.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.
  """
  folder, task = open_run(run, trust=trust)
  return LoadedRun(folder, task, *restore(folder, task, average=average, choose=choose))
