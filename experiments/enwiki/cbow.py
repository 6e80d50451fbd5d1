r"""Continuous bag of words, with negative sampling, on English Wikipedia.

  seqlab train experiments/enwiki/cbow.py --workdir runs/cbow
  seqlab evaluate runs/cbow

Mikolov et al. 2013, https://arxiv.org/abs/1301.3781. The gradient of the mean of
the vectors around a word is divided evenly, whereas word2vec.c and gensim give each
vector the whole gradient. With the right gradient the learning rate has to be higher:
İrsoy, Benton and Stratos, "Corrected CBOW Performs as well as Skip-gram", 2021,
https://aclanthology.org/2021.insights-1.1.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, path='', width=300, heldout=200)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps = 0, '5 epochs'

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  c.corpus.heldout = arg.heldout  # every 200th sentence is held out
  c.vocabulary = dict(min_count=5, max_size=None)
  c.batching = dict(streams=32, length=2_048, subsample=1e-3)

  # Model
  c.model = dict(kind='cbow', width=arg.width, window=5)
  c.model.update(dynamic=True, block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=0.075)
  c.schedule = dict(kind='linear', floor=1e-3)

  # Devices
  # Operations on narrow vectors are too small to be split among threads of a CPU
  c.threads = 1 if arg.width < 200 else None

  # Evaluation
  c.evals = {}
  if arg.heldout:
    c.evals.heldout = dict(kind='heldout', every='1 epochs')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  if 'path' not in c.corpus:  # a text of one's own may be of any size
    c.corpus.part = 10
  c.batching.length = 256
  c.model.width = 16


PAPER = []
TIME = '8 minutes on 2 CPU cores'
