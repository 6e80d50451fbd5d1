"""`seqlab bench`: which parts an experiment has, and rows for a task of one's own."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.bench.layers import measure_layers, processor
from seqlab.bench.measure import best_in_turns, measure_speed
from seqlab.bench.run import run_bench
from seqlab.bench.start import _seconds_until
from seqlab.tasks.interface import Loss, Task

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task = 'tests.test_bench:Regression'
  c.seed, c.steps = 0, 4
  c.hyper = dict(peak=0.1)
  c.schedule = dict(kind='constant', warmup=0)
  c.mesh = dict(data=1, devices=1)
  c.evals = {}
  return c
"""


class Regression(Task):
  """Fits a straight line to points, as a user would write it."""

  steps_per_epoch = 3
  shapes = ({'x': np.zeros(8, np.float32), 'y': np.zeros(8, np.float32)},)

  def batches(self, split, **options):
    return self

  def batch(self, k, *, seed, rows=(0, 1)):
    x = np.random.default_rng((seed, k)).normal(size=8).astype(np.float32)
    return {'x': x, 'y': 2 * x + 1}

  def init(self, rng):
    return {'params': {'slope': jnp.zeros(()), 'bias': jnp.zeros(())}}

  def loss(self, variables, batch, rng, hyper):
    line = variables['params']['slope'] * batch['x'] + variables['params']['bias']
    return Loss(jnp.sum((line - batch['y']) ** 2), len(batch['x']))


@pytest.fixture
def experiment(tmp_path):
  path = tmp_path / 'line.py'
  path.write_text(EXPERIMENT, 'utf-8')
  return str(path)


@pytest.mark.parametrize(
  ('part', 'units'),
  [
    ('feed', {'batches/s', 'tokens/s'}),
    ('train', {'tokens/s', 'model GFLOP/s', 's', '% of peak'}),
    ('population', {'trials/h', 'times one after another'}),
  ],
)
def test_a_task_without_model_and_vocabulary_is_measured(
  experiment, tmp_path, part, units
):
  output = tmp_path / 'bench.json'
  rows = run_bench(experiment, output=str(output), only=part)
  assert {row.unit for row in rows} == units
  assert all(row.value > 0 for row in rows)
  written = json.loads(output.read_text('utf-8'))['rows']
  assert written == [row._asdict() for row in rows]


def test_a_regression_has_no_parts_that_translate(experiment, tmp_path):
  offered = r'\(it has: start, feed, train, population\)'
  with pytest.raises(ValueError, match=rf"no part 'bleu' {offered}"):
    run_bench(experiment, output=str(tmp_path / 'bench.json'), only='bleu')


def test_a_command_without_a_line_of_results_is_an_error_with_its_output():
  with pytest.raises(RuntimeError, match=r'(?s)echo hello failed.*hello'):
    _seconds_until('first step', ['echo', 'hello'], {})
  assert _seconds_until('hello', ['echo', 'hello'], {}) > 0


def test_the_shortest_times_and_the_highest_speeds_are_reported():
  seconds = iter([3.0, 5.0, 2.0, 6.0])
  assert best_in_turns(lambda: next(seconds), lambda: next(seconds), tries=2) == [2, 5]
  assert measure_speed(lambda: 10).wall > 0


def test_layers_are_timed_by_length():
  rows = measure_layers(None, D=8, lengths=(4,))
  assert [row.name for row in rows] == ['layer, 4 positions'] * 3
  assert all(row.value > 0 and row.unit == 'ms' for row in rows)
  assert rows[0].note.startswith('GRU, D = 8, 1024 x 4, ')
  assert rows[0].note.endswith(processor())
  assert processor()
