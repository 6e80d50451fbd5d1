r"""Dot products of skip-gram with negative sampling, compared with PMI - log k.

  python -m launch.sweep experiments/enwiki/factorization.py --workdir runs/studies

Levy and Goldberg 2014, section 3, https://papers.nips.cc/paper/5477: the loss of a pair
of a word and a context is smallest where w · c = PMI(w, c) - log k, with k negative
samples. The report says how near the dot products are to this optimum, by dimensions,
samples and epochs. The optimum of a pair that never occurs is -infinity. This study is
under revision: its table has one seed.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.figures import COLOURS, figure, lines
from seqlab.report.tables import Column, table


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, d=100, parts=2)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps = 0, '10 epochs'

  # Data
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=10_000)
  c.batching = dict(streams=32, length=2_048, subsample=1e-3)

  # Model
  c.model = dict(kind='skipgram', width=arg.d, window=5)
  c.model.update(dynamic=True, block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=0.025)
  c.schedule = dict(kind='linear', floor=4e-3)

  # Evaluation
  c.evals = {}
  c.evals.factorization = dict(kind='factorization', min_count=10.0, every='1 epochs')
  c.keep_latest = 1
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.batching.length = 256
  c.model.width = 16
  c.evals.factorization.every = 20


SAMPLES, WIDTHS = (1, 5, 15), (25, 100, 400)
VARIANTS = {
  **{f'k = {k}, D = 100': (k, 100) for k in SAMPLES},
  **{f'k = 5, D = {d}': (5, d) for d in WIDTHS},
}


def sweep(add):
  for seed in range(3):
    for k, d in VARIANTS.values():
      add(seed=seed, **{'model.objective.negatives': k, 'model.width': d})


def report(runs, folder):
  named = {
    label: members
    for label, variant in VARIANTS.items()
    if (members := [run for run in runs if _variant(run) == variant])
  }
  metrics = ('pearson', 'weighted', 'gap', 'unseen')
  rows = [
    [label, *([run.final(f'factorization/{m}') for run in members] for m in metrics)]
    for label, members in named.items()
  ]
  columns = [
    'k samples, D dimensions',
    *(Column('correlation', 'max', 3), Column('weighted by counts', 'max', 3)),
    *(Column('gap (nats)', 'min', 2), Column('w · c of unseen pairs', digits=2)),
  ]
  text = table(rows, columns)
  text += (
    '\nCorrelation of w · c with PMI - log k over pairs that occur ten times or more; '
    'the gap is the root of their mean squared difference, weighted. Figures show a '
    'sample of one seed, without the outermost 0.1 % on each side.\n'
  )
  (folder / 'table.md').write_text(text, 'utf-8')
  lines(
    folder / 'by-epoch',
    {
      label: [_by_epoch(run, 'factorization/weighted') for run in members]
      for label, members in named.items()
    },
    'epochs',
    'correlation of w · c with PMI - log k',
    title='Correlation with PMI - log k, weighted by counts',
  )
  for label, members in named.items():
    name = f'pairs-{label.replace(" = ", "").replace(", ", "-").lower()}'
    _density(folder / name, label, members[0])


def _variant(run):
  return run.config['model']['objective']['negatives'], run.config['model']['width']


def _by_epoch(run, metric):
  steps, values = run.series(metric)
  per_epoch = run.final('epoch') / max(steps)
  return [round(step * per_epoch, 2) for step in steps], values


def _density(path, label, run):
  """Draws the pairs of one run: the dot product against its optimum."""
  arrays = run.arrays('factorization')
  optimum, dot = arrays['optimum'], arrays['dot']
  title = f'Pairs of words and contexts, {label}'
  labels = dict(xlabel='PMI - log k (nats)', ylabel='w · c')
  with figure(path, title=title, **labels, size=(6.4, 4.8)) as (axes, _):
    low, high = (np.quantile(np.concatenate([optimum, dot]), q) for q in (0.001, 0.999))
    inside = (optimum > low) & (optimum < high) & (dot > low) & (dot < high)
    cells = axes.hexbin(
      optimum[inside],
      dot[inside],
      gridsize=60,
      bins='log',
      cmap='viridis',
      linewidths=0,
    )
    cells.set_rasterized(True)  # as vectors, thousands of cells would make a large SVG
    axes.plot([low, high], [low, high], color=COLOURS[1], label='w · c = PMI - log k')
    mean = arrays['unseen'].mean()
    axes.axhline(mean, color=COLOURS[6], linestyle=':', label='mean of unseen pairs')
    axes.set(xlim=(low, high), ylim=(min(low, mean) - 0.5, high))
    axes.legend(loc='upper left', frameon=True, edgecolor='none')
    axes.figure.colorbar(cells, ax=axes, label='pairs').outline.set_visible(False)


PAPER = []
TIME = '20 minutes for the sweep on 2 CPU cores'
