"""This project's own training and decoding as contenders; see `baselines.serve`."""

from collections.abc import Mapping
import dataclasses
import itertools
from pathlib import Path
import time
from typing import Any

import flax
import jax
import numpy as np

from seqlab.bench.measure import TrainingStep
from seqlab.decoding.config import Beam
from seqlab.experiment import load_experiment
from seqlab.layers.device import cpu_threads
from seqlab.tasks import task_of
from seqlab.tasks.interface import Task
from seqlab.tasks.translator import Translator
from seqlab.text.vocabulary import content_of
from seqlab.train.runtime import prepare
from seqlab.types import Batch, Variables
from seqlab.use.runs import open_run


class Training:
  """Steps of an experiment on the batches that all contenders get."""

  def __init__(self, job: dict[str, Any]):
    """Compiles the step, and takes the first one.

    Args:
      job: `experiment`, `overrides` and `vocabulary`, from which the task is made,
        `batches` and `steps`; see `against`.
    """
    config = load_experiment(job['experiment'], job['overrides'])
    prepare(config.get('threads'))
    task = make_task(job, config)
    self._step = TrainingStep(config, task, job['steps'])
    batches = load_batches(job['batches'])
    started = time.perf_counter()
    self._step.compile(batches[0])
    self._batches = itertools.cycle(
      [(self._step.put(batch), task.tokens(batch)) for batch in batches]
    )
    self._first_loss = self._step.update(next(self._batches)[0])['loss']
    self._first_seconds = time.perf_counter() - started

  def facts(self) -> dict[str, Any]:
    """Returns what the record says about this contender."""
    return {
      **_facts(),
      'parameters': num_parameters(self._step.variables),
      'first_loss': self._first_loss,
      'first_step_seconds': self._first_seconds,
    }

  def step(self) -> int:
    """Takes one step; returns the number of target tokens."""
    batch, tokens = next(self._batches)
    self._step.update(batch)
    return tokens


class Decoding:
  """Beam search over the sentences that all contenders get."""

  def __init__(self, job: dict[str, Any]):
    """Compiles the search.

    Args:
      job: `run`, or else `experiment`, `overrides` and `vocabulary`, from which the
        task is made; `parameters`, `lines`, `beam`, and `forced_length` or None.
    """
    config = load_experiment(job['experiment'], job['overrides'])
    prepare(config.get('threads'))
    task = make_task(job, config)
    self._lines = job['lines']
    # No penalty of length, since libraries define it in different ways.
    search = Beam(beam=job['beam'], alpha=0.0)
    if job['forced_length']:  # which untrained weights always reach
      search = dataclasses.replace(search, length=(0, job['forced_length']))
    self._variables = load_variables(job['parameters'])
    self._translator = Translator(
      task.model,
      self._variables,
      task.vocabularies,
      search,
      reverse_source=task.reverse_source,
    )
    self.step()

  def facts(self) -> dict[str, Any]:
    """Returns what the record says about this contender."""
    return {**_facts(), 'parameters': num_parameters(self._variables)}

  def step(self) -> int:
    """Decodes all sentences; returns their number."""
    self._translator.best_ids(self._lines)
    return len(self._lines)

  def outputs(self) -> list[list[int]]:
    """Returns the ids of the best output of each sentence, without EOS and padding."""
    return [content_of(ids) for ids in self._translator.best_ids(self._lines)]


def make_task(job: Mapping[str, Any], config: Mapping) -> Task:
  """Returns the task of a run, or of an experiment with its vocabulary."""
  if job.get('run'):
    return open_run(job['run'])[1]
  return task_of(config).restore(config, Path(job['vocabulary']))


def save_variables(path: Path, variables: Variables, **others: np.ndarray) -> None:
  """Writes variables as arrays 'params/encoder/...' of one file, with other arrays."""
  flat = flax.traverse_util.flatten_dict(jax.device_get(variables), sep='/')
  np.savez(path, **flat, **others)


def load_variables(path: str) -> Variables:
  """Returns the variables that `save_variables` wrote, on the devices."""
  with np.load(path) as file:
    flat = {name: file[name] for name in file.files if '/' in name}
  return jax.device_put(flax.traverse_util.unflatten_dict(flat, sep='/'))


def load_batches(path: str) -> list[Batch]:
  """Returns the batches of a file that `save_batches` wrote."""
  with np.load(path) as file:
    return [
      {side: file[f'{side}_{i}'] for side in ('source', 'target')}
      for i in range(len(file.files) // 2)
    ]


def save_batches(path: Path, batches: list[Batch]) -> None:
  """Writes batches as arrays source_0, target_0, source_1, ..."""
  np.savez(
    path, **{f'{side}_{i}': x for i, b in enumerate(batches) for side, x in b.items()}
  )


def num_parameters(variables: Variables) -> int:
  """Returns the number of parameters."""
  return sum(x.size for x in jax.tree.leaves(variables['params']))


def _facts() -> dict[str, Any]:
  return {
    'versions': {'jax': jax.__version__},
    'threads': cpu_threads(),
  }
