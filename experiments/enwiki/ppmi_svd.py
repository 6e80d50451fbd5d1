r"""Singular vectors of the PPMI matrix.

  seqlab train experiments/enwiki/ppmi_svd.py --workdir runs/svd
  seqlab evaluate runs/svd

Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016: contexts' counts to
the power of 0.75, singular values to that of 0.5 (or 0, but not 1).
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, smoke=False, path='', words=50_000, width=300)
  width, block = 16 if arg.smoke else arg.width, 8 if arg.smoke else 32
  c = ml_collections.ConfigDict()
  c.task = 'tasks.counting:SingularVectors'
  c.seed, c.steps = 0, -(-5 * width // (2 * block))  # block x steps is 2.5 x width

  # Data: a named corpus, or a text file of your own, or a folder of them
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018')
  if arg.smoke:
    c.corpus = dict(name='enwiki2018', part=10)
  c.vocabulary = dict(min_count=5, max_size=500 if arg.smoke else arg.words)

  # What is counted, and how likely it would be by chance
  c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
  c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)

  # Model
  c.model = dict(width=width, block=block, power=0.5, use='words')
  c.hyper = dict(peak=0.0)
  c.schedule = dict(kind='constant')
  c.keep_latest = 1  # the basis takes some hundred MiB
  return c


PAPER = {}
TIME = '3 minutes on 2 CPU cores'
