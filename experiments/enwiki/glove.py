r"""GloVe on English Wikipedia.

  seqlab train experiments/enwiki/glove.py --workdir runs/glove
  seqlab evaluate runs/glove

Pennington, Socher and Manning 2014, https://aclanthology.org/D14-1162: pairs within ten
words count 1 / d, weights grow up to a count of 100, AdaGrad has the learning rate
0.05.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, path='', words=50_000, width=300)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.glove:GlobalVectors'
  c.seed, c.steps = 0, '15 epochs'

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  c.vocabulary = dict(min_count=5, max_size=arg.words)
  c.counts = dict(window=10, side='both', weights='harmonic')
  c.batching = dict(size=32_768, group=16)

  # Model
  c.model = dict(width=arg.width, x_max=100.0, alpha=0.75)
  c.model.groups = 64

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=0.05)
  c.schedule = dict(kind='constant')
  c.evals = {}
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  if 'path' not in c.corpus:  # a text of one's own may be of any size
    c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.batching.size = 512
  c.model.width = 16


PAPER = []
TIME = '15 minutes on 2 CPU cores'
