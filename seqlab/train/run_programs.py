"""The programs of a run: the step for every shape of batches, and the evaluators."""

from collections.abc import Callable, Iterable, Sequence
import time

import jax

from seqlab.tasks.interface import Batches
from seqlab.train import processes
from seqlab.train.background import BackgroundCompiler
from seqlab.train.compile_counter import uncounted
from seqlab.train.engine import Engine
from seqlab.train.overview import overview
from seqlab.train.session import Session
from seqlab.types import Batch, Variables, batch_shapes


class RunPrograms:
  """Compiles in the background what a run declares, in the order of its steps.

  A step waits only for the program of its own shape. The evaluators come after the
  steps; one whose `compile` needs arrays is compiled when it is first due. Batches and
  their order do not depend on which programs are compiled.

  Among several processes each compiles by itself, in the same order. They meet before
  the first use of a program, since a collective operation may fail if one process
  comes much later than the others. A context manager.
  """

  def __init__(self, engine: Engine, sessions: Sequence[Session], batches: Batches):
    """Starts nothing yet; see `start`.

    Args:
      engine: compiles the steps.
      sessions: of the run or of the members of a population, which share evaluators.
      batches: batches of the training data.
    """
    self._engine, self._sessions = engine, sessions
    share = engine.definition.rows_share[1]
    self._steps = {_shape_of_share(batch, share): batch for batch in batches.shapes}
    self._evaluators = sessions[0].evaluators
    variables = engine.definition.abstract.averaged
    jobs = {
      shape: lambda batch=batch: engine.compile(batch)
      for shape, batch in self._steps.items()
    }
    jobs |= {
      name: lambda evaluator=evaluator: evaluator.compile(variables)
      for name, evaluator in self._evaluators.items()
      if getattr(evaluator, 'compiles_ahead', False)
    }
    self._ahead = {*jobs}
    self._used: set = set()
    self._background = BackgroundCompiler(jobs, reorder=jax.process_count() == 1)
    self._reported = False

  def __enter__(self) -> 'RunPrograms':
    return self

  def __exit__(self, *_) -> None:
    self._background.close()

  def start(self, first: Batch) -> None:
    """Starts to compile; waits until the step of the first batch is compiled.

    Args:
      first: this process's rows of the batch that the next step takes.
    """
    self._started = time.monotonic()
    self._background.start(batch_shapes(first))
    self.wait_for_step(first)

  def prefer(self, upcoming: Iterable[Batch]) -> None:
    """Compiles first what the next steps need, and reports errors of compilations.

    Raises:
      Exception: a program could not be compiled.
    """
    self._background.check()
    self._background.prefer(map(batch_shapes, upcoming))

  def is_ready(self, batch: Batch) -> bool:
    """Returns whether the step of a batch can be taken without waiting."""
    shape = batch_shapes(batch)
    return shape in self._used or shape not in self._steps

  def wait_for_step(
    self, batch: Batch, should_stop: Callable[[], bool] = lambda: False
  ) -> None:
    """Waits until the step of a batch is compiled, or `should_stop` returns True.

    Raises:
      Exception: a program could not be compiled.
    """
    shape = batch_shapes(batch)
    if shape not in self._background:
      done, n = len(self._compiled()), len(self._steps)
      self._running[0].say(f'compiling shape {done + 1} of {n}{self._members}')
      self._background.wait(shape, should_stop)
    if shape in self._background:
      self._meet(shape, 'a step')

  def wait_for_evaluators(self, names: Iterable[str], variables: Variables) -> None:
    """Waits until evaluators are compiled.

    Args:
      names: the evaluators.
      variables: variables to evaluate with, for evaluators that cannot be compiled for
        shapes alone.

    Raises:
      Exception: a program could not be compiled.
    """
    for name in names:
      if name in self._used:
        continue
      if name in self._ahead:
        self._background.wait(name)
      else:
        with uncounted():
          self._evaluators[name].compile(variables)
      self._meet(name, f'the evaluator {name}')

  def _meet(self, name: object, title: str) -> None:
    """Waits for the other processes before a program is used for the first time."""
    if name not in self._used:
      self._used.add(name)
      processes.barrier(f'{title} is compiled')

  @property
  def num_waiting(self) -> int:
    """Number of programs that are being compiled, or wait for it."""
    return self._background.num_waiting

  def report(self, *, partial: bool = False) -> None:
    """Describes the steps in the run's log, once all are compiled.

    Args:
      partial: describe those that are compiled, if the others will not be needed.
    """
    compiled = self._compiled()
    if self._reported or not (partial or len(compiled) == len(self._steps)):
      return
    self._reported = True
    seconds, n = time.monotonic() - self._started, len(compiled)
    for session in self._running:
      session.say(f'compiled {n} shapes in {seconds:.0f} s{self._members}')
    if processes.is_primary():
      self._running[0].say(overview(self._engine, compiled))

  def _compiled(self) -> list[jax.stages.Compiled]:
    return self._background.results(self._steps)

  @property
  def _running(self) -> list[Session]:
    return [session for session in self._sessions if not session.over]

  @property
  def _members(self) -> str:
    n = len(self._sessions)
    return f' for a population of {n}' if n > 1 else ''


def _shape_of_share(batch: Batch, share: int) -> tuple:
  """Returns the shapes of one process's rows of a batch."""
  return batch_shapes({name: x[: len(x) // share] for name, x in batch.items()})
