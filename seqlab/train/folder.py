"""The run's folder: all that training, evaluation and reports share."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import json
from pathlib import Path
from typing import Any

from etils import epath

from seqlab.config import NEEDED, SECTIONS, check_names, flatten, with_defaults
from seqlab.io import files
from seqlab.text.inputs import Inputs
from seqlab.text.remote import is_remote
from seqlab.train import seal
from seqlab.train.spool import Spool
from seqlab.upgrade import upgrade


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """Where the files of one run lie.

  Attributes:
    path: the folder; of one in a bucket, the one on disk that stands for it.
    config: the resolved experiment that made it.
    spool: of a folder in a bucket, what keeps the two alike.
  """

  path: Path
  config: dict[str, Any]
  spool: Spool | None = None

  @classmethod
  def open(cls, path: str | Path, *, trust: bool = False) -> 'RunFolder':
    """Opens the folder of a run that was begun before.

    Args:
      path: the folder, on a disk or in a bucket.
      trust: whether `config.json` may name code that is no part of seqlab. Using such
        a run executes that code, so the folder must come from somebody trusted.

    Raises:
      FileNotFoundError: it is no run's folder.
      ValueError: its `config.json` cannot be read, is no experiment, or names code that
        is no part of seqlab; or a file of its vocabulary is not what the run wrote.
    """
    name, (path, spool) = path, _here(path)
    file = path / 'config.json'
    if not file.is_file():
      raise FileNotFoundError(
        f'{name} is no run: there is no config.json in it. Make one with '
        f'`seqlab train EXPERIMENT --workdir {name}`'
      )
    with _called(name, path):
      config = _read_config(file)
      seal.check_digests(path / 'vocabulary')
    if not trust:
      check_names(config, f'{name}/config.json')
    return cls(path, config, spool)

  @property
  def name(self) -> str:
    """The folder as the user calls it."""
    return str(self.spool.remote if self.spool else self.path)

  @property
  def checkpoints(self) -> Path | epath.Path:
    """Folder of the checkpoints."""
    return self.spool.checkpoints if self.spool else self.path / 'checkpoints'

  @property
  def by_way_of_disk(self) -> bool:
    """Whether checkpoints are written on this machine's disk, and then sent."""
    return self.spool is not None and not self.spool.direct

  @property
  def fitted(self) -> Path:
    """Folder of an estimator's results; see `tasks.interface.Estimator`."""
    return self.path / 'fitted'

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
    """Writes `config.json`, whole or not at all; the vocabulary's digests before it."""
    self.samples.mkdir(exist_ok=True)
    seal.note_digests(self.vocabulary)
    text = json.dumps(self.config, indent=2, ensure_ascii=False)
    files.write_text(self.path / 'config.json', f'{text}\n')

  @contextlib.contextmanager
  def explained(self) -> Iterator[None]:
    """Makes an error about the form of the folder's files a ValueError that names it.

    For what builds a task from the folder: a configuration of another version may lack
    a section, or have a list where this one expects a number.

    Raises:
      ValueError: for KeyError, TypeError, AttributeError, IndexError and for ValueError
        itself.
    """
    try:
      yield
    except UnicodeDecodeError as error:
      raise ValueError(f'a file in {self.vocabulary} is damaged: {error}') from error
    except ValueError as error:
      if str(self.path) in str(error) or self.name in str(error):
        raise
      raise ValueError(f'{self.name}/config.json: {error}') from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
      raise ValueError(
        f'{self.name}/config.json does not fit this version of seqlab '
        f'({type(error).__name__}: {error}): use the version that made the run'
      ) from error

  def forget_inputs(self) -> None:
    """Lets the run go on with the text and the vocabulary that are there now."""
    Inputs(self.path).forget()

  def receive(self) -> None:
    """Of a folder in a bucket: brings here what is there."""
    if self.spool:
      self.spool.receive()

  def send(self) -> None:
    """Of a folder in a bucket: brings there what is new here."""
    if self.spool:
      self.spool.send()

  @contextlib.contextmanager
  def lock(self) -> Iterator[None]:
    """Keeps other processes from training here; ends with this one, even if killed.

    There are no such locks in a bucket: nothing is done there.

    Raises:
      RuntimeError: another process holds it.
    """
    if self.spool:
      yield
      return
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
    path: the folder; need not exist. May be in a bucket: gs://bucket/run.
    config: the resolved experiment.
    force: take over a folder that a different experiment made.

  Raises:
    ValueError: a different experiment made it; lists what differs.
    NotADirectoryError: the path is a file.
    RuntimeError: what reads such a bucket is not installed.
  """
  name, (path, spool) = path, _here(path)
  if path.exists() and not path.is_dir():
    raise NotADirectoryError(f'--workdir {path} is a file; name a folder')
  # What JSON makes of the configuration is what will be compared next time.
  plain = json.loads(json.dumps(config))
  if (path / 'config.json').is_file() and not force:
    with _called(name, path, '; use another --workdir, or --force to write it anew'):
      differences = _differences(files.read_json_object(path / 'config.json'), plain)
    if differences:
      raise ValueError(
        f'{name} was made by a different experiment:\n  '
        + '\n  '.join(differences)
        + '\nuse another --workdir, or --force to go on in this one'
      )
  with _called(name, path):
    seal.check_digests(path / 'vocabulary')
  path.mkdir(parents=True, exist_ok=True)
  return RunFolder(path, plain, spool)


@contextlib.contextmanager
def _called(name: str | Path, path: Path, remedy: str = '') -> Iterator[None]:
  """Names a folder in errors as the user does: one in a bucket lies elsewhere here."""
  try:
    yield
  except ValueError as error:
    text = str(error).replace(str(path), str(name))
    raise ValueError(f'{text}{remedy}') from None


def _read_config(file: Path) -> dict[str, Any]:
  """Reads a configuration; raises ValueError unless it has an experiment's form."""
  config = upgrade(files.read_json_object(file))
  for key in NEEDED:
    if key not in config:
      raise ValueError(f'{file} is no configuration of a run: it has no {key!r}')
  if not isinstance(config['task'], str):
    raise ValueError(f'{file} is damaged: its task is {config["task"]!r}, and no name')
  for key in SECTIONS:
    # A piece may be named by its short name alone.
    kinds = str | dict if key in ('schedule', 'optimizer') else dict
    if not isinstance(config.get(key, {}), kinds):
      raise ValueError(f'{file} is damaged: its {key} is no section')
  return config


def _here(path: str | Path) -> tuple[Path, Spool | None]:
  """The folder on disk; of one in a bucket, what keeps the two alike too."""
  if not is_remote(path):
    return Path(path), None
  spool = Spool(str(path))
  spool.receive()
  return spool.path, spool


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  old, new = flatten(with_defaults(old)), flatten(with_defaults(new))
  keys = [k for k in {**old, **new} if old.get(k, _ABSENT) != new.get(k, _ABSENT)]
  return [f'{k}: {old.get(k, _ABSENT)} there, {new.get(k, _ABSENT)} now' for k in keys]


class _Absent:
  def __repr__(self) -> str:
    return 'nothing'


_ABSENT = _Absent()
