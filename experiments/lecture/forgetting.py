r"""BLEU by source length, with one fixed vector and with attention.

  python -m launch.sweep experiments/lecture/forgetting.py --workdir runs/studies

Bahdanau et al. 2015, figure 2, https://arxiv.org/abs/1409.0473, report that quality
falls with length where one vector encodes the whole source, and much less with
attention; Sutskever et al. 2014, section 3.3, https://arxiv.org/abs/1409.3215, that
reversing the source helps the first words. This study is under revision: the models
have 746,112 and 893,952 parameters, only the one with attention has an output layer,
and the position in the source is not varied.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

LENGTHS = (5, 8, 11, 14, 17)  # upper limits in words; the last group has no limit
POSITIONS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20)  # target positions, in tokens


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_500

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=2_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)
  c.batching.reverse_source = False

  # Model
  c.model = dict(kind='recurrent', width=192, cell='gru', context='always')
  # A bidirectional encoder reads the source from its end anyway.
  c.model.bidirectional = False
  c.model.update(attention=None, placement='before')

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, lengths=LENGTHS)
  c.evals.errors = dict(kind='errors', split='valid', positions=POSITIONS)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16
  c.evals.valid.shapes = 1


VARIANTS = {
  'fixed context': {},
  'fixed context, source reversed': {'batching.reverse_source': True},
  'attention': {'model.attention': 'additive'},
}


def sweep(add):
  for changes in VARIANTS.values():
    for seed in range(3):
      add(seed=seed, **changes)


def report(runs, folder):
  keys = ('model.attention', 'batching.reverse_source')
  groups = group(runs, by=keys)
  named = {
    name: groups[changes.get(keys[0]), changes.get(keys[1], False)]
    for name, changes in VARIANTS.items()
  }
  names = [
    f'{a}-{b}'
    for a, b in zip((1, *(x + 1 for x in LENGTHS)), (*LENGTHS, ''), strict=True)
  ]
  lines(
    folder / 'bleu-by-length',
    {
      label: [
        ([*LENGTHS, LENGTHS[-1] + 5], [run.final(f'valid/bleu/{n}') for n in names])
        for run in members
      ]
      for label, members in named.items()
    },
    'source length (words, upper limit; last point: longer)',
    'BLEU',
    title='A fixed context and attention, by length of the source',
    spread='bars',
  )
  lines(
    folder / 'accuracy-by-position',
    {
      label: [
        (POSITIONS, [run.final(f'errors/forced/{p}') for p in POSITIONS])
        for run in members
      ]
      for label, members in named.items()
    },
    'target position (tokens)',
    'accuracy, true prefix',
    title='Accuracy by target position',
    spread='bars',
  )
  parts = [f'BLEU, {n} words' for n in names]
  rows = [
    [
      label,
      [run.final('valid/bleu') for run in members],
      *([run.final(f'valid/bleu/{n}') for run in members] for n in names),
      [run.final('errors/forced/1') for run in members],
    ]
    for label, members in named.items()
  ]
  columns = ['model', 'BLEU', *parts, 'accuracy of the first token']
  text = table(rows, [columns[0], *(Column(c, 'max') for c in columns[1:])])
  (folder / 'table.md').write_text(text, 'utf-8')


PAPER = []
TIME = '10 minutes for the sweep on 2 CPU cores'
