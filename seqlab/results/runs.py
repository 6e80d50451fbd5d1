"""The runs that rows need: one per arguments and seed, which rows share."""

from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
import re
from typing import Any

from seqlab.experiment import load_experiment
from seqlab.io.files import read_json_object
from seqlab.numerics import NUMERICS
from seqlab.results.origin import read_origin, short_name
from seqlab.results.row import Row
from seqlab.results.signature import Signature
from seqlab.train.folder import differences


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One training, and the rows that are measured with it.

  Attributes:
    path: the experiment's file.
    args: arguments of its `get_config`.
    seed: seed of the run.
    folder: folder of the run.
    config: the resolved experiment with this seed.
    signature: present signature of the experiment with these arguments.
    rows: rows of this seed.
  """

  path: Path
  args: str
  seed: int
  folder: Path
  config: Mapping[str, Any]
  signature: Signature
  rows: tuple[Row, ...]

  @property
  def name(self) -> str:
    """Arguments and seed: 'split=length/seed-0', as in the folder's path."""
    return f'{self.folder.parent.name}/{self.folder.name}'

  @property
  def command(self) -> list[str]:
    """The words of `seqlab train` that train the run, or resume it."""
    experiment = with_args(self.path, self.args)
    seed = f'--config.seed={self.seed}'
    return ['train', experiment, '--workdir', str(self.folder), seed]

  def check_folder(self) -> None:
    """Compares the run in the folder, if there is one, with the experiment.

    Raises:
      ValueError: it was trained with another configuration, or with other numerics.
    """
    if not (self.folder / 'config.json').is_file():
      return
    origin = read_origin(self.folder)
    changed = differences(read_json_object(self.folder / 'config.json'), self.config)
    numerics = origin.numerics if origin else 1  # see `seqlab.numerics`
    if numerics != NUMERICS:
      changed.append(f'NUMERICS: {numerics} there, {NUMERICS} now')
    if changed:
      raise ValueError(
        f'the run in {self.folder} is not the one that {self.path} describes now:\n  '
        + '\n  '.join(changed)
        + '\ndelete that folder to train the run again, or use another --workdir'
      )


def plan_runs(
  path: Path, rows: Sequence[Row], workdir: Path, seeds: Sequence[int] | None = None
) -> list[PlannedRun]:
  """Returns the runs of rows, ordered by arguments and seed.

  Args:
    path: the experiment's file.
    rows: rows of it.
    workdir: a run's folder is <set>-<experiment>/<args>/seed-N below it.
    seeds: seeds that are wanted; all of each row if None.

  Raises:
    ValueError: the experiment cannot be resolved, or no row has one of `seeds`.
  """
  if seeds is not None:
    _check_seeds(rows, seeds)
  runs = []
  for args in dict.fromkeys(row.args for row in rows):
    sharing = [row for row in rows if row.args == args]
    signature = signature_of(path, args)
    for seed in range(max(row.seeds for row in sharing)):
      if seeds is not None and seed not in seeds:
        continue
      folder = workdir / short_name(path) / folder_name(args) / f'seed-{seed}'
      config = load_experiment(with_args(path, args), [f'--config.seed={seed}'])
      wanted = tuple(row for row in sharing if seed < row.seeds)
      runs.append(PlannedRun(path, args, seed, folder, config, signature, wanted))
  return runs


def _check_seeds(rows: Sequence[Row], seeds: Sequence[int]) -> None:
  last = max(row.seeds for row in rows) - 1
  if unknown := [seed for seed in seeds if not 0 <= seed <= last]:
    raise ValueError(
      f'no row has a seed {unknown[0]}: they have the seeds 0 to {last}; raise '
      'Row.seeds in the experiment for more'
    )


def signature_of(path: Path, args: str) -> Signature:
  """Returns the present signature of an experiment with arguments.

  Raises:
    ValueError: the experiment cannot be resolved.
  """
  return Signature.of(path, load_experiment(with_args(path, args)))


def with_args(path: Path, args: str) -> str:
  """Returns 'file.py:args', or the file alone without arguments."""
  return f'{path}:{args}' if args else str(path)


def folder_name(args: str) -> str:
  """Returns arguments as the name of a folder; 'base' without any."""
  return re.sub(r'[^\w.,=+-]+', '_', args).strip('_') or 'base'
