r"""GRU, GRU with attention and Transformer with equal parameters, each at its best rate.

  python -m launch.sweep experiments/lecture/architectures.py --workdir runs/studies
  seqlab train experiments/lecture/architectures.py:model=gru --workdir runs/gru

A recurrent encoder-decoder with one vector for the whole source (Cho et al. 2014,
https://arxiv.org/abs/1406.1078) has 228,242 parameters, one with attention (Bahdanau et al.
2015, https://arxiv.org/abs/1409.0473) 232,470, and a Transformer (Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762) 230,144: less than 2 % between them. Each gets the same 1,200
updates with the same batches, three learning rates and three seeds; the rate with the best
mean BLEU on 'valid' counts, and the rest is measured on 'test'. Sentences have at most 12
words, in training and in the tests. Updates are compared and not their time, since trials may
share their cores with other work; `seqlab bench` measures the time of an update.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch) is where it was predicted, refuted if the whole interval is elsewhere, and
otherwise not decided. The intervals of 1 and 2 also contain the variance over test sentences,
which all seeds share (bootstrap).

Predicted before the runs:
1. Attention raises BLEU by more than 10.
2. The Transformer has a higher BLEU than the GRU with attention.
3. Attention is also faster to learn: after a third of its updates, while its rate is
   still high, the GRU with attention has a higher BLEU on 'valid' than the GRU with one vector
   has after all of them.
Multi30k is in experiments/multi30k/architectures.py, whose study has not been made anew.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.metrics.bleu import bleu_score
from seqlab.report.differences import PREDICTIONS, judged, over_items, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

MODELS = {
  'gru': dict(kind='recurrent', width=98, cell='gru', context='always'),
  'gru-attention': dict(
    kind='recurrent',
    width=90,
    cell='gru',
    attention='additive',
    placement='before',
  ),
  'transformer': dict(
    kind='transformer',
    width=64,
    mlp_width=128,
    heads=4,
    layers=2,
    unroll=2,
  ),
}
NAMES = {
  'gru': 'GRU, one vector',
  'gru-attention': 'GRU with attention',
  'transformer': 'Transformer',
}
PEAKS = (5e-3, 1e-2, 2e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'model': MODELS}, model='transformer')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_200

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=12)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=512, shapes=2, max_length=64)

  # Model
  c.model = dict(MODELS[arg.model])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=120)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(
    kind='translation', split='valid', beam=1, shapes=1, every=c.steps // 6
  )
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)  # at the end
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 5
  c.schedule.warmup = 10


def sweep(add):
  for name in MODELS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'model={name}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _kind, 'valid/bleu')
  best = {name: best[name] for name in NAMES if name in best}
  lines(
    folder / 'bleu-by-updates',
    {
      NAMES[name]: [run.series('valid/bleu') for run in members]
      for name, members in best.items()
    },
    'updates',
    'BLEU on valid, greedy',
    title='BLEU by updates, at the best learning rate',
    spread='bars',
  )
  rows = [
    [
      *(NAMES[name], chosen(members, PEAKS)),
      [run.final('test/bleu') for run in members],
      [run.final('valid/bleu') for run in members],
      [_early(run) for run in members],
    ]
    for name, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test, greedy'), Column('BLEU, valid')),
    'BLEU, valid, after a third',
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  def predict(number, first, second, above):
    statistics = versus(best, first, second, lambda run: run.arrays('test')['bleu'])
    return judged(
      f'{number}. {NAMES[first]} minus {NAMES[second]}',
      versus(best, first, second, lambda run: run.final('test/bleu')),
      items=over_items(statistics, bleu_score),
      above=above,
    )

  early = [_early(run) for run in best.get('gru-attention', ())]
  late = [run.final('valid/bleu') for run in best.get('gru', ())]
  return [
    predict(1, 'gru-attention', 'gru', above=10),
    predict(2, 'transformer', 'gru-attention', above=0),
    judged(
      '3. GRU with attention after a third, minus GRU, one vector, valid',
      [(1, early), (-1, late)],
      above=0,
    ),
  ]


def _early(run):
  """Returns BLEU on 'valid' after a third of the updates."""
  values = run.series('valid/bleu')[1]
  return values[len(values) // 3 - 1]


def _kind(run):
  if run.config['model']['kind'] == 'transformer':
    return 'transformer'
  return 'gru-attention' if run.config['model'].get('attention') else 'gru'


PAPER = []
TIME = 'about 25 minutes of one CPU core for the sweep (estimated)'
