"""How a trial of a search ended: its state and value in the study."""

from collections.abc import Mapping
import math
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import TrialState

from launch.pruning import Evaluations
from launch.trials import Trial, write_state
from seqlab.report.runs import read_run


class Outcome(NamedTuple):
  """The end of a trial, for Optuna and for the user."""

  state: TrialState
  value: float | None  # best value of the metric; None unless the state is COMPLETE
  reason: str | None  # why the value is missing
  text: str  # the same in one line


def outcome_of(
  trial: Trial,
  run_state: Mapping[str, Any],
  evaluations: Evaluations,
  metric: str,
  best_is: str,
) -> Outcome:
  """Returns how a trial ended; writes to its folder if it was pruned.

  Args:
    trial: the trial, with the folder of its run.
    run_state: what its process says of it, as in `trial.json`.
    evaluations: what it measured, and whether the pruner gave it up.
    metric: name of the metric that the study optimises.
    best_is: 'max' or 'min'.
  """
  status, reason = run_state['status'], run_state['reason']
  best, last_step = _best(trial.folder, metric, best_is)
  # Whether a pruned trial stopped in time depends on chance, on which the study must
  # not depend: it counts as pruned unless the pruner gave it up at its very end.
  cut = status == 'finished' and last_step != evaluations.pruned_at
  if evaluations.pruned_at is not None and (status == 'stopped' or cut):
    reason = evaluations.reason
    write_state(trial.folder, {**run_state, 'status': 'pruned', 'reason': reason})
    return Outcome(TrialState.PRUNED, None, reason, f'pruned {reason}')
  if status == 'finished' and not math.isnan(best):
    text = f'{run_state["seconds"]:.0f} s, {metric} {best:.4g}'
    return Outcome(TrialState.COMPLETE, best, None, text)
  reason = reason or f'there is no number among its {metric}'
  verb = 'stopped' if status == 'stopped' else 'failed'
  # Divergence says that the values are bad, which the sampler learns from pruned
  # trials only.
  diverged = reason.startswith('FloatingPointError')
  state = TrialState.PRUNED if diverged else TrialState.FAIL
  return Outcome(state, None, reason, f'{verb}: {reason.splitlines()[0]}')


def _best(folder: Path, metric: str, best_is: str) -> tuple[float, int]:
  """Returns the best value of a run and the last step; NaN and -1 without values."""
  if not (folder / 'config.json').is_file():
    return math.nan, -1
  run = read_run(folder)
  if not run.has(metric):
    return math.nan, -1
  return run.best(metric, best_is), run.series(metric)[0][-1]
