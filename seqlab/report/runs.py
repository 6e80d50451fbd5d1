"""Finished runs, read from their folders."""

from collections.abc import Iterable, Sequence
import dataclasses
import functools
import glob
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.config import flatten, suggest
from seqlab.io.files import read_json_object
from seqlab.metrics_file import read_metrics

Row = dict[str, float]  # the metrics of one step; NaN where the run had no number


@dataclasses.dataclass(frozen=True)
class Run:
  """What one run left behind.

  Attributes:
    path: its folder.
    config: the resolved experiment.
    overrides: what the sweep set in it; empty for a run of no sweep.
    rows: the metrics, a row a step.
  """

  path: Path
  config: dict[str, Any]
  overrides: dict[str, Any]
  rows: list[Row]

  @functools.cached_property
  def flat(self) -> dict[str, Any]:
    """The experiment as {'hyper.peak': 1e-3, ...}; lists are tuples."""
    return {key: _frozen(value) for key, value in flatten(self.config).items()}

  def series(self, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric.

    Raises:
      ValueError: the run has no such metric.
    """
    found = [(row['step'], row[name]) for row in self.rows if name in row]
    if not found:
      known = {key: None for row in self.rows for key in row if key != 'step'}
      raise ValueError(
        f'{self.path} has no metric {name!r}{suggest(name, known)} '
        f'(there: {", ".join(known) or "none"})'
      )
    steps, values = zip(*found, strict=True)
    return list(steps), list(values)

  def has(self, name: str) -> bool:
    """Whether there is a value of a metric."""
    return any(name in row for row in self.rows)

  def final(self, name: str) -> float:
    """The last value of a metric."""
    return self.series(name)[1][-1]

  def best(self, name: str, mode: str = 'max') -> float:
    """The best value of a metric; `mode` is 'max' or 'min'. NaN if it had no number."""
    if mode not in ('max', 'min'):
      raise ValueError(f"mode is {mode!r}; it may be 'max' or 'min'")
    values = [v for v in self.series(name)[1] if not math.isnan(v)]
    return (max if mode == 'max' else min)(values, default=math.nan)

  @functools.cached_property
  def minutes(self) -> tuple[float, ...]:
    """Of updates, until the end of each."""
    seconds = self.series('speed/seconds')[1]
    return tuple(second / 60 for second in itertools.accumulate(seconds))

  def arrays(self, evaluator: str) -> dict[str, np.ndarray]:
    """What an evaluator kept at its last evaluation, by name.

    Raises:
      FileNotFoundError: it kept nothing.
    """
    # The name of an evaluator is no pattern.
    pattern = f'{glob.escape(evaluator)}-{"[0-9]" * 8}*.npz'
    files = sorted((self.path / 'samples').glob(pattern))
    if not files:
      raise FileNotFoundError(f'{self.path}/samples has no {evaluator}-*.npz')
    with np.load(files[-1]) as found:
      return dict(found)

  @property
  def seconds(self) -> float:
    """Of updates and evaluations, over all sessions; compiling is not counted."""
    return sum(
      value
      for row in self.rows
      for key, value in row.items()
      if key.startswith('speed/') and key.endswith('seconds')
    )


def read_run(path: str | Path) -> Run:
  """Reads one run.

  Raises:
    FileNotFoundError: the folder is no run's.
    ValueError: one of its files is damaged.
  """
  path = Path(path)
  if not path.exists():
    raise FileNotFoundError(f'there is no folder {path}')
  if not (path / 'config.json').is_file():
    raise FileNotFoundError(f'{path} is no run: there is no config.json in it')
  metrics = path / 'metrics.jsonl'
  return Run(
    path=path,
    config=read_json_object(path / 'config.json'),
    overrides=_trial(path).get('overrides', {}),
    rows=[*map(_numbers, read_metrics(metrics))] if metrics.is_file() else [],
  )


def read_runs(folder: str | Path, *, unfinished: bool = False) -> list[Run]:
  """Reads the runs in a folder, however deep, or the one that the folder is.

  Runs that are not finished are left out, unless `unfinished`; see `left_out`.

  Raises:
    FileNotFoundError: there is no finished run.
    ValueError: a file of a run is damaged.
  """
  folder = Path(folder)
  runs = [read_run(path) for path in _folders(folder)]
  left = {run.path: why for run in runs if not unfinished and (why := _why_left(run))}
  if not folder.exists():
    raise FileNotFoundError(f'there is no folder {folder}')
  if len(left) == len(runs):
    whys = '\n  '.join(f'{path}: {why}' for path, why in left.items())
    what = f'only\n  {whys}' if left else 'no folder with a config.json'
    raise FileNotFoundError(f'there is no finished run in {folder}: {what}')
  return [run for run in runs if run.path not in left]


def left_out(folders: Iterable[str | Path]) -> dict[Path, str]:
  """The runs that `read_runs` leaves out -> why."""
  runs = [read_run(path) for folder in folders for path in _folders(Path(folder))]
  return {run.path: why for run in runs if (why := _why_left(run))}


def _why_left(run: Run) -> str | None:
  """Why a run is not finished; None if it is, as far as one can see."""
  state = _trial(run.path)
  if 'status' in state:
    reason = (state.get('reason') or '').partition('\n')[0]
    text = f'{state["status"]}{f": {reason}" * bool(reason)}'
    return None if state['status'] == 'finished' else text
  steps, step = run.config.get('steps'), run.rows[-1]['step'] if run.rows else 0
  early = ('minutes', 'patience')  # a run with these may end before its last step
  if not isinstance(steps, int) or any(run.config.get(k) is not None for k in early):
    return None
  return f'at step {step:,} of {steps:,}' if step < steps else None


def differing(runs: Sequence[Run], over: str = 'seed') -> list[str]:
  """The keys of the experiments, but `over`, that are not the same in all runs."""
  keys = {key: None for run in runs for key in run.flat if key != over}
  return [key for key in keys if len({run.flat.get(key) for run in runs}) > 1]


def group(
  runs: Sequence[Run], by: Iterable[str] | None = None, over: str = 'seed'
) -> dict[tuple, list[Run]]:
  """Puts together the runs that differ in `over` only.

  Args:
    runs: of one or several experiments.
    by: dotted keys of the experiment; by default all that differ between the runs.
    over: the key that tells repetitions apart.

  Returns:
    The values of `by` -> the runs with them, in the order of the runs. A key that a
    run's experiment has not counts as None.

  Raises:
    ValueError: no run has a key; or two runs of a group have the same `over`, so
      that they are no repetitions of each other.
  """
  by = differing(runs, over) if by is None else list(by)
  known = {key: None for run in runs for key in run.flat}
  for key in by:
    if runs and key not in known:
      raise ValueError(f'no run has a key {key!r}{suggest(key, known)}')
  groups: dict[tuple, list[Run]] = {}
  for run in runs:
    groups.setdefault(tuple(run.flat.get(key) for key in by), []).append(run)
  for members in groups.values():
    _check_repetitions(members, over)
  return groups


def _check_repetitions(runs: list[Run], over: str) -> None:
  seen: dict[Any, Run] = {}
  for run in runs:
    other = seen.setdefault(run.flat.get(over), run)
    if other is not run:
      what = ', '.join(differing([other, run], over)) or 'nothing'
      raise ValueError(
        f'{other.path} and {run.path} fall together with the same {over}, and differ '
        f'in {what}: group by that too, or leave one of them out'
      )


def short_names(keys: Iterable[str]) -> dict[str, str]:
  """'hyper.peak' -> 'peak', or the whole key where two would be called the same."""
  keys = list(keys)
  last = [key.rpartition('.')[2] for key in keys]
  return {
    key: name if last.count(name) == 1 else key
    for key, name in zip(keys, last, strict=True)
  }


def _folders(folder: Path) -> Iterable[Path]:
  if (folder / 'config.json').is_file():
    yield folder
  elif folder.is_dir():
    for path in sorted(folder.iterdir()):
      if path.is_dir():
        yield from _folders(path)


def _trial(path: Path) -> dict[str, Any]:
  file = path / 'trial.json'
  return read_json_object(file) if file.is_file() else {}


def _numbers(row: dict[str, Any]) -> Row:
  return {k: math.nan if v is None else v for k, v in row.items()}


def _frozen(value: Any) -> Any:
  if isinstance(value, list):
    return tuple(map(_frozen, value))
  return tuple(value.items()) if isinstance(value, dict) else value
