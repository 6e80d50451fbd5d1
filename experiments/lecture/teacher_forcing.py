r"""Teacher forcing, scheduled sampling at a constant rate, and free running.

  python -m launch.sweep experiments/lecture/teacher_forcing.py --workdir runs/studies

Bengio et al. 2015, https://arxiv.org/abs/1506.03099, expect that a model that was only
trained on true prefixes does worse after its own errors (exposure bias). This study
does not measure that, and is under revision: accuracy given the true prefix is a
marginal probability, but the share of outputs without an error so far is a joint one;
under greedy search the latter is the same for true prefixes and for the model's own.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

POSITIONS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20)  # target positions, in tokens
RATES = {
  'teacher forcing': 0.0,
  'scheduled, 25 % own tokens': 0.25,
  'free running': 1.0,
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  c.model = dict(kind='recurrent', width=128, cell='gru', placement='before')
  c.model.attention = 'additive'

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1, scheduled_sampling=0.0)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.loss = dict(kind='perplexity', split='valid', shapes=1)
  c.evals.errors = dict(kind='errors', split='valid', positions=POSITIONS)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16


def sweep(add):
  for rate in RATES.values():
    for seed in range(3):
      add(seed=seed, **{'hyper.scheduled_sampling': rate})


def report(runs, folder):
  groups = group(runs, by=('hyper.scheduled_sampling',))
  named = {label: groups[rate,] for label, rate in RATES.items()}
  curves = {}
  for label, members in named.items():
    for kind, errors in (
      ('forced', 'next token, true prefix'),
      ('prefix', 'all tokens so far'),
    ):
      curves[f'{label}: {errors}'] = [
        (POSITIONS, [1 - run.final(f'errors/{kind}/{p}') for p in POSITIONS])
        for run in members
      ]
  lines(
    folder / 'errors-by-position',
    curves,
    'target position (tokens)',
    'share of errors',
    title='Errors by position: next token, and all tokens so far',
    spread='bars',
  )
  rows = [
    [
      label,
      [run.final('valid/bleu') for run in members],
      [run.final('loss/perplexity') for run in members],
      [run.final('errors/forced/10') for run in members],
      [run.final('errors/prefix/10') for run in members],
    ]
    for label, members in named.items()
  ]
  columns = [
    *('training', Column('BLEU', 'max'), Column('perplexity, true prefix', 'min')),
    *(Column('accuracy of token 10', 'max'), Column('first 10 tokens right', 'max')),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


PAPER = []
TIME = '10 minutes for the sweep on 2 CPU cores'
