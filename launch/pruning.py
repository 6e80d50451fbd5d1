"""Evaluations of a running trial: reported to the study, which may prune the trial."""

import math
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from launch.storage import Connection
from seqlab.metrics_file import NewRows


class Evaluations:
  """Follows the metrics of one trial, and asks the study's pruner about each value.

  Attributes:
    pruned_at: step of the evaluation after which the pruner gave the trial up; None
      as long as it has not.
    reason: that evaluation, in words.
  """

  def __init__(
    self,
    trial: optuna.Trial,
    folder: Path,
    metric: str,
    connection: Connection,
    *,
    prunes: bool,
  ):
    """Reads nothing yet.

    Args:
      trial: Optuna's trial, to which values are reported.
      folder: folder of the run.
      metric: name of the metric that the study optimises.
      connection: how reports are repeated while the storage does not answer.
      prunes: whether the trial can be stopped while it runs.
    """
    self.pruned_at: int | None = None
    self.reason = ''
    self._trial, self._metric, self._prunes = trial, metric, prunes
    self._connection = connection
    self._rows = NewRows(folder / 'metrics.jsonl')
    self._last_step = -1

  def should_stop(self) -> bool:
    """Reports evaluations since the last call; returns whether to stop the trial."""
    new = self._read_new()
    if self.pruned_at is not None:  # it was stopped before its process could listen
      return bool(new)
    return self._connection.retry(lambda: self._report(new))

  def _report(self, new: list[tuple[int, float]]) -> bool:
    """Takes what it has reported off the list, so that a retry reports the rest."""
    while new:
      step, value = new[0]
      try:
        self._trial.report(value, step)
      except UpdateFinishedTrialError:  # marked as failed; another process has it
        return True
      new.pop(0)
      if self._prunes and self._trial.should_prune():
        self.pruned_at = step
        self.reason = f'at step {step:,}: {self._metric} {value:.4g}'
        return True
    return False

  def _read_new(self) -> list[tuple[int, float]]:
    """Steps and values of the evaluations since the last call, in order."""
    try:
      rows = self._rows.read()
    except FileNotFoundError:
      return []
    values = {row['step']: row[self._metric] for row in rows if self._metric in row}
    new = sorted(
      (step, math.nan if value is None else value)
      for step, value in values.items()
      if step > self._last_step
    )
    self._last_step = max([self._last_step, *(step for step, _ in new)])
    return new
