r"""Which words each head attends to, and which endings are wrong without it.

  python -m launch.sweep experiments/lecture/heads.py --workdir runs/studies

Vaswani et al. 2017, table 3 (A), https://arxiv.org/abs/1706.03762: 1, 2, 4 and 8
heads at equal size. The grammar of the corpus defines which word determines the gender,
number and case of another. For each head this study measures how often it attends most
to that word when the ending is predicted, and how many endings are right without the
head. The study is under revision: it has no baseline (a head that always attends to a
fixed distance), the tables of heads are of one seed, and one noun determines both
gender and number.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.figures import bars, heatmap
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

HEADS = (1, 2, 4, 8)
SIDES = {'cross': 'to the source', 'decoder': 'to the prefix'}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, heads=4)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=1_024, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, layers=2)
  c.model.update(heads=arg.heads, unroll=2)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=150)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.agreement = dict(kind='agreement', split='valid')
  c.evals.attention = dict(kind='attention', split='valid', show=4)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)


def sweep(add):
  for heads in HEADS:
    for seed in range(3):
      add(seed=seed, **{'model.heads': heads})


def report(runs, folder):
  groups = {
    heads: members for (heads,), members in group(runs, by=('model.heads',)).items()
  }
  kinds = ('gender', 'number', 'case')
  rows = [
    [
      str(heads),
      [run.final('valid/bleu') for run in members],
      *([100 * run.final(f'agreement/accuracy_{k}') for run in members] for k in kinds),
      *(
        [100 * run.final(f'agreement/look_{k}_cross') for run in members] for k in kinds
      ),
    ]
    for heads, members in groups.items()
  ]
  columns = [
    *('heads', Column('BLEU', 'max')),
    *(Column(f'{k} right (%)', 'max', 1) for k in kinds),
    *(
      Column(f'best head attends to the word that determines {k} (%)', digits=1)
      for k in kinds
    ),
  ]
  text = table(rows, columns)

  run = groups[8][0]  # one seed: the order of heads is arbitrary in each
  arrays = run.arrays('agreement')
  for side, where in SIDES.items():
    shares, without = arrays[f'look/{side}'], arrays[f'without/{side}']
    names = [f'layer {i + 1}, head {h + 1}' for i, h in np.ndindex(shares.shape[:2])]
    heatmap(
      folder / f'looks-{side}',
      100 * shares.reshape(-1, len(kinds)),
      kinds,
      names,
      label='most attended token determines the ending (%)',
      xlabel='category of the ending',
      title=f'Attention of the heads {where}',
      digits=0,
      limits=(0, 100),
    )
    lost = 100 * (arrays['accuracy'] - without).reshape(-1, len(kinds))
    heatmap(
      folder / f'lost-{side}',
      lost,
      kinds,
      names,
      label='endings lost without the head (percentage points)',
      xlabel='category of the ending',
      title=f'Endings lost without a head: {where}',
      digits=1,
      colours='magma_r',
    )
    text += (
      f'\nSeed {run.config["seed"]}, 8 heads, {where}; attention, and endings lost:\n\n'
    )
    text += table(
      [
        [n, *map(float, a), *map(float, b)]
        for n, a, b in zip(
          names, 100 * shares.reshape(-1, len(kinds)), lost, strict=True
        )
      ],
      [
        'head',
        *(Column(f'attends, {k} (%)', 'max', 1) for k in kinds),
        *(Column(f'lost, {k} (points)', 'max', 1) for k in kinds),
      ],
    )
  bars(
    folder / 'bleu',
    {
      'BLEU': {
        str(h): [run.final('valid/bleu') for run in m] for h, m in groups.items()
      }
    },
    'BLEU',
    xlabel='heads',
    title='BLEU by number of heads, at equal width',
    digits=1,
  )
  _maps(run, folder)
  (folder / 'table.md').write_text(text, 'utf-8')


def _maps(run, folder):
  """Draws the head that most often attends to the word that determines gender."""
  shares = run.arrays('agreement')['look/cross']
  layer, head = np.unravel_index(shares[..., 0].argmax(), shares.shape[:2])
  arrays = run.arrays('attention')
  heatmap(
    folder / 'map',
    arrays['cross/0'][layer, head],
    [str(piece) for piece in arrays['source/0']],
    [str(piece) for piece in arrays['target/0']],
    label='attention',
    xlabel='source token',
    ylabel='target token to be predicted',
    title=f'Layer {layer + 1}, head {head + 1}, on the first sentence',
    limits=(0, 1),
  )


PAPER = []
TIME = '32 minutes for the sweep on 2 CPU cores'
