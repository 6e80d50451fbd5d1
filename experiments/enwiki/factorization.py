r"""Dot products of skip-gram with negative sampling, compared with PMI - log k.

  python -m launch.sweep experiments/enwiki/factorization.py --workdir runs/studies

Levy and Goldberg 2014, section 3, https://papers.nips.cc/paper/5477: the loss of a pair
of a word and a context is smallest where w · c = PMI(w, c) - log k, with k negative
samples. The report says how near the dot products are to this optimum, by dimensions,
samples and epochs. "Correlation" is Pearson's, over the pairs that occur ten times or more,
each of which counts once; table, figures and predictions all have this one. Weighted by
counts it is a column of its own. The optimum of a pair that never occurs is -infinity.

To fit into half an hour of one core the text is one part of enwiki2018, 3.8 million words,
with 10,000 types, for five epochs; an earlier version had one seed, two parts and ten
epochs. Each variant gets four learning rates with three seeds each, and the one with the
highest mean correlation counts, so that all have the best of four. The pairs are all of
the text and not a sample of other pairs, so there is no interval over them.

Predicted before the runs of this version, of which the earlier one had shown 1 to 3 with
one seed. A prediction is supported if the whole 95 % interval over seeds (Welch; of all
predictions together, by Bonferroni's correction) is on the predicted side of 0, refuted if
the whole interval is on the other side, and otherwise not decided.
1. With k = 5, the correlation is higher with 100 dimensions than with 25, and higher with
   400 than with 100.
2. With 100 dimensions it is higher with k = 5 than with k = 1, and than with k = 15.
3. Pairs that never occur have a lower mean dot product with k = 15 than with k = 1.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import COLOURS, figure, lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, d=100, parts=1)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps = 0, '5 epochs'

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


PEAKS = (0.0125, 0.025, 0.05, 0.1)
SAMPLES, WIDTHS = (1, 5, 15), (25, 100, 400)
VARIANTS = {
  **{f'k = {k}, D = 100': (k, 100) for k in SAMPLES},
  **{f'k = 5, D = {d}': (5, d) for d in WIDTHS},
}
CORRELATION, UNSEEN = 'factorization/pearson', 'factorization/unseen'
PREDICTED = (  # metric, the variant that is predicted to be above, and the other one
  (CORRELATION, 'k = 5, D = 100', 'k = 5, D = 25'),
  (CORRELATION, 'k = 5, D = 400', 'k = 5, D = 100'),
  (CORRELATION, 'k = 5, D = 100', 'k = 1, D = 100'),
  (CORRELATION, 'k = 5, D = 100', 'k = 15, D = 100'),
  (UNSEEN, 'k = 1, D = 100', 'k = 15, D = 100'),
)


def sweep(add):
  for k, d in VARIANTS.values():
    for peak in PEAKS:
      for seed in range(3):
        options = {'model.objective.negatives': k, 'model.width': d}
        add(seed=seed, **options, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, CORRELATION)
  named = {label: best[x] for label, x in VARIANTS.items() if x in best}
  metrics = (CORRELATION, 'factorization/weighted', 'factorization/gap', UNSEEN)
  rows = [
    [
      label,
      f'{members[0].config["hyper"]["peak"]:g}',
      *([run.final(m) for run in members] for m in metrics),
    ]
    for label, members in named.items()
  ]
  columns = ['k samples, D dimensions', 'peak', Column('correlation', digits=3)]
  columns += [Column('weighted by counts', digits=3), Column('gap (nats)', digits=2)]
  columns += [Column('w · c of unseen pairs', digits=2)]
  text = table(rows, columns)
  text += (
    '\nCorrelation of w · c with PMI - log k over pairs that occur ten times or more; '
    'the gap is the root of their mean squared difference, weighted. "peak" is the '
    f'learning rate of {", ".join(map(str, PEAKS))} with the highest mean correlation. '
    'Figures of pairs show a sample of one seed, without the outermost 0.1 % on each '
    'side.\n\n'
  )
  verdicts = [
    judged(
      f'{"correlation" if metric == CORRELATION else "unseen"}: {one} minus {other}',
      versus(named, one, other, lambda run, name=metric: run.final(name)),
      above=0,
      tests=len(PREDICTED),
      digits=3,
    )
    for metric, one, other in PREDICTED
  ]
  text += table(verdicts, PREDICTIONS)
  (folder / 'table.md').write_text(text, 'utf-8')
  lines(
    folder / 'by-epoch',
    {
      label: [_by_epoch(run, CORRELATION) for run in members]
      for label, members in named.items()
    },
    'epochs',
    'correlation of w · c with PMI - log k',
    title='Correlation with PMI - log k (bands: deviation over seeds)',
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
TIME = '(estimated) 27 minutes for the sweep on one CPU core'
