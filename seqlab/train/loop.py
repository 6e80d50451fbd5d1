"""Training a run or a population: from a folder to its last step."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import errno
from pathlib import Path

import jax

from seqlab.config import with_defaults
from seqlab.tasks import task_of
from seqlab.tasks.interface import Batches, Estimator, Task, has
from seqlab.text.remote import is_remote
from seqlab.train import processes
from seqlab.train.checks import check_metric
from seqlab.train.device import peak_flops
from seqlab.train.engine import Engine
from seqlab.train.engines import make_engine
from seqlab.train.fallback import DivergenceError
from seqlab.train.fit import fit
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.largest_batch import with_largest_batch
from seqlab.train.machine import record_machine
from seqlab.train.profile import Profile
from seqlab.train.retry import lasting, remedy
from seqlab.train.run_programs import RunPrograms
from seqlab.train.session import Session
from seqlab.train.setup import check_text, evaluators_of, introduce, prepare
from seqlab.train.state import TrainState
from seqlab.train.steps import Steps
from seqlab.train.warm_start import WarmStart
from seqlab.types import Batch, PyTree


def train(
  config: Mapping,
  workdir: str,
  *,
  force: bool = False,
  origin: Mapping | None = None,
) -> RunFolder:
  """Trains the experiment in `workdir`, resuming from its last checkpoint if any.

  Among several processes each calls this, and process 0 writes the folder.

  Args:
    config: a resolved experiment.
    workdir: the run's folder.
    force: continue although a different experiment made the folder.
    origin: where the experiment comes from, for the folder's record.

  Returns:
    The run's folder.

  Raises:
    ValueError: the experiment is wrong, or another one made the folder.
    FloatingPointError: training diverged; the last good checkpoint stays.
    RuntimeError: another process trains in the folder.
    OSError: the disk is full, or processes do not share the folder.
    Stopped: SIGTERM came, and a checkpoint is written if there was something to save.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(_explain_disk_errors(workdir))
    stack.enter_context(processes.StopImmediately())
    folder = _claim_folder(workdir, config, force, stack)
    folder = dataclasses.replace(folder, origin=origin)
    if has(task_of(folder.config), Estimator):
      return fit(folder, anew=force)
    folder = with_largest_batch(folder)
    task, batches, timetable = prepare(folder)
    engine = make_engine(folder.config, task, timetable.steps)
    engine.definition.check(batches.shapes)
    evaluators = evaluators_of(folder.config, task, engine.definition.mesh)
    check_text(folder, task)
    record_machine(folder, engine.definition.mesh, task)
    warm_start = WarmStart(folder, task, engine.definition)
    session = stack.enter_context(
      Session(folder, timetable, evaluators, warm_start=warm_start)
    )
    introduce(session, engine.definition, task, batches)
    states = [session.restore(engine.definition)]
    warm_start.release()
    if not session.over:
      loop(engine, [session], states, task, batches)
    if session.error:
      raise session.error
  return folder


def _claim_folder(
  workdir: str, config: Mapping, force: bool, stack: contextlib.ExitStack
) -> RunFolder:
  """Opens a run's folder in all processes, and locks it for as long as `stack` lives."""
  with processes.primary_first('the folder'):
    # Process 0 came first: to another process on a shared disk the folder exists.
    shared = is_remote(workdir) or processes.is_primary() or Path(workdir).is_dir()
    if not shared:
      raise FileNotFoundError(
        f'process {jax.process_index()} does not see {workdir}, which process 0 made: '
        f'let --workdir be on a disk that all processes share'
      )
    folder = open_folder(workdir, with_defaults(config), force=force)
    if processes.is_primary():
      stack.enter_context(folder.lock())
      if force:
        folder.forget_inputs()
  return folder


@contextlib.contextmanager
def _explain_disk_errors(workdir: str) -> Iterator[None]:
  """Adds a remedy to an OSError whose reason has one, and that no other code added."""
  try:
    yield
  except OSError as error:
    full = error.errno == errno.ENOSPC and 'no space left for' not in str(error)
    reason = 'no space left' if full else None
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
      reason = lasting(error)
    if not reason:
      raise
    name = error.filename or workdir
    raise OSError(f'{reason} for {name}. {remedy(reason)}') from error


def loop(
  engine: Engine,
  sessions: Sequence[Session],
  states: list[TrainState],
  task: Task,
  batches: Batches,
) -> None:
  """Trains until every session is over, each from the step that it resumes at.

  A single run has one session, a population has several. Sessions that are ahead wait
  until the others have reached their step. A session is over when it has reached its
  last step or has failed, see `Session.error`; its state then stays as it is, and the
  others continue. A session that diverges falls back, if the experiment has `fallback`.

  Args:
    engine: takes the steps of all sessions at once, in their order.
    sessions: unfinished sessions that differ in seeds and hyperparameters only.
    states: state of each session, a list that is emptied, so that no state is kept
      twice.
    task: counts tokens and operations.
    batches: batches of the training data.

  Raises:
    Stopped: SIGTERM came; the sessions that were not over have a checkpoint.
  """
  state = engine.join(*states)
  states.clear()
  peak_flops(engine.mesh.size)  # measured now, while nothing else is computed
  check_metric(
    sessions[0].config['keep_best'],
    sessions[0].evaluators,
    lambda: engine.member(state).averaged,
  )
  first = sessions[0]
  profile = Profile(first.config, first.folder.path, first.say)
  with RunPrograms(engine, sessions, batches) as programs, profile:
    programs.start(_first_batch(engine, sessions, batches))
    if len(sessions) == 1:  # a terminal has room for one bar
      first.progress.start(first.start)
    with processes.StopSignal() as signal:
      while diverged := _train(
        engine, sessions, state, task, batches, programs, profile, signal
      ):
        (session,) = sessions  # a population cannot have a fallback
        state = engine.join(session.fall_back(diverged, engine.definition))


def _first_batch(
  engine: Engine, sessions: Sequence[Session], batches: Batches
) -> Batch:
  """Returns this process's rows of the batch that the next step takes."""
  start = min(session.start for session in sessions)
  seed, rows = sessions[0].config['seed'], engine.definition.rows_share
  return batches.batch(start, seed=seed, rows=rows)


def _train(
  engine: Engine,
  sessions: Sequence[Session],
  state: PyTree,
  task: Task,
  batches: Batches,
  programs: RunPrograms,
  profile: Profile,
  signal: processes.StopSignal,
) -> DivergenceError | None:
  """Takes steps until all sessions are over, or until one has to fall back."""
  try:
    steps = Steps(engine, sessions, state, task, batches, programs, profile, signal)
    steps.take()
  except DivergenceError as error:
    # The frames of its traceback hold the state that diverged, which fills the memory.
    return error.with_traceback(None)
  return None
