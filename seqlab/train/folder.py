"""The run's folder: all that training, evaluation and reports share."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from seqlab.config import flatten, with_defaults


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

  def keep_config(self) -> None:
    """Writes `config.json`, whole or not at all."""
    self.samples.mkdir(exist_ok=True)
    temporary = self.path / f'.config.json.{os.getpid()}'
    text = json.dumps(self.config, indent=2, ensure_ascii=False)
    temporary.write_text(f'{text}\n', 'utf-8')
    temporary.replace(self.path / 'config.json')

  @contextlib.contextmanager
  def lock(self) -> Iterator[None]:
    """Keeps other processes from training here; ends with this one, even if killed.

    Raises:
      RuntimeError: another process holds it.
    """
    with open(self.path / '.lock', 'w', encoding='utf-8') as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise RuntimeError(
          f'another process trains in {self.path}: wait for it, stop it, or use '
          f'another --workdir'
        ) from None
      yield


def open_folder(
  path: str | Path, config: Mapping[str, Any], *, force: bool = False
) -> RunFolder:
  """Makes the folder of a run, or opens the one that this experiment made.

  `config.json` is written by `keep_config`, once the experiment is known to run.

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
  path.mkdir(parents=True, exist_ok=True)
  return RunFolder(path, plain)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  old, new = flatten(with_defaults(old)), flatten(with_defaults(new))
  keys = [k for k in {**old, **new} if old.get(k, _ABSENT) != new.get(k, _ABSENT)]
  return [f'{k}: {old.get(k, _ABSENT)} there, {new.get(k, _ABSENT)} now' for k in keys]


class _Absent:
  def __repr__(self) -> str:
    return 'nothing'


_ABSENT = _Absent()
