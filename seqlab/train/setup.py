"""Prepares a run for its first step: data, evaluators, a first message."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from seqlab.tasks import task_of
from seqlab.tasks.interface import Batches, ChecksText, Task, data_report, has
from seqlab.train import processes
from seqlab.train.checks import check_experiment, check_metric, make_evaluators
from seqlab.train.definition import Definition
from seqlab.train.fingerprint import program_fingerprint
from seqlab.train.folder import RunFolder
from seqlab.train.machine import dtype_of, fix_dtype
from seqlab.train.mesh import batch_sharding
from seqlab.train.overview import count
from seqlab.train.profile import check_profile
from seqlab.train.session import Session
from seqlab.train.timetable import Timetable


def prepare(folder: RunFolder) -> tuple[Task, Batches, Timetable]:
  """Makes the task of the experiment in a folder, and its training data.

  Raises:
    ValueError: the experiment is wrong, or the processes cannot save in this folder.
  """
  config = folder.config
  check_experiment(config)
  if folder.checkpoints_locally_first and jax.process_count() > 1:
    raise ValueError(
      f'several processes can save together on gs:// or on a disk that they share, '
      f'and not in {folder.name}'
    )
  # Process 0 makes the vocabulary and the caches of the data, which the others read.
  with processes.primary_first('the data'):
    if not processes.is_primary():
      folder.download()
    task = task_of(config).from_config(config, folder.vocabulary)
    batches = task.batches('train')
    timetable = Timetable.from_config(config, task, batches)
    check_profile(config, timetable.steps)
    if processes.is_primary():
      folder.upload()
  # Not in the block: all processes must be at the same place to agree on a dtype.
  fix_dtype(task, folder)
  return task, batches, timetable


def evaluators_of(config: Mapping[str, Any], task: Task, mesh: Mesh) -> dict[str, Any]:
  """Makes the evaluators of an experiment.

  Args:
    config: a resolved experiment.
    task: made from it.
    mesh: the devices that share the rows of a batch.

  Raises:
    ValueError: an option is wrong, or none gives the metric `keep_best`.
  """
  sharding = batch_sharding(mesh)
  evaluators = make_evaluators(
    config['evals'],
    task=task,
    sharding=sharding,
    fingerprint=program_fingerprint(config, task, 'evaluators'),
  )
  check_metric(config['keep_best'], evaluators)
  return evaluators


def check_text(folder: RunFolder, task: Task) -> None:
  """Raises ValueError if the run in a folder began with other text."""
  if has(task, ChecksText) and processes.is_primary():
    evals = [x for x in folder.config['evals'].values() if isinstance(x, Mapping)]
    splits = [options['split'] for options in evals if options.get('split')]
    task.check_text(splits, folder.path)


def introduce(
  session: Session, definition: Definition, task: Task, batches: Batches
) -> None:
  """Prints the model, devices, data and evaluators of a run."""
  mesh, processes_ = definition.mesh, jax.process_count()
  kind, dtype = mesh.devices.flat[0].device_kind, dtype_of(task)
  among = f' in {processes_} processes' if processes_ > 1 else ''
  trained, frozen = definition.frozen.split(definition.abstract.params)
  fixed = f' and {count(frozen):,} frozen ones' if frozen else ''
  session.say(
    f'{session.folder.name}: {count(trained):,} parameters{fixed}, '
    f'{mesh.size} x {kind}{among}{f", products in {dtype}" if dtype else ""}'
  )
  report = (
    f'{k} {v:,.4g}' if isinstance(v, float) else f'{k} {v:,}'
    for k, v in data_report(task, batches).items()
  )
  session.say(f'data: {", ".join(report)}')
  for name, evaluator in session.evaluators.items():
    if evaluator.about:
      session.say(f'{name}: {evaluator.about}')
  if session.folder.bucket_mirror:
    session.say(
      f'buckets have no locks: let no other run train in {session.folder.name}'
    )
