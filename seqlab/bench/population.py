"""A population of runs, compared with the same runs one after another."""

from collections.abc import Callable
import time

import jax

from seqlab.bench.measure import Row, Subject, best_in_turns
from seqlab.data.loader import feed
from seqlab.tasks.interface import CustomUpdate, Estimator, has
from seqlab.train.definition import Definition
from seqlab.train.engine_population import PopulationEngine
from seqlab.types import Batch

_MEMBERS = 8
_MAX_STEPS = 20
_TRIES = 3


def fits_population(subject: Subject) -> bool:
  """Returns whether members can share a step: seeds must have batches of one shape."""
  trains = not (has(subject.task, CustomUpdate) or has(subject.task, Estimator))
  return trains and len(subject.batches.shapes) == 1


def measure_population(subject: Subject) -> list[Row]:
  """Returns trials per hour, both ways: batches made, put on the devices, trained on.

  In one process, compiled before; without evaluations and checkpoints, which cost as
  much either way.
  """
  total = subject.total_steps
  steps = min(total, _MAX_STEPS)
  train_serially = _make_serial_training(subject, steps)
  train_together = _make_population_training(subject, steps)
  train_serially()  # the first call also starts threads and allocates
  train_together()
  serial, together = best_in_turns(train_serially, train_together, tries=_TRIES)
  hours = total / steps / 3_600  # of a whole trial, per second of these few steps
  note = f'{_MEMBERS} trials of {total:,} steps, by {steps}; best of {_TRIES}; '
  note += 'no evaluation'
  name = f'population of {_MEMBERS}'
  return [
    Row('one after another', _MEMBERS / (serial * hours), 'trials/h', note),
    Row(name, _MEMBERS / (together * hours), 'trials/h', note),
    Row(name, serial / together, 'times one after another', note),
  ]


def _make_serial_training(subject: Subject, steps: int) -> Callable[[], float]:
  """Returns a function that trains the members one by one and returns the seconds."""
  batches, step = subject.batches, subject.training_step()
  step.compile(batches.shapes[0])

  def train() -> float:
    seconds = 0.0
    for seed in range(_MEMBERS):
      step.restart(seed)
      started = time.perf_counter()
      step.run(lambda k, seed=seed: batches.batch(k, seed=seed), steps)
      seconds += time.perf_counter() - started
    return seconds

  return train


def _make_population_training(subject: Subject, steps: int) -> Callable[[], float]:
  """Returns a function that trains all members at once and returns the seconds."""
  definition = Definition(subject.config, subject.task, subject.total_steps)
  engine = PopulationEngine(definition, [subject.config['hyper']] * _MEMBERS)
  engine.compile(subject.batches.shapes[0])

  def make_batches(k: int) -> list[Batch]:
    return [subject.batches.batch(k, seed=seed) for seed in range(_MEMBERS)]

  def train() -> float:
    state = engine.init(*range(_MEMBERS))
    started = time.perf_counter()
    for batches in feed(make_batches, 0, steps):
      state, _ = engine.step(state, engine.put(*batches))
    jax.block_until_ready(state)
    return time.perf_counter() - started

  return train
