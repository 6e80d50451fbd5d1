r"""The lecture's net: one word as input, the whole vocabulary as output.

  seqlab train experiments/enwiki/softmax.py --workdir runs/softmax
  seqlab evaluate runs/softmax

Skip-gram with the full softmax, Mikolov et al. 2013, https://arxiv.org/abs/1310.4546,
equation 2. Every prediction is compared with every word, so the vocabulary must be
small. Negative sampling (sgns.py) and the tree
(--config.model.objective.kind=hierarchical) avoid this.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, path='', words=2_000, heldout=200)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps = 0, '1 epochs'

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  c.corpus.heldout = arg.heldout  # every 200th sentence is held out
  c.vocabulary = dict(min_count=5, max_size=arg.words)
  c.batching = dict(streams=8, length=2_048, subsample=1e-3)

  # Model
  c.model = dict(kind='skipgram', width=100, window=5)
  c.model.update(dynamic=True, block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='softmax')

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=0.025)
  c.schedule = dict(kind='linear', floor=4e-3)

  # Evaluation
  c.evals = {}
  if arg.heldout:
    c.evals.heldout = dict(kind='heldout', every='1 epochs', words=20_000)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  if 'path' not in c.corpus:  # a text of one's own may be of any size
    c.corpus.part = 10
  c.vocabulary.max_size = 100
  c.batching.length = 256
  c.model.width = 16


PAPER = []
TIME = '1 hour on 2 CPU cores'
