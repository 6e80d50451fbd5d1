r"""Windows of 1 to 10 words, on sets of similarity and of relatedness.

  python -m launch.sweep experiments/enwiki/window.py --workdir runs/studies

Levy and Goldberg 2014, sections 2 and 4, https://aclanthology.org/P14-2050, find that a
wide window puts words of the same topic near each other, and a narrow window words of
the same kind. This study compares sets of similarity with sets of relatedness.
SimLex-999 and the half of WordSim-353 that Agirre et al. 2009,
https://aclanthology.org/N09-1003, found similar are of the first kind; its other half
and MEN are of the second. The study is under revision: skip-gram learns from the same
number of pairs at every window, so it has 15 epochs with a window of one word and 2.7
with a window of ten.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import lines
from seqlab.report.tables import Column, table

SIMILARITY = {'ws353-sim': 'WordSim-353, similarity', 'simlex': 'SimLex-999'}
RELATEDNESS = {'ws353-rel': 'WordSim-353, relatedness', 'men': 'MEN'}
SETS = SIMILARITY | RELATEDNESS
WINDOWS = (1, 2, 5, 10)
METHODS = {'svd': 'SVD of PPMI', 'sgns': 'SGNS'}
SHOWN = ('doctor', 'car', 'guitar', 'russia', 'winter', 'horse')


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'method': METHODS}, method='sgns', window=5, d=100, parts=4)
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=30_000)

  # Model
  if arg.method == 'svd':
    c.task = 'tasks.estimators.svd:SingularVectors'
    c.counts = dict(window=arg.window, side='both', weights='linear', subsample=1e-3)
    c.counts.seed = c.get_ref('seed')  # of which frequent words are removed
    c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
    c.model = dict(width=arg.d, block=32, power=0.5)
    c.model.output_vectors = 'words'
  else:
    c.task = 'tasks.word2vec:WordPrediction'
    # The same number of pairs for each window: a random window is half as wide on average
    c.steps = f'{30 / (arg.window + 1):.2f} epochs'
    c.batching = dict(streams=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=arg.window, dynamic=True)
    c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)
    c.keep_latest = 1

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(kind='similarity', sets=tuple(SETS), show=SHOWN)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  if 'pmi' in c:
    c.model.update(width=16, block=8)
  else:
    c.steps = 20
    c.batching.length = 256
    c.model.width = 16
  c.evals.similarity.update(sets=('ws353-sim',), show=None)


def sweep(add):
  for method in METHODS:
    for window in WINDOWS:
      for seed in range(3):
        add(arg=f'method={method},window={window}', seed=seed)


def report(runs, folder):
  runs_by_method = {
    (method, w): members
    for method in METHODS
    for w in WINDOWS
    if (
      members := [
        r for r in runs if r.overrides['arg'] == f'method={method},window={w}'
      ]
    )
  }
  rows = [
    [
      f'{METHODS[method]}, {w}',
      *([_score(run, name) for run in members] for name in SETS),
      [_difference(run) for run in members],
    ]
    for (method, w), members in runs_by_method.items()
  ]
  columns = [
    'method, window',
    *(Column(label, 'max', 3) for label in SETS.values()),
    Column('similarity minus relatedness', digits=3),
  ]
  text = table(rows, columns)
  for (method, w), members in runs_by_method.items():
    if w in (WINDOWS[0], WINDOWS[-1]):
      text += (
        f'\nNearest words, {METHODS[method]}, window {w}, {_neighbours(members[0])}'
      )
  (folder / 'table.md').write_text(text, 'utf-8')
  for method, title in METHODS.items():
    lines(
      folder / f'sets-{method}',
      {
        label: _curves(runs_by_method, method, _of(name))
        for name, label in SETS.items()
      },
      'window (words on each side)',
      "Spearman's correlation",
      title=title,
      xlog=True,
      ylim=(0, None),
      spread='bars',
    )
  lines(
    folder / 'lean',
    {
      title: _curves(runs_by_method, method, _difference)
      for method, title in METHODS.items()
    },
    'window (words on each side)',
    'correlation: similarity minus relatedness',
    title='Similarity minus relatedness, by window',
    xlog=True,
    spread='bars',
  )


def _curves(runs_by_method, method, score):
  """Returns the windows and the scores of each seed."""
  windows = [w for w in WINDOWS if (method, w) in runs_by_method]
  seeds = [
    {run.config['seed']: run for run in runs_by_method[method, w]} for w in windows
  ]
  common = [seed for seed in seeds[0] if all(seed in runs for runs in seeds)]
  return [(windows, [score(runs[s]) for runs in seeds]) for s in common]


def _of(name):
  return lambda run: _score(run, name)


def _score(run, name):
  return run.final(f'similarity/{name}')


def _difference(run):
  """Returns the mean correlation on similarity minus that on relatedness."""
  similar, related = (
    sum(_score(run, name) for name in names) / len(names)
    for names in (SIMILARITY, RELATEDNESS)
  )
  return similar - related


def _neighbours(run):
  """Returns the lines of the last evaluation, as a Markdown list."""
  file = max((run.path / 'samples').glob('similarity-*.txt'))
  shown = ''.join(f'- {line}\n' for line in file.read_text('utf-8').splitlines())
  return f'seed {run.config["seed"]}:\n\n{shown}'


PAPER = []
TIME = '33 minutes for the sweep on 2 CPU cores'
