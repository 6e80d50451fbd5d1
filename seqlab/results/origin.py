"""Where a run comes from: its experiment's file and arguments.

`seqlab train` records this in `experiment.json` in the folder of a new run, beside the
resolved configuration, which does not have it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from seqlab.config import WATCHING
from seqlab.experiment import split_name
from seqlab.io.files import read_json_object
from seqlab.numerics import NUMERICS
from seqlab.results.paper import read_paper
from seqlab.results.provenance import commit
from seqlab.results.row import Row
from seqlab.results.signature import experiment_digest
from seqlab.train.folder import ORIGIN


@dataclasses.dataclass(frozen=True)
class Origin:
  """The content of `experiment.json`.

  Attributes:
    file: path of the experiment's file, as the user wrote it.
    args: arguments of its `get_config`.
    overrides: options of the command line that change the experiment; neither the seed
      nor how the run is watched.
    digest: see `signature.experiment_digest`.
    numerics: `seqlab.numerics.NUMERICS` when the run began.
    commit: commit of seqlab when the run began; None outside of a repository.
    dirty: whether its files differed from that commit.
    rows: name of each row with these arguments -> what it stated when the run began; see
      `stated`.
  """

  file: str
  args: str
  overrides: list[str]
  digest: str
  numerics: int
  commit: str | None
  dirty: bool | None
  rows: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def origin_of(experiment: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
  """Returns the origin of a run that begins now, as JSON can hold it.

  Args:
    experiment: path of the file, and after a colon the arguments of `get_config`.
    overrides: options such as '--config.hyper.peak=1e-3'.
  """
  path, args = split_name(experiment)
  others = [x for x in overrides if _key(x) not in ('seed', *WATCHING)]
  digest, rows = experiment_digest(path), _rows_of(path, args)
  origin = Origin(str(path), args, others, digest, NUMERICS, **commit(), rows=rows)
  return dataclasses.asdict(origin)


def _key(override: str) -> str:
  """Returns the key at the top level that an option of the command line changes."""
  return override.removeprefix('--config.').partition('=')[0].partition('.')[0]


def stated(row: Row) -> dict[str, Any]:
  """Returns what a row states beforehand, by the names of fields of the raw rows."""
  return {
    'paper': row.value,
    'tolerance': row.tolerance,
    'seeds': row.seeds,
    'differs': row.differs,
    'prediction': row.prediction,
  }


def _rows_of(path: Path, args: str) -> dict[str, dict[str, Any]]:
  try:
    rows = read_paper(path)
  except ValueError:  # is reported elsewhere, and must not keep a run from starting
    return {}
  return {row.name: stated(row) for row in rows if row.args == args}


def read_origin(folder: Path) -> Origin | None:
  """Returns the origin of the run in a folder.

  None if the run is older than the record, or if another version wrote it.
  """
  try:
    return Origin(**read_json_object(folder / ORIGIN))
  except (FileNotFoundError, NotADirectoryError, TypeError):
    return None


def short_name(path: Path) -> str:
  """Returns a short name of an experiment: 'multi30k-transformer'.

  It has the folders below `experiments`, if the file is in a folder of that name.
  """
  parts = path.absolute().with_suffix('').parts
  below = parts[-1:]
  if 'experiments' in parts[:-1]:
    below = parts[len(parts) - parts[::-1].index('experiments') :]
  return '-'.join(below)
