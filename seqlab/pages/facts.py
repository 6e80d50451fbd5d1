"""What runs are: experiment, options, data, devices, commit, speed."""

from collections.abc import Sequence
import json
import math
from pathlib import Path
import re
import statistics

from seqlab.io.console import amount
from seqlab.pages.html import Markup, element, facts, table
from seqlab.report.runs import Run
from seqlab.results.origin import read_origin
from seqlab.results.provenance import run_facts

_PARAMETERS = re.compile(r'([\d,]+) parameters, ')  # of the first line of train.log
_LOG_LINES = 40
# Metric of `train.device.peak_memory` -> what took the memory.
_PEAKS = {
  'speed/peak_device_bytes': 'on a device',
  'speed/peak_process_bytes': 'of the process',
}


def facts_section(runs: Sequence[Run]) -> list[Markup]:
  """Returns what all runs have in common, and a table of what differs.

  Args:
    runs: the runs.
  """
  each = [_facts(run) for run in runs]
  names = dict.fromkeys(name for own in each for name in own)
  values = {name: [own.get(name, '-') for own in each] for name in names}
  common = {n: x[0] for n, x in values.items() if len(set(x)) == 1 and n != 'run'}
  differing = {n: x for n, x in values.items() if n not in common}
  if len(runs) == 1:
    return [facts(each[0]), *_details(runs[0])]
  rows = zip(*differing.values(), strict=True)
  return [
    facts(common),
    table([*differing], [*rows], class_='runs'),
    *_details(runs[0]),
  ]


def _facts(run: Run) -> dict[str, str]:
  """Returns name -> text of what one run is."""
  recorded = run_facts(run.path)
  known = {
    'run': str(run.path),
    **_origin(run),
    'seed': str(run.config.get('seed', '-')),
    'steps': _steps(run),
    'parameters': _parameters(run.path),
    'data': _data(run),
    'sha256': ', '.join(f'{n} {x[:12]}' for n, x in recorded['data'].items()),
    'devices': recorded['device'],
    'products in': recorded['dtype'],
    'JAX': recorded['jax'],
    'training time': _duration(recorded['training_seconds']),
    'speed': _speed(run),
    'peak of memory': _memory(run),
  }
  return {name: text for name, text in known.items() if text}


def _origin(run: Run) -> dict[str, str]:
  """Returns where the run comes from, and what it changes in the experiment's file."""
  origin = read_origin(run.path)
  trial = [f'{key}={value}' for key, value in run.overrides.items()]
  if origin is None:
    known = 'not recorded by the version that trained it'
    return {'experiment': known} | ({'changed': ', '.join(trial)} if trial else {})
  changed = [x.removeprefix('--config.') for x in origin.overrides] + trial
  commit = (origin.commit or 'outside of a repository')[:12]
  return {
    'experiment': f'{origin.file}{":" * bool(origin.args)}{origin.args}',
    'changed': ', '.join(changed) or 'nothing: all options are those of the file',
    'commit': f'{commit}{", with changes that are not committed" * bool(origin.dirty)}',
  }


def _steps(run: Run) -> str:
  done = run.rows[-1]['step'] if run.rows else 0
  planned = run.config.get('steps')
  of = f' of {planned:,}' if isinstance(planned, int) and planned != done else ''
  return f'{done:,}{of}'


def _parameters(folder: Path) -> str:
  match = _PARAMETERS.search(_log(folder))
  return match[1] if match else ''


def _log(folder: Path) -> str:
  path = folder / 'train.log'
  if not path.is_file():
    return ''
  lines = path.read_text('utf-8', errors='replace').splitlines()
  return '\n'.join(lines[:_LOG_LINES])


def _data(run: Run) -> str:
  corpus = run.config.get('corpus')
  corpus = corpus if isinstance(corpus, dict) else {}
  name = corpus.get('name') or corpus.get('kind') or ('files' if corpus else '')
  sides = [corpus.get(side) for side in ('source', 'target')]
  sides = '-'.join(side for side in sides if isinstance(side, str))
  return ' '.join(filter(None, (name, sides)))


def _duration(seconds: float) -> str:
  if not seconds:
    return ''
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s'


def _speed(run: Run) -> str:
  """Returns the median speed of the steps that compiled nothing."""
  name = 'speed/tokens_per_s'
  rows = [row for row in run.rows if not row.get('speed/compiling')]
  speeds = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
  return f'{statistics.median(speeds):,.0f} tokens/s' if speeds else ''


def _memory(run: Run) -> str:
  """Returns the most memory that the run took at a time, if its rows have it."""
  peaks = {
    owner: [row[name] for row in run.rows if name in row]
    for name, owner in _PEAKS.items()
  }
  return ', '.join(f'{amount(max(x))} {owner}' for owner, x in peaks.items() if x)


def _details(run: Run) -> list[Markup]:
  """Returns the configuration and the beginning of the log, folded."""
  config = json.dumps(run.config, indent=2, ensure_ascii=False, default=str)
  shown = {f'All options of {run.path.name}': config}
  if log := _log(run.path):
    shown[f'Beginning of the log of {run.path.name}'] = log
  return [
    element('details', element('summary', title), element('pre', text))
    for title, text in shown.items()
  ]
