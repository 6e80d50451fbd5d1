r"""A decoder with its causal mask, and one that attends to later positions.

  python -m launch.sweep experiments/lecture/mask.py --workdir runs/studies

Vaswani et al. 2017, section 3.2.3, https://arxiv.org/abs/1706.03762. Without the
causal mask the next token can be copied in training, but not in decoding. The study
reports the training loss, BLEU, and the share of the gradient at later positions.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 600

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=1_024, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, heads=4, layers=2)
  c.model.update(unroll=2, causal=True)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1, every=100)
  c.evals.leak = dict(kind='leak')
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 20


VARIANTS = {'with the mask': True, 'without it': False}


def sweep(add):
  for causal in VARIANTS.values():
    for seed in range(3):
      add(seed=seed, **{'model.causal': causal})


def report(runs, folder):
  groups = group(runs, by=('model.causal',))
  named = {label: groups[causal,] for label, causal in VARIANTS.items()}
  for name, metric, ylabel in (
    ('loss', 'nll', 'training loss (nats per token)'),
    ('bleu', 'valid/bleu', 'BLEU of the validation set'),
  ):
    lines(
      folder / name,
      {
        label: [run.series(metric) for run in members]
        for label, members in named.items()
      },
      'updates',
      ylabel,
      title='Decoders with and without a causal mask',
    )
  rows = [
    [
      label,
      [run.final('nll') for run in members],
      [run.final('valid/bleu') for run in members],
      [100 * run.final('leak/share') for run in members],
    ]
    for label, members in named.items()
  ]
  columns = [
    *('decoder', Column('training loss (nats)', digits=2), Column('BLEU', 'max', 2)),
    Column('share of the gradient at later positions (%)', digits=1),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


PAPER = []
TIME = '5 minutes for the sweep on 2 CPU cores'
