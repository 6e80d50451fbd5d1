r"""Kinds of positions by source length, trained on short sentences and on all.

  python -m launch.sweep experiments/lecture/positions.py --workdir runs/studies
  seqlab train experiments/lecture/positions.py:positions=alibi,trained=short \
    --workdir runs/alibi

The lecture: "теперь на вход мы будем подавать сумму этих эмбедингов (позиции и слова)"
(the input is the sum of the position's and the word's embeddings). Row (E) of table 3 of
Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, is extended by later kinds. Long
sources are difficult for any model; only the difference from a model that was trained on
all lengths is the cost of extrapolation (Press et al. 2022,
https://arxiv.org/abs/2108.12409). Each kind gets three learning rates and three seeds for
both; the rate with the best mean BLEU on 'valid' counts, and BLEU is measured on 'test'.
An effect is a difference of means whose 95 % interval over seeds (Welch) excludes 0.

Predicted before the runs, and what would refute it:
1. On sources of more than 15 words each kind loses BLEU if it was trained on short
   sentences. A kind without this effect would refute it.
2. ALiBi, which was made for extrapolation, loses less than sinusoidal positions. No effect
   would refute it.
3. Trained on all lengths, a model without positions is below each other kind on all
   sources, by more than 10 BLEU. A smaller difference would refute it.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import difference
from seqlab.report.figures import lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table

KINDS = ('sinusoidal', 'learned', 'rotary', 'shaw', 't5', 'alibi', 'none')
LENGTHS = (6, 8, 10, 12, 15)  # source words; 'short' has about ten at most
TRAINED = {'short': 20, 'all': 64}  # longest side of a pair, in tokens
PEAKS = (2.5e-3, 5e-3, 1e-2)
_LONGEST = f'{LENGTHS[-1] + 1}-'


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'trained': TRAINED}, positions='sinusoidal', trained='all')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 2_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=40_000, valid=500, test=2_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  # Of 'short', about half of the pairs are left out and counted.
  c.batching = dict(kind='buckets', tokens=1_024, shapes=1)
  c.batching.max_length = TRAINED[arg.trained]

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, heads=4, layers=2)
  c.model.update(unroll=2, positions=arg.positions)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=200)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
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
  for kind in KINDS:
    for trained in TRAINED:
      for peak in PEAKS:
        for seed in range(3):
          arg = f'positions={kind},trained={trained}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, 'valid/bleu')
  best = {v: best[v] for t in TRAINED for k in KINDS if (v := (k, t)) in best}
  starts = (1, *(x + 1 for x in LENGTHS))
  names = [f'{a}-{b}' for a, b in zip(starts, (*LENGTHS, ''), strict=True)]
  for trained in TRAINED:
    members = {kind: best[kind, trained] for kind in KINDS if (kind, trained) in best}
    if members:
      _draw(folder / f'bleu-trained-on-{trained}', members, names, trained)
  rows = [
    [
      *(kind, trained, f'{members[0].config["hyper"]["peak"]:g}'),
      *([run.final(f'test/bleu/{n}') for run in members] for n in names),
      [run.final('test/bleu') for run in members],
    ]
    for (kind, trained), members in best.items()
  ]
  columns = [
    *('positions', 'trained on', 'peak'),
    *(Column(f'BLEU, {n} words', digits=1) for n in (*names, 'all')),
  ]
  text = table(rows, columns)
  pairs = [k for k in KINDS if all(len(best.get((k, t), ())) > 1 for t in TRAINED)]
  losses = [
    [
      kind,
      *(
        difference(*(_bleu(best[kind, t], name) for t in ('all', 'short'))).text(1)
        for name in names
      ),
    ]
    for kind in pairs
  ]
  if losses:
    heads = [f'{n} words' for n in names]
    text += (
      '\nBLEU of training on all lengths minus that of training on short ones:\n\n'
    )
    text += table(losses, ['positions', *heads])
  if {'alibi', 'sinusoidal'} <= {*pairs}:
    extra = difference(*(_losses(best, kind) for kind in ('alibi', 'sinusoidal')))
    text += (
      f'\nLoss of alibi minus that of sinusoidal, {_LONGEST} words: {extra.text(1)}\n'
    )
  (folder / 'table.md').write_text(text, 'utf-8')


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


def _losses(best, kind):
  """Returns what training on short sentences costs on the longest ones, seed by seed."""
  scores = [_bleu(best[kind, trained], _LONGEST) for trained in ('all', 'short')]
  return [a - b for a, b in zip(*scores, strict=True)]


def _bleu(runs, name):
  return [run.final(f'test/bleu/{name}') for run in runs]


def _variant(run):
  """Returns the kind of positions and what a run was trained on."""
  longest = run.config['batching']['max_length']
  trained = next(name for name, x in TRAINED.items() if x == longest)
  return run.config['model']['positions'], trained


PAPER = []
TIME = '3 hours on 2 CPU cores for the sweep'
