r"""GRU, GRU with attention and Transformer, trained for the same time.

  python -m launch.sweep experiments/lecture/architectures.py --workdir runs/studies

A recurrent encoder-decoder (386,512 parameters), one with attention (415,744), and a
Transformer (468,096) are trained for the same number of minutes. This study is under
revision: the parameters differ by up to 21 %, and each model has one learning rate.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

MODELS = {
  'rnn': dict(kind='recurrent', width=136, cell='gru', context='always'),
  'rnn-attention': dict(
    kind='recurrent',
    width=128,
    cell='gru',
    attention='additive',
    placement='before',
  ),
  'transformer': dict(
    kind='transformer',
    width=96,
    mlp_width=192,
    heads=4,
    layers=2,
    unroll=2,
  ),
}
NAMES = {
  'rnn': 'GRU, fixed context',
  'rnn-attention': 'GRU with attention',
  'transformer': 'Transformer',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'model': MODELS}, model='transformer', minutes=1.0)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  # The learning rate is constant, so that models can be compared at any time; `minutes`
  # ends the run.
  c.seed, c.steps = 0, 20_000
  c.minutes = arg.minutes

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  c.model = dict(MODELS[arg.model])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=3e-3, label_smoothing=0.1)
  c.schedule = dict(kind='constant', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)
  c.ema = 0.99

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1, every=100)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.minutes = 20, None
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 20


def sweep(add):
  for name in MODELS:
    for seed in range(3):
      add(seed=seed, arg=f'model={name}')


def report(runs, folder):
  groups = {NAMES[_kind(m[0])]: m for m in group(runs).values()}
  shortest = min(run.minutes[-1] for run in runs)
  grid = np.linspace(0, shortest, 13)[1:]
  lines(
    folder / 'bleu-by-minutes',
    {
      label: [(grid, _at(run, grid)) for run in members]
      for label, members in groups.items()
    },
    'minutes of updates, one CPU core each',
    'BLEU',
    title='BLEU by minutes of updates',
    spread='bars',
  )
  rows = [
    [
      label,
      *([float(_at(run, [m])[0]) for run in members] for m in (shortest / 2, shortest)),
      [run.final('epoch') for run in members],
      [len(run.minutes) / run.minutes[-1] / 60 for run in members],
    ]
    for label, members in groups.items()
  ]
  columns = [
    'model',
    *(Column(f'BLEU, {m:.1f} min', 'max', 1) for m in (shortest / 2, shortest)),
    *(Column('epochs', digits=2), Column('updates/s', digits=1)),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


def _kind(run):
  if run.config['model']['kind'] == 'transformer':
    return 'transformer'
  return 'rnn-attention' if run.config['model'].get('attention') else 'rnn'


def _at(run, minutes):
  """Returns BLEU at these minutes, interpolated between evaluations, from 0 on."""
  steps, values = run.series('valid/bleu')
  at = np.array([0, *(run.minutes[step - 1] for step in steps)])
  return np.interp(minutes, at, [0, *values])


PAPER = []
TIME = '15 minutes for the sweep on 2 CPU cores'
