r"""Kinds of positions by source length.

  python -m launch.sweep experiments/lecture/positions.py --workdir runs/studies

The table extends row (E) of table 3 of Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762, by later kinds, trained on short sentences; the figure
evaluates them on longer ones (Press et al. 2022, https://arxiv.org/abs/2108.12409). This
study is under revision: no model is trained on all lengths, so that extrapolation and
difficulty cannot be distinguished. The rotation of sinusoidal positions: `rotation.py`.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

KINDS = ('sinusoidal', 'learned', 'rotary', 'shaw', 't5', 'alibi', 'none')
LENGTHS = (6, 8, 10, 12, 15)  # source words; in training there are about ten at most


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, positions='sinusoidal')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=40_000, valid=2_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  # Pairs of more than 20 tokens, about half of all, are left out and counted.
  c.batching = dict(kind='buckets', tokens=1_024, shapes=1, max_length=20)

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, heads=4, layers=2)
  c.model.update(unroll=2, positions=arg.positions)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, lengths=LENGTHS)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)
  c.evals.valid.shapes = 1


def sweep(add):
  for kind in KINDS:
    for seed in range(3):
      add(seed=seed, **{'model.positions': kind})


def report(runs, folder):
  groups = {kind: m for (kind,), m in group(runs, by=('model.positions',)).items()}
  names = [
    f'{a}-{b}'
    for a, b in zip((1, *(x + 1 for x in LENGTHS)), (*LENGTHS, ''), strict=True)
  ]
  lines(
    folder / 'bleu-by-length',
    {
      kind: [
        ([*LENGTHS, LENGTHS[-1] + 3], [run.final(f'valid/bleu/{n}') for n in names])
        for run in members
      ]
      for kind, members in groups.items()
    },
    'source length (words, upper limit; last point: longer)',
    'BLEU',
    title='BLEU by source length; training ends at about 10 words',
    spread='bars',
  )
  rows = [
    [
      kind,
      *([run.final(f'valid/bleu/{n}') for run in members] for n in names),
      [run.final('valid/bleu') for run in members],
    ]
    for kind, members in groups.items()
  ]
  columns = [
    'positions',
    *(Column(f'BLEU, {n} words', 'max', 1) for n in names),
    Column('BLEU, all', 'max', 1),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


PAPER = []
TIME = '32 minutes for the sweep on 2 CPU cores'
