"""The training loop: dispatch, write, evaluate, save."""

from collections.abc import Iterator, Sequence

import jax

from seqlab.data.loader import Lookahead, feed
from seqlab.tasks.interface import Batches, Task
from seqlab.train import processes
from seqlab.train.engine import Engine
from seqlab.train.meter import Meter
from seqlab.train.profile import Profile
from seqlab.train.run_programs import RunPrograms
from seqlab.train.session import Session
from seqlab.train.state import TrainState
from seqlab.types import Batch, PyTree


class Steps:
  """The steps of a run, or of a population, and what is due between them.

  A step is dispatched, and while the devices compute it the metrics of the step before
  are written: waiting for those of the step just dispatched would leave the devices
  without work.
  """

  def __init__(
    self,
    engine: Engine,
    sessions: Sequence[Session],
    state: PyTree,
    task: Task,
    batches: Batches,
    programs: RunPrograms,
    profile: Profile,
    signal: processes.StopSignal,
  ):
    """Opens the files of the sessions; takes no step yet.

    Args:
      engine: takes the steps of all sessions at once, in their order.
      sessions: unfinished sessions that differ in seeds and hyperparameters only.
      state: their joint state, as the engine joined it.
      task: counts tokens and operations.
      batches: batches of the training data.
      programs: the step for every shape of batches, and the evaluators.
      profile: traces some of the steps.
      signal: whether SIGTERM came.
    """
    for session in sessions:
      with session.isolate_errors():
        session.open_writer()
    engine.set_hyper(*(session.hyper for session in sessions))
    self._engine, self._sessions, self._state = engine, sessions, state
    self._programs, self._profile, self._signal = programs, profile, signal
    self._meter = Meter(engine, task, batches, programs)
    self._timetable = sessions[0].timetable
    self._start = min(session.start for session in sessions)
    self._batches = Lookahead(self._feed(batches))
    self._pending = (
      None  # (number, sums, batch) of a step whose metrics are not written
    )

  def take(self) -> None:
    """Takes one step after the other until all sessions are over.

    Raises:
      DivergenceError: a session has to fall back.
      Stopped: SIGTERM came; the sessions that were not over have a checkpoint.
    """
    steps = range(self._start + 1, self._timetable.steps + 1)
    for step, batch in zip(steps, self._batches, strict=True):
      self._dispatch(step, batch)
      self._prepare_next(step)
      should_stop, time_is_up = self._asked_to_stop()
      last = step == self._timetable.steps or time_is_up
      if last or should_stop or self._timetable.has_checkpoint(step):
        self._evaluate_and_save(step, last=last, should_stop=should_stop)
      if self._all_over:
        return
      if should_stop:
        raise processes.Stopped(
          f'stopped at step {step:,} of {self._timetable.steps:,}, as SIGTERM asked; '
          f'the same command resumes it'
        )

  @property
  def _all_over(self) -> bool:
    return all(session.over for session in self._sessions)

  def _feed(self, batches: Batches) -> Iterator[list[Batch]]:
    """Yields the batch of each session's seed for every step, built ahead by threads."""
    seeds = [session.config['seed'] for session in self._sessions]
    rows = self._engine.definition.rows_share

    def build(k: int) -> list[Batch]:
      by_seed = {s: batches.batch(k, seed=s, rows=rows) for s in dict.fromkeys(seeds)}
      return [by_seed[seed] for seed in seeds]

    return feed(build, self._start, self._timetable.steps)

  def _dispatch(self, step: int, batch: Sequence[Batch]) -> None:
    """Lets the devices begin a step, and writes the step before."""
    active = [session.takes(step) for session in self._sessions]
    if self._profile.begins(step):
      self._write_pending()
      self._profile.begin(step)
      self._meter.restart_clock()
    with self._profile.step(step):
      self._state, sums = self._engine.step(
        self._state, self._engine.put(*batch), active
      )
    self._write_pending()
    self._pending = step, sums, batch
    if self._profile.ends(step):
      self._write_pending()
      self._profile.end(step)
      self._meter.restart_clock()

  def _write_pending(self) -> None:
    """Waits for the sums of the pending step, if any, and writes each session's row."""
    if self._pending is None:
      return
    (step, sums, batch), self._pending = self._pending, None
    rows = self._meter.rows(step, sums, batch)
    for session, row in zip(self._sessions, rows, strict=True):
      if session.takes(step):
        with session.isolate_errors():
          session.write_row(step, row)

  def _prepare_next(self, step: int) -> None:
    """Waits until the next step is compiled; what comes after it is compiled first."""
    self._programs.report()
    upcoming = [members[0] for members in self._batches.upcoming()]
    try:
      self._programs.prefer(upcoming)
    except Exception:
      self._write_pending()
      self._save_after_error(step)
      raise
    if upcoming and not self._programs.is_ready(upcoming[0]):
      self._write_pending()
      if not self._all_over:
        self._programs.wait_for_step(upcoming[0], self._signal.is_received)
      self._meter.restart_clock()  # waiting does not count as training time

  def _save_after_error(self, step: int) -> None:
    """Saves every session, so that a program that cannot be compiled costs no steps."""
    for i, session in enumerate(self._sessions):
      if session.takes(step):
        with session.isolate_errors():
          _save_without_evaluation(session, self._engine.member(self._state, i), step)

  def _asked_to_stop(self) -> tuple[bool, bool]:
    """Returns whether to stop after this step, and whether the time is used up.

    The clocks of processes differ: that of process 0 decides for all.
    """
    out_of_time = any(session.out_of_time for session in self._sessions)
    if processes.is_primary() and out_of_time:
      self._signal.request()
    if not self._signal.requested():
      return False, False
    return True, processes.broadcast_from_primary(out_of_time)

  def _evaluate_and_save(self, step: int, *, last: bool, should_stop: bool) -> None:
    """Runs the evaluators that are due, saves checkpoints, and ends what is over."""
    self._write_pending()
    if last:
      self._programs.report(partial=True)
    for i, session in enumerate(self._sessions):
      if session.takes(step):
        with session.isolate_errors():
          self._evaluate_and_save_member(
            session, self._engine.member(self._state, i), step, last, should_stop
          )

  def _evaluate_and_save_member(
    self,
    session: Session,
    state: TrainState,
    step: int,
    last: bool,
    should_stop: bool,
  ) -> None:
    try:
      due = session.due(step, last=last)
      self._programs.wait_for_evaluators(due, state.averaged)
    except Exception:
      _save_without_evaluation(session, state, step)
      raise
    metrics = session.evaluate(step, state.averaged, last=last)
    if metrics:
      self._meter.restart_clock()  # evaluation does not count as training time
    last = last or session.out_of_patience
    session.save(step, state, metrics, wait=last or should_stop)
    if last:
      session.finish()


def _save_without_evaluation(session: Session, state: TrainState, step: int) -> None:
  """Saves a checkpoint after an error of compiling.

  Not among several processes: all have to take part, and some may not have the error.
  """
  if jax.process_count() == 1:
    session.save(step, state, {}, wait=True)
    session.say(
      f'a program could not be compiled: the checkpoint of step {step:,} is saved, '
      f'without an evaluation'
    )
