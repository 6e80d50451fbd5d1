"""A user's corpus, vocabulary, batching and decoding, each named by its path."""

import json

PIECES = '''
"""Pieces of a user."""

import dataclasses
import hashlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from seqlab.data.buckets import Buckets
from seqlab.decoding.config import Beam, DecodingConfig
from seqlab.text.corpora import Corpus
from seqlab.text.vocabulary import content_of, flat_ids
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK


class Doubled(Corpus):
  """A corpus: strings of digits, and the same with every digit written twice."""

  name, convention, splits = 'doubled', 'none', ('train', 'test')

  def __init__(self, *, source: str = 'x', target: str = 'xx', size: int = 20):
    self.sides, self.size = {'source': source, 'target': target}, size

  def read(self, split):
    lines = [str(7 ** n)[:4] for n in range(1, self.size)]
    return lines, [''.join(2 * letter for letter in line) for line in lines]

  def skipped(self, split):
    return 0

  def fingerprint(self, split):
    return hashlib.sha256(repr((split, self.read(split))).encode()).hexdigest()

  def files(self, split):
    return {}

  def inputs(self):
    return []


class Digits:
  """A vocabulary of characters."""

  def __init__(self, characters):
    self.known = [*SPECIALS, *characters]
    self.size = len(self.known)
    self.fingerprint = hashlib.sha256(''.join(self.known).encode()).hexdigest()

  @classmethod
  def train(cls, lines, *, base: int = 10):
    return cls([str(digit) for digit in range(base)])

  @classmethod
  def load(cls, directory, name):
    return cls((Path(directory) / f'{name}.chars').read_text('utf-8'))

  def save(self, directory, name):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f'{name}.chars').write_text(''.join(self.known[4:]), 'utf-8')

  def encode(self, lines, *, sampling=0.0, seed=0):
    known = {c: i for i, c in enumerate(self.known)}
    return flat_ids([[known.get(c, UNK) for c in line] for line in lines])

  def decode(self, sequences):
    return [''.join(self.known[i] for i in content_of(s)) for s in sequences]

  def pieces(self):
    return self.known

  def surfaces(self):
    return [b'' if i in (PAD, BOS, EOS) else c.encode()
            for i, c in enumerate(self.known)]


def halves(sides, *, tokens: int = 64, reverse=(), sampled=()):
  """A batching: buckets with half of the tokens."""
  return Buckets(sides, tokens=tokens // 2, shapes=1, rows_multiple=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shouted(DecodingConfig):
  """A decoding: beam search whose outputs are all one token."""

  digit: int = 3

  def __call__(self, step, cache, **options):
    tokens, scores = Beam(beam=1)(step, cache, **options)
    kept = (tokens == PAD) | (tokens == EOS)
    return jnp.where(kept, tokens, 4 + self.digit), scores
'''

EXPERIMENT = """
import ml_collections

def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1
  c.corpus = dict(kind='own_pieces:Doubled', size=12)
  c.vocabulary = dict(kind='own_pieces:Digits')
  c.batching = dict(kind='own_pieces:halves', tokens=64)
  c.model = dict(kind='transformer', width=8, mlp_width=16, heads=2, layers=1)
  c.hyper = dict(peak=1e-2)
  c.schedule = dict(kind='constant', warmup=0)
  c.mesh = dict(data=1, devices=1)
  own = dict(kind='own_pieces:Shouted', digit=7)
  c.evals = dict(test=dict(kind='translation', split='test', shapes=1, decoding=own))
  return c
"""


def test_own_pieces_work_with_every_verb(outside):
  outside.write('own_pieces.py', PIECES)
  experiment = outside.write('mine.py', EXPERIMENT)
  assert 'did you mean' in outside.seqlab(
    *('train', experiment, '--workdir', 'x', '--config.vocabulary.bass=8'), status=1
  )
  outside.seqlab('train', experiment, '--workdir', 'run')
  verb = ('evaluate', 'run', '--split', 'test')
  assert '--trust' in outside.seqlab(*verb, status=1)
  decoding = ('--decoding', 'own_pieces:Shouted', '--output', 'out.txt')
  outside.seqlab(*verb, '--trust', *decoding)
  lines = (outside.folder / 'out.txt').read_text('utf-8').split()
  assert {letter for line in lines for letter in line} == {'3'}
  record = (outside.folder / 'run' / 'evaluations.jsonl').read_text('utf-8')
  assert json.loads(record)['search']['kind'] == 'own_pieces:Shouted'
  kind = json.loads((outside.folder / 'run/vocabulary/shared.json').read_text('utf-8'))
  assert kind == {'kind': 'own_pieces:Digits'}
