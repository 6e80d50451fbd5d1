"""The evaluators of an experiment, run on a finished run of any task."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from seqlab.domains import Count, checked
from seqlab.evaluators.interface import measured
from seqlab.io.console import console
from seqlab.pieces import parameters
from seqlab.tasks.interface import Estimator, HasVectors, Translates, has
from seqlab.train.checks import check_evaluator, evaluator_of, make_evaluators
from seqlab.train.folder import RunFolder
from seqlab.train.machine import dtype_in_use
from seqlab.train.mesh import batch_sharding, make_mesh, replicated
from seqlab.train.restore import restore
from seqlab.use.records import record_evaluation, timestamp
from seqlab.use.runs import Choice, Run, open_run

Measured = Literal['word vectors', 'translations', 'evaluators']


def default_measure(run: Run, *, trust: bool = False) -> Measured:
  """Returns the kind of measurement that `seqlab evaluate` makes by default."""
  task = RunFolder.open(run, trust=trust).task_class()
  if has(task, HasVectors):
    return 'word vectors'
  return 'translations' if has(task, Translates) else 'evaluators'


@checked
def evaluate_run(
  run: Run,
  *,
  names: Sequence[str] = (),
  split: str | None = None,
  average: Count = 1,
  choose: Choice = 'last',
  trust: bool = False,
) -> dict[str, Any]:
  """Runs the evaluators of the experiment, and prints what they measure.

  Args:
    run: the folder of the run.
    names: evaluators to run, by their names in the section `evals`; all if empty. An
      experiment without any has one, which is called as the split and measures the
      loss.
    split: the split to evaluate on, in place of the one that the experiment names.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Returns:
    What was printed, and how it was made: `scores` maps '<evaluator>/<metric>' to a
    number, and `dtypes` an evaluator to the dtype of its matrix products. It is also
    added to `evaluations.jsonl` in the folder of the run.

  Raises:
    ValueError: an evaluator is unknown, none of them or one of `names` takes no split,
      or the task lacks an ability that one needs.
  """
  folder, task = open_run(run, trust=trust)
  evals = _chosen(folder.config.get('evals', {}), names, split)
  for name, specification in evals.items():
    check_evaluator(f'evals.{name}', specification, task)
  variables, steps = restore(folder, task, average=average, choose=choose)
  # As all else that is done with a finished run: on the first device.
  mesh = make_mesh(devices=1)
  if not has(task, Estimator):  # whose variables need not be arrays of JAX
    variables = jax.device_put(variables, replicated(mesh))
  evaluators = make_evaluators(evals, task=task, sharding=batch_sharding(mesh))
  scores = {
    f'{name}/{metric}': value
    for name, evaluator in evaluators.items()
    for metric, value in measured(name, evaluator, variables).items()
  }
  _print(steps, scores, {n: e.about for n, e in evaluators.items()})
  own = dtype_in_use(getattr(task, 'model', None))
  dtypes = {n: getattr(e, 'dtype', own) for n, e in evaluators.items()}
  row = {
    'date': timestamp(),
    **({'dtypes': dtypes} if own else {}),
    **({'split': split} if split else {}),
    'steps': steps,
    'scores': {k: x if np.isfinite(x) else None for k, x in scores.items()},
  }
  record_evaluation(folder, row)
  return row


def _chosen(
  evals: Mapping[str, Any], names: Sequence[str], split: str | None
) -> dict[str, Any]:
  """Returns the specifications of the evaluators to run, on `split` if it is given."""
  if not evals and not names:
    split = split or 'test'
    return {split: {'kind': 'loss', 'split': split}}
  if unknown := [name for name in names if name not in evals]:
    raise ValueError(
      f'evals has no {unknown[0]!r} (there: {", ".join(evals) or "none"})'
    )
  chosen = {name: evals[name] for name in names or evals}
  if split is None:
    return chosen
  taking = {
    name: {**({'kind': x} if isinstance(x, str) else x), 'split': split}
    for name, x in chosen.items()
    if 'split' in parameters(evaluator_of(f'evals.{name}', x)[0])
  }
  if not taking:
    raise ValueError(
      f'--split {split}: none of the evaluators takes a split ({", ".join(chosen)})'
    )
  if without := [name for name in names if name not in taking]:
    raise ValueError(
      f'--split {split}: the evaluator {without[0]!r} takes no split; evaluate it '
      'without --split'
    )
  return taking


def _print(
  steps: Sequence[int], scores: Mapping[str, float], notes: Mapping[str, str]
) -> None:
  out = console()
  out.print(f'checkpoints of steps {[*steps]}')
  for name, value in scores.items():
    out.print(f'  {name:32s} {value:.6g}', markup=False)
  for name, text in notes.items():
    if text:
      out.print(f'  {name}: {text}', style='dim', markup=False)
