"""`seqlab bench --against`: this project and other libraries at the same work.

Every contender gets the same batches, sizes and parameters, or the same sentences and
weights, in files. It has a process of its own, and waits while another one works.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import os
from pathlib import Path
import sys
import tempfile
from typing import Any, NamedTuple

import jax

from seqlab.bench import own
from seqlab.bench.libraries import Installed, Variant, find_libraries
from seqlab.bench.measure import Subject
from seqlab.bench.record import Result, report
from seqlab.bench.train import group_by_shape
from seqlab.bench.turns import TURNS, take_turns
from seqlab.bench.worker import Worker
from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.io.files import check_output
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.models.transformer import Transformer
from seqlab.tasks import task_of
from seqlab.train.checks import check_experiment
from seqlab.types import Batch

_BATCHES = 4
_POSITIONS = 1_024
_OWN = 'seqlab.bench.own'
# Options of the model that the baselines are written for.
_MODEL = dict(
  positions='sinusoidal',
  window=None,
  causal=True,
  normalization='layer',
  decoder_normalization=None,
  norm='pre',
  activation='relu',
  tie='all',
)
_OWN_TRAINING = tuple(
  Variant(f'seqlab {dtype}', f'{_OWN}:Training', {'dtype': dtype}, keeps_memory=True)
  for dtype in ('float32', 'bfloat16')
)
PARTS = ('training',)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared, and the files that contenders get.

  Attributes:
    subject: the experiment.
    overrides: options that replace some of the experiment's.
    libraries: name -> library.
    folder: an empty folder for the files.
    turns: quiet turns per contender.
  """

  subject: Subject
  overrides: Sequence[str]
  libraries: Mapping[str, Installed]
  folder: Path
  turns: int

  @property
  def sizes(self) -> dict[str, int]:
    """Sizes of the model, for libraries that build one of the same sizes."""
    model = self.subject.task.model
    return {
      'V': model.target_size,
      'width': model.width,
      'mlp_width': model.mlp_width,
      'heads': model.heads,
      'layers': model.layers,
      'decoder_layers': model.decoder_layers or model.layers,
    }

  @functools.cached_property
  def parameters(self) -> Path:
    """File of the initial parameters, and of the table of positions."""
    path = self.folder / 'parameters.npz'
    variables = self.subject.training_step(steps=1).variables
    table = sinusoidal(jax.numpy.arange(_POSITIONS), self.subject.task.model.width)
    own.save_variables(path, variables, positions=table)
    return path

  @property
  def job(self) -> dict[str, Any]:
    """What every contender gets."""
    return {
      'experiment': self.subject.experiment,
      'overrides': list(self.overrides),
      'vocabulary': str(self.folder / 'vocabulary'),
      'parameters': str(self.parameters),
      'sizes': self.sizes,
    }

  def measure(
    self, part: str, unit: str, setting: str, entries: Sequence['Entry']
  ) -> Result:
    """Returns the turns of contenders, which are started here and ended."""
    with _started(self.folder, entries) as workers:
      turns = take_turns(workers, self.turns)
      facts = {name: worker.facts for name, worker in workers.items()}
    return Result(part, unit, setting, turns, facts)


class Entry(NamedTuple):
  """A contender that is to be started.

  Attributes:
    variant: the way to use a library.
    python: interpreter that has the library.
    job: what it gets.
  """

  variant: Variant
  python: str
  job: Mapping[str, Any]


def compare(
  experiment: str,
  overrides: Sequence[str] = (),
  *,
  against: Sequence[str],
  output: str,
  only: str | None = None,
  turns: int = TURNS,
  table: str | None = None,
) -> list[Result]:
  """Measures an experiment and the same work in other libraries, in turns.

  Args:
    experiment: path of its file, and arguments for it, as on the command line.
    overrides: options such as '--config.batching.tokens=1024'.
    against: names of libraries, see `libraries.find_libraries`.
    output: path of the JSON file to write.
    only: one of `PARTS`; None measures all.
    turns: number of turns without disturbance that every contender gets.
    table: path of a Markdown file into which the tables are written.

  Raises:
    ValueError: the experiment is wrong or not a Transformer that others have, or a
      library is missing.
  """
  if only is not None and only not in PARTS:
    raise ValueError(f'--against has no part {only!r} (it has: {", ".join(PARTS)})')
  check_output(output)
  libraries = find_libraries(against)
  config = with_defaults(load_experiment(experiment, overrides))
  check_experiment(config)
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    task = task_of(config).from_config(config, folder / 'vocabulary')
    _check_model(getattr(task, 'model', None))
    subject = Subject(experiment, config, task)
    comparison = Comparison(subject, overrides, libraries, folder, turns)
    results = [
      result
      for part in PARTS
      if only in (None, part)
      for result in _MEASURES[part](comparison)
    ]
  report(results, experiment, overrides, output, table)
  return results


def _measure_training(comparison: Comparison) -> Iterator[Result]:
  subject, config = comparison.subject, comparison.subject.config
  batches = choose_batches(subject)
  path = comparison.folder / 'batches.npz'
  own.save_batches(path, batches)
  hyper = config['hyper']
  _check_dropout(hyper)
  job = {
    **comparison.job,
    'batches': str(path),
    'steps': subject.total_steps,
    'dropout': hyper.get('dropout') or 0.0,
    'label_smoothing': hyper.get('label_smoothing') or 0.0,
    'clip': config['optimizer'].get('clip') or 0.0,
  }
  entries = [_own_entry(variant, job) for variant in _OWN_TRAINING]
  entries += [
    Entry(variant, installed.python, {**job, **variant.options})
    for installed in comparison.libraries.values()
    for variant in installed.library.training
  ]
  (B, S), T = batches[0]['source'].shape, batches[0]['target'].shape[1]
  tokens = sum(subject.task.tokens(x) for x in batches) / len(batches)
  setting = f'batches of {B} x ({S}, {T}) positions with {tokens:,.0f} target tokens'
  yield comparison.measure('training', 'target tokens/s', setting, entries)


def _own_entry(variant: Variant, job: Mapping[str, Any]) -> Entry:
  dtype = f'--config.model.dtype={variant.options["dtype"]}'
  job = {**job, 'overrides': [*job['overrides'], dtype]}
  return Entry(variant, sys.executable, job)


_MEASURES = {'training': _measure_training}


def choose_batches(subject: Subject) -> list[Batch]:
  """Returns some batches of the shape that has most of an epoch's tokens."""
  shapes = group_by_shape(subject)
  shape = max(shapes, key=lambda group: group.tokens)
  wanted = shape.example['source'].shape, shape.example['target'].shape
  chosen: list[Batch] = []
  for k in range(subject.batches.steps_per_epoch):
    batch = subject.batches.batch(k, seed=0)
    if (batch['source'].shape, batch['target'].shape) == wanted:
      chosen.append(batch)
    if len(chosen) == _BATCHES:
      break
  return chosen


@contextlib.contextmanager
def _started(folder: Path, entries: Sequence[Entry]) -> Iterator[dict[str, Worker]]:
  """Starts contenders at once, waits until all are ready, and ends them."""
  workers: dict[str, Worker] = {}
  with contextlib.ExitStack() as stack:
    for variant, python, job in entries:
      kept = os.environ.get('GLIBC_TUNABLES') if variant.keeps_memory else None
      worker = Worker(
        variant.name,
        {**job, 'contender': variant.contender},
        folder=Path(tempfile.mkdtemp(dir=folder)),
        python=python,
        tunables=kept,
      )
      stack.callback(worker.close)
      workers[variant.name] = worker
    for worker in workers.values():
      worker.wait()
    yield workers


def _check_model(model: Any) -> None:
  """Raises ValueError for a model that the other libraries do not have."""
  if not isinstance(model, Transformer):
    raise ValueError('--against needs an experiment with model.kind="transformer"')
  for name, expected in _MODEL.items():
    if getattr(model, name) != expected:
      raise ValueError(
        f'--against needs model.{name}={expected!r}, which the other libraries have, '
        f'and this experiment has {getattr(model, name)!r}'
      )


def _check_dropout(hyper: Mapping[str, Any]) -> None:
  for name in ('attention_dropout', 'activation_dropout'):
    if hyper.get(name):
      raise ValueError(
        f'--against trains with dropout of residuals only: set hyper.{name} to None'
      )
