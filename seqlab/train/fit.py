"""Runs an estimator: fits it in its own steps, and evaluates the result once."""

from collections.abc import Mapping
import contextlib
import math
import shutil
import time

import jax

from seqlab.config import call
from seqlab.metrics_file import read_metrics
from seqlab.tasks import task_of
from seqlab.tasks.interface import Estimator, needs
from seqlab.train import processes
from seqlab.train.checks import check_experiment, make_evaluators
from seqlab.train.evaluation import measure, save_samples
from seqlab.train.folder import RunFolder
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.train.writer import Progress, Writer


def fit(folder: RunFolder, *, anew: bool = False) -> RunFolder:
  """Fits the estimator of an experiment; continues where an earlier call stopped.

  Args:
    folder: folder of the run, which this process has locked.
    anew: drop what an earlier call has fitted.

  Returns:
    The folder.

  Raises:
    ValueError: the experiment is wrong, or there are several processes.
    Stopped: SIGTERM arrived; the same command continues with the next step.
  """
  check_experiment(folder.config)
  if jax.process_count() > 1:
    raise ValueError(
      f'{folder.config["task"]} is fitted by one process, on all of its devices: start '
      f'one process instead of {jax.process_count()}'
    )
  run = _Fit(folder, anew=anew)
  with contextlib.closing(run.progress):
    run.run()
  return folder


class _Fit:
  """An estimator and its evaluators, and the folder that keeps their results.

  Attributes:
    progress: the log.
  """

  def __init__(self, folder: RunFolder, *, anew: bool):
    """Makes the task and its evaluators; see `fit`.

    Raises:
      ValueError: an option does not fit. What was fitted before is then kept.
    """
    config = folder.config
    self._folder = folder
    self._mesh = call(make_mesh, config['mesh'], 'mesh')
    task = needs(task_of(config), Estimator)
    self._task = task.from_config(config, folder.vocabulary)
    self._evaluators = make_evaluators(
      config['evals'], task=self._task, sharding=batch_sharding(self._mesh)
    )
    if anew:
      shutil.rmtree(folder.fitted, ignore_errors=True)
    folder.write_config()
    folder.fitted.mkdir(exist_ok=True)
    folder.upload()
    self.progress = Progress(folder.log, total=1)

  def run(self) -> None:
    """Fits to the end, then evaluates unless an earlier call has done so."""
    kind = self._mesh.devices.flat[0].device_kind
    name, task = self._folder.name, self._folder.config['task']
    self.progress.message(f'{name}: {task}, {self._mesh.size} x {kind}')
    self._evaluate(self._fit())
    # For reports, which cannot know how many steps an estimator has. It comes last, so
    # that a run that is marked has all of its results.
    (self._folder.fitted / 'finished').touch()
    self._folder.upload()

  def _fit(self) -> int:
    """Takes the steps that are left, one row of metrics per step.

    Returns:
      The number of the last step.
    """
    steps = self._task.fit(self._folder.fitted, self._mesh)
    done = next(steps)
    if done.step:
      self.progress.message(f'continuing after step {done.step:,}')
    with self._writer(done.step) as writer, processes.StopSignal() as signal:
      # The process may have died after it kept a step and before it wrote its row.
      if done.step and not self._row(done.step):
        writer.write(done.step, done.metrics)
      started = time.monotonic()
      for done in steps:
        row = {**done.metrics, 'speed/seconds': time.monotonic() - started}
        writer.write(done.step, row)
        writer.flush()
        self._folder.upload()
        self.progress.message(f'step {done.step:,}: {_text(done.metrics)}')
        if signal.requested():
          raise processes.Stopped(
            f'stopped after step {done.step:,}, as SIGTERM asked; the same command '
            'continues from there'
          )
        started = time.monotonic()
    return done.step

  def _evaluate(self, step: int) -> None:
    """Runs the evaluators, and adds their results to the row of the last step."""
    row = self._row(step)
    if all(any(key.startswith(f'{n}/') for key in row) for n in self._evaluators):
      return
    variables = self._task.load(self._folder.fitted)
    for name, evaluator in self._evaluators.items():
      if evaluator.about:
        self.progress.message(f'{name}: {evaluator.about}')
      evaluator.compile(variables)
      metrics = measure(name, evaluator, variables)
      self.progress.message(f'step {step:,}: {_text(metrics)}')
      row |= metrics
      save_samples(evaluator, f'{self._folder.samples}/{name}-{step:08d}')
    with self._writer(step - 1) as writer:
      for name, evaluator in self._evaluators.items():
        writer.show(step, name, evaluator)
      writer.write(step, row)
    self._folder.upload()

  def _row(self, step: int) -> dict[str, float]:
    """Returns what `metrics.jsonl` has of a step; empty if it has nothing."""
    file = self._folder.metrics
    rows = read_metrics(file) if file.is_file() else []
    row = next((row for row in rows if row['step'] == step), {})
    return {
      key: math.nan if value is None else value
      for key, value in row.items()
      if key != 'step'
    }

  def _writer(self, start: int) -> contextlib.closing[Writer]:
    """Opens the metrics; rows after step `start` are dropped."""
    say = self.progress.message
    return contextlib.closing(Writer(self._folder, start_step=start, say=say))


def _text(metrics: Mapping[str, float]) -> str:
  return ', '.join(f'{name} {value:.4g}' for name, value in metrics.items())
