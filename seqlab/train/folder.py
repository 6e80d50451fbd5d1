"""The run's folder: all that training, evaluation and reports share."""

from collections.abc import Mapping
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from seqlab.config import flatten


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """Where the files of one run lie.

  Attributes:
    path: the folder.
    config: the resolved experiment that made it.
  """

  path: Path
  config: dict[str, Any]

  @classmethod
  def open(cls, path: str | Path) -> 'RunFolder':
    """Opens the folder of a run that was begun before.

    Raises:
      FileNotFoundError: it is no run's folder.
      ValueError: its `config.json` cannot be read.
    """
    path = Path(path)
    file = path / 'config.json'
    if not file.is_file():
      raise FileNotFoundError(
        f'{path} is no run: there is no config.json in it. Make one with '
        f'`seqlab train EXPERIMENT --workdir {path}`'
      )
    try:
      return cls(path, json.loads(file.read_text('utf-8')))
    except ValueError as error:
      raise ValueError(f'{file} is no JSON: {error}') from None

  @property
  def checkpoints(self) -> Path:
    """Folder of the checkpoints."""
    return self.path / 'checkpoints'

  @property
  def vocabulary(self) -> Path:
    """Folder of the vocabularies."""
    return self.path / 'vocabulary'

  @property
  def samples(self) -> Path:
    """Folder of outputs to read, one file an evaluation."""
    return self.path / 'samples'

  @property
  def events(self) -> Path:
    """Folder of TensorBoard's event files."""
    return self.path / 'events'

  @property
  def metrics(self) -> Path:
    """A JSON row a step."""
    return self.path / 'metrics.jsonl'

  @property
  def log(self) -> Path:
    """What was said during training, in plain lines."""
    return self.path / 'train.log'


def open_folder(
  path: str | Path, config: Mapping[str, Any], *, force: bool = False
) -> RunFolder:
  """Makes the folder of a run, or opens the one that this experiment made.

  Args:
    path: the folder; need not exist.
    config: the resolved experiment.
    force: take over a folder that a different experiment made.

  Raises:
    ValueError: a different experiment made it; lists what differs.
    NotADirectoryError: the path is a file.
  """
  path = Path(path)
  if path.exists() and not path.is_dir():
    raise NotADirectoryError(f'--workdir {path} is a file; name a folder')
  # What JSON makes of the configuration is what will be compared next time.
  plain = json.loads(json.dumps(config))
  if (path / 'config.json').is_file():
    differences = _differences(RunFolder.open(path).config, plain)
    if differences and not force:
      raise ValueError(
        f'{path} was made by a different experiment:\n  '
        + '\n  '.join(differences)
        + '\nuse another --workdir, or --force to go on in this one'
      )
  folder = RunFolder(path, plain)
  folder.samples.mkdir(parents=True, exist_ok=True)
  temporary = path / f'.config.json.{os.getpid()}'
  temporary.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + '\n', 'utf-8')
  temporary.replace(path / 'config.json')
  return folder


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  old, new = flatten(old), flatten(new)
  keys = [k for k in {**old, **new} if old.get(k, _ABSENT) != new.get(k, _ABSENT)]
  return [f'{k}: {old.get(k, _ABSENT)} there, {new.get(k, _ABSENT)} now' for k in keys]


class _Absent:
  def __repr__(self) -> str:
    return 'nothing'


_ABSENT = _Absent()
