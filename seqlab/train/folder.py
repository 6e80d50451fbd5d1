"""The run's folder: the files that training, evaluation and reports share."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from etils import epath

from seqlab.config import NEEDED, SECTIONS, WATCHING, flatten, with_defaults
from seqlab.data.batching import AUTO
from seqlab.io import files
from seqlab.tasks import task_of
from seqlab.text.inputs import Inputs
from seqlab.text.remote import is_remote
from seqlab.train import seal
from seqlab.train.bucket_mirror import BucketMirror
from seqlab.trust import check_names
from seqlab.upgrade import FORMAT, upgrade

ORIGIN = 'experiment.json'


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """Paths of the files of one run.

  Attributes:
    path: the folder; if it is in a bucket, its mirror on the disk.
    config: the resolved experiment that made it.
    bucket_mirror: keeps a folder in a bucket and `path` equal; None on a disk.
    origin: where the experiment comes from, which is recorded in a new run; None if
      that is not known. See `results.origin`.
  """

  path: Path
  config: dict[str, Any]
  bucket_mirror: BucketMirror | None = None
  origin: Mapping[str, Any] | None = None

  @classmethod
  def open(cls, path: str | Path, *, trust: bool = False) -> 'RunFolder':
    """Opens the folder of a run that exists already.

    Args:
      path: the folder, on a disk or in a bucket.
      trust: whether `config.json` may name code that is not part of seqlab. Using such
        a run executes that code, so the folder must come from a trusted source.

    Raises:
      FileNotFoundError: it is not the folder of a run.
      ValueError: its `config.json` cannot be read, is not an experiment, or names code
        that is not part of seqlab; or a file of its vocabulary has changed since the
        run wrote it.
    """
    name, (path, mirror) = path, _local_path(path)
    file = path / 'config.json'
    if not file.is_file():
      raise FileNotFoundError(
        f'{name} is not a run: there is no config.json in it. Make one with '
        f'`seqlab train EXPERIMENT --workdir {name}`'
      )
    with _name_in_errors(name, path):
      config = _read_config(file)
      seal.check_digests(path / 'vocabulary')
    if not trust:
      check_names(config, f'{name}/config.json')
    return cls(path, config, mirror)

  @property
  def name(self) -> str:
    """The folder as the user named it."""
    return str(self.bucket_mirror.remote if self.bucket_mirror else self.path)

  @property
  def checkpoints(self) -> Path | epath.Path:
    """Folder of the checkpoints."""
    mirror = self.bucket_mirror
    return mirror.checkpoints if mirror else self.path / 'checkpoints'

  @property
  def checkpoints_locally_first(self) -> bool:
    """Whether checkpoints are written on this machine's disk and uploaded then."""
    return self.bucket_mirror is not None and not self.bucket_mirror.direct

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
    """Folder of sample outputs, one file per evaluation."""
    return self.path / 'samples'

  @property
  def events(self) -> Path:
    """Folder of TensorBoard's event files."""
    return self.path / 'events'

  @property
  def metrics(self) -> Path:
    """File of metrics, one JSON row per step."""
    return self.path / 'metrics.jsonl'

  @property
  def log(self) -> Path:
    """File of the messages of training, as plain lines."""
    return self.path / 'train.log'

  @property
  def origin_file(self) -> Path:
    """File that says from which experiment the run began."""
    return self.path / ORIGIN

  def write_config(self) -> None:
    """Writes `config.json` atomically, and in a new run where it comes from."""
    self.samples.mkdir(exist_ok=True)
    is_new = not (self.path / 'config.json').is_file()
    if self.origin is not None and is_new:
      origin = json.dumps(self.origin, indent=2, ensure_ascii=False)
      files.write_text(self.origin_file, f'{origin}\n')
    # First, since a folder with a `config.json` counts as a run that can be used.
    seal.record_digests(self.vocabulary)
    text = json.dumps({'format': FORMAT, **self.config}, indent=2, ensure_ascii=False)
    files.write_text(self.path / 'config.json', f'{text}\n')

  def task_class(self) -> Any:
    """Returns the class of the task, and checks all keys of the configuration.

    An unknown key means damage or another version: without the check a run would be
    used as if the option that stands there were not set.

    Raises:
      ValueError: a key is unknown or missing, or the task cannot be found.
    """
    with self.explain_errors():
      return task_of(self.config)

  @contextlib.contextmanager
  def explain_errors(self) -> Iterator[None]:
    """Turns errors about the content of the folder's files into ones that name it.

    It is for code that builds a task from the folder: a configuration of another
    version may lack a section, or have a list where this version expects a number.

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
    """Lets the run continue with the text and the vocabulary as they are now.

    It then has no record of its origin, which is not a single experiment.
    """
    Inputs(self.path).forget()
    self.origin_file.unlink(missing_ok=True)  # it may be of the other experiment

  def download(self) -> None:
    """Brings the mirror of a folder in a bucket up to date; does nothing on a disk."""
    if self.bucket_mirror:
      self.bucket_mirror.download()

  def upload(self) -> None:
    """Brings the bucket up to date with its mirror; does nothing on a disk."""
    if self.bucket_mirror:
      self.bucket_mirror.upload()

  @contextlib.contextmanager
  def lock(self) -> Iterator[None]:
    """Keeps other processes from training in the folder.

    The system releases the lock when this process ends, also if it is killed. Object
    stores have no such locks, so a folder in a bucket is not locked.

    Raises:
      RuntimeError: another process holds the lock.
    """
    if self.bucket_mirror:
      yield
      return
    refusal = (
      f'another process trains in {self.path}: wait for it, stop it, or use '
      f'another --workdir'
    )
    with files.locked(self.path / '.lock', refusal):
      yield


def open_folder(
  path: str | Path, config: Mapping[str, Any], *, force: bool = False
) -> RunFolder:
  """Makes the folder of a run, or opens the one that this experiment made.

  `config.json` is written later, by `write_config`, once the experiment is known to
  run.

  Args:
    path: the folder, which need not exist. It may be in a bucket: gs://bucket/run.
    config: the resolved experiment.
    force: whether a folder that a different experiment made is taken over.

  Raises:
    ValueError: a different experiment made it; the message lists the differences.
    NotADirectoryError: the path is a file.
    RuntimeError: the package that reads such a bucket is not installed.
  """
  name, (path, mirror) = path, _local_path(path)
  if path.exists() and not path.is_dir():
    raise NotADirectoryError(f'--workdir {path} is a file; name a folder')
  # Through JSON, since the next start compares with the content of the file.
  plain = json.loads(json.dumps(config))
  if (path / 'config.json').is_file() and not force:
    with _name_in_errors(
      name, path, '; use another --workdir, or --force to write it again'
    ):
      recorded = files.read_json_object(path / 'config.json')
      plain = _with_chosen_batch(plain, recorded)
      found = differences(recorded, plain)
    if found:
      raise ValueError(
        f'{name} was made by a different experiment:\n  '
        + '\n  '.join(found)
        + '\nuse another --workdir, or --force to continue in this one'
      )
  with _name_in_errors(name, path):
    seal.check_digests(path / 'vocabulary')
  path.mkdir(parents=True, exist_ok=True)
  return RunFolder(path, plain, mirror)


@contextlib.contextmanager
def _name_in_errors(name: str | Path, path: Path, remedy: str = '') -> Iterator[None]:
  """Names a folder in errors as the user does, and not by the path of its mirror."""
  try:
    yield
  except ValueError as error:
    text = str(error).replace(str(path), str(name))
    raise ValueError(f'{text}{remedy}') from None


def _read_config(file: Path) -> dict[str, Any]:
  """Reads a configuration; raises ValueError unless it can be an experiment."""
  config = files.read_json_object(file)
  try:
    config = upgrade(config)
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from None
  for key in NEEDED:
    if key not in config:
      raise ValueError(f'{file} is not the configuration of a run: it has no {key!r}')
  if not isinstance(config['task'], str):
    raise ValueError(f'{file} is damaged: its task is {config["task"]!r}, and no name')
  for key in SECTIONS:
    # A piece may be named by its short name alone.
    kinds = str | dict if key in ('schedule', 'optimizer') else dict
    if not isinstance(config.get(key, {}), kinds):
      raise ValueError(f'{file} is damaged: its {key} is not a section')
  return config


def _local_path(path: str | Path) -> tuple[Path, BucketMirror | None]:
  """Returns the folder on disk and, if the folder is in a bucket, its mirror."""
  if not is_remote(path):
    return Path(path), None
  mirror = BucketMirror(str(path))
  mirror.download()
  return mirror.path, mirror


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Returns the options in which two configurations differ, one text per option.

  Tuples equal lists, as config.json cannot tell them apart. How a run is watched makes
  no difference, nor does a batch that the run was to choose itself.
  """
  new = _with_chosen_batch(new, old)
  old, new = (_comparable(config) for config in (old, new))
  keys = [k for k in {**old, **new} if old.get(k, _ABSENT) != new.get(k, _ABSENT)]
  return [f'{k}: {old.get(k, _ABSENT)} there, {new.get(k, _ABSENT)} now' for k in keys]


def _with_chosen_batch(
  config: Mapping[str, Any], recorded: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Replaces `batching.tokens='auto'` by the number that a run has recorded."""
  batching, chosen = (x.get('batching') for x in (config, recorded))
  sections = isinstance(batching, Mapping) and isinstance(chosen, Mapping)
  if not sections or batching.get('tokens') != AUTO or 'tokens' not in chosen:
    return config
  return {**config, 'batching': {**batching, 'tokens': chosen['tokens']}}


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
  counted = {k: x for k, x in with_defaults(config).items() if k not in WATCHING}
  return flatten(json.loads(json.dumps(counted)))


class _Absent:
  def __repr__(self) -> str:
    return 'nothing'


_ABSENT = _Absent()
