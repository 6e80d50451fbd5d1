"""Populations: runs that differ in seed and hyperparameters, as one program.

Both are arguments of the step, and so a population of N runs is its `vmap`: state,
batch and hyperparameters have an axis of members in front. A small model leaves most of
an accelerator idle, where N steps at once take little longer than one.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import shutil
from typing import Any

import jax

from seqlab.config import call, flatten, with_defaults
from seqlab.tasks import task_class
from seqlab.tasks.interface import Batches, CustomUpdate, Estimator, Task, has
from seqlab.train import processes
from seqlab.train.checks import check_experiment
from seqlab.train.definition import Definition
from seqlab.train.engine_population import PopulationEngine
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.loop import loop
from seqlab.train.machine import record_machine
from seqlab.train.mesh import make_mesh
from seqlab.train.session import Session
from seqlab.train.setup import check_text, evaluators_of, introduce, prepare
from seqlab.train.state import TrainState
from seqlab.train.timetable import Timetable
from seqlab.train.warm_start import WarmStart

_REMEDY = 'run these trials one by one (--on local)'
OnEnd = Callable[[int, Exception | None], None]


def train_population(
  configs: Sequence[Mapping],
  workdirs: Sequence[str],
  *,
  ended: OnEnd = lambda i, error: None,
  force: bool = False,
  places: Sequence[int] | None = None,
  width: int | None = None,
  origins: Sequence[Mapping[str, Any] | None] | None = None,
) -> list[Exception | None]:
  """Trains experiments that differ in seed and hyperparameters, all at once.

  Each leaves in its folder what `train` leaves there, and resumes from its newest
  checkpoint. Where a kill left them at different steps, those ahead are frozen until
  the others have reached their step. The program keeps one place per member, also for
  members that are over, since a narrower program rounds differently: a population that
  was killed and resumed has the same bits as one that was not.

  A member is over when it diverges, has seen no new best for too long, or its folder
  cannot be used: its state is frozen, and the others are not affected.

  Args:
    configs: resolved experiments.
    workdirs: a folder for each.
    ended: called once for each that is over, with its number and its error.
    force: continue in folders that different experiments made.
    places: place of each in the program, if these are the rest of a larger population;
      by default 0, 1, 2, ...
    width: number of places; by default one per experiment.
    origins: where each experiment comes from, for the record in its folder.

  Returns:
    The error of each, such as FloatingPointError where it diverged, or None.

  Raises:
    ValueError: they cannot be one program.
    Stopped: SIGTERM came, and those that were not over have a checkpoint.
  """
  configs = [with_defaults(config) for config in configs]
  check(configs)
  origins = [None] * len(configs) if origins is None else origins
  places = [*range(len(configs))] if places is None else [*places]
  width = len(configs) if width is None else width
  if len({*places}) < len(configs) or not {*places} <= {*range(width)}:
    raise ValueError(f'places {places} are not those of a population of {width}')
  errors: dict[int, Exception | None] = {}

  def end(i: int, error: Exception | None) -> None:
    errors[i] = error
    ended(i, error)

  with contextlib.ExitStack() as stack:
    stack.enter_context(processes.StopImmediately())
    members = [*zip(configs, workdirs, origins, strict=True)]
    if folders := _claim_folders(members, end, force, stack):
      _train_in(folders, places, width, end, stack)
  return [errors[i] for i in range(len(configs))]


def _claim_folders(
  members: Sequence[tuple[Mapping, str, Mapping[str, Any] | None]],
  end: OnEnd,
  force: bool,
  stack: contextlib.ExitStack,
) -> dict[int, RunFolder]:
  """Opens folders, locked for as long as `stack` lives; those that fail are over.

  Args:
    members: configuration, folder and origin of each.
    end: called with those that fail.
    force: see `train_population`.
    stack: holds the locks.
  """
  folders = {}
  for i, (config, workdir, origin) in enumerate(members):
    try:
      folder = open_folder(workdir, config, force=force)
      folder = dataclasses.replace(folder, origin=origin)
      stack.enter_context(folder.lock())
      if force:
        folder.forget_inputs()
      folders[i] = folder
    except Exception as error:  # any error: the other members continue
      end(i, error)
  return folders


def _train_in(
  folders: Mapping[int, RunFolder],
  places: Sequence[int],
  width: int,
  end: OnEnd,
  stack: contextlib.ExitStack,
) -> None:
  """Trains the members that have a folder; see `train_population`."""
  # Task, definition and evaluators know neither seeds nor hyperparameters, which are
  # data: what is wrong with them here is wrong with all members.
  folders, parts = _prepare_first(folders, end)
  if parts is None:
    return
  task, batches, timetable = parts
  first = next(iter(folders.values()))
  _check_shapes(batches, [folder.config for folder in folders.values()])
  definition = Definition(first.config, task, timetable.steps)
  definition.check(batches.shapes)
  evaluators = evaluators_of(first.config, task, definition.mesh)
  warm_start = WarmStart(first, task, definition)
  sessions: list[Session] = []
  states: list[TrainState] = []
  seats: list[int] = []
  for i, folder in folders.items():
    try:
      if folder is not first:
        _share_vocabulary(first, folder)
      check_text(folder, task)
      record_machine(folder, definition.mesh, task)
      on_end = functools.partial(end, i)
      name = folder.path.name
      session = Session(
        folder, timetable, evaluators, name=name, on_end=on_end, warm_start=warm_start
      )
    except Exception as error:  # any error: the other members continue
      end(i, error)
      continue
    stack.enter_context(session)
    with session.isolate_errors():
      if state := _restore(session, definition, task, batches):
        sessions.append(session)
        states.append(state)
        seats.append(places[i])
  warm_start.release()
  if not sessions:
    return
  hypers = [session.hyper for session in sessions]
  engine = PopulationEngine(definition, hypers, seats, width)
  loop(engine, sessions, states, task, batches)


def _prepare_first(
  folders: Mapping[int, RunFolder], end: OnEnd
) -> tuple[dict[int, RunFolder], tuple[Task, Batches, Timetable] | None]:
  """Makes task, batches and timetable in the first folder in which they can be made.

  A vocabulary may be damaged, or belong to other text, in one folder only.

  Returns:
    The folders from this one on, and the parts, None if they can be made in no folder.
    Members whose folders come before it are over.
  """
  remaining = dict(folders)
  for i, folder in folders.items():
    try:
      return remaining, prepare(folder)
    except Exception as error:  # whatever it is, the others continue
      end(i, error)
      del remaining[i]
  return remaining, None


def _restore(
  session: Session, definition: Definition, task: Task, batches: Batches
) -> TrainState | None:
  """Returns a member's state on the host, so that devices hold no member twice."""
  introduce(session, definition, task, batches)
  state = session.restore(definition)
  return None if state is None else jax.device_get(state)


def _share_vocabulary(source: RunFolder, target: RunFolder) -> None:
  """Copies the vocabulary of another member, or checks that it is the same.

  Raises:
    ValueError: it is another one.
  """
  if not target.vocabulary.exists():
    if source.vocabulary.exists():
      # Under another name first, so that a kill leaves no half of a vocabulary.
      partial = target.vocabulary.with_name(f'{target.vocabulary.name}.partial')
      shutil.rmtree(partial, ignore_errors=True)
      shutil.copytree(source.vocabulary, partial)
      partial.rename(target.vocabulary)
    return
  for file in source.vocabulary.iterdir():
    other = target.vocabulary / file.name
    if not other.is_file() or other.read_bytes() != file.read_bytes():
      raise ValueError(
        f'{other} is not that of {source.name}, which is of the same experiment: train '
        f'{target.name} by itself, or delete the folder'
      )


def _check_shapes(batches: Batches, configs: Sequence[Mapping]) -> None:
  shapes = () if getattr(batches, 'shared_shapes', False) else batches.shapes
  if len(shapes) > 1 and len({config['seed'] for config in configs}) > 1:
    raise ValueError(
      f'batches of different seeds have different shapes at a step (there are '
      f"{len(shapes)}): set batching.kind='packed' or 'drawn', or batching.shapes=1, or "
      f'{_REMEDY}'
    )


def check(configs: Sequence[Mapping]) -> None:
  """Raises ValueError for experiments that cannot be one program."""
  first = configs[0]
  for config in configs:
    if differing := _differing(first, config):
      raise ValueError(
        f'members of a population differ in seed and hyper alone, and these in '
        f'{", ".join(differing)} too'
      )
  task = task_class(first)
  # Refused feature -> whether the experiment asks for it.
  refused = {
    "parallel='pmap'": first['parallel'] == 'pmap',
    'mesh.shard_optimizer, which divides the state of one run': bool(
      first['mesh'].get('shard_optimizer')
    ),
    'minutes, which its members would share': first['minutes'] is not None,
    'fallback, after which a member would be steps behind': bool(first['fallback']),
    f'{first["task"]}, which has its own update': has(task, CustomUpdate),
    f'{first["task"]}, which has no training step': has(task, Estimator),
    'several processes': jax.process_count() > 1,
  }
  for feature, requested in refused.items():
    if requested:
      raise ValueError(f'a population cannot have {feature}: {_REMEDY}')
  mesh = call(make_mesh, first['mesh'], 'mesh')
  if mesh.shape['data'] != mesh.size:
    raise ValueError(
      f'a population lies over the devices by its members, each of them whole: set '
      f'mesh.fsdp=1 and mesh.tensor=1, or {_REMEDY}'
    )
  for config in configs:
    check_experiment(config)


def _differing(one: Mapping, other: Mapping) -> list[str]:
  """Returns the keys, besides data, in which two experiments differ."""
  one, other = flatten(one), flatten(other)
  return [
    key
    for key in sorted({*one, *other})
    if key != 'seed' and _compiled(key, one) != _compiled(key, other)
  ]


def _compiled(key: str, flat: Mapping) -> Any:
  """Returns what the program depends on: of a hyperparameter, whether it is set."""
  return flat.get(key) is None if key.startswith('hyper.') else flat.get(key)
