r"""Singular vectors of the PPMI matrix.

  seqlab train experiments/enwiki/ppmi_svd.py --workdir runs/svd
  seqlab evaluate runs/svd

Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016: counts of contexts
have the exponent 0.75, singular values the exponent 0.5 (or 0, but not 1).
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, path='', words=50_000, width=300)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.estimators.svd:SingularVectors'
  c.seed = 0

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  c.vocabulary = dict(min_count=5, max_size=arg.words)

  # The counts, and the probability of a pair by chance
  c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
  c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)

  # Model: as many iterations as make block x iterations 2.5 x width
  c.model = dict(width=arg.width, block=32, power=0.5, output_vectors='words')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  if 'path' not in c.corpus:  # a text of one's own may be of any size
    c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.model.update(width=16, block=8)


PAPER = []
TIME = '3 minutes on 2 CPU cores'
