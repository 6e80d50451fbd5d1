r"""Batch, layer, power and RMS normalisation of the encoder, by batch size.

  python -m launch.sweep experiments/lecture/normalization.py --workdir runs/studies

Shen et al. 2020, table 1, https://arxiv.org/abs/2003.07845: as in their experiments
'batch' and 'power' are used in the encoder, and the decoder has layer normalisation.
Smaller batches take more updates, so that all runs see the same number of target
positions. This study is under revision: 'power' has a warm-up of 100 updates and no
groups, where the paper has 4,000 and groups, and each batch size has one learning rate.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.tables import Column, table

KINDS = {
  'batch': 'batch',
  'layer': 'layer',
  'power': dict(kind='power', warmup=100),
  'rms': 'rms',
}
# Target positions per batch -> updates and peak learning rate.
BATCHES = {
  128: (4_800, 2e-3),
  512: (1_200, 4e-3),
  2_048: (300, 7e-3),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'tokens': BATCHES}, tokens=512)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed = 0
  c.steps, peak = BATCHES[arg.tokens]

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=arg.tokens, max_length=64, rows_multiple=1)

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, heads=4, layers=2)
  c.model.update(unroll=2, normalization='layer', decoder_normalization='layer')

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=peak, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.statistics = dict(kind='statistics', split='valid', tokens=arg.tokens)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)


def sweep(add):
  for tokens, (steps, peak) in BATCHES.items():
    size = {'batching.tokens': tokens, 'steps': steps, 'hyper.peak': peak}
    size['evals.statistics.tokens'] = tokens
    for kind in KINDS.values():
      for seed in range(3):
        add(seed=seed, **{'model.normalization': kind}, **size)


def report(runs, folder):
  groups = {}
  for run in runs:
    groups.setdefault((_kind(run), run.config['batching']['tokens']), []).append(run)
  for name, metric, ylabel in (
    ('bleu', 'valid/bleu', 'BLEU'),
    ('gap', 'statistics/gap', 'loss with running minus with batch statistics (nats)'),
  ):
    curves = {
      kind: list(
        zip(
          *(
            [(tokens, run.final(metric)) for run in groups[kind, tokens]]
            for tokens in BATCHES
          ),
          strict=True,
        )
      )
      for kind in KINDS
    }
    lines(
      folder / f'{name}-by-batch',
      {
        kind: [tuple(zip(*seed, strict=True)) for seed in seeds]
        for kind, seeds in curves.items()
      },
      'target positions per batch',
      ylabel,
      title='Normalisation of the encoder by batch size',
      spread='bars',
      xlog=True,
    )
  rows = [
    [
      kind,
      *(
        [run.final('valid/bleu') for run in groups[kind, tokens]] for tokens in BATCHES
      ),
      *(
        [run.final('statistics/gap') for run in groups[kind, tokens]]
        for tokens in BATCHES
      ),
    ]
    for kind in KINDS
  ]
  columns = [
    'normalisation',
    *(Column(f'BLEU, {tokens:,}', 'max', 1) for tokens in BATCHES),
    *(Column(f'gap (nats), {tokens:,}', digits=3) for tokens in BATCHES),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


def _kind(run):
  normalization = run.config['model']['normalization']
  return normalization if isinstance(normalization, str) else normalization['kind']


PAPER = []
TIME = '75 minutes for the sweep on 2 CPU cores'
