r"""CMUdict: English words to phonemes, with several pronunciations of a word.

  seqlab train experiments/g2p/cmudict.py --workdir runs/cmudict
  seqlab evaluate runs/cmudict --split test --measures per word_errors --choose best

The words are divided into train and test as by GPA4.0,
https://github.com/OlivierDehaene/GPA4.0, and 5 % of the training words, chosen by a
hash of the word, are the split 'dev'. In evaluation each word occurs once, and the best
one of its pronunciations counts.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.results import Row


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, '30 epochs'

  # Data
  c.corpus = dict(kind='cmudict-g2p', cut=dict(dev=0.05), group=True)
  c.vocabulary = dict(source='char', target='symbols')
  c.batching = dict(kind='buckets', tokens=4_096, shapes=4)  # target positions

  # Model
  c.model = dict(kind='transformer', width=256, mlp_width=512, heads=4, tie='none')
  c.model.update(layers=3, unroll=3)

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=1e-3, dropout=0.1, label_smoothing=0.1)
  c.schedule = dict(kind='rsqrt', warmup=2_000)
  c.optimizer = dict(kind='adam', b2=0.98, clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='outputs', split='dev', beam=1)
  c.evals.valid.measures = ('per', 'word_errors')
  c.evals.valid.every = '1 epochs'
  c.keep_best = 'valid/word_errors'
  c.save_every = '1 epochs'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.save_every = 20, None
  c.corpus.cut.dev = 0.002
  c.batching.update(tokens=1_024, shapes=1)
  c.model.update(width=16, mlp_width=32, heads=2, layers=1, unroll=1)
  c.schedule.warmup = 10
  c.evals.valid.update(every=20, shapes=1)


def sweep(add):
  for seed in range(3):
    add(seed=seed)


PAPER = [
  Row(
    metric='test/word_errors',
    value=0.2087,
    of='GPA4.0, README',
    url='https://github.com/OlivierDehaene/GPA4.0',
    tolerance=0.008,
    evaluate='--choose best --beam 1',
    equal='words, their parts, measure',
    differs='30 epochs, dropout 0.1, best by dev; theirs 100,000 updates, dropout 0.3',
    prediction='above it by at most 0.03',
  ),
]
TIME = '2 hours on 2 CPU cores'
