"""`seqlab bench --only population`: a population beside its runs one after another."""

from collections.abc import Callable
import time

import jax

from seqlab.bench import Row, all_steps, row
from seqlab.data.loader import feed
from seqlab.tasks.translation import Translation
from seqlab.train.definition import Definition
from seqlab.train.engine_population import PopulationEngine
from seqlab.train.engines import make_engine
from seqlab.types import Batch

N = 8  # members
_STEPS = 20  # that are measured, at most
_TRIES = 3


def parts(config: dict, task: Translation) -> dict[str, Callable[[], list[Row]]]:
  """What can be measured; nothing where seeds have batches of different shapes."""
  if len(task.batches('train').shapes) > 1:
    return {}
  return {'population': lambda: _population(config, task)}


def _population(config: dict, task: Translation) -> list[Row]:
  """Trials an hour, both ways: batches made, put on the devices, gone through.

  In one process, compiled before; without evaluations and checkpoints, which cost as
  much either way.
  """
  total = all_steps(config, task)
  steps = min(total, _STEPS)
  apart = _apart(config, task, total, steps)
  together = _together(config, task, total, steps)
  apart()  # starts what is started once
  together()
  seconds = [(apart(), together()) for _ in range(_TRIES)]  # in turns, for fairness
  alone, population = (min(tries) for tries in zip(*seconds, strict=True))
  hours = total / steps / 3_600  # of one of these, were it a trial of all steps
  note = f'{N} trials of {total:,} steps, by {steps}; best of {_TRIES}; no evaluation'
  return [
    row('one after another', N / (alone * hours), 'trials/h', note),
    row(f'population of {N}', N / (population * hours), 'trials/h', note),
    row(f'population of {N}', alone / population, 'times one after another', note),
  ]


def _apart(
  config: dict, task: Translation, total: int, steps: int
) -> Callable[[], float]:
  """Seconds of N runs, one after another."""
  data = task.batches('train')
  engine = make_engine(config, task, total)
  engine.compile(data.shapes[0])

  def run() -> float:
    seconds = 0.0
    for seed in range(N):
      state = engine.init(seed)
      started = time.perf_counter()
      for batch in feed(lambda k, s=seed: data.batch(k, seed=s), 0, steps):
        state, _ = engine.step(state, engine.put(batch))
      jax.block_until_ready(state)
      seconds += time.perf_counter() - started
    return seconds

  return run


def _together(
  config: dict, task: Translation, total: int, steps: int
) -> Callable[[], float]:
  """Seconds of a population of the same runs."""
  data = task.batches('train')
  definition = Definition(config, task, total)
  engine = PopulationEngine(definition, [config['hyper']] * N)
  engine.compile(data.shapes[0])

  def batches(k: int) -> list[Batch]:
    return [data.batch(k, seed=seed) for seed in range(N)]

  def run() -> float:
    state = engine.init(*range(N))
    started = time.perf_counter()
    for batch in feed(batches, 0, steps):
      state, _ = engine.step(state, engine.put(*batch))
    jax.block_until_ready(state)
    return time.perf_counter() - started

  return run
