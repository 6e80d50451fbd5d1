"""Finished runs, read from their folders."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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
from seqlab.upgrade import upgrade

Row = dict[str, float]  # the metrics of one step; NaN where the run had no number


@dataclasses.dataclass(frozen=True)
class Run:
  """The configuration and the metrics of one run.

  Attributes:
    path: folder of the run.
    config: the resolved experiment.
    overrides: options that a sweep set; empty for a run outside of sweeps.
    rows: the metrics, one row per step.
  """

  path: Path
  config: dict[str, Any]
  overrides: dict[str, Any]
  rows: list[Row]

  @functools.cached_property
  def flat(self) -> dict[str, Any]:
    """The experiment as {'hyper.peak': 1e-3, ...}; lists are tuples."""
    flat = {key: _frozen(value) for key, value in flatten(self.config).items()}
    if flat.get('model.dtype', 'auto') != 'auto':
      return flat
    # What 'auto' was where the run began; older runs have no such file.
    machine = self.path / 'machine.json'
    dtype = read_json_object(machine).get('dtype') if machine.is_file() else None
    return {**flat, 'model.dtype': dtype} if dtype else flat

  def series(self, name: str) -> tuple[list[int], list[float]]:
    """Returns the steps and values of a metric.

    Raises:
      ValueError: the run has no such metric.
    """
    points = [(row['step'], row[name]) for row in self.rows if name in row]
    if not points:
      known = {key: None for row in self.rows for key in row if key != 'step'}
      raise ValueError(
        f'{self.path} has no metric {name!r}{suggest(name, known)} '
        f'(known: {", ".join(known) or "none"})'
      )
    steps, values = zip(*points, strict=True)
    return list(steps), list(values)

  def has(self, name: str) -> bool:
    """Returns whether the run has a value of a metric."""
    return any(name in row for row in self.rows)

  def final(self, name: str) -> float:
    """Returns the last value of a metric."""
    return self.series(name)[1][-1]

  def best(self, name: str, mode: str = 'max') -> float:
    """Returns the best value of a metric, for `mode` 'max' or 'min'; NaN if all are."""
    if mode not in ('max', 'min'):
      raise ValueError(f"mode is {mode!r}; it may be 'max' or 'min'")
    values = [v for v in self.series(name)[1] if not math.isnan(v)]
    return (max if mode == 'max' else min)(values, default=math.nan)

  @functools.cached_property
  def minutes(self) -> tuple[float, ...]:
    """Minutes of updates until the end of each step."""
    seconds = self.series('speed/seconds')[1]
    return tuple(second / 60 for second in itertools.accumulate(seconds))

  def arrays(self, evaluator: str) -> dict[str, np.ndarray]:
    """Returns the arrays that an evaluator saved at its last evaluation, by name.

    Raises:
      FileNotFoundError: it saved none.
    """
    # The name of an evaluator may contain characters of a pattern.
    pattern = f'{glob.escape(evaluator)}-{"[0-9]" * 8}*.npz'
    files = sorted((self.path / 'samples').glob(pattern))
    if not files:
      raise FileNotFoundError(f'{self.path}/samples has no {evaluator}-*.npz')
    with np.load(files[-1]) as arrays:
      return dict(arrays)

  @property
  def seconds(self) -> float:
    """Seconds of updates and evaluations over all sessions, without compilation."""
    return sum(
      value
      for row in self.rows
      for key, value in row.items()
      if key.startswith('speed/') and key.endswith('seconds')
    )


def read_run(path: str | Path) -> Run:
  """Reads one run.

  Raises:
    FileNotFoundError: the folder is not that of a run.
    ValueError: one of its files is damaged.
  """
  path = Path(path)
  if not path.exists():
    raise FileNotFoundError(f'there is no folder {path}')
  if not (path / 'config.json').is_file():
    raise FileNotFoundError(f'{path} is not the folder of a run: it has no config.json')
  metrics = path / 'metrics.jsonl'
  return Run(
    path=path,
    config=_read_config(path / 'config.json'),
    overrides=_trial(path).get('overrides', {}),
    rows=[*map(_numbers, read_metrics(metrics))] if metrics.is_file() else [],
  )


def _read_config(path: Path) -> dict[str, Any]:
  config = read_json_object(path)
  try:
    return upgrade(config)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def read_runs(folder: str | Path, *, unfinished: bool = False) -> list[Run]:
  """Reads the runs in a folder and its subfolders, or the one run of the folder.

  Args:
    folder: folder of a run, or of many.
    unfinished: whether to include runs that are not finished; see `left_out`.

  Raises:
    FileNotFoundError: there is no finished run.
    ValueError: a file of a run is damaged.
  """
  folder = Path(folder)
  runs = [read_run(path) for path in _folders(folder)]
  excluded = {} if unfinished else _unfinished(runs)
  if not folder.exists():
    raise FileNotFoundError(f'there is no folder {folder}')
  if len(excluded) == len(runs):
    listed = '\n  '.join(f'{path}: {reason}' for path, reason in excluded.items())
    content = f'only\n  {listed}' if excluded else 'no folder with a config.json'
    raise FileNotFoundError(f'there is no finished run in {folder}: {content}')
  return [run for run in runs if run.path not in excluded]


def diverged(folder: str | Path) -> list[Run]:
  """Returns the trials of a study that ended because their loss was not finite."""
  return [
    read_run(path)
    for path in _folders(Path(folder))
    if (_trial(path).get('reason') or '').startswith('FloatingPointError')
  ]


def left_out(folders: Iterable[str | Path]) -> dict[Path, str]:
  """Returns the runs that `read_runs` leaves out -> the reason."""
  runs = [read_run(path) for folder in folders for path in _folders(Path(folder))]
  return _unfinished(runs)


def _unfinished(runs: Iterable[Run]) -> dict[Path, str]:
  return {run.path: reason for run in runs if (reason := _why_unfinished(run))}


def _why_unfinished(run: Run) -> str | None:
  """Returns why a run is not finished; None if it is, or if no file shows it."""
  state = _trial(run.path)
  if 'status' in state:
    reason = (state.get('reason') or '').partition('\n')[0]
    text = f'{state["status"]}{f": {reason}" * bool(reason)}'
    return None if state['status'] == 'finished' else text
  steps, step = run.config.get('steps'), run.rows[-1]['step'] if run.rows else 0
  fitted = run.path / 'fitted'  # of an estimator, which has no number of steps
  if fitted.is_dir() and not (fitted / 'finished').is_file():
    return f'fitted up to step {step:,}'
  early = ('minutes', 'patience')  # a run with these may end before its last step
  if not isinstance(steps, int) or any(run.config.get(k) is not None for k in early):
    return None
  return f'at step {step:,} of {steps:,}' if step < steps else None


def differing(runs: Sequence[Run], over: str = 'seed') -> list[str]:
  """Returns the keys of the experiments, except `over`, that differ between runs."""
  keys = {key: None for run in runs for key in run.flat if key != over}
  return [key for key in keys if len({run.flat.get(key) for run in runs}) > 1]


def group(
  runs: Sequence[Run], by: Iterable[str] | None = None, over: str = 'seed'
) -> dict[tuple, list[Run]]:
  """Groups the runs that differ in `over` only.

  Args:
    runs: runs of one or several experiments.
    by: dotted keys of the experiment; by default all that differ between the runs.
    over: the key that distinguishes repetitions.

  Returns:
    The values of `by` -> the runs with these values, in the order of the runs. A key
    that an experiment does not have counts as None.

  Raises:
    ValueError: no run has a key; or two runs of a group have the same value of `over`,
      so that they are not repetitions of each other.
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


def best_by(
  runs: Sequence[Run],
  variant: Callable[[Run], Hashable],
  metric: str | Callable[[Run], float],
  mode: str = 'max',
) -> dict[Any, list[Run]]:
  """Chooses, for each variant, the hyperparameters with the best mean over seeds.

  Hyperparameters with which more seeds finished are better than those with fewer, since a
  run that diverges is not among the finished ones.

  Args:
    runs: runs that differ in variants, hyperparameters and seeds.
    variant: names the variant of a run; runs of a variant that differ in more than their
      seed differ in hyperparameters.
    metric: its last value decides, or a function of a run; not one that is reported,
      since the best of several means is too good.
    mode: 'max' or 'min'.

  Returns:
    variant -> the runs with the best hyperparameters, in the order of the runs. Those
    whose metric is no number do not count as finished.
  """
  sign = {'max': 1, 'min': -1}[mode]
  variants: dict[Any, list[Run]] = {}
  for run in runs:
    variants.setdefault(variant(run), []).append(run)

  def quality(members: list[Run]) -> tuple[int, float]:
    values = [metric(x) if callable(metric) else x.final(metric) for x in members]
    numbers = [x for x in values if not math.isnan(x)]
    return len(numbers), sign * float(np.mean(numbers)) if numbers else -math.inf

  return {
    name: max(group(members).values(), key=quality)
    for name, members in variants.items()
  }


def chosen(runs: Sequence[Run], grid: Iterable[float], key: str = 'hyper.peak') -> str:
  """Returns a hyperparameter of runs as text; says if it is at an end of its grid.

  Beyond an end there may be a better value, so that a variant is not tuned as well.

  Args:
    runs: runs with the same hyperparameters, such as one of the groups of `best_by`.
    grid: the values that were tried.
    key: dotted key of the hyperparameter.
  """
  value, grid = runs[0].flat[key], [*grid]
  end = {min(grid): ' (lowest)', max(grid): ' (highest)'}.get(value, '')
  return f'{value:g}{end}'


def curves(
  groups: Mapping[float, Sequence[Run]], of: Callable[[Run], float]
) -> list[tuple[list[float], list[float]]]:
  """Returns one curve (x, y) per seed, of the seeds that all groups have.

  Args:
    groups: x -> the runs there, which differ in their seeds.
    of: returns the value of a run.
  """
  by_seed = [{x.config['seed']: of(x) for x in members} for members in groups.values()]
  seeds = by_seed[0] if by_seed else ()
  return [
    ([*groups], [values[seed] for values in by_seed])
    for seed in seeds
    if all(seed in values for values in by_seed)
  ]


def _check_repetitions(runs: list[Run], over: str) -> None:
  seen: dict[Any, Run] = {}
  for run in runs:
    other = seen.setdefault(run.flat.get(over), run)
    if other is not run:
      keys = ', '.join(differing([other, run], over)) or 'nothing'
      raise ValueError(
        f'{other.path} and {run.path} are in one group with the same {over}, and differ '
        f'in {keys}: group by that too, or leave one of them out'
      )


def short_names(keys: Iterable[str]) -> dict[str, str]:
  """Shortens keys: 'hyper.peak' -> 'peak', unless two would have the same name."""
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
