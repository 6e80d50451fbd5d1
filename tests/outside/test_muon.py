"""Muon in one line of an experiment, with every verb that a translation has."""

import json

import pytest

import seqlab

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 6
  files = dict(train=['en', 'de'], test=['en', 'de'])
  c.corpus = dict(source='en', target='de', files=files)
  c.vocabulary = dict(kind='word', size=50, shared=True)
  c.batching = dict(kind='buckets', tokens=64, shapes=1)
  c.model = dict(kind='transformer', width=8, mlp_width=16, heads=2, layers=1)
  c.hyper = dict(peak=1e-2)
  c.schedule = dict(kind='constant', warmup=0)
  c.optimizer = 'muon'
  c.mesh = dict(data=1, devices=1)
  c.evals = dict(test=dict(kind='perplexity', split='test', every=3))
  c.keep_best, c.best_is = 'test/nll', 'min'
  return c

def sweep(add):
  add(optimizer=dict(kind='optax.contrib:muon', beta=0.9), steps=3)
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, with the files of its corpus."""
  words = ['the red fox', 'a dog sees the fox', 'the dog', 'a red dog runs'] * 3
  outside.write('en', ''.join(f'{line}\n' for line in words))
  outside.write('de', ''.join(f'{line[::-1]}\n' for line in words))
  return outside.write('mine.py', EXPERIMENT)


@pytest.mark.slow
def test_every_verb_works_with_muon(outside, experiment):
  train = ('train', experiment, '--workdir', 'run')
  outside.seqlab(*train, '--config.steps=3')
  assert 'checkpoint of step 3' in outside.seqlab(*train, '--force')
  assert 'bleu' in outside.seqlab('evaluate', 'run', '--split', 'test').lower()
  assert 'muon' in outside.seqlab('table', 'run', '--by', 'optimizer')
  run = seqlab.load('run')
  assert (
    run.config['optimizer'] == {'kind': 'muon'} or run.config['optimizer'] == 'muon'
  )
  assert len(run.translate(['the red fox'])) == 1
  assert '1,568 parameters' in outside.seqlab('plan', experiment, '--devices', '1')
  outside.seqlab('bench', experiment, '--only', 'train', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']


@pytest.mark.slow  # processes of their own
def test_a_sweep_varies_the_optimiser(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  assert len(list((outside.folder / 'runs').glob('*/*/metrics.jsonl'))) == 1
