r"""Multi30k German-English: GRU with and without attention, and Transformer.

  python -m launch.sweep experiments/multi30k/architectures.py --workdir runs/studies

A GRU with one fixed context vector, a GRU with attention (Bahdanau et al. 2015,
https://arxiv.org/abs/1409.0473), and the "tiny" Transformer (Wu et al. 2021,
https://arxiv.org/abs/2105.14462) have the same vocabulary, batches, epochs and learning
rate, and 3.4, 3.7 and 2.6 million parameters.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

MODELS = {
  'rnn': dict(kind='recurrent', width=256, cell='gru', context='always'),
  'rnn-attention': dict(
    kind='recurrent',
    width=256,
    cell='gru',
    attention='additive',
    placement='before',
  ),
  'transformer': dict(
    kind='transformer',
    width=128,
    mlp_width=256,
    heads=4,
    layers=4,
    unroll=4,
  ),
}
NAMES = {
  'rnn': 'GRU, fixed context',
  'rnn-attention': 'GRU with attention',
  'transformer': 'Transformer',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'model': MODELS}, model='transformer')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, '10 epochs'

  # Data
  c.corpus = dict(name='multi30k-tok', source='de', target='en')
  c.vocabulary = dict(kind='bpe', size=10_000, shared=True)
  c.batching = dict(kind='buckets', tokens=2_048, shapes=4)  # target positions

  # Model
  c.model = dict(MODELS[arg.model])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=2e-3, dropout=0.2, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=300)
  c.optimizer = dict(kind='adam', clip=1.0)
  c.ema = 0.99

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='val', beam=1, shapes=1)
  c.evals.valid.every = '1 epochs'
  test = dict(split='test_2016_flickr', beam=5, alpha=1.0)  # once, at the end
  c.evals.test = dict(kind='translation', **test)
  c.keep_best = 'valid/bleu'
  c.save_every = '1 epochs'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.vocabulary.size = 1_000
  c.batching.update(tokens=1_024, shapes=1)
  c.model.update(width=16, layers=1)
  c.schedule.warmup = 10
  del c.evals.valid.every, c.evals.test
  c.save_every = None


def sweep(add):
  for seed in range(3):
    for name in MODELS:
      add(seed=seed, arg=f'model={name}')


def report(runs, folder):
  groups = {NAMES[_kind(members[0])]: members for members in group(runs).values()}
  lines(
    folder / 'bleu',
    {
      label: [
        ([run.series('epoch')[1][step - 1] for step in steps], values)
        for run in members
        for steps, values in [run.series('valid/bleu')]
      ]
      for label, members in groups.items()
    },
    'epochs',
    'BLEU on val, greedy search',
    title='Multi30k German-English',
    spread='bars',
  )
  rows = [
    [
      label,
      [run.final('test/bleu') for run in members],
      [run.final('valid/bleu') for run in members],
      [run.minutes[-1] for run in members],
    ]
    for label, members in groups.items()
  ]
  columns = [
    *('model', Column('BLEU, test_2016_flickr, beam 5', 'max')),
    *(Column('BLEU, val, greedy', 'max'), Column('minutes of updates', digits=0)),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


def _kind(run):
  if run.config['model']['kind'] == 'transformer':
    return 'transformer'
  return 'rnn-attention' if run.config['model'].get('attention') else 'rnn'


PAPER = []
TIME = '80 minutes on 2 CPU cores for one seed of each'
