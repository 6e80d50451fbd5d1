"""`seqlab bench --against`: this project and other libraries at the same work.

Every contender gets the same batches, sizes and parameters, or the same sentences and
weights, in files. It has a process of its own, and waits while another one works.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import itertools
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax

from seqlab.bench import own
from seqlab.bench.libraries import Installed, Variant, find_libraries
from seqlab.bench.measure import Subject
from seqlab.bench.record import Result, check_sections, report
from seqlab.bench.train import group_by_shape
from seqlab.bench.turns import TURNS, take_turns
from seqlab.bench.worker import Worker
from seqlab.config import with_defaults
from seqlab.decoding.config import Beam
from seqlab.experiment import load_experiment
from seqlab.export.ctranslate2 import check_model
from seqlab.io.files import check_output
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.models.transformer import Transformer
from seqlab.tasks import task_of
from seqlab.tasks.interface import Task
from seqlab.text.vocabulary import content_of
from seqlab.train.checks import check_experiment
from seqlab.types import Batch, Variables
from seqlab.use.runs import load_run

_BATCHES = 4
_POSITIONS = 1_024
_OWN = 'seqlab.bench.own'
_LOSS_NOTE = (
  'Loss: of the first step, with dropout. That of JoeyNMT is a divergence from the '
  'smoothed labels, and thus smaller by their entropy.'
)
_LINES = 500
_FORCED_LENGTH = 16
_BEAMS = (1, 5)
_OWN_TRAINING = tuple(
  Variant(f'seqlab {dtype}', f'{_OWN}:Training', {'dtype': dtype}, keeps_memory=True)
  for dtype in ('float32', 'bfloat16')
)
_OWN_DECODING = (Variant('seqlab', f'{_OWN}:Decoding', keeps_memory=True),)
PARTS = ('training', 'decoding')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared, and the files that contenders get.

  Attributes:
    subject: the experiment.
    overrides: options that replace some of the experiment's.
    libraries: name -> library.
    folder: an empty folder for the files.
    turns: quiet turns per contender.
    run: a trained run to decode with; None decodes with the initial parameters.
  """

  subject: Subject
  overrides: Sequence[str]
  libraries: Mapping[str, Installed]
  folder: Path
  turns: int
  run: str | None

  @functools.cached_property
  def parameters(self) -> Path:
    """File of the initial parameters, and of the table of positions."""
    variables = self.subject.training_step(steps=1).variables
    return self.save(variables, self.subject.task, 'initial')

  def save(self, variables: Variables, task: Task, name: str) -> Path:
    """Writes parameters and positions; returns the path of the file."""
    path = self.folder / f'{name}.npz'
    table = sinusoidal(jax.numpy.arange(_POSITIONS), task.model.width)
    own.save_variables(path, variables, positions=table)
    return path

  @property
  def job(self) -> dict[str, Any]:
    """What every contender gets."""
    return {
      'experiment': self.subject.experiment,
      'overrides': list(self.overrides),
      'vocabulary': str(self.folder / 'vocabulary'),
    }

  def measure(
    self,
    part: str,
    unit: str,
    setting: str,
    entries: Sequence['Entry'],
    conclude: Callable[[Mapping[str, Worker]], list[str]],
  ) -> Result:
    """Returns the turns of contenders, which are started here and ended."""
    with _started(self.folder, entries) as workers:
      started = time.perf_counter()
      turns = take_turns(workers, self.turns)
      rounds, seconds = (
        len(turns[entries[0].variant.name]),
        time.perf_counter() - started,
      )
      print(f'{rounds} rounds took {seconds:.0f} s', flush=True)
      facts = {name: worker.facts for name, worker in workers.items()}
      notes = conclude(workers)
    return Result(part, unit, setting, turns, facts, notes)


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
  run: str | None = None,
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
    run: folder of a run of the experiment's task to decode with; None decodes with
      initial parameters, and forces the length of outputs.
    turns: number of turns without disturbance that every contender gets.
    table: path of a Markdown file into which the tables are written.

  Raises:
    ValueError: the experiment is wrong or not a Transformer that others have, or a
      library is missing, or a section of the table has no end marker.
  """
  if only is not None and only not in PARTS:
    raise ValueError(f'--against has no part {only!r} (it has: {", ".join(PARTS)})')
  check_output(output)
  if table is not None:
    check_sections(table, experiment, overrides)
  libraries = find_libraries(against)
  config = with_defaults(load_experiment(experiment, overrides))
  check_experiment(config)
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    task = task_of(config).from_config(config, folder / 'vocabulary')
    _check_model(getattr(task, 'model', None), libraries)
    subject = Subject(experiment, config, task)
    comparison = Comparison(subject, overrides, libraries, folder, turns, run)
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
    'parameters': str(comparison.parameters),
    'sizes': sizes_of(subject.task.model),
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
  yield comparison.measure(
    'training', 'target tokens/s', setting, entries, lambda workers: [_LOSS_NOTE]
  )


def sizes_of(model: Transformer) -> dict[str, Any]:
  """Returns the sizes of a model, for libraries that build one of the same sizes."""
  return {
    'V': model.target_size,
    'source_V': model.source_size,
    'unordered': model.unordered,
    'tie': model.tie,
    'width': model.width,
    'mlp_width': model.mlp_width,
    'heads': model.heads,
    'layers': model.layers,
    'decoder_layers': model.decoder_layers or model.layers,
  }


def _own_entry(variant: Variant, job: Mapping[str, Any]) -> Entry:
  dtype = f'--config.model.dtype={variant.options["dtype"]}'
  job = {**job, 'overrides': [*job['overrides'], dtype]}
  return Entry(variant, sys.executable, job)


def _measure_decoding(comparison: Comparison) -> Iterator[Result]:
  task, parameters = comparison.subject.task, comparison.parameters
  if comparison.run:
    loaded = load_run(comparison.run)
    task = loaded.task
    _check_model(task.model, comparison.libraries)
    parameters = comparison.save(loaded.variables, task, 'run')
  split = _test_split(task)
  lines = _spread(task.corpus.read(split)[0], _LINES)
  sentences = _encode(task, lines)
  forced = None if comparison.run else _FORCED_LENGTH
  job = {
    **comparison.job,
    'run': comparison.run,
    'parameters': str(parameters),
    'sizes': sizes_of(task.model),
    'source_tokens': task.vocabularies.source.pieces(),
    'target_tokens': task.vocabularies.target.pieces(),
    'forced_length': forced,
    'max_length': Beam().limit(max(map(len, sentences)) + 1),
  }
  weights = f'weights of {comparison.run}' if comparison.run else 'untrained weights'
  length = f'{forced} tokens each' if forced else 'outputs to their end'
  for beam in _BEAMS:
    entries = [
      Entry(
        variant,
        python,
        {
          **job,
          **variant.options,
          'beam': beam,
          'lines': lines[:: variant.stride],
          'sentences': sentences[:: variant.stride],
        },
      )
      for variant, python in _decoders(comparison)
    ]
    setting = f'beam {beam}, {len(lines)} sentences of {split}, {weights}, {length}'
    yield comparison.measure(
      f'decoding, beam {beam}',
      'sentences/s',
      setting,
      entries,
      _compare_outputs if comparison.run else lambda workers: [],
    )


def _decoders(comparison: Comparison) -> Iterator[tuple[Variant, str]]:
  for variant in _OWN_DECODING:
    yield variant, sys.executable
  for installed in comparison.libraries.values():
    for variant in installed.library.decoding:
      if variant.trained or not comparison.run:
        yield variant, installed.python


def _compare_outputs(workers: Mapping[str, Worker]) -> list[str]:
  """Returns how many outputs are equal to those of this project."""
  (own_name, own_worker), *others = workers.items()
  expected = own_worker.outputs()
  notes = []
  for name, worker in others:
    equal = sum(a == b for a, b in zip(expected, worker.outputs(), strict=True))
    notes.append(
      f'{name}: {equal} of {len(expected)} outputs equal those of {own_name}.'
    )
  return notes


def _test_split(task: Task) -> str:
  """Returns the first split for tests, or else the last split."""
  splits = list(task.corpus.splits)
  return next((x for x in splits if x.startswith('test')), splits[-1])


def _spread(lines: Sequence[str], count: int) -> list[str]:
  """Returns so many lines, or all if there are fewer, at equal distances."""
  return list(lines[:: max(1, len(lines) // count)])[:count]


def _encode(task: Task, lines: Sequence[str]) -> list[list[int]]:
  """Returns the ids of sentences, without EOS."""
  flat, offsets = task.vocabularies.source.encode(lines)
  sentences = [content_of(flat[a:b]) for a, b in itertools.pairwise(offsets)]
  return [x[::-1] for x in sentences] if task.reverse_source else sentences


_MEASURES = {'training': _measure_training, 'decoding': _measure_decoding}


def choose_batches(subject: Subject) -> list[Batch]:
  """Returns some batches of the shape that has most of an epoch's tokens.

  Raises:
    ValueError: several sentences share a row, which other libraries do not compute.
  """
  shapes = group_by_shape(subject)
  if set(shapes[0].example) != {'source', 'target'}:
    raise ValueError(
      'other libraries train on batches with one sentence per row: set '
      "batching.kind='buckets'"
    )
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
  """Starts contenders, waits until each is ready, and ends them."""
  workers: dict[str, Worker] = {}
  with contextlib.ExitStack() as stack:
    for variant, python, job in entries:
      started = time.perf_counter()
      kept = os.environ.get('GLIBC_TUNABLES') if variant.keeps_memory else None
      worker = Worker(
        variant.name,
        {**job, 'contender': variant.contender},
        folder=Path(tempfile.mkdtemp(dir=folder)),
        python=python,
        tunables=kept,
      )
      stack.callback(worker.close)
      # One after another: threads of several libraries that wait actively for the same
      # cores would take many times as long together.
      worker.wait()
      print(
        f'{variant.name}: ready in {time.perf_counter() - started:.0f} s', flush=True
      )
      workers[variant.name] = worker
    yield workers


def _check_model(model: Any, libraries: Mapping[str, Installed]) -> None:
  """Raises ValueError for a model that one of the other libraries does not have."""
  if not isinstance(model, Transformer):
    raise ValueError('--against needs an experiment with model.kind="transformer"')
  check_model(model)
  if model.tie == 'decoder':
    raise ValueError(
      "model.tie is 'decoder', which no baseline has: set model.tie='all', or 'none'"
    )
  one_table = model.tie == 'all' and not model.unordered
  for name, installed in libraries.items():
    if not one_table and not installed.library.separate_tables:
      raise ValueError(
        f"the model of {name} has one table for both sides (model.tie='all') and no "
        'features without an order: leave it out of --against, or change the experiment'
      )


def _check_dropout(hyper: Mapping[str, Any]) -> None:
  for name in ('attention_dropout', 'activation_dropout'):
    if hyper.get(name):
      raise ValueError(
        f'--against trains with dropout of residuals only: set hyper.{name} to None'
      )
