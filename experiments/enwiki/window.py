r"""Windows of 1 to 10 words, on sets of similarity and of relatedness.

  python -m launch.sweep experiments/enwiki/window.py --workdir runs/studies

Levy and Goldberg 2014, sections 2 and 4, https://aclanthology.org/P14-2050, find words of
one topic near with a wide window, and words of one kind with a narrow one. Compared are
sets of similarity, SimLex-999 and the half of WordSim-353 that Agirre et al. 2009,
https://aclanthology.org/N09-1003, found similar, with sets of relatedness, its other half
and MEN. This study is under revision: skip-gram learns from as many pairs whatever the
window, so that it has 15 epochs with a window of one word and 2.7 with one of ten.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.tables import Column, table

SIMILARITY = {'ws353-sim': 'WordSim-353, similarity', 'simlex': 'SimLex-999'}
RELATEDNESS = {'ws353-rel': 'WordSim-353, relatedness', 'men': 'MEN'}
SETS = SIMILARITY | RELATEDNESS
WINDOWS = (1, 2, 5, 10)
ROADS = {'svd': 'SVD of PPMI', 'sgns': 'SGNS'}
SHOWN = ('doctor', 'car', 'guitar', 'russia', 'winter', 'horse')


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, road='sgns', window=5, d=100, parts=4)
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
    c.steps = -(-5 * arg.d // 64)  # block x steps is 2.5 x d
    c.counts = dict(window=arg.window, side='both', weights='linear', subsample=1e-3)
    c.counts.seed = c.get_ref('seed')  # of what is thinned out
    c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
    c.model = dict(width=arg.d, block=32, power=0.5, use='words')
    c.hyper, c.schedule = dict(peak=0.0), dict(kind='constant')
  else:
    c.task = 'tasks.word2vec:WordPrediction'
    # As many pairs whatever the window, of which the random one is half on average
    c.steps = f'{30 / (arg.window + 1):.2f} epochs'
    c.batching = dict(lanes=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=arg.window, dynamic=True)
    c.model.update(block=32, most=64.0, use='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(type='similarity', sets=tuple(SETS), show=SHOWN)
  c.keep_latest = 1
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  if 'pmi' in c:
    c.steps = 5
    c.model.update(width=16, block=8)
  else:
    c.steps = 20
    c.batching.length = 256
    c.model.width = 16
  c.evals.similarity.update(sets=('ws353-sim',), show=None)


def sweep(add):
  for road in ROADS:
    for window in WINDOWS:
      for seed in range(3):
        add(arg=f'road={road},window={window}', seed=seed)


def report(runs, folder):
  found = {
    (road, w): members
    for road in ROADS
    for w in WINDOWS
    if (members := [r for r in runs if r.overrides['arg'] == f'road={road},window={w}'])
  }
  rows = [
    [
      f'{ROADS[road]}, {w}',
      *([_score(run, name) for run in members] for name in SETS),
      [_lean(run) for run in members],
    ]
    for (road, w), members in found.items()
  ]
  columns = [
    'road, window',
    *(Column(label, 'max', 3) for label in SETS.values()),
    Column('mean of similarity, less that of relatedness', digits=3),
  ]
  text = table(rows, columns)
  for (road, w), members in found.items():
    if w in (WINDOWS[0], WINDOWS[-1]):
      text += f'\nNearest words, {ROADS[road]}, window {w}, {_neighbours(members[0])}'
  (folder / 'table.md').write_text(text, 'utf-8')
  for road, title in ROADS.items():
    lines(
      folder / f'sets-{road}',
      {label: _curves(found, road, _of(name)) for name, label in SETS.items()},
      'window (words to either side)',
      "Spearman's correlation",
      title=title,
      xlog=True,
      ylim=(0, None),
      spread='bars',
    )
  lines(
    folder / 'lean',
    {title: _curves(found, road, _lean) for road, title in ROADS.items()},
    'window (words to either side)',
    'correlation: similarity less relatedness',
    title='Similarity less relatedness, by window',
    xlog=True,
    spread='bars',
  )


def _curves(found, road, score):
  """Of each seed, windows and scores."""
  windows = [w for w in WINDOWS if (road, w) in found]
  seeds = [{run.config['seed']: run for run in found[road, w]} for w in windows]
  common = [seed for seed in seeds[0] if all(seed in runs for runs in seeds)]
  return [(windows, [score(runs[s]) for runs in seeds]) for s in common]


def _of(name):
  return lambda run: _score(run, name)


def _score(run, name):
  return run.final(f'similarity/{name}')


def _lean(run):
  """By how much it agrees better about similarity than about relatedness."""
  similar, related = (
    sum(_score(run, name) for name in names) / len(names)
    for names in (SIMILARITY, RELATEDNESS)
  )
  return similar - related


def _neighbours(run):
  """The last lines of the evaluator, as a list."""
  file = max((run.path / 'samples').glob('similarity-*.txt'))
  shown = ''.join(f'- {line}\n' for line in file.read_text('utf-8').splitlines())
  return f'seed {run.config["seed"]}:\n\n{shown}'


PAPER = {}
TIME = '33 minutes for the sweep on 2 CPU cores'
