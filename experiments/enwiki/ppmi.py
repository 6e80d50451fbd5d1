r"""PPMI vectors: the vector of a word is its row of the PPMI matrix.

  seqlab train experiments/enwiki/ppmi.py --workdir runs/ppmi
  seqlab evaluate runs/ppmi

Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016. Nothing is trained;
the text is counted once, and the counts stay in the cache.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, path='', words=50_000)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.estimators.ppmi:PPMIVectors'
  c.seed = 0

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  c.vocabulary = dict(min_count=5, max_size=arg.words)

  # The counts, and the probability of a pair by chance
  c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
  c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  if 'path' not in c.corpus:  # a text of one's own may be of any size
    c.corpus.part = 10
  c.vocabulary.max_size = 500


PAPER = []
TIME = '1 minute on 2 CPU cores'
