"""KERPLE positions as one class in a file of a user, with every invariant and verb."""

import json

import pytest

import seqlab
from seqlab import testing

POSITIONS = '''
from typing import Annotated

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.domains import Positive
from seqlab.layers.positions.interface import Positions, PositionTerms, distances


class Kerple(Positions):
  """Adds -r1 log(1 + r2 |m - n|) to the scores; r1, r2 > 0 are learned per head.

  Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length
  Extrapolation", 2022, the logarithmic variant, https://arxiv.org/abs/2205.09921.

  Attributes:
    start: r1 and r2 before training.
  """

  start: Annotated[float, Positive] = 1.0

  def setup(self):
    init = nn.initializers.constant(jnp.log(jnp.expm1(self.start)))
    init = nn.with_logical_partitioning(init, (None, 'heads'))
    self.raw = self.param('raw', init, (2, self.heads))

  def attention_terms(self, query, memory):
    r1, r2 = jax.nn.softplus(self.raw)[:, :, None, None]  # two of [H, 1, 1]
    distance = jnp.abs(distances(query, memory))[:, None]  # [B|1, 1, L, S]
    return PositionTerms(bias=-r1 * jnp.log1p(r2 * distance))
'''
EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task = 'translation'
  c.seed, c.steps = 0, 4
  files = dict(train=['en', 'de'], test=['en', 'de'])
  c.corpus = dict(source='en', target='de', files=files)
  c.vocabulary = dict(kind='word', size=50, shared=True)
  c.batching = dict(kind='buckets', tokens=64, shapes=1)
  c.model = dict(kind='transformer', width=8, mlp_width=16, heads=2, layers=1)
  c.model.positions = 'my_positions:Kerple'
  c.hyper = dict(peak=1e-2)
  c.mesh = dict(data=1, devices=1)
  return c

def sweep(add):
  add(**{'model.positions': 'rotary'}, steps=2)
  add(**{'model.positions.start': 0.5}, steps=2)
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, with its corpus and its positions."""
  lines = ['the red fox', 'a dog sees the fox', 'the dog', 'a red dog runs'] * 3
  outside.write('en', ''.join(f'{line}\n' for line in lines))
  outside.write('de', ''.join(f'{line[::-1]}\n' for line in lines))
  outside.write('my_positions.py', POSITIONS)
  return outside.write('mine.py', EXPERIMENT)


def test_kerple_keeps_every_invariant(outside, experiment):
  testing.check_model(positions='my_positions:Kerple')


@pytest.mark.slow
def test_every_verb_works_with_kerple(outside, experiment):
  train = ('train', experiment, '--workdir', 'run')
  outside.seqlab(*train, '--config.steps=2')
  assert 'checkpoint of step 2' in outside.seqlab(*train, '--force')
  evaluate = ('evaluate', 'run', '--split', 'test')
  assert '--trust' in outside.seqlab(*evaluate, status=1)
  assert 'bleu' in outside.seqlab(*evaluate, '--trust').lower()
  table = outside.seqlab('table', 'run', '--metric', 'loss', '--by', 'model.positions')
  assert 'my_positions:Kerple' in table
  run = seqlab.load('run', trust=True)
  assert run.variables['params']['encoder_positions']['raw'].shape == (2, 2)
  assert len(run.translate(['the red fox'])) == 1
  assert 'parameters' in outside.seqlab('plan', experiment, '--devices', '1')
  outside.seqlab('bench', experiment, '--only', 'feed', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']
  path = '--config.model.positions=my_positions:Kerple'
  start = '--config.model.positions.start=2'
  outside.seqlab('train', experiment, '--workdir', 'other', path, start)
  config = json.loads((outside.folder / 'other' / 'config.json').read_text())
  assert config['model']['positions'] == {'kind': 'my_positions:Kerple', 'start': 2}
  wrong = '--config.model.positions.strat=2'
  printed = outside.seqlab('train', experiment, '--workdir', 'x', wrong, status=1)
  assert "did you mean 'start'" in printed


@pytest.mark.slow  # processes of their own
def test_a_sweep_varies_positions_and_their_options(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  assert len(list((outside.folder / 'runs').glob('*/*/metrics.jsonl'))) == 2
