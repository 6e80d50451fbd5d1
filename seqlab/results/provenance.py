"""Where a number comes from: the code, the data, the machine, the time."""

from collections.abc import Mapping
import json
from pathlib import Path
import platform
import subprocess
from typing import Any

from seqlab.io.files import read_json_object, write_bytes, write_text
from seqlab.metrics_file import Rows, read_metrics
from seqlab.text.workers import all_cores

_CODE = ('seqlab', 'launch', 'experiments')  # folders of the repository
_CURVE = 200  # rows of a copied metrics.jsonl
_DIGITS = 6  # significant digits of a number in it


def commit() -> dict[str, Any]:
  """Returns the commit of seqlab's code, and whether its files differ from it.

  Files of code count, new ones too; documentation and results do not. Outside of a
  repository, or without git, both are None.
  """
  tree = Path(__file__).parents[2]
  if not (tree / '.git').exists():  # installed in a folder of another repository
    return {'commit': None, 'dirty': None}
  # Without locks, which would disturb other commands of git.
  command = ['git', '--no-optional-locks', '-C', str(tree), 'status', '--branch']
  command += ['--porcelain=v2', '--untracked-files=all', '--', *_CODE]
  try:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return {'commit': None, 'dirty': None}
  header = '# branch.oid '
  lines = result.stdout.splitlines()
  oid = next((x.removeprefix(header) for x in lines if x.startswith(header)), None)
  return {'commit': oid, 'dirty': any(not line.startswith('#') for line in lines)}


def machine() -> str:
  """Returns the processor and the number of cores: 'AMD EPYC, 2 cores'."""
  return f'{processor()}, {len(all_cores())} cores'


def processor() -> str:
  """Returns the name of the processor, such as 'AMD EPYC'."""
  try:
    lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
  except OSError:
    return platform.processor() or platform.machine()
  names = (line.partition(':')[2].strip() for line in lines if 'model name' in line)
  return next(names, platform.machine())


def run_facts(folder: Path) -> dict[str, Any]:
  """Returns what the folder of a run records of its training.

  `data` maps a split to the sha256 of its text, `vocabularies` a side to that of its
  vocabulary. `training_seconds` are those of updates and evaluations over all sessions,
  without compilation.
  """
  machine = _json(folder / 'machine.json')
  inputs = _json(folder / 'inputs.json')
  data = {split: x['sha256'] for split, x in inputs.get('text', {}).items()}
  words = folder / 'vocabulary' / 'text.sha256'
  if words.is_file():
    data['text'] = words.read_text('utf-8').strip()
  trained_on = f'{machine["devices"]} x {machine["device"]}' if machine else None
  return {
    'data': data,
    'vocabularies': inputs.get('vocabularies', {}),
    'dtype': machine.get('dtype'),
    'device': trained_on,
    'jax': machine.get('jax'),
    'training_seconds': round(_training_seconds(folder), 1),
  }


def _training_seconds(folder: Path) -> float:
  return sum(
    value
    for row in _metrics(folder)
    for key, value in row.items()
    if key.startswith('speed/') and key.endswith('seconds') and value is not None
  )


def copy_logs(folder: Path, target: Path) -> None:
  """Copies the configuration and the curves of a run into the registry.

  Args:
    folder: the run.
    target: the copies are called `<target>.config.json` and `<target>.metrics.jsonl`.
      The latter has at most 200 rows, with six significant digits.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  config = (folder / 'config.json').read_bytes()
  write_bytes(target.with_name(f'{target.name}.config.json'), config)
  rows = thinned(_metrics(folder), _CURVE)
  text = ''.join(f'{json.dumps(_rounded(row))}\n' for row in rows)
  write_text(target.with_name(f'{target.name}.metrics.jsonl'), text)


def thinned(rows: Rows, n: int) -> Rows:
  """Returns at most n rows: those with evaluations, if they fit, and others evenly."""
  if len(rows) <= n:
    return rows
  evaluated = [i for i, row in enumerate(rows) if _is_evaluated(row)]
  kept = {*_evenly(evaluated, n)}
  others = [i for i in range(len(rows)) if i not in kept]
  return [rows[i] for i in sorted({*kept, *_evenly(others, n - len(kept))})]


def _evenly(items: list[int], n: int) -> list[int]:
  """Returns n of the items at even distances, with the first and the last one."""
  if len(items) <= n:
    return items
  if n < 2:
    return items[-n:] if n else []
  return [items[i * (len(items) - 1) // (n - 1)] for i in range(n)]


def _is_evaluated(row: Mapping[str, Any]) -> bool:
  return any('/' in key and not key.startswith('speed/') for key in row)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
  return {
    key: float(f'{value:.{_DIGITS}g}') if isinstance(value, float) else value
    for key, value in row.items()
  }


def _metrics(folder: Path) -> Rows:
  path = folder / 'metrics.jsonl'
  return read_metrics(path) if path.is_file() else []


def _json(path: Path) -> dict[str, Any]:
  return read_json_object(path) if path.is_file() else {}
