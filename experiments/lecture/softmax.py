r"""Full softmax, hierarchical softmax and negative sampling, in the same time.

  python -m launch.sweep experiments/lecture/softmax.py --workers 1 \
    --workdir runs/studies
  seqlab train experiments/lecture/softmax.py:objective=tree,words=50000 \
    --workdir runs/tree

The lecture: "обучаем нейросеть - на вход onehot слово - на выходе тоже onehot слово.
Фактически это задача классификации" (a net with a one-hot word in and a one-hot word out: a
classification task). With the full softmax a prediction is compared with all V words; with a
tree (Morin and Bengio 2005) with about log2 V inner nodes; with negative sampling (Mikolov et
al. 2013, https://arxiv.org/abs/1310.4546) with k samples: 5, and with 10,000 words also 1 and
15. Two parts of enwiki2018, in $SEQLAB_DATA, with 2,000, 10,000 and 50,000 words. The window
has five words to each side.

Each run has 5 seconds of updates on its core, whatever the objective, and then ends; the
learning rate is constant. Runs must not share cores with others, so that times can be
compared: use one worker per core of a machine that does nothing else. With 50,000 words the
full softmax takes some tens of updates in this time. That its result with much more time is
worse is not said; a comparison at convergence does not fit this budget.

Held-out cross-entropy is exact, over the whole vocabulary. For negative sampling it is that of
q(c) exp(w · c), normalised, as at its optimum. Similarity is Spearman's correlation of
cosines with the ratings of MEN, as far as its words are known, which depends on the number of
words; after so few updates it is reported and no prediction is made. Each objective gets three
learning rates at each number of words and three seeds; the rate with the lowest mean loss in
the last quarter of the updates counts, so that the held-out text does not choose. The
table marks a rate at an end of the grid, beyond which a better one may be.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the held-out words and the pairs of MEN, whose
sampling error the interval does not contain.

Predicted before the runs; speeds are log10 of words per second:
1. The full softmax is more than ten times as fast with 2,000 words as with 50,000.
2. The speed of negative sampling with k = 5 differs by less than a factor of 2 between them.
3. With 2,000 words the full softmax has a lower cross-entropy than negative sampling with
   k = 5.
4. With 50,000 words it has a higher one than the tree and than negative sampling with k = 5.
5. With 10,000 words k = 1 is faster than k = 15.
"""

import math
import statistics

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen, curves
from seqlab.report.tables import Column, table

OBJECTIVES = {
  'softmax': dict(kind='softmax'),
  'tree': dict(kind='hierarchical'),
  'negative-1': dict(kind='negative', negatives=1, pool=32, power=0.75),
  'negative-5': dict(kind='negative', negatives=5, pool=32, power=0.75),
  'negative-15': dict(kind='negative', negatives=15, pool=32, power=0.75),
}
NAMES = {
  'softmax': 'full softmax',
  'tree': 'hierarchical softmax',
  'negative-1': 'negative sampling, k = 1',
  'negative-5': 'negative sampling, k = 5',
  'negative-15': 'negative sampling, k = 15',
}
SIZES = (2_000, 10_000, 50_000)
CELLS = dict.fromkeys(SIZES, ('softmax', 'tree', 'negative-5'))
CELLS[10_000] = (*OBJECTIVES,)
PEAKS = (0.0125, 0.05, 0.2)
SECONDS = 5


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'objective': OBJECTIVES, 'words': SIZES}
  arg = parse_arg(arg, choices, objective='softmax', words=2_000)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps, c.minutes = 0, 1_000_000, SECONDS / 60  # time ends a run

  # Data
  c.corpus = dict(name='enwiki2018', part=(0, 1), heldout=200)
  c.vocabulary = dict(min_count=5, max_size=arg.words)
  c.batching = dict(streams=8, length=256, subsample=1e-3)

  # Model
  c.model = dict(kind='skipgram', width=100, window=5, dynamic=False, block=32)
  c.model.update(max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(OBJECTIVES[arg.objective])

  # Hyperparameters
  c.hyper = dict(peak=0.025)
  c.schedule = dict(kind='constant')

  # Evaluation
  c.evals = {}
  c.evals.heldout = dict(kind='likelihood', words=4_000)
  c.evals.similarity = dict(kind='similarity', sets=('men', 'ws353'))
  c.keep_latest = 1
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.minutes = 20, None
  c.corpus.part = 10
  c.vocabulary.max_size = 300
  c.model.width = 16
  c.evals.heldout.words = 500
  c.evals.similarity.update(sets=('men',))


def sweep(add):
  for words, objectives in CELLS.items():
    for objective in objectives:
      for peak in PEAKS:
        for seed in range(3):
          arg = f'objective={objective},words={words}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, _late_loss, 'min')
  best = {v: best[v] for n in SIZES for kind in OBJECTIVES if (v := (kind, n)) in best}
  for name, of, ylabel in (
    ('speed', _speed, 'words of the text per second (log10)'),
    ('cross-entropy', _nll, 'cross-entropy, held out (nats)'),
    ('men', _men, "Spearman's correlation, MEN"),
  ):
    lines(
      folder / name,
      {NAMES[kind]: drawn for kind in OBJECTIVES if (drawn := _curves(best, kind, of))},
      'words in the vocabulary',
      ylabel,
      title=f'{SECONDS} seconds of updates, by number of words',
      spread='bars',
      xlog=True,
    )
  rows = [
    [
      *(NAMES[kind], f'{size:,}', chosen(members, PEAKS)),
      [10 ** _speed(run) for run in members],
      *([of(run) for run in members] for of in (_nll, _men)),
    ]
    for (kind, size), members in best.items()
  ]
  columns = [
    *('objective', 'vocabulary', 'peak', Column('words per second', digits=0)),
    *(Column('cross-entropy, held out', digits=3), Column('MEN', digits=3)),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _curves(best, kind, of):
  """Returns one curve over the sizes per seed."""
  return curves({n: best[kind, n] for n in SIZES if (kind, n) in best}, of)


def _verdicts(best):
  def minus(of, first, second):
    return versus(best, first, second, of)

  few, middle, many = SIZES
  factor = math.log10(2)
  rows = (
    (
      f'1. speed, full softmax, {few:,} minus {many:,} words',
      minus(_speed, ('softmax', few), ('softmax', many)),
      dict(above=1),
    ),
    (
      f'2. speed, k = 5, {few:,} minus {many:,} words',
      minus(_speed, ('negative-5', few), ('negative-5', many)),
      dict(above=-factor, below=factor),
    ),
    (
      f'3. cross-entropy, full softmax minus k = 5, {few:,} words',
      minus(_nll, ('softmax', few), ('negative-5', few)),
      dict(below=0),
    ),
    *(
      (
        f'4. cross-entropy, full softmax minus {NAMES[other]}, {many:,} words',
        minus(_nll, ('softmax', many), (other, many)),
        dict(above=0, tests=2),
      )
      for other in ('tree', 'negative-5')
    ),
    (
      f'5. speed, k = 1 minus k = 15, {middle:,} words',
      minus(_speed, ('negative-1', middle), ('negative-15', middle)),
      dict(above=0),
    ),
  )
  return [judged(label, terms, digits=3, **bounds) for label, terms, bounds in rows]


def _speed(run):
  """Returns log10 of the words of the text, without subsampled ones, per second."""
  batching = run.config['batching']
  words = len(run.minutes) * batching['streams'] * batching['length']
  return math.log10(words / (60 * run.minutes[-1]))


def _late_loss(run):
  """Returns the mean training loss of the last quarter of the updates."""
  losses = run.series('loss')[1]
  return statistics.fmean(losses[-math.ceil(len(losses) / 4) :])


def _nll(run):
  return run.final('heldout/nll')


def _men(run):
  return run.final('similarity/men')


def _variant(run):
  """Returns the objective and the number of words."""
  wanted, size = dict(run.config['model']['objective']), run.config['vocabulary']
  kind = next(name for name, x in OBJECTIVES.items() if x == wanted)
  return kind, next((n for n in SIZES if n >= size['max_size']), SIZES[-1])


PAPER = []
TIME = 'about 15 minutes of one quiet CPU core for the sweep (estimated)'
