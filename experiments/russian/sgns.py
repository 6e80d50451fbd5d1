r"""Russian word vectors from novels, by skip-gram and by SVD of PPMI.

  python -m launch.sweep experiments/russian/sgns.py --workdir runs/studies
  seqlab train experiments/russian/sgns.py --workdir runs/russian
  seqlab neighbours runs/russian любовь

They are evaluated on HJ, pairs of Russian nouns with human ratings: Panchenko et al.
2016, https://arxiv.org/abs/1708.09702. Each form of a word is a separate type, and five
million words are few for so many forms. Levy, Goldberg and Dagan 2015,
https://aclanthology.org/Q15-1016, find neither method better on a large text. This
study is under revision: only about 163 pairs of HJ are known, too few to rank the two
methods.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.maps import word_map
from seqlab.report.tables import Column, table

METHODS = {'svd': 'SVD of PPMI', 'sgns': 'SGNS'}
SHOWN = ('любовь', 'москва', 'отец', 'лошадь', 'князь', 'зима', 'чай', 'сказал')
WORDS = {
  'family': 'мать отец сын дочь брат сестра муж жена дядя тетка бабушка дед',
  'feelings': 'любовь ненависть страх радость печаль тоска гнев надежда стыд',
  'animals': 'лошадь собака кошка волк медведь корова птица рыба',
  'places': 'москва петербург париж деревня город село дом комната',
  'seasons': 'зима весна лето осень утро вечер ночь день',
  'ranks': 'князь граф генерал полковник офицер солдат царь барин мужик',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'method': METHODS}, method='sgns', d=100)
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data: 87 texts
  c.corpus = dict(name='russian-novels', part=None)
  c.vocabulary = dict(min_count=5, max_size=50_000)

  # Model
  if arg.method == 'svd':
    c.task = 'tasks.estimators.svd:SingularVectors'
    c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
    c.counts.seed = c.get_ref('seed')  # of which frequent words are removed
    c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
    c.model = dict(width=arg.d, block=32, power=0.5)
    c.model.output_vectors = 'words'
  else:
    # More epochs than for English, because the text is shorter
    c.task, c.steps = 'tasks.word2vec:WordPrediction', '15 epochs'
    c.batching = dict(streams=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=5, dynamic=True)
    c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)
    c.keep_latest = 1

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(kind='similarity', sets=('hj',), show=SHOWN)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 2
  c.vocabulary.max_size = 2_000
  if 'pmi' in c:
    c.model.update(width=16, block=8)
  else:
    c.steps = 20
    c.batching.length = 256
    c.model.width = 16
  c.evals.similarity.show = None


WIDTHS = (100, 300)


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
      *([run.final(f'similarity/{m}') for run in members] for m in ('hj', 'hj_zero')),
      [run.minutes[-1] for run in members],
    ]
    for (method, d), members in runs_by_method.items()
  ]
  columns = [
    'method, dimensions',
    *(Column('HJ, known pairs', 'max', 3), Column('HJ, unknown as 0', 'max', 3)),
    Column('minutes of training', digits=2),
  ]
  known = runs[0].final('similarity/hj_coverage')
  text = table(rows, columns) + f'\n{known:.0%} of the pairs are known.\n'
  for (method, d), members in runs_by_method.items():
    if d == WIDTHS[0]:
      text += f'\nNearest words, {METHODS[method]}, {_neighbours(members[0])}'
      _map(f'{METHODS[method]}, {d} dimensions', f'map-{method}', members[0], folder)
  (folder / 'table.md').write_text(text, 'utf-8')


def _neighbours(run):
  """Returns the lines of the last evaluation, as a Markdown list."""
  file = max((run.path / 'samples').glob('similarity-*.txt'))
  shown = ''.join(f'- {line}\n' for line in file.read_text('utf-8').splitlines())
  return f'seed {run.config["seed"]}:\n\n{shown}'


def _map(label, name, run, folder):
  from seqlab.word_vectors import (
    open_vectors,
  )  # imports JAX, which a plan does not need

  vectors = open_vectors(str(run.path))
  groups = {w: group for group, words in WORDS.items() for w in words.split()}
  words = [word for word in groups if word in vectors]
  if len(words) < 3:
    return  # a smoke run knows too few words
  for method, title in (('pca', 'principal components'), ('tsne', 't-SNE')):
    word_map(
      folder / f'{name}-{method}',
      words,
      vectors.matrix[vectors.rows(words)],
      method=method,
      groups=[groups[word] for word in words],
      title=f'{len(words)} words of Russian novels, {label}, {title}',
    )


PAPER = []
TIME = '22 minutes for the sweep on 2 CPU cores'
