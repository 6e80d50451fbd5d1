"""A user's evaluator, named by its path, in training and afterwards."""

import json

import pytest

import seqlab

EVALUATOR = """
import jax
from seqlab.evaluators.interface import Evaluator

class Norm(Evaluator):
  '''Norm of the embeddings, divided by the number of words.'''

  def __init__(self, task, *, scale: float = 1.0):
    self._scale, self._size = scale, task.vocabularies.target.size
    self.samples = ['a line to read']

  def run(self, variables):
    leaves = jax.tree.leaves(variables['params'])
    yield 'norm', self._scale * sum(float((x**2).sum()) for x in leaves) / self._size
"""

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task = 'translation'
  c.seed, c.steps = 0, 2
  files = dict(train=['en', 'de'], test=['en', 'de'])
  c.corpus = dict(source='en', target='de', files=files)
  c.vocabulary = dict(kind='word', size=50, shared=True)
  c.batching = dict(kind='buckets', tokens=64, shapes=1)

  c.model = dict(kind='transformer', width=8, mlp_width=16, heads=2, layers=1)
  c.hyper = dict(peak=1e-2)
  c.mesh = dict(data=1, devices=1)
  c.evals = dict(size=dict(kind='norms:Norm', scale=2.0), test=dict(kind='perplexity', split='test', shapes=1))
  c.keep_best = 'size/norm'
  return c

def sweep(add):
  add(steps=1, **{'evals.size.scale': 3.0})
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, beside files of an evaluator and a corpus."""
  lines = ['the red fox', 'a dog sees the fox', 'the dog', 'a red dog runs'] * 3
  outside.write('en', ''.join(f'{line}\n' for line in lines))
  outside.write('de', ''.join(f'{line[::-1]}\n' for line in lines))
  outside.write('norms.py', EVALUATOR)
  return outside.write('mine.py', EXPERIMENT)


def test_an_evaluator_by_path_runs_in_training_and_in_evaluate(outside, experiment):
  run = outside.folder / 'run'
  outside.seqlab('train', experiment, '--workdir', 'run')
  rows = [json.loads(x) for x in (run / 'metrics.jsonl').read_text().splitlines()]
  (trained,) = [row['size/norm'] for row in rows if 'size/norm' in row]
  assert (run / 'samples' / 'size-00000002.txt').read_text() == 'a line to read'

  outside.seqlab('evaluate', 'run', '--evals', '--trust')
  row = json.loads((run / 'evaluations.jsonl').read_text().splitlines()[-1])
  assert row['scores']['size/norm'] == pytest.approx(trained)
  assert 'test/perplexity' in row['scores']

  message = outside.seqlab('evaluate', 'run', '--evals', 'valid', '--trust', status=1)
  assert "evals has no 'valid' (there: size, test)" in message
  both = ('evaluate', 'run', '--evals', 'size', 'test', '--split', 'test', '--trust')
  assert "'size' takes no split" in outside.seqlab(*both, status=1)

  train = ('train', experiment, '--workdir', 'run', '--config.steps=4', '--force')
  assert 'checkpoint of step 2' in outside.seqlab(*train)
  assert seqlab.load('run', trust=True, choose='best').steps[0] in (2, 4)
  assert 'size/norm' in outside.seqlab('table', 'run', '--metric', 'size/norm')
  assert 'parameters' in outside.seqlab('plan', experiment, '--devices', '1')
  outside.seqlab('bench', experiment, '--only', 'feed', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']


@pytest.mark.slow
def test_a_sweep_varies_an_option_of_the_evaluator(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  (file,) = (outside.folder / 'runs').glob('*/*/metrics.jsonl')
  assert 'size/norm' in file.read_text()


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ('keep_best=size/nrom', 'did you mean'),
    ('evals.size.sclae=2', "did you mean 'scale'"),
  ],
)
def test_wrong_options_are_refused_before_training(
  outside, experiment, option, message
):
  command = ('train', experiment, '--workdir', 'run', f'--config.{option}')
  assert message in outside.seqlab(*command, status=1)
  assert not (outside.folder / 'run' / 'metrics.jsonl').exists()
