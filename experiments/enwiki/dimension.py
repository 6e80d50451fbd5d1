r"""Word vectors of 25 to 400 dimensions, by singular vectors and by skip-gram.

  python -m launch.sweep experiments/enwiki/dimension.py --workdir runs/studies

Landauer and Dumais 1997, figure 3, https://doi.org/10.1037/0033-295X.104.2.211, find that
of singular vectors there can be too few and too many; Pennington, Socher and Manning 2014,
figure 2a, https://aclanthology.org/D14-1162, that beyond 200 dimensions little is gained.
This study is under revision: all widths of skip-gram have one learning rate and five
epochs, and ± leaves out the standard errors of the sets.
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
ROADS = {'svd': 'SVD of PPMI', 'sgns': 'SGNS'}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, road='sgns', d=100, parts=3)
  if arg.road not in ROADS:
    raise ValueError(f'road is {arg.road!r}; it may be {", ".join(ROADS)}')
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=30_000)

  # Model
  if arg.road == 'svd':
    c.task = 'tasks.counting:SingularVectors'
    # block x steps is 2.5 x d, or more where so few iterations are not precise
    c.steps = max(8, -(-5 * arg.d // 64))
    c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
    c.counts.seed = c.get_ref('seed')  # of what is thinned out
    c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
    c.model = dict(width=arg.d, block=32, power=0.5, use='words')
    c.hyper, c.schedule = dict(peak=0.0), dict(kind='constant')
  else:
    c.task, c.steps = 'tasks.word2vec:WordPrediction', '5 epochs'
    c.batching = dict(lanes=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=5, dynamic=True)
    c.model.update(block=32, most=64.0, use='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(type='similarity', restrict=30_000)
  c.evals.similarity.sets = ('ws353', 'men', 'simlex', 'google')
  c.keep_latest = 1
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  if 'pmi' in c:
    c.steps = 8
    c.model.update(width=16, block=8)
  else:
    c.steps = 20
    c.batching.length = 256
    c.model.width = 16
  c.evals.similarity.sets = ('ws353',)


def sweep(add):
  for road in ROADS:
    for d in WIDTHS:
      for seed in range(3):
        add(arg=f'road={road},d={d}', seed=seed)


def report(runs, folder):
  found = {
    (road, d): members
    for road in ROADS
    for d in WIDTHS
    if (members := [r for r in runs if r.overrides['arg'] == f'road={road},d={d}'])
  }
  rows = [
    [
      f'{ROADS[road]}, {d}',
      *([_score(run, name) for run in members] for name in SETS),
      [run.minutes[-1] for run in members],
    ]
    for (road, d), members in found.items()
  ]
  columns = [
    'road, dimensions',
    *(Column(label, 'max', 3) for label in SETS.values()),
    Column('minutes of training', digits=2),
  ]
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')
  for file, names, what in (
    ('similarity', ('ws353', 'men', 'simlex'), "Spearman's correlation"),
    ('analogies', ('google_semantic', 'google_syntactic'), 'accuracy'),
  ):
    lines(
      folder / file,
      {
        f'{SETS[name]}, {ROADS[road]}': _curves(found, road, name)
        for name in names
        for road in ROADS
      },
      'dimensions',
      what,
      title='Scores by number of dimensions',
      xlog=True,
      spread='bars',
    )


def _curves(found, road, name):
  """Of each seed, dimensions and scores."""
  widths = [d for d in WIDTHS if (road, d) in found]
  seeds = [{run.config['seed']: run for run in found[road, d]} for d in widths]
  common = [seed for seed in seeds[0] if all(seed in runs for runs in seeds)]
  return [(widths, [_score(runs[s], name) for runs in seeds]) for s in common]


def _score(run, name):
  return run.final(f'similarity/{name}')


PAPER = {}
TIME = '27 minutes for the sweep on 2 CPU cores'
