r"""Skip-gram with negative sampling on English Wikipedia.

  seqlab train experiments/enwiki/sgns.py --workdir runs/sgns
  seqlab evaluate runs/sgns
  seqlab neighbours runs/sgns moscow

Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, with the usual settings of
word2vec: window 5, 5 negative samples, frequent words subsampled with threshold 1e-3.
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
  c.model = dict(kind='skipgram', width=arg.width, window=5)
  c.model.update(dynamic=True, block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=0.025)
  c.schedule = dict(kind='linear', floor=4e-3)

  # Devices: streams over data, rows of the tables over tensor
  c.mesh = dict(data=-1, fsdp=1, tensor=1)
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
