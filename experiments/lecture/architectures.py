r"""GRU, GRU with attention and Transformer with equal parameters, each at its best rate.

  python -m launch.sweep experiments/lecture/architectures.py --workdir runs/studies
  seqlab train experiments/lecture/architectures.py:model=gru --workdir runs/gru

A recurrent encoder-decoder with one vector for the whole source (Cho et al. 2014,
https://arxiv.org/abs/1406.1078) has 464,816 parameters, one with attention (Bahdanau et
al. 2015, https://arxiv.org/abs/1409.0473) 460,768, and a Transformer (Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762) 468,096: less than 2 % between them. Each gets the same
3,000 updates, three learning rates and three seeds; the rate with the best mean BLEU on
'valid' counts, and the rest is measured on 'test'.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. Attention raises BLEU by more than 10.
2. The Transformer has a higher BLEU than the GRU with attention.
3. After the time in which the GRU with one vector takes its updates, the other two still
   have a higher BLEU on 'valid' than it has, although their rates have not yet fallen.
Multi30k is in experiments/multi30k/architectures.py, whose study has not been made anew.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table

MODELS = {
  'gru': dict(kind='recurrent', width=152, cell='gru', context='always'),
  'gru-attention': dict(
    kind='recurrent',
    width=136,
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
  'gru': 'GRU, one vector',
  'gru-attention': 'GRU with attention',
  'transformer': 'Transformer',
}
PEAKS = (1.5e-3, 3e-3, 6e-3)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'model': MODELS}, model='transformer')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 3_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  c.model = dict(MODELS[arg.model])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=3e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=300)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1, every=300)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)  # at the end
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 20
  c.schedule.warmup = 10


def sweep(add):
  for name in MODELS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'model={name}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _kind, 'valid/bleu')
  best = {name: best[name] for name in NAMES if name in best}
  longest = max(run.minutes[-1] for members in best.values() for run in members)
  grid = np.linspace(0, longest, 13)[1:]
  lines(
    folder / 'bleu-by-minutes',
    {
      NAMES[name]: [
        (at, _at(run, at))
        for run in members
        for at in [grid[grid <= min(r.minutes[-1] for r in members)]]
      ]
      for name, members in best.items()
    },
    'minutes of updates, one CPU core each',
    'BLEU on valid, greedy',
    title='BLEU by time, at the best learning rate',
    spread='bars',
  )
  shortest = float(np.mean([run.minutes[-1] for run in best.get('gru', runs)]))
  rows = [
    [
      *(NAMES[name], f'{members[0].config["hyper"]["peak"]:g}'),
      [run.final('test/bleu') for run in members],
      [run.final('valid/bleu') for run in members],
      [float(_at(run, [shortest])[0]) for run in members],
      [run.minutes[-1] for run in members],
    ]
    for name, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test, greedy'), Column('BLEU, valid')),
    *(Column(f'BLEU, valid, after {shortest:.1f} min'), 'minutes of updates'),
  ]
  verdicts = table(_verdicts(best, shortest), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best, minutes):
  def test(run):
    return run.final('test/bleu')

  def early(run):
    return float(_at(run, [minutes])[0])

  by_attention = versus(best, 'gru-attention', 'gru', test)
  by_transformer = versus(best, 'transformer', 'gru-attention', test)
  return [
    judged('1. GRU with attention minus GRU, one vector', by_attention, above=10),
    judged('2. Transformer minus GRU with attention', by_transformer, above=0),
    *(
      judged(
        f'3. {NAMES[name]} minus GRU, one vector, after {minutes:.1f} min',
        versus(best, name, 'gru', early),
        above=0,
        tests=2,
      )
      for name in ('gru-attention', 'transformer')
    ),
  ]


def _kind(run):
  if run.config['model']['kind'] == 'transformer':
    return 'transformer'
  return 'gru-attention' if run.config['model'].get('attention') else 'gru'


def _at(run, minutes):
  """Returns BLEU at these minutes, interpolated between evaluations, from 0 on."""
  steps, values = run.series('valid/bleu')
  at = np.array([0, *(run.minutes[step - 1] for step in steps)])
  return np.interp(minutes, at, [0, *values])


PAPER = []
TIME = 'about 1 hour on 2 CPU cores for the sweep (estimated)'
