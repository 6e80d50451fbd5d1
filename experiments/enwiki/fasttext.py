r"""Skip-gram with character n-grams, and without them, on English Wikipedia.

  seqlab train experiments/enwiki/fasttext.py --workdir runs/subwords
  seqlab neighbours runs/subwords unforgettableness
  seqlab vectors runs/subwords --to subwords.bin
  python -m launch.sweep experiments/enwiki/fasttext.py --workdir runs/studies

Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606: the input vector of a word is
the mean of its own row and the rows of its n-grams of 3 to 6 characters. In their table
1 the correlation on rare words (RW) is 0.43 for skip-gram, 0.46 with n-grams where pairs
with an unseen word count as 0, and 0.47 where such words have the vectors of their
n-grams; on WordSim-353 it is 0.72, 0.70 and 0.71. In their table 2 syntactic analogies
gain 4.8 points and semantic ones lose 0.7. They train on the whole of Wikipedia, so
their values are not compared with those of this text.

Prediction, written before any run: on RW with all pairs, n-grams with vectors for unseen
words have a higher mean than skip-gram with unseen pairs as 0, and so have n-grams with
unseen pairs as 0; syntactic analogies gain and semantic ones lose. It is refuted for a
set if the mean difference over the seeds has the other sign.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.tables import Column, table

METHODS = {'subwords': 'with n-grams', 'words': 'without n-grams'}
SETS = ('rw', 'ws353', 'google', 'msr')


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'method': METHODS}, method='subwords', path='', width=100)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.word2vec:WordPrediction'
  c.seed, c.steps = 0, '5 epochs'

  # Data: one part of a named corpus, 3.9 million words; or a text of your own
  c.corpus = dict(path=arg.path) if arg.path else dict(name='enwiki2018', part=0)
  c.vocabulary = dict(min_count=5, max_size=None)
  c.batching = dict(streams=32, length=2_048, subsample=1e-4)

  # Model
  c.model = dict(kind='skipgram', width=arg.width, window=5, dynamic=True)
  c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
  if arg.method == 'subwords':
    c.model.subwords = dict(minn=3, maxn=6, bucket=2_000_000)

  # Hyperparameters: of the paper, 0.025 without n-grams and 0.05 with them
  c.hyper = dict(peak=0.05 if arg.method == 'subwords' else 0.025)
  c.schedule = dict(kind='linear', floor=4e-3)
  c.threads = 1 if arg.width < 200 else None
  c.keep_latest = 1

  # Evaluation
  c.evals = {}
  c.evals.similarity = dict(kind='similarity', sets=SETS, restrict=30_000)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  if 'path' not in c.corpus:
    c.corpus.part = 10
  c.vocabulary.max_size = 2_000
  c.batching.length = 256
  c.model.width = 16
  c.evals.similarity.sets = ('rw',)


def sweep(add):
  for method in METHODS:
    for seed in range(3):
      add(arg=f'method={method}', seed=seed)


def report(runs, folder):
  named = {
    label: [r for r in runs if r.overrides['arg'] == f'method={method}']
    for method, label in METHODS.items()
  }
  columns = {
    'RW, known pairs': 'rw',
    'RW, unseen as 0': 'rw_zero',
    'RW, unseen by n-grams': 'rw_subwords',
    'WordSim-353': 'ws353',
    'semantic': 'google_semantic',
    'syntactic': 'google_syntactic',
    'MSR': 'msr',
  }
  rows = [
    [label, *(_values(members, name) for name in columns.values())]
    for label, members in named.items()
    if members
  ]
  text = table(rows, ['skip-gram', *(Column(x, 'max', 3) for x in columns)])
  known = runs[0].final('similarity/rw_coverage')
  text += f'\nBoth words of {known:.0%} of the pairs of RW are in the vocabulary.\n'
  (folder / 'table.md').write_text(text, 'utf-8')


def _values(members, name):
  """Returns the score of each seed that has it; only n-grams have vectors for all."""
  metric = f'similarity/{name}'
  return [run.final(metric) for run in members if run.has(metric)]


PAPER = []
TIME = 'not run; estimated 10 minutes for the sweep on 2 CPU cores'
