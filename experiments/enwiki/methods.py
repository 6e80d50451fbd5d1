r"""Five methods for word vectors, by counting and by training, on one text.

  python -m launch.sweep experiments/enwiki/methods.py --workdir runs/studies
  python -m launch.sweep experiments/enwiki/methods.py:parts=11,d=300 --workdir runs/studies

Levy, Goldberg and Dagan 2015, tables 3 to 5, https://aclanthology.org/Q15-1016: with
the same settings no method is best on all sets (section 5). In their experiments PMI
improves if counts of contexts have the exponent 0.75 (sections 3.2 and 6), and singular
values with the exponent 0 or 0.5 are better than with 1, which is the best
approximation (sections 3.3 and 6). This study also tries the shift by log k, which
skip-gram has from its k negative samples. Nearer words count more: (w - d + 1) / w in
the random window of skip-gram, and 1 / d for GloVe. The study is under revision: no
method is tuned, and its ± does not include the standard errors of the sets.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import bars
from seqlab.report.maps import by_rank, spectrum, word_map
from seqlab.report.tables import Column, table

PAIRS = ('ws353', 'ws353-sim', 'ws353-rel', 'men', 'simlex', 'rw', 'mturk')
ANALOGIES = ('google_semantic', 'google_syntactic', 'google', 'msr')
SEEDS = range(3)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'method': METHODS}, method='sgns', d=100, parts=3, words=50_000)
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data: the same for all; 11 parts are the whole, 40 million words
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=arg.words)

  # Model
  METHODS[arg.method](c, arg)

  # Evaluation
  c.evals.similarity = dict(kind='similarity', sets=(*PAIRS, 'google', 'msr'))
  c.evals.similarity.update(restrict=30_000, density=200)
  return c


# Changes of a smoke run, by the task of the method.
SMOKE = {
  'tasks.estimators.ppmi:PPMIVectors': {},
  'tasks.estimators.svd:SingularVectors': dict(model=dict(width=16, block=8)),
  'tasks.estimators.gensim_baseline:GensimBaseline': dict(
    batching=dict(length=256), model=dict(width=16, epochs=1)
  ),
  'tasks.word2vec:WordPrediction': dict(
    steps=20, batching=dict(length=256), model=dict(width=16)
  ),
  'tasks.glove:GlobalVectors': dict(
    steps=20, batching=dict(size=512), model=dict(width=16)
  ),
}


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.update(SMOKE[c.task])
  c.evals.similarity.update(sets=('ws353', 'google'), density=20)


def ppmi(c, arg):
  c.task = 'tasks.estimators.ppmi:PPMIVectors'
  # The weights that the random window of skip-gram has on average
  c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
  c.counts.seed = c.get_ref('seed')  # of which frequent words are removed
  c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
  c.evals = {}


def svd(c, arg):
  ppmi(c, arg)
  c.task = 'tasks.estimators.svd:SingularVectors'
  c.model = dict(width=arg.d, block=32, power=0.5, output_vectors='words')
  c.evals.spectrum = dict(kind='spectrum')


def sgns(c, arg):
  c.task, c.steps = 'tasks.word2vec:WordPrediction', '5 epochs'
  c.batching = dict(streams=32, length=2_048, subsample=1e-3)
  c.model = dict(kind='skipgram', width=arg.d, window=5, dynamic=True)
  c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
  c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)
  c.keep_latest = 1
  c.evals = {}


def cbow(c, arg):
  sgns(c, arg)
  c.model.kind = 'cbow'
  c.hyper, c.schedule = dict(peak=0.075), dict(kind='linear', floor=1e-3)


def glove(c, arg):
  c.task, c.steps = 'tasks.glove:GlobalVectors', '15 epochs'
  c.counts = dict(window=5, side='both', weights='harmonic', subsample=1e-3)
  c.counts.seed = c.get_ref('seed')  # of which frequent words are removed
  c.batching = dict(size=32_768, group=16)
  c.model = dict(width=arg.d, x_max=100.0, alpha=0.75, groups=64)
  c.hyper, c.schedule = dict(peak=0.05), dict(kind='constant')
  c.keep_latest = 1
  c.evals = {}


def gensim(c, arg):
  """Configures the baseline for skip-gram, with the same text and settings."""
  sgns(c, arg)
  for key in ('steps', 'hyper', 'schedule', 'keep_latest'):  # of training only
    del c[key]
  c.task = 'tasks.estimators.gensim_baseline:GensimBaseline'
  c.model.update(epochs=5, alpha=0.025, min_alpha=1e-4)


# A method is a function that sets task, model and evals. All but the baseline have a row
# in `MAIN`.
METHODS = {'ppmi': ppmi, 'svd': svd, 'sgns': sgns, 'cbow': cbow, 'glove': glove}
METHODS['gensim'] = gensim
MAIN = {
  'PPMI': dict(arg='method=ppmi'),
  'SVD': dict(arg='method=svd'),
  'SGNS': dict(arg='method=sgns'),
  'CBOW': dict(arg='method=cbow'),
  'GloVe': dict(arg='method=glove'),
}
OTHERS = {
  'PPMI, not smoothed': {'arg': 'method=ppmi', 'pmi.smoothing': 1.0},
  'PPMI, k = 5': {'arg': 'method=ppmi', 'pmi.shift': 5.0},
  'SVD, not smoothed': {'arg': 'method=svd', 'pmi.smoothing': 1.0},
  'SVD, k = 5': {'arg': 'method=svd', 'pmi.shift': 5.0},
  'SVD, p = 0': {'arg': 'method=svd', 'model.power': 0.0},
  'SVD, p = 1': {'arg': 'method=svd', 'model.power': 1.0},
  'SGNS, not smoothed': {'arg': 'method=sgns', 'model.objective.power': 1.0},
  'SGNS, k = 1': {'arg': 'method=sgns', 'model.objective.negatives': 1},
}
COMPARISONS = {  # label -> variants with and without a setting
  'PPMI: contexts smoothed': ('PPMI', 'PPMI, not smoothed'),
  'SVD: contexts smoothed': ('SVD', 'SVD, not smoothed'),
  'SGNS: contexts smoothed': ('SGNS', 'SGNS, not smoothed'),
  'SVD: p = 0.5, not 1': ('SVD', 'SVD, p = 1'),
  'SVD: p = 0, not 1': ('SVD, p = 0', 'SVD, p = 1'),
  'PPMI: k = 5, not 1': ('PPMI, k = 5', 'PPMI'),
  'SVD: k = 5, not 1': ('SVD, k = 5', 'SVD'),
  'SGNS: k = 5, not 1': ('SGNS', 'SGNS, k = 1'),
}


def sweep(add):
  for changes in (MAIN | OTHERS).values():
    for seed in SEEDS:
      add(seed=seed, **changes)


def report(runs, folder):
  named = {
    label: members
    for label, changes in (MAIN | OTHERS).items()
    if (members := [run for run in runs if _changes(run) == changes])
  }
  main = {label: named[label] for label in MAIN if label in named}
  text = f'{scores(main)}\n{coverage(runs[0])}\n\nOther settings:\n\n'
  text += scores(named)
  text += '\nGains of single settings, in percentage points, paired by seed:\n\n'
  text += table(
    [
      [label, *_gains(named[one], named[other])]
      for label, (one, other) in COMPARISONS.items()
      if one in named and other in named
    ],
    [
      'with minus without',
      *(Column(_title(name), digits=1) for name in PAIRS + ANALOGIES),
    ],
  )
  (folder / 'table.md').write_text(text, 'utf-8')
  for file, names, ylabel in (
    ('pairs', PAIRS, "Spearman's correlation"),
    ('analogies', ANALOGIES, 'accuracy'),
  ):
    bars(
      folder / file,
      {
        label: {_title(n): values for n in names if (values := _values(members, n))}
        for label, members in main.items()
      },
      ylabel,
      title='Methods for word vectors, on one text',
    )
  _draw(named, main, folder)


def _draw(named, main, folder):
  """Draws the spectrum, the density by frequency, and maps of one seed."""
  spectra = {
    label.replace('SVD', 'PPMI'): [run.arrays('spectrum')['values'] for run in members]
    for label, members in named.items()
    if label in ('SVD', 'SVD, not smoothed', 'SVD, k = 5')
  }
  if spectra:
    spectrum(folder / 'spectrum', spectra, title='Singular values')
  density = {label: members[0].arrays('similarity') for label, members in main.items()}
  by_rank(
    folder / 'density',
    {label: (x['density/rank'], x['density/cosine']) for label, x in density.items()},
    title='Cosine of the nearest words, by frequency',
  )
  for label in ('SVD', 'SGNS'):
    if label in main:
      _map(label, main[label][0], folder)


COUNTRIES = {
  **{'russia': 'moscow', 'france': 'paris', 'germany': 'berlin', 'italy': 'rome'},
  **{'spain': 'madrid', 'portugal': 'lisbon', 'poland': 'warsaw', 'greece': 'athens'},
  **{'england': 'london', 'ireland': 'dublin', 'austria': 'vienna', 'egypt': 'cairo'},
  **{'turkey': 'ankara', 'iran': 'tehran', 'china': 'beijing', 'japan': 'tokyo'},
  **{'cuba': 'havana', 'canada': 'ottawa', 'sweden': 'stockholm', 'norway': 'oslo'},
}


def _map(label, run, folder):
  from seqlab.word_vectors import (
    open_vectors,
  )  # imports JAX, which a plan does not need

  vectors = open_vectors(str(run.path))
  links = [pair for pair in COUNTRIES.items() if all(word in vectors for word in pair)]
  if len(links) < 2:
    return  # a smoke run knows too few words
  words = [word for pair in links for word in pair]
  for method, name in (('pca', 'principal components'), ('tsne', 't-SNE')):
    word_map(
      folder / f'map-{label.lower()}-{method}',
      words,
      vectors.matrix[vectors.rows(words)],
      method=method,
      groups=['country', 'capital'] * len(links),
      links=links,
      title=f'{len(links)} countries and their capitals, {label}, {name}',
    )


def _changes(run):
  return {key: value for key, value in run.overrides.items() if key != 'seed'}


def _title(name):
  return name.replace('_', ' ')


def _values(members, name):
  """Returns the score of each seed whose vocabulary has words of the set."""
  metric = f'similarity/{name}'
  return [run.final(metric) for run in members if run.has(metric)]


def scores(named):
  """Returns a table with one row per label; `named` is label -> runs of all seeds."""
  columns = [*(Column(name, 'max', 3) for name in PAIRS)]
  columns += [Column(f'{_title(name)} (%)', 'max', 1) for name in ANALOGIES]
  rows = [
    [
      label,
      *(_values(members, name) for name in PAIRS),
      *([100 * x for x in _values(members, name)] for name in ANALOGIES),
    ]
    for label, members in named.items()
  ]
  return table(rows, ['method', *columns])


def _gains(one, other):
  other = {run.config['seed']: run for run in other}
  pairs = [
    (run, other[run.config['seed']]) for run in one if run.config['seed'] in other
  ]
  metrics = [f'similarity/{name}' for name in PAIRS + ANALOGIES]
  return [
    [100 * (a.final(m) - b.final(m)) for a, b in pairs if a.has(m) and b.has(m)]
    for m in metrics
  ]


def coverage(run):
  shares = {
    name: run.final(f'similarity/{name}_coverage')
    for name in (*PAIRS, 'google', 'msr')
    if run.has(f'similarity/{name}_coverage')
  }
  known = ', '.join(f'{name} {share:.0%}' for name, share in shares.items())
  return (
    f'Text: parts {run.config["corpus"]["part"]} of 0 to 10 of enwiki2018. Scores are of '
    f'pairs and questions whose words are known: {known}. Analogies are restricted to '
    'the 30,000 most frequent words.'
  )


PAPER = []
TIME = '25 minutes for the sweep on 2 CPU cores'
