"""Trials of a sweep: their overrides, their folders and their states."""

from collections.abc import Mapping
import contextlib
import dataclasses
import datetime
import hashlib
import json
from pathlib import Path
import re
import sys
import time
import traceback
from typing import Any

from seqlab.config import with_defaults
from seqlab.experiment import load_experiment, load_module, split_name
from seqlab.io.files import read_json_object, write_text
from seqlab.io.secrets import scrub
from seqlab.report.runs import short_names
from seqlab.results.origin import origin_of, short_name
from seqlab.results.provenance import processor
from seqlab.text.workers import all_cores
from seqlab.train.folder import open_folder
from seqlab.trust import foreign_names

_LIBRARIES = ('optax', 'jax', 'flax')  # whose pieces an experiment may name
# Of a folder's name; file systems allow 255 bytes.
_MAX_CHARACTERS, _MAX_BYTES = 100, 200


@dataclasses.dataclass(frozen=True)
class Trial:
  """One training that a sweep asks for.

  Attributes:
    experiment: its file, and after a colon the arguments of its `get_config`.
    name: name of its folder, made of the overrides.
    folder: folder of its run.
    overrides: dotted key of the experiment -> value; and 'arg', the arguments of
      `get_config`, where a sweep varies more than values.
    config: the resolved experiment with these overrides.
  """

  experiment: str
  name: str
  folder: Path
  overrides: dict[str, Any]
  config: dict[str, Any]

  @property
  def state(self) -> dict[str, Any]:
    """The contents of `trial.json`; empty before the first attempt."""
    return read_state(self.folder)

  @property
  def finished(self) -> bool:
    """Whether it ended without an error."""
    return self.state.get('status') == 'finished'


def plan(experiment: str, workdir: Path) -> list[Trial]:
  """Returns all trials of an experiment's `sweep(add)` in its order; starts nothing.

  Args:
    experiment: a file, and maybe :arguments for its `get_config`.
    workdir: folder for the studies; a trial lies in <experiment>/<trial> below it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `sweep`, or an override does not fit the experiment, or two
      trials are the same.
  """
  load_experiment(experiment)  # errors that do not depend on overrides come first
  module = module_of(experiment)
  sweep = getattr(module, 'sweep', None)
  if sweep is None and hasattr(module, 'search'):
    raise ValueError(
      f'{experiment} has no sweep(add), but a search(trial): add --trials N'
    )
  if sweep is None:
    raise ValueError(
      f'{experiment} has no function sweep(add) that lists its trials: define it, or '
      f'train one run with `seqlab train`'
    )
  listed: list[dict[str, Any]] = []
  sweep(lambda **overrides: listed.append(overrides))
  if not listed:
    raise ValueError(f'sweep(add) of {experiment} adds no trial: let it call add(...)')
  listed = [*map(_plain, listed)]
  folder = workdir / experiment_name(experiment)
  _check_study_name(folder)
  trials = [
    make_trial(experiment, folder / name, overrides)
    for overrides, name in zip(listed, _names(listed), strict=True)
  ]
  return _with_earlier_folders(trials, folder)


# The name of a study in the first edition -> today's.
_RENAMED_STUDIES = {'enwiki-roads': 'enwiki-methods'}


def _check_study_name(folder: Path) -> None:
  """Raises ValueError where the trials of a study are under its old name."""
  for old, new in _RENAMED_STUDIES.items():
    earlier = folder.with_name(folder.name.replace(new, old, 1))
    is_new = folder.name.startswith(new) and not folder.exists()
    if is_new and earlier.is_dir():
      raise ValueError(
        f'{earlier} has the trials of this study, whose name was {old}: rename the '
        f'folder to {folder.name} to continue it, or use another --workdir'
      )


def _with_earlier_folders(trials: list[Trial], folder: Path) -> list[Trial]:
  """Returns trials with the folders in which an earlier version of seqlab ran them.

  The name of a trial is made of its overrides, and so changes where an option or an
  argument is renamed. A folder of another name belongs to a trial that has none of its
  own if its configuration, with today's keys, is that of the trial.
  """
  earlier: dict[str, Path] = {}
  for path in other_folders(trials, folder):
    with contextlib.suppress(ValueError):  # a damaged file belongs to no trial
      earlier[_identity(read_json_object(path / 'config.json'))] = path
  if not earlier:
    return trials
  return [
    dataclasses.replace(
      trial, folder=earlier.get(_identity(trial.config), trial.folder)
    )
    if not trial.folder.exists()
    else trial
    for trial in trials
  ]


def other_folders(trials: list[Trial], folder: Path) -> list[Path]:
  """Returns the runs in the folder of a study that belong to none of its trials."""
  known = {trial.folder for trial in trials}
  runs = sorted(path.parent for path in folder.glob('*/config.json'))
  return [path for path in runs if path not in known]


def _identity(config: Mapping[str, Any]) -> str:
  """Returns a text that is equal for configurations with the same keys of today."""
  return json.dumps(with_defaults(config), sort_keys=True)


def module_of(experiment: str) -> Any:
  """Returns the experiment's file as a module, without its arguments."""
  return load_module(split_name(experiment)[0])


def make_trial(experiment: str, folder: Path, overrides: Mapping[str, Any]) -> Trial:
  """Returns a trial of an experiment, named like its folder; starts nothing.

  Raises:
    ValueError: an override does not fit the experiment.
  """
  overrides, name = _plain(overrides), folder.name
  with_arg = with_argument(experiment, overrides.get('arg'))
  return Trial(with_arg, name, folder, overrides, _configure(with_arg, name, overrides))


def _plain(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the overrides with NumPy's numbers as Python's."""
  return {k: getattr(v, 'item', lambda v=v: v)() for k, v in overrides.items()}


def with_argument(experiment: str, argument: str | None) -> str:
  """Appends an argument: 'file.py:smoke', 'model=rnn' -> 'file.py:smoke,model=rnn'."""
  if argument is None:
    return experiment
  file, arguments = split_name(experiment)
  return f'{file}:{arguments},{argument}' if arguments else f'{file}:{argument}'


def experiment_name(experiment: str) -> str:
  """Returns a short name, such as 'multi30k-transformer-smoke'."""
  path, argument = split_name(experiment)
  name = _safe('-'.join([short_name(path), *([argument] if argument else [])]))
  return _cut(name, experiment) if _is_long(name) else name or 'experiment'


def unfinished(trials: list[Trial], *, force: bool = False) -> list[Trial]:
  """Returns the trials that are still to be run, in their order.

  Raises:
    ValueError: a trial's folder was made by a different experiment, unless `force`
      says to run such trials too.
  """
  left = []
  for trial in trials:
    changed = None
    if (trial.folder / 'config.json').is_file():
      try:
        open_folder(trial.folder, trial.config)
      except ValueError as error:
        changed = error
    if changed and not force:
      raise ValueError(
        f'the experiment changed since trial {trial.name}: {changed} from its '
        f'checkpoint; to train it again from the start, delete the folder'
      )
    if trial.folder.name != trial.name and trial.state.get('overrides'):
      write_idle_state(trial)  # with today's overrides, by which reports know the trial
    if changed or not trial.finished:
      left.append(trial)
  return left


def run_trial(
  experiment: str, overrides: Mapping[str, Any], folder: Path, *, force: bool = False
) -> dict[str, Any]:
  """Trains one trial in this process, resuming from its checkpoint if it has one.

  Returns:
    Its state, which is also written to `trial.json` in its folder. An error is a state
    too, and its traceback is printed to stderr. The 'status' is 'finished', 'failed',
    or, after SIGTERM, 'stopped': the trial then resumes from its checkpoint when it is
    run again. (A search may turn 'stopped' into 'pruned'.)
  """
  from seqlab.train.loop import train
  from seqlab.train.processes import Stopped
  from seqlab.train.runtime import prepare

  state, started = None, time.monotonic()
  try:
    config = load_experiment(experiment, as_options(overrides))
    prepare(config.get('threads'))
    state = write_running_state(folder, overrides)
    origin = origin_of(experiment, as_options(overrides))
    train(config, folder, force=force, origin=origin)
    status, reason = 'finished', None
  except Stopped as stopped:
    status, reason = 'stopped', str(stopped)
  except Exception as error:  # of any kind: the other trials continue
    print(scrub(traceback.format_exc()), end='', file=sys.stderr)
    status, reason = 'failed', scrub(f'{type(error).__name__}: {error}')
  state = state or dict(overrides=overrides, seconds=0.0)
  state |= dict(status=status, reason=reason)
  state['seconds'] += time.monotonic() - started
  write_state(folder, state)
  return state


def write_running_state(
  folder: Path, overrides: Mapping[str, Any], **details: Any
) -> dict[str, Any]:
  """Writes `trial.json` of a trial that starts now on this process's devices.

  Args:
    folder: folder of its run.
    overrides: its overrides.
    **details: further entries.

  Returns:
    The state that was written.
  """
  import jax

  state = dict(overrides=overrides, status='running', reason=None)
  earlier = read_state(folder)
  state['seconds'] = earlier.get('seconds', 0.0)  # of this and all earlier attempts
  state['date'] = datetime.date.today().isoformat()
  state['device'] = _device(jax.devices())
  # An accelerator's name says what computes; of a CPU it is only the number of cores.
  is_cpu = jax.devices()[0].platform == 'cpu'
  state['machine'] = f'{processor()}, ' * is_cpu + state['device']
  state |= details
  write_state(folder, state)
  return state


def write_idle_state(trial: Trial, **changes: Any) -> dict[str, Any]:
  """Writes `trial.json` of a trial that no process runs; returns its state."""
  state = dict(seconds=0.0) | trial.state | dict(overrides=trial.overrides) | changes
  write_state(trial.folder, state)
  return state


def read_state(folder: Path) -> dict[str, Any]:
  """Returns the contents of `trial.json` in a folder; empty if there is none.

  Raises:
    ValueError: the file is damaged.
  """
  return read_json(folder / 'trial.json')


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON file of a trial; empty if there is none.

  Raises:
    ValueError: it is damaged; the message names it.
  """
  try:
    return read_json_object(path)
  except FileNotFoundError:
    return {}
  except ValueError as error:
    raise ValueError(
      f'{error}: delete it; the trial then runs again, from its newest checkpoint if '
      f'it has one'
    ) from None


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
  """Writes `trial.json` atomically; creates the folder if there is none."""
  folder.mkdir(parents=True, exist_ok=True)  # a user may have removed it
  write_text(folder / 'trial.json', json.dumps(state, indent=2, ensure_ascii=False))


def _configure(experiment: str, name: str, overrides: dict[str, Any]) -> dict[str, Any]:
  """Resolves and checks the experiment of a trial.

  Sweeps, searches, populations and job arrays make all their trials here, before the
  first one starts.
  """
  try:
    json.dumps(overrides)
    config = load_experiment(experiment, as_options(overrides))
    if _is_of_seqlab(config):
      # JAX is imported here, and not where a sweep is only listed.
      from seqlab.train.checks import check_experiment

      check_experiment(config)
    return config
  except (TypeError, ValueError) as error:
    raise ValueError(f'trial {name} of {experiment}: {error}') from None


def _is_of_seqlab(config: Mapping[str, Any]) -> bool:
  """Returns whether an experiment names code of seqlab and its libraries only.

  A check imports the named modules. A user's own code is imported by the trials only,
  each in its process, so that an error in it ends one trial and not the sweep.
  """
  for _, path in foreign_names(config):
    if re.split('[.:]', path)[0] not in _LIBRARIES:
      return False
  return 'task' in config  # without it the trial itself reports what is missing


def as_options(overrides: Mapping[str, Any]) -> list[str]:
  """Returns overrides as options of a command line, for the same checks."""
  return [f'--config.{k}={v!r}' for k, v in overrides.items() if k != 'arg']


def _names(listed: list[dict[str, Any]]) -> list[str]:
  """Returns a name per trial, such as 'cell=gru,seed=1'; all are different.

  Raises:
    ValueError: two trials are the same.
  """
  short = short_names(dict.fromkeys(key for overrides in listed for key in overrides))
  # The seed comes last, so that a listing shows the seeds of one setting together.
  short = dict(sorted(short.items(), key=lambda item: item[0] == 'seed'))
  names: dict[str, dict[str, Any]] = {}
  for overrides in listed:
    if overrides in names.values():
      raise ValueError(
        f'the sweep adds the same trial twice: {overrides or "one without overrides"}'
      )
    parts = (f'{short[key]}={overrides[key]}' for key in short if key in overrides)
    name = _safe(','.join(parts)) or 'base'
    # Some file systems do not distinguish capitals from small letters.
    if _is_long(name) or name.lower() in map(str.lower, names):
      name = _cut(name, json.dumps(overrides, default=str))
    names[name] = overrides
  return list(names)


def _is_long(name: str) -> bool:
  return len(name) > _MAX_CHARACTERS or len(name.encode()) > _MAX_BYTES


def _cut(name: str, whole: str) -> str:
  """Returns the start of a name, and a digest of the whole."""
  digest = hashlib.sha256(whole.encode()).hexdigest()
  start = name[:_MAX_CHARACTERS].encode()[:_MAX_BYTES].decode(errors='ignore')
  return f'{start}-{digest[:8]}'


def _safe(text: str) -> str:
  """Returns `text` without characters that are special to a file system or shell."""
  return re.sub(r'[^\w.,=+-]+', '_', text).strip('_')


def _device(devices: list[Any]) -> str:
  if devices[0].platform != 'cpu':
    return f'{len(devices)} x {devices[0].device_kind}'
  cores = len(all_cores())
  return f'{cores} CPU core{"s" * (cores > 1)}'
