"""A language model of a user's own file with a cell of its own, by every verb."""

import io
import json

import pytest

import seqlab

CELL = """
import jax
from seqlab.layers.recurrent import Cell

class MinimalGate(Cell):
  gates = 2

  @staticmethod
  def update(extra, carry, x, h):  # Zhou et al. 2016, https://arxiv.org/abs/1603.09420
    forget = jax.nn.sigmoid(x[0] + h[0])
    new = jax.numpy.tanh(x[1] + forget * h[1])
    return (carry[0] + forget * (new - carry[0]),)
"""

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task, c.seed, c.steps = 'language_model', 0, 60
  c.corpus = dict(kind='running', files=dict(train='texts/train', dev='texts/dev'))
  c.vocabulary = dict(kind='char')
  c.batching = dict(kind='streams', rows=8, length=16)
  c.model = dict(kind='recurrent_lm', cell='cell:MinimalGate', width=16)
  c.hyper = dict(peak=3e-2)
  c.mesh = dict(data=1, devices=1)
  c.evals = dict(dev=dict(kind='bits', split='dev', every=30, context=32, stride=8))
  c.keep_best, c.best_is = 'dev/bpc', 'min'
  return c

def sweep(add):
  add(steps=2, **{'model.width': 8})
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, with its texts and its cell."""
  outside.write('texts/train', 'tick tock\n\n' * 64)
  outside.write('texts/dev', 'tock\n\ntick ' * 8)
  outside.write('cell.py', CELL)
  lines = [x for text in (CELL, EXPERIMENT) for x in text.splitlines() if x]
  assert len(lines) < 30  # the second edition needed 125 lines
  return outside.write('language.py', EXPERIMENT)


def test_every_verb_works_with_a_language_model(outside, experiment, monkeypatch):
  train = ('train', experiment, '--workdir', 'run')
  outside.seqlab(*train, '--config.steps=30')
  assert 'checkpoint of step 30' in outside.seqlab(*train, '--force')

  assert 'dev/bpc' in outside.seqlab('evaluate', 'run', '--trust')
  row = json.loads((outside.folder / 'run' / 'evaluations.jsonl').read_text())
  assert row['scores']['dev/bpc'] < 1.5
  assert 'dev/bpc' in outside.seqlab('table', 'run', '--metric', 'dev/bpc')
  outside.seqlab('bench', experiment, '--only', 'generate', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']
  assert 'parameters' in outside.seqlab('plan', experiment, '--devices', '1')

  run = seqlab.load('run', trust=True)
  [[text]] = run.generate(['tick'], length=9, decoding='greedy')
  assert text == 'tick tock\n\nti'
  options = ('--trust', '--length', '9', '--decoding', 'greedy')
  assert outside.seqlab('generate', 'run', '--prompt', 'tick', *options) == f'{text}\n'
  _give(monkeypatch, 'tick\ntock\n')
  printed = outside.seqlab('generate', 'run', '--prompt', '-', *options)
  assert printed.split('\n---\n')[0] == text
  _give(monkeypatch, '')
  rows = outside.seqlab(
    *('generate', 'run', '--trust', '--samples', '2', '--format', 'json'),
    *('--length', '5', '--temperature', '0.7', '--top-k', '3', '--seed', '1'),
  )
  assert [json.loads(row)['prompt'] for row in rows.splitlines()] == ['', '']
  _give(monkeypatch, 'tick tock\nkcit kcot\n')
  scores = outside.seqlab('score', 'run', '--trust').split('\n')[:2]
  (likely, pieces), (unlikely, _) = (line.split('\t') for line in scores)
  assert (pieces, float(likely) > float(unlikely)) == ('10', True)


def _give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
  """Sets the standard input."""
  monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_sweep_varies_its_model(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  assert len(list((outside.folder / 'runs').glob('*/*/metrics.jsonl'))) == 1


def test_a_wrong_metric_is_refused_before_training(outside, experiment):
  options = ('--workdir', 'run', '--config.keep_best=dev/bleu')
  message = outside.seqlab('train', experiment, *options, status=1)
  assert 'dev/bpc' in message
  assert not (outside.folder / 'run' / 'config.json').exists()
