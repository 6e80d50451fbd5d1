"""Runs evaluators during training, and keeps the outputs that they show."""

import time
from typing import Any

import numpy as np

from seqlab.evaluators.interface import measured
from seqlab.io import files
from seqlab.train import processes
from seqlab.types import Variables


def measure(name: str, evaluator: Any, variables: Variables) -> dict[str, float]:
  """Runs an evaluator.

  Args:
    name: name of the evaluator in the experiment.
    evaluator: the compiled evaluator; see `evaluators.interface`.
    variables: variables to evaluate with.

  Returns:
    '<name>/<metric>' -> value, and 'speed/<name>_seconds'; the same in all processes.
  """
  started = time.monotonic()
  values = measured(name, evaluator, variables)
  # Processes may differ in the last bit, and must agree on which checkpoint is best.
  values = processes.broadcast_from_primary(values)
  named = {f'{name}/{metric}': value for metric, value in values.items()}
  return named | {f'speed/{name}_seconds': time.monotonic() - started}


def save_samples(evaluator: Any, path: str) -> None:
  """Writes what an evaluator shows of its last run, if it shows anything.

  Args:
    evaluator: has run.
    path: without a suffix: texts are written to '.txt', arrays to '.npz'.
  """
  if not processes.is_primary():
    return
  if evaluator.samples:
    files.write_text(f'{path}.txt', '\n'.join(evaluator.samples))
  if arrays := getattr(evaluator, 'arrays', None):
    with files.replacing(f'{path}.npz') as temporary, temporary.open('wb') as file:
      np.savez_compressed(file, **arrays)
