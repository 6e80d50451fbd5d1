r"""Kinds of positions by source length, trained on short sentences and on all.

  python -m launch.sweep experiments/lecture/positions.py --workdir runs/studies
  seqlab train experiments/lecture/positions.py:positions=alibi,trained=short \
    --workdir runs/alibi

The lecture: "теперь на вход мы будем подавать сумму этих эмбедингов (позиции и слова)"
(the input is the sum of the position's and the word's embeddings). Row (E) of table 3 of
Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, is extended by later kinds. Long
sources are difficult for any model, so that extrapolation (Press et al. 2022,
https://arxiv.org/abs/2108.12409) is measured by the difference from a model that was trained
on all lengths, with as many updates of as many tokens and with the same vocabulary. Long
sentences also have constructions that short ones lack: the difference contains what these
cost, which should be alike for all kinds. Each kind gets three learning rates and three seeds
for both; the rate with the best mean BLEU on 'valid' counts (for short sentences on its sources
of up to ten words), and BLEU is measured on 'test'. Models have 230,144 parameters, with
learned positions 246,528, of which those that no sentence of training has stay as they were
drawn. The control without positions is trained on all lengths only.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
(of a prediction's comparisons together, by Bonferroni's correction) is where it was predicted,
refuted if the whole interval is elsewhere, and otherwise not decided. The interval adds the
variance over seeds (Welch) and that over test sentences, which all seeds share (bootstrap).

Predicted before the runs:
1. On sources of more than 15 words each kind loses BLEU if it was trained on short
   sentences.
2. ALiBi, which was made for extrapolation, loses less than sinusoidal positions.
3. Trained on all lengths, each kind is more than 10 BLEU above a model without positions.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.metrics.bleu import bleu_score
from seqlab.report.differences import PREDICTIONS, judged, over_items
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

KINDS = ('sinusoidal', 'learned', 'rotary', 'alibi')
LENGTHS = (6, 8, 10, 12, 15)  # source words; 'short' has about ten at most
TRAINED = {'short': 20, 'all': 64}  # longest side of a pair in tokens
VARIANTS = [*((kind, name) for name in TRAINED for kind in KINDS), ('none', 'all')]
PEAKS = (5e-3, 1e-2, 2e-2)
_LONGEST = f'{LENGTHS[-1] + 1}-'


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'trained': TRAINED}, positions='sinusoidal', trained='all')
  learned = dict(kind='learned', max_length=128)  # as the longest output may need
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_200

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=40_000, valid=500, test=2_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=512, max_length=TRAINED[arg.trained])

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.unroll = 2
  c.model.positions = learned if arg.positions == 'learned' else arg.positions

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=120)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.valid.lengths = (10,)
  c.evals.test = dict(kind='translation', split='test', beam=1, lengths=LENGTHS)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)
  c.evals.test.shapes = 1
  c.schedule.warmup = 10


def sweep(add):
  for kind, trained in VARIANTS:
    for peak in PEAKS:
      for seed in range(3):
        arg = f'positions={kind},trained={trained}'
        add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, _quality)
  best = {variant: best[variant] for variant in VARIANTS if variant in best}
  starts = (1, *(x + 1 for x in LENGTHS))
  names = [f'{a}-{b}' for a, b in zip(starts, (*LENGTHS, ''), strict=True)]
  for trained in TRAINED:
    members = {kind: runs for (kind, name), runs in best.items() if name == trained}
    if members:
      _draw(folder / f'bleu-trained-on-{trained}', members, names, trained)
  rows = [
    [
      *(kind, trained, chosen(members, PEAKS)),
      *([run.final(f'test/bleu/{n}') for run in members] for n in names),
      [run.final('test/bleu') for run in members],
    ]
    for (kind, trained), members in best.items()
  ]
  columns = [
    *('positions', 'trained on', 'peak'),
    *(Column(f'BLEU, {n} words', digits=1) for n in (*names, 'all')),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  def predict(label, signs, *, longest=False, **options):
    groups = [(sign, best.get(variant, ())) for sign, variant in signs]
    name = f'test/bleu/{_LONGEST}' if longest else 'test/bleu'
    rows = [
      (sign, [_statistics(run, longest) for run in runs]) for sign, runs in groups
    ]
    return judged(
      label,
      [(sign, [run.final(name) for run in runs]) for sign, runs in groups],
      items=over_items(rows, bleu_score),
      **options,
    )

  def loss(kind):
    return (1, (kind, 'all')), (-1, (kind, 'short'))

  more = [(-sign, variant) for sign, variant in loss('sinusoidal')]
  words, options = f'{_LONGEST} words', dict(longest=True, tests=len(KINDS))
  return [
    *(
      predict(f'1. {kind}: loss, {words}', loss(kind), above=0, **options)
      for kind in KINDS
    ),
    predict(
      f'2. loss of alibi minus that of sinusoidal, {words}',
      (*loss('alibi'), *more),
      longest=True,
      below=0,
    ),
    *(
      predict(
        f'3. {kind} minus none, trained on all lengths',
        ((1, (kind, 'all')), (-1, ('none', 'all'))),
        above=10,
        tests=len(KINDS),
      )
      for kind in KINDS
    ),
  ]


def _statistics(run, longest):
  """Returns BLEU's integers of each line, or with zeros but for the longest sources."""
  arrays = run.arrays('test')
  counts = arrays['part'] == len(LENGTHS) if longest else np.ones(len(arrays['part']))
  return arrays['bleu'] * counts[:, None]


def _draw(path, members, names, trained):
  lines(
    path,
    {
      kind: [
        ([*LENGTHS, LENGTHS[-1] + 3], [run.final(f'test/bleu/{n}') for n in names])
        for run in runs
      ]
      for kind, runs in members.items()
    },
    'source length (words, upper limit; last point: longer)',
    'BLEU on test, greedy',
    title={'short': 'Trained on up to about 10 words', 'all': 'Trained on all lengths'}[
      trained
    ],
    spread='bars',
    ylim=(0, 100),
  )


def _variant(run):
  """Returns the kind of positions and what a run was trained on."""
  longest = run.config['batching']['max_length']
  trained = next(name for name, x in TRAINED.items() if x == longest)
  positions = run.config['model']['positions']
  return positions if isinstance(positions, str) else positions['kind'], trained


def _quality(run):
  """Returns what the learning rate is chosen by: BLEU on lengths of the training."""
  short = _variant(run)[1] == 'short'
  return run.final('valid/bleu/1-10' if short else 'valid/bleu')


PAPER = []
TIME = 'about 30 minutes of one CPU core for the sweep (estimated)'
