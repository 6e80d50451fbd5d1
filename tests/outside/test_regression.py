"""A task of 15 lines in a user's own file, with every verb."""

import json
import re

import numpy as np
import pytest

from seqlab.use.runs import load_run

TASK = """
import jax.numpy as jnp, numpy as np
from seqlab.data.arrays import ArrayBatches
from seqlab.tasks.interface import Loss, Task

class Regression(Task):
  def batches(self, split, **options):
    x = np.random.default_rng(len(split)).normal(size=(64, 3)).astype('float32')
    return ArrayBatches({'x': x, 'y': x @ np.float32([1, -2, 3])}, rows=16, **options)

  def init(self, rng):
    return {'params': {'w': jnp.zeros(3)}}

  def loss(self, variables, batch, rng, hyper):
    error = batch['x'] @ variables['params']['w'] - batch['y']
    return Loss(jnp.sum(error**2), len(error))
"""

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  return ml_collections.ConfigDict(dict(
    task='mine:Regression', seed=0, steps='10 epochs', hyper=dict(peak=0.3),
    mesh=dict(data=1, devices=1)))

def sweep(add):
  for peak in (0.3, 0.1):
    add(**{'hyper.peak': peak})
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, with the file of its task."""
  outside.write('mine.py', TASK)
  assert len([line for line in TASK.splitlines() if line]) <= 15
  return outside.write('regression.py', EXPERIMENT)


def test_every_verb_works_with_a_task_of_15_lines(outside, experiment):
  train = ('train', experiment, '--workdir', 'run')
  printed = outside.interrupt(*train[1:], step=20)
  assert 'as SIGTERM asked; the same command' in ' '.join(printed.split())
  resumed = ' '.join(outside.seqlab(*train).split())
  (step,) = re.findall(r'resuming from the checkpoint of step (\d+) of 40', resumed)
  assert 20 <= int(step) < 40

  assert 'test/loss' in outside.seqlab('evaluate', 'run', '--trust')
  line = (outside.folder / 'run' / 'evaluations.jsonl').read_text().splitlines()[-1]
  row = json.loads(line)
  assert row['steps'] == [40]
  assert row['scores']['test/loss'] < 0.3
  weights = load_run('run', trust=True).variables['params']['w']
  np.testing.assert_allclose(weights, [1, -2, 3], atol=0.5)

  assert 'loss |' in outside.seqlab('table', 'run', '--metric', 'loss')
  outside.seqlab('bench', experiment, '--only', 'train', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']
  assert '3 parameters' in outside.seqlab('plan', experiment, '--devices', '1')


def test_a_sweep_varies_its_learning_rate(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  assert len(list((outside.folder / 'runs').glob('*/*/metrics.jsonl'))) == 2


def test_verbs_that_need_a_missing_ability_are_refused(outside, experiment):
  outside.seqlab('train', experiment, '--workdir', 'run', '--config.steps=1')
  for verb in (('translate', 'run'), ('score', 'run'), ('compare', 'run', 'run')):
    message = outside.seqlab(*verb, '--trust', status=1)
    assert 'the task Regression cannot translate: it has no method' in message
  message = outside.seqlab('neighbours', 'run', 'king', '--trust', status=1)
  assert 'the task Regression cannot give word vectors' in message
  message = outside.seqlab('evaluate', 'run', '--beam', '2', '--trust', status=1)
  assert '--beam is for translations' in message
  outside.write('none.py', EXPERIMENT.replace('steps=', 'evals={"x": "leak"}, steps='))
  message = outside.seqlab('train', 'none.py', '--workdir', 'none', status=1)
  assert 'evals.x: the task Regression cannot translate' in message


def test_a_run_without_a_checkpoint_is_refused(outside, experiment):
  outside.seqlab('train', experiment, '--workdir', 'run', '--config.steps=1')
  (outside.folder / 'run' / 'checkpoints').rename(outside.folder / 'elsewhere')
  message = outside.seqlab('evaluate', 'run', '--trust', status=1)
  assert 'run has no checkpoint yet: train it first' in message
