"""The ledger: how often each split was evaluated.

A split that is looked at again and again is no longer a test set. `reproduce` adds a
line to `ledger.jsonl` for each evaluation. The line has the number of evaluations of
that split that the folder of the run has on record, so that those by hand count too.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqlab.metrics_file import read_metrics
from seqlab.results.records import Line, read_lines

NAME = 'ledger.jsonl'


def evaluations(folder: Path) -> list[Line]:
  """Returns the evaluations that the folder of a run has on record."""
  return read_lines(folder / 'evaluations.jsonl')


def count_evaluations(folder: Path, split: str, evals: Mapping[str, Any]) -> int:
  """Returns how often a finished run was evaluated on a split, by whomever.

  Args:
    folder: the run.
    split: name of a split, or of a set of words.
    evals: section `evals` of the experiment.
  """
  names = _evaluators_of(split, evals)
  return sum(_is_of(record, split, names) for record in evaluations(folder))


def count_in_training(folder: Path, split: str, evals: Mapping[str, Any]) -> int:
  """Returns how often the evaluators of a run measured a split during training."""
  prefixes = tuple(f'{name}/' for name in _evaluators_of(split, evals))
  metrics = folder / 'metrics.jsonl'
  if not prefixes or not metrics.is_file():
    return 0
  rows = read_metrics(metrics)
  return sum(any(key.startswith(prefixes) for key in row) for row in rows)


def total(lines: Iterable[Line], experiment: str, args: str, split: str) -> int:
  """Returns the number of evaluations of a split after training, over all seeds.

  Args:
    lines: the ledger, in its order.
    experiment: name of the experiment.
    args: arguments of its `get_config`.
    split: name of the split.
  """
  count, on_record = 0, {}
  for line in lines:
    if (line['experiment'], line['args'], line['split']) != (experiment, args, split):
      continue
    key = line['seed'], line.get('first')
    before = on_record.get(key, 0)
    now = on_record[key] = line['on_record']
    # A run that was trained again, in a new folder, counts from 0.
    count += now - before if now > before else now
  return count


def _evaluators_of(split: str, evals: Mapping[str, Any]) -> list[str]:
  return [
    name
    for name, options in evals.items()
    if isinstance(options, Mapping) and options.get('split', name) == split
  ]


def _is_of(record: Mapping[str, Any], split: str, names: Iterable[str]) -> bool:
  """Returns whether a record of `seqlab evaluate` is of a split."""
  if 'split' in record:
    return record['split'] == split
  scores = record.get('scores', {})
  keys = {key.partition('/')[0] for key in scores} if isinstance(scores, dict) else ()
  return split in keys or any(name in keys for name in names)
