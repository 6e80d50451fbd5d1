"""Tools of all measurements: rows, clocks, processes, a compiled training step."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
import dataclasses
import functools
import multiprocessing
import os
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from seqlab.config import steps_of
from seqlab.data.loader import feed
from seqlab.data.store import TokenStore
from seqlab.tasks.interface import Batches, Task, Translates, has, tokens_per_step
from seqlab.text.workers import end_with_parent
from seqlab.train.engines import make_engine
from seqlab.types import Batch, PyTree, Variables


class Row(NamedTuple):
  """One row of the table.

  Attributes:
    name: what was measured.
    value: the number.
    unit: its unit.
    note: how it was measured.
  """

  name: str
  value: float
  unit: str
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Subject:
  """The experiment that is measured.

  Attributes:
    experiment: path of its file, and arguments for it, as on the command line.
    config: the resolved experiment.
    task: made from it.
  """

  experiment: str
  config: dict[str, Any]
  task: Task

  @functools.cached_property
  def batches(self) -> Batches:
    """Batches of the training split."""
    return self.task.batches('train')

  @property
  def total_steps(self) -> int:
    """Number of steps of the whole training, whatever the experiment counts them in."""
    return steps_of(
      self.config['steps'],
      steps_per_epoch=self.batches.steps_per_epoch,
      tokens_per_step=tokens_per_step(self.task, self.batches),
    )

  @property
  def token_name(self) -> str:
    """Name of the unit that `task.tokens` counts."""
    return 'target tokens' if has(self.task, Translates) else 'tokens'

  def training_step(self, steps: int | None = None) -> 'TrainingStep':
    """Returns the step of a training of so many steps, by default of all."""
    return TrainingStep(self.config, self.task, steps or self.total_steps)


class TrainingStep:
  """The compiled training step of an experiment, and the state that it updates.

  It is compiled and placed as in `seqlab train`, without checkpoints and evaluations.
  """

  def __init__(self, config: Mapping[str, Any], task: Task, steps: int):
    """Creates a fresh state.

    Args:
      config: a resolved experiment.
      task: made from it.
      steps: number of steps of the training, for schedules that end with it.
    """
    self._engine = make_engine(config, task, steps)
    self.restart(0)

  def restart(self, seed: int) -> None:
    """Creates a fresh state."""
    self._state = self._engine.init(seed)

  @property
  def num_devices(self) -> int:
    """Number of devices that share the step."""
    return self._engine.definition.mesh.size

  @property
  def variables(self) -> Variables:
    """Parameters and other collections, on the devices."""
    return self._engine.member(self._state).variables

  def compile(self, batch: Batch) -> None:
    """Compiles the step for batches of this shape."""
    self._engine.compile(batch)

  def put(self, batch: Batch) -> PyTree:
    """Puts a batch on the devices, for `update`."""
    return self._engine.put(batch)

  def update(self, batch: PyTree) -> dict[str, float]:
    """Takes one step with a batch from `put`; waits for its loss and other means."""
    self._state, sums = self._engine.step(self._state, batch)
    return self._engine.fetch(sums)[0]

  def run(self, make_batch: Callable[[int], Batch], steps: int) -> None:
    """Takes steps as `seqlab train` does, and waits for the end of the last one.

    Args:
      make_batch: number of the step -> its batch, built ahead by threads.
      steps: number of steps.
    """
    for batch in feed(make_batch, 0, steps):
      self._state, _ = self._engine.step(self._state, self._engine.put(batch))
    jax.block_until_ready(self._state)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
  """Returns the seconds that a call takes, and its result."""
  started = time.perf_counter()
  result = function()
  return time.perf_counter() - started, result


def best(function: Callable[[], Any], tries: int = 3) -> float:
  """Returns the seconds of the fastest of several calls.

  The fastest, since other programs on the machine can only make a call slower.
  """
  return min(timed(function)[0] for _ in range(tries))


def best_in_turns(*measures: Callable[[], float], tries: int) -> list[float]:
  """Returns the least seconds that each of several functions returned.

  They are called in turns, so that other load on the machine affects all of them.
  """
  rounds = [[measure() for measure in measures] for _ in range(tries)]
  return [min(seconds) for seconds in zip(*rounds, strict=True)]


class Speed(NamedTuple):
  """Words per second.

  Attributes:
    wall: per second of wall time.
    cpu: per second of CPU time, summed over cores.
  """

  wall: float
  cpu: float


def measure_speed(function: Callable[[], int], tries: int = 1) -> Speed:
  """Returns the highest speeds of a function that returns how many words it read."""
  speeds = []
  for _ in range(tries):
    wall, cpu = time.perf_counter(), time.process_time()
    words = function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    speeds.append(Speed(words / wall, words / cpu))
  return Speed(*(max(values) for values in zip(*speeds, strict=True)))


def first_words(store: TokenStore, words: int) -> TokenStore:
  """Returns the rows of the first so many words."""
  rows = max(1, int(np.searchsorted(store.offsets, words, side='right')) - 1)
  return TokenStore(store.ids[: store.offsets[rows]], store.offsets[: rows + 1])


def in_own_process(function: Callable, *args: Any) -> Any:
  """Returns function(*args), called in a new process with the usual allocator.

  Another library is measured so, since threads of two libraries in one process slow
  each other down, and since its users do not have the allocator's settings of `cli`.
  """
  tunables = os.environ.pop('GLIBC_TUNABLES', None)
  try:
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, context, end_with_parent) as pool:
      return pool.submit(function, *args).result()
  finally:
    if tunables is not None:
      os.environ['GLIBC_TUNABLES'] = tunables
