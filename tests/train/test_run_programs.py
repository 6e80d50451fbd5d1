"""A run that trains while its programs are compiled."""

import sys
import time
from types import ModuleType

import pytest

from seqlab.evaluators import interface
from seqlab.train.engine_jit import JitEngine
from seqlab.train.loop import train
from seqlab.train.writer import read_metrics


def _rows(folder):
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(folder / 'metrics.jsonl')
  ]


@pytest.fixture(scope='module')
def two_shapes(tiny):
  """An experiment of two programs."""
  changes = {'evals': {}, 'keep_best': None, 'save_every': 12}
  return tiny | {'batching': tiny['batching'] | {'shapes': 2}} | changes


@pytest.fixture(scope='module')
def two_shapes_run(two_shapes, tmp_path_factory):
  """The folder of a run of `two_shapes`."""
  folder = tmp_path_factory.mktemp('two_shapes')
  train(two_shapes, folder)
  return folder


@pytest.fixture
def slow_compiler(monkeypatch):
  """Delays every compilation of a step; returns the list of their shapes."""
  compile_, shapes = JitEngine.compile, []

  def wait_and_compile(self, batch):
    shapes.append(batch['target'].shape)
    time.sleep(0.1)
    return compile_(self, batch)

  monkeypatch.setattr(JitEngine, 'compile', wait_and_compile)
  return shapes


def test_a_run_that_waits_for_its_programs_has_the_same_losses(
  two_shapes, two_shapes_run, tmp_path, slow_compiler, capsys
):
  train(two_shapes, tmp_path)
  losses = [row['loss'] for row in _rows(tmp_path)]
  assert losses == [row['loss'] for row in _rows(two_shapes_run)]
  assert {row['compiles'] for row in _rows(tmp_path)} == {0}
  assert len(slow_compiler) == len(set(slow_compiler)) == 2
  shown = capsys.readouterr().out
  assert 'compiling shape 1 of 2' in shown
  assert 'compiled 2 shapes in' in shown


def test_rows_tell_how_many_programs_were_being_compiled(two_shapes_run):
  rows = read_metrics(two_shapes_run / 'metrics.jsonl')
  waiting = [row['speed/compiling'] for row in rows]
  assert waiting == sorted(waiting, reverse=True)


def test_a_program_that_cannot_be_compiled_ends_the_run(
  two_shapes, tmp_path, monkeypatch
):
  compile_, shapes = JitEngine.compile, []

  def fail_at_the_second(self, batch):
    shapes.append(batch)
    if len(shapes) == 2:
      raise ValueError('the second shape does not fit')
    return compile_(self, batch)

  monkeypatch.setattr(JitEngine, 'compile', fail_at_the_second)
  with pytest.raises(ValueError, match='the second shape does not fit'):
    train(two_shapes, tmp_path)


class Ahead(interface.Evaluator):
  """Notes what it gets; `compile` takes shapes."""

  compiles_ahead = True
  metrics = ('value',)
  calls: list = []  # noqa: RUF012

  def compile(self, variables):
    self.calls.append(('compile', type(variables['params']['x']).__name__))

  def run(self, variables):
    self.calls.append(('run', variables['params']['x'].shape))
    yield 'value', 1.0


class WhenDue(Ahead):
  """Needs arrays to compile."""

  compiles_ahead = False
  calls: list = []  # noqa: RUF012


class Failing(Ahead):
  def compile(self, variables):
    raise ValueError('this evaluator cannot be compiled')


class FailingWhenDue(Failing):
  compiles_ahead = False


@pytest.fixture(scope='module')
def evaluators():
  module = ModuleType('seqlab_test_evaluators')
  sys.modules[module.__name__] = module
  kinds = (Ahead, WhenDue, Failing, FailingWhenDue)
  for kind in kinds:
    setattr(module, kind.__name__, kind)
  return {
    kind.__name__: {'kind': f'{module.__name__}:{kind.__name__}', 'every': 4}
    for kind in kinds
  }


def test_evaluators_are_compiled_once_from_shapes_or_when_due(
  point, evaluators, tmp_path
):
  kinds = {'a': evaluators['Ahead'], 'b': evaluators['WhenDue']}
  train(point | {'evals': kinds}, tmp_path)
  runs = [('run', (3,))] * 3
  assert Ahead.calls == [('compile', 'ShapeDtypeStruct'), *runs]
  assert WhenDue.calls == [('compile', 'ArrayImpl'), *runs]


@pytest.mark.parametrize('name', ['Failing', 'FailingWhenDue'])
def test_an_evaluator_that_cannot_be_compiled_costs_no_steps(
  point, point_run, evaluators, tmp_path, capsys, name
):
  config = point | {'evals': {'a': evaluators[name]}, 'save_every': 12}
  with pytest.raises(ValueError, match='this evaluator cannot be compiled'):
    train(config, tmp_path)
  steps = len(_rows(tmp_path))
  assert f'the checkpoint of step {steps:,} is saved' in capsys.readouterr().out
  assert [int(path.name) for path in (tmp_path / 'checkpoints').iterdir()] == [steps]
  train(config | {'evals': {}}, tmp_path, force=True)
  losses = [row['loss'] for row in _rows(tmp_path)]
  assert losses == [row['loss'] for row in _rows(point_run)]
