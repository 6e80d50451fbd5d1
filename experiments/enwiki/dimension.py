r"""Word vectors of 25 to 400 dimensions, by singular vectors and by skip-gram.

  python -m launch.sweep experiments/enwiki/dimension.py --workdir runs/studies

Landauer and Dumais 1997, figure 3, https://doi.org/10.1037/0033-295X.104.2.211, find
that there can be too few and too many singular vectors; Pennington, Socher and Manning
2014, figure 2a, https://aclanthology.org/D14-1162, that more than 200 dimensions gain
little. This study is under revision: skip-gram has the same learning rate and five
epochs at every width, and ± does not include the standard errors of the sets.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.tables import Column, table

SETS = {
  **{'ws353': 'WordSim-353', 'men': 'MEN', 'simlex': 'SimLex-999'},
  **{'google_semantic': 'Google, semantic', 'google_syntactic': 'Google, syntactic'},
}
WIDTHS = (25, 50, 100, 200, 400)
METHODS = {'svd': 'SVD of PPMI', 'sgns': 'SGNS'}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'method': METHODS}, method='sgns', d=100, parts=3)
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=30_000)

  # Model
  if arg.method == 'svd':
    c.task = 'tasks.estimators.svd:SingularVectors'
    # block x iterations is 2.5 x d, or more where so few iterations are not precise
    iterations = max(8, -(-5 * arg.d // 64))
    c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
    c.counts.seed = c.get_ref('seed')  # of which frequent words are removed
    c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
    c.model = dict(width=arg.d, block=32, iterations=iterations, power=0.5)
    c.model.output_vectors = 'words'
  else:
    c.task, c.steps = 'tasks.word2vec:WordPrediction', '5 epochs'
    c.batching = dict(streams=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=5, dynamic=True)
    c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)
    c.keep_latest = 1

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(kind='similarity', restrict=30_000)
  c.evals.similarity.sets = ('ws353', 'men', 'simlex', 'google')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  if 'pmi' in c:
    c.model.update(width=16, block=8, iterations=8)
  else:
    c.steps = 20
    c.batching.length = 256
    c.model.width = 16
  c.evals.similarity.sets = ('ws353',)


def sweep(add):
  for method in METHODS:
    for d in WIDTHS:
      for seed in range(3):
        add(arg=f'method={method},d={d}', seed=seed)


def report(runs, folder):
  runs_by_method = {
    (method, d): members
    for method in METHODS
    for d in WIDTHS
    if (members := [r for r in runs if r.overrides['arg'] == f'method={method},d={d}'])
  }
  rows = [
    [
      f'{METHODS[method]}, {d}',
      *([_score(run, name) for run in members] for name in SETS),
      [run.minutes[-1] for run in members],
    ]
    for (method, d), members in runs_by_method.items()
  ]
  columns = [
    'method, dimensions',
    *(Column(label, 'max', 3) for label in SETS.values()),
    Column('minutes of training', digits=2),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')
  for file, names, ylabel in (
    ('similarity', ('ws353', 'men', 'simlex'), "Spearman's correlation"),
    ('analogies', ('google_semantic', 'google_syntactic'), 'accuracy'),
  ):
    lines(
      folder / file,
      {
        f'{SETS[name]}, {METHODS[method]}': _curves(runs_by_method, method, name)
        for name in names
        for method in METHODS
      },
      'dimensions',
      ylabel,
      title='Scores by number of dimensions',
      xlog=True,
      spread='bars',
    )


def _curves(runs_by_method, method, name):
  """Returns the dimensions and the scores of each seed."""
  widths = [d for d in WIDTHS if (method, d) in runs_by_method]
  seeds = [
    {run.config['seed']: run for run in runs_by_method[method, d]} for d in widths
  ]
  common = [seed for seed in seeds[0] if all(seed in runs for runs in seeds)]
  return [(widths, [_score(runs[s], name) for runs in seeds]) for s in common]


def _score(run, name):
  return run.final(f'similarity/{name}')


PAPER = []
TIME = '27 minutes for the sweep on 2 CPU cores'
