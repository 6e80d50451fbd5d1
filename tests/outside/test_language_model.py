"""A decoder-only language model of characters in a user's own file, with every verb."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import seqlab

MODEL = """
from flax import linen as nn
import jax.numpy as jnp
from seqlab.layers.attention import causal_mask
from seqlab.layers.cache import DecoderCache
from seqlab.layers.embedding import Embedding, logits
from seqlab.layers.normalization import LayerNorm
from seqlab.layers.positions.rotary import Rotary
from seqlab.layers.transformer import EncoderLayer, TrainingInputs
from seqlab.models.interface import shift_right

class Decoder(nn.Module):
  size: int
  width: int = 16
  heads: int = 2
  layers: int = 1

  def setup(self):
    self.embedding = Embedding(self.size, self.width, jnp.float32)
    self.positions = Rotary(self.width, self.heads, bidirectional=False)
    sizes = (self.width, 2 * self.width, self.heads)
    self.stack = [EncoderLayer(*sizes, LayerNorm) for _ in range(self.layers)]
    self.norm = LayerNorm()

  def __call__(self, text):  # [B, L] -> [B, L, V]
    place = jnp.arange(text.shape[1])[None]
    terms = self.positions.attention_terms(place, place)
    x = self.embedding.lookup(shift_right(text))
    for layer in self.stack:
      x, _ = layer(x, causal_mask(text.shape[1]), terms, TrainingInputs())
    return logits(self.norm(x), self.embedding.weights)

  def start(self, rows, max_len):
    sizes = dict(heads=self.heads, head_dim=self.width // self.heads)
    return DecoderCache.empty(
      rows, 1, max_len, layers=self.layers, dtype=jnp.float32, **sizes)

  def step(self, cache, token):  # [N] -> [N, V]
    terms = self.positions.attention_terms(cache.length[:1, None], cache.places)
    x, after = self.embedding.lookup(token[:, None]), []
    for layer, past in zip(self.stack, cache.layers, strict=True):
      x, past = layer.step(x, past, cache.position, cache.mask(), terms)
      after.append(past)
    return cache.after(after), logits(self.norm(x), self.embedding.weights)[:, 0]
"""

TASK = """
import functools, json
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, optax
from decoder import Decoder
from seqlab.data.arrays import ArrayBatches
from seqlab.decoding.beam import greedy_search
from seqlab.tasks.interface import Loss, Task

class Characters(Task):
  sections = ('text', 'model')

  def __init__(self, text, known, model):
    self.text, self.known, self.model = Path(text), known, model

  @classmethod
  def from_config(cls, config, folder):
    file = folder / 'characters.json'
    if not file.is_file():
      folder.mkdir(parents=True, exist_ok=True)
      text = Path(config['text'], 'train').read_text('utf-8')
      file.write_text(json.dumps(sorted({*text})))
    known = json.loads(file.read_text())
    return cls(config['text'], known, Decoder(len(known) + 4, **config['model']))

  def encode(self, text):
    return np.array([4 + self.known.index(c) for c in text], np.int32)

  def batches(self, split, **options):
    ids = self.encode((self.text / split).read_text('utf-8'))
    rows = ids[: len(ids) // 16 * 16].reshape(-1, 16)
    return ArrayBatches({'text': rows}, rows=8, **options)

  def tokens(self, batch):
    return batch['text'].size

  def init(self, rng):
    return self.model.init(rng, jnp.ones((1, 4), jnp.int32))

  def loss(self, variables, batch, rng, hyper):
    scores = self.model.apply(variables, batch['text'])
    nll = optax.softmax_cross_entropy_with_integer_labels(scores, batch['text'])
    right = (scores.argmax(-1) == batch['text']).sum()
    return Loss(nll.sum(), nll.size, {'accuracy': (right, nll.size)})

  def generate(self, variables, length):
    step = functools.partial(self.model.apply, variables, method='step')
    cache = self.model.apply(variables, 1, length, method='start')
    ids, _ = greedy_search(step, cache, batch_size=1, max_len=length)
    return ''.join(self.known[i - 4] for i in ids[0].tolist() if i > 3)
"""

EVALUATOR = """
import math
from seqlab.evaluators.interface import Evaluator
from seqlab.evaluators.resident import Resident, evaluation_batches, total

class Bits(Evaluator):
  metrics = ('bits_per_character',)

  def __init__(self, task, sharding, *, split: str):
    def loss(variables, batch):
      return task.loss(variables, batch, None, {}).totals()['loss']
    batches = evaluation_batches(task, split, sharding)
    self._resident = Resident(batches, sharding, loss)

  def run(self, variables):
    nll, count = total(self._resident.run(variables))
    yield 'bits_per_character', nll / count / math.log(2)
"""

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task, c.text, c.seed, c.steps = 'characters:Characters', 'texts', 0, 60
  c.model = dict(width=16, heads=2, layers=1)
  c.hyper, c.schedule = dict(peak=3e-2), dict(kind='constant')
  c.mesh = dict(data=1, devices=1)
  c.evals = dict(dev=dict(kind='bits:Bits', split='dev', every=30))
  c.keep_best, c.best_is = 'dev/bits_per_character', 'min'
  return c

def sweep(add):
  add(steps=2, **{'model.width': 8})
"""


@pytest.fixture
def experiment(outside):
  """The path of an experiment's file, with its texts and its three modules."""
  outside.write('texts/train', 'tick tock, ' * 64)
  outside.write('texts/dev', 'tock, tick ' * 8)
  files = {'decoder.py': MODEL, 'characters.py': TASK, 'bits.py': EVALUATOR}
  for name, text in files.items():
    outside.write(name, text)
  lines = [x for text in (*files.values(), EXPERIMENT) for x in text.splitlines() if x]
  assert len(lines) < 130  # the first edition needed 449 lines
  return outside.write('language.py', EXPERIMENT)


def test_every_verb_works_with_a_language_model(outside, experiment):
  train = ('train', experiment, '--workdir', 'run')
  outside.seqlab(*train, '--config.steps=30')
  assert 'checkpoint of step 30' in outside.seqlab(*train, '--force')

  assert 'dev/bits_per_character' in outside.seqlab('evaluate', 'run', '--trust')
  row = json.loads((outside.folder / 'run' / 'evaluations.jsonl').read_text())
  assert row['scores']['dev/bits_per_character'] < 2.5
  metric = ('--metric', 'dev/bits_per_character')
  assert 'dev/bits_per_character' in outside.seqlab('table', 'run', *metric)
  outside.seqlab('bench', experiment, '--only', 'train', '--output', 'bench.json')
  assert json.loads((outside.folder / 'bench.json').read_text())['rows']
  assert 'parameters' in outside.seqlab('plan', experiment, '--devices', '1')

  run = seqlab.load('run', trust=True)
  text = run.task.generate(run.variables, 16)
  # Without a cache: each character is the most probable one after the previous ones.
  ids = run.task.encode(text)
  scores = run.task.model.apply(run.variables, jnp.asarray(ids)[None])
  np.testing.assert_array_equal(np.argmax(scores[0], axis=-1), ids)
  assert len(text) == 15  # the last place is left to the end of the sequence


def test_a_sweep_varies_its_model(outside, experiment):
  outside.sweep(experiment, '--workdir', 'runs', '--workers', '1')
  assert len(list((outside.folder / 'runs').glob('*/*/metrics.jsonl'))) == 1


def test_a_wrong_metric_is_refused_before_training(outside, experiment):
  options = ('--workdir', 'run', '--config.keep_best=dev/bleu')
  message = outside.seqlab('train', experiment, *options, status=1)
  assert 'dev/bits_per_character' in message
  assert not (outside.folder / 'run' / 'config.json').exists()
