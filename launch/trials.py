"""Trials: what a sweep asks for, where each one lies, and how it went."""

from collections.abc import Mapping
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

from seqlab.config import check_names
from seqlab.experiment import load_experiment, load_module, split_name
from seqlab.io.files import read_json_object, write_text
from seqlab.io.secrets import scrub
from seqlab.report.runs import short_names
from seqlab.text.workers import all_cores
from seqlab.train.folder import open_folder

# Characters and bytes of a folder's name; file systems admit 255 bytes.
_LONGEST, _BYTES = 100, 200


@dataclasses.dataclass(frozen=True)
class Trial:
  """One training that a sweep asks for.

  Attributes:
    experiment: its file, and what may follow the colon.
    name: of its folder, made of the overrides.
    folder: of its run.
    overrides: dotted key of the experiment -> value; and 'arg', which its
      `get_config` got, where a sweep varies more than values.
    config: the resolved experiment with them.
  """

  experiment: str
  name: str
  folder: Path
  overrides: dict[str, Any]
  config: dict[str, Any]

  @property
  def state(self) -> dict[str, Any]:
    """What `trial.json` says; empty before the first try."""
    return read_state(self.folder)

  @property
  def finished(self) -> bool:
    """Whether it ended well."""
    return self.state.get('status') == 'finished'


def plan(experiment: str, workdir: Path) -> list[Trial]:
  """All trials of an experiment's `sweep(add)`, in its order; starts nothing.

  Args:
    experiment: a file, and maybe :arguments for its `get_config`.
    workdir: folder for the studies; a trial lies in <experiment>/<trial> below it.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `sweep`, or an override does not fit the experiment, or two
      trials are the same.
  """
  load_experiment(experiment)  # says what is wrong with it without any overrides
  module = module_of(experiment)
  sweep = getattr(module, 'sweep', None)
  if sweep is None and hasattr(module, 'search'):
    raise ValueError(
      f'{experiment} has no sweep(add), and a search(trial), which needs --trials N'
    )
  if sweep is None:
    raise ValueError(
      f'{experiment} has no function sweep(add) to list its trials; train it once with '
      f'`seqlab train`'
    )
  listed: list[dict[str, Any]] = []
  sweep(lambda **overrides: listed.append(overrides))
  if not listed:
    raise ValueError(f'the sweep of {experiment} adds no trial')
  listed = [*map(_plain, listed)]
  folder = workdir / experiment_name(experiment)
  return [
    make_trial(experiment, folder / name, overrides)
    for overrides, name in zip(listed, _names(listed), strict=True)
  ]


def module_of(experiment: str) -> Any:
  """The experiment's file as a module, whatever arguments follow the colon."""
  return load_module(split_name(experiment)[0])


def make_trial(experiment: str, folder: Path, overrides: Mapping[str, Any]) -> Trial:
  """A trial of an experiment, named like its folder; starts nothing.

  Raises:
    ValueError: an override does not fit the experiment.
  """
  overrides, name = _plain(overrides), folder.name
  own = with_argument(experiment, overrides.get('arg'))
  return Trial(own, name, folder, overrides, _configure(own, name, overrides))


def _plain(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """The overrides; a number of NumPy's is a number."""
  return {k: getattr(v, 'item', lambda v=v: v)() for k, v in overrides.items()}


def with_argument(experiment: str, argument: str | None) -> str:
  """'file.py:smoke' and 'model=rnn' -> 'file.py:smoke,model=rnn'."""
  if argument is None:
    return experiment
  file, own = split_name(experiment)
  return f'{file}:{own},{argument}' if own else f'{file}:{argument}'


def experiment_name(experiment: str) -> str:
  """'experiments/multi30k/transformer.py:smoke' -> 'multi30k-transformer-smoke'."""
  path, argument = split_name(experiment)
  parts = Path(path).absolute().with_suffix('').parts
  below = parts[-1:]
  if 'experiments' in parts[:-1]:
    below = parts[len(parts) - parts[::-1].index('experiments') :]
  name = _safe('-'.join([*below, *([argument] if argument else [])]))
  return _cut(name, experiment) if _is_long(name) else name or 'experiment'


def unfinished(trials: list[Trial], *, force: bool = False) -> list[Trial]:
  """The trials that have still to be run, in their order.

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
        f'checkpoint; to train it anew, delete the folder'
      )
    if changed or not trial.finished:
      left.append(trial)
  return left


def run_trial(
  experiment: str, overrides: Mapping[str, Any], folder: Path, *, force: bool = False
) -> dict[str, Any]:
  """Trains one trial in this process, going on from its checkpoint if it has one.

  Returns:
    Its state, which `trial.json` in its folder has too; an error is a state as well,
    and its traceback goes to stderr. Its 'status' is 'finished', 'failed', or, after
    SIGTERM, 'stopped': then it goes on where it stands when it is run again. (Of a
    search it may become 'pruned' then.)
  """
  from seqlab.train.loop import train
  from seqlab.train.processes import Stopped
  from seqlab.train.runtime import prepare

  state, started = None, time.monotonic()
  try:
    config = load_experiment(experiment, _options(overrides))
    prepare(config.get('threads'))
    state = begin(folder, overrides)
    train(config, folder, force=force)
    status, reason = 'finished', None
  except Stopped as stopped:
    status, reason = 'stopped', str(stopped)
  except Exception as error:  # whatever it is, the other trials go on
    print(scrub(traceback.format_exc()), end='', file=sys.stderr)
    status, reason = 'failed', scrub(f'{type(error).__name__}: {error}')
  state = state or dict(overrides=overrides, seconds=0.0)
  state |= dict(status=status, reason=reason)
  state['seconds'] += time.monotonic() - started
  write_state(folder, state)
  return state


def begin(folder: Path, overrides: Mapping[str, Any], **details: Any) -> dict[str, Any]:
  """The state of a trial that begins here and now, on this process's devices."""
  import jax

  state = dict(overrides=overrides, status='running', reason=None)
  earlier = read_state(folder)
  state['seconds'] = earlier.get('seconds', 0.0)  # of this and all earlier tries
  state['date'] = datetime.date.today().isoformat()
  state['device'] = _device(jax.devices())
  state |= details
  write_state(folder, state)
  return state


def leave(trial: Trial, **changes: Any) -> dict[str, Any]:
  """Writes `trial.json` for a trial that no process works on; returns its state."""
  state = dict(seconds=0.0) | trial.state | dict(overrides=trial.overrides) | changes
  write_state(trial.folder, state)
  return state


def read_state(folder: Path) -> dict[str, Any]:
  """Returns what `trial.json` in a folder says; empty if there is none.

  Raises:
    ValueError: the file is damaged.
  """
  return read_json(folder / 'trial.json')


def read_json(path: Path) -> dict[str, Any]:
  """Reads a file that a trial's state is kept in; empty if there is none.

  Raises:
    ValueError: it is damaged; the message names it.
  """
  try:
    return read_json_object(path)
  except FileNotFoundError:
    return {}
  except ValueError as error:
    raise ValueError(
      f'{error}: delete it, and the trial runs again, from its newest checkpoint if it '
      f'has one'
    ) from None


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
  """Writes `trial.json`, whole or not at all; makes the folder if it is not there."""
  folder.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
  write_text(folder / 'trial.json', json.dumps(state, indent=2, ensure_ascii=False))


def _configure(experiment: str, name: str, overrides: dict[str, Any]) -> dict[str, Any]:
  """Resolves and checks the experiment of a trial, whatever will run it.

  Sweeps, searches, populations and job arrays have all their trials made here, before
  the first of them starts.
  """
  try:
    json.dumps(overrides)
    config = load_experiment(experiment, _options(overrides))
    if _is_of_seqlab(config):
      # JAX is imported here, and not where a sweep is only listed.
      from seqlab.train.checks import check_experiment

      check_experiment(config)
    return config
  except (TypeError, ValueError) as error:
    raise ValueError(f'trial {name} of {experiment}: {error}') from None


def _is_of_seqlab(config: Mapping[str, Any]) -> bool:
  """Whether an experiment names seqlab's own task and pieces only.

  A check imports what is named. Code of the user's own is imported by the trials alone,
  each in its process, so that what goes wrong there ends one trial and no sweep.
  """
  try:
    check_names(config, 'the experiment')
  except ValueError:
    return False
  return 'task' in config  # else the trial itself says what is missing


def _options(overrides: Mapping[str, Any]) -> list[str]:
  """The overrides as a command line has them, so that the same checks hold."""
  return [f'--config.{k}={v!r}' for k, v in overrides.items() if k != 'arg']


def _names(listed: list[dict[str, Any]]) -> list[str]:
  """A name for each trial, such as 'cell=gru,seed=1'; all are different.

  Raises:
    ValueError: two trials are the same.
  """
  short = short_names(dict.fromkeys(key for overrides in listed for key in overrides))
  # Runs that differ only in their seed stand together in a listing of the folder.
  short = dict(sorted(short.items(), key=lambda item: item[0] == 'seed'))
  names: dict[str, dict[str, Any]] = {}
  for overrides in listed:
    if overrides in names.values():
      raise ValueError(
        f'the sweep adds the same trial twice: {overrides or "one without overrides"}'
      )
    parts = (f'{short[key]}={overrides[key]}' for key in short if key in overrides)
    name = _safe(','.join(parts)) or 'base'
    # Some file systems take capitals for small letters.
    if _is_long(name) or name.lower() in map(str.lower, names):
      name = _cut(name, json.dumps(overrides, default=str))
    names[name] = overrides
  return list(names)


def _is_long(name: str) -> bool:
  return len(name) > _LONGEST or len(name.encode()) > _BYTES


def _cut(name: str, whole: str) -> str:
  """The beginning of a name, and a digest of what it stands for."""
  digest = hashlib.sha256(whole.encode()).hexdigest()
  start = name[:_LONGEST].encode()[:_BYTES].decode(errors='ignore')
  return f'{start}-{digest[:8]}'


def _safe(text: str) -> str:
  """`text` with nothing in it that a file system or a shell takes for its own."""
  return re.sub(r'[^\w.,=+-]+', '_', text).strip('_')


def _device(devices: list[Any]) -> str:
  if devices[0].platform != 'cpu':
    return f'{len(devices)} x {devices[0].device_kind}'
  cores = len(all_cores())
  return f'{cores} CPU core{"s" * (cores > 1)}'
