r"""Ten attention scores, before and after the cells, after 500 updates.

  python -m launch.sweep experiments/lecture/scores.py --workdir runs/studies

Luong et al. 2015, table 4, https://arxiv.org/abs/1508.04025, and the scores of
Bahdanau et al. 2015 and Tu et al. 2016. This study is under revision: with
one learning rate and 500 updates it measures optimisation, not what a score can
represent; and the models have 382,720 to 415,872 parameters.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.figures import bars
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

SCORES = (
  *('dot', 'scaled_dot', 'cosine', 'general', 'additive', 'concat', 'location'),
  *('local_monotonic', 'local_predictive', 'coverage'),
)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, score='general')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 500

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  c.model = dict(kind='recurrent', width=128, cell='gru', placement='after')
  c.model.attention = arg.score

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.loss = dict(kind='perplexity', split='valid', shapes=1)
  c.evals.attention = dict(kind='attention', split='valid')
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16


def sweep(add):
  for placement in ('before', 'after'):
    for score in SCORES:
      for seed in range(3):
        add(seed=seed, **{'model.attention': score, 'model.placement': placement})


def report(runs, folder):
  groups = group(runs, by=('model.attention', 'model.placement'))
  bars(
    folder / 'bleu',
    {
      f'{placement} the cells': {
        score: [run.final('valid/bleu') for run in groups[score, placement]]
        for score in SCORES
        if (score, placement) in groups
      }
      for placement in ('before', 'after')
    },
    'BLEU',
    xlabel='score',
    title='BLEU by attention score, after 500 updates',
  )
  rows = [
    [
      score,
      placement,
      [run.final('valid/bleu') for run in members],
      [run.final('loss/perplexity') for run in members],
      [run.final('attention/entropy_cross') for run in members],
      # A low quantile, since other work on the machine can only lengthen a step.
      [1e3 * np.quantile(run.series('speed/seconds')[1], 0.1) for run in members],
    ]
    for (score, placement), members in groups.items()
  ]
  columns = [
    *('score', 'placement', Column('BLEU', 'max'), Column('perplexity', 'min')),
    *('entropy (nats)', Column('step (ms, first decile)', digits=0)),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


PAPER = []
TIME = '85 minutes for the sweep on 2 CPU cores'
