r"""Five methods for word vectors, by counting and by nets: one text, one window.

  python -m launch.sweep experiments/enwiki/roads.py --workdir runs/studies
  python -m launch.sweep experiments/enwiki/roads.py:parts=11,d=300 --workdir runs/studies

Levy, Goldberg and Dagan 2015, tables 3 to 5, https://aclanthology.org/Q15-1016: with the
same settings they find no method the best everywhere (section 5). Smoothing the contexts'
counts by a power of 0.75 helps PMI in their experiments (sections 3.2 and 6), and singular
values do better to the power 0 or 0.5 than to 1, which would be the best approximation
(sections 3.3 and 6). The shift by log k, which nets get from k negative samples, is tried
too. Within the window nearer words count more: with the nets' random window
(w - d + 1) / w, for GloVe 1 / d. This study is under revision: no method is tuned, and its
± leaves out the standard errors of the sets.
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
  arg = parse_arg(arg, road='sgns', d=100, parts=3, words=50_000)
  if arg.road not in ROADS:
    raise ValueError(f'road is {arg.road!r}; it may be {", ".join(ROADS)}')
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data: the same for all; 11 parts are the whole, 40 million words
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=arg.words)

  # Model
  ROADS[arg.road](c, arg)

  # Evaluation
  c.evals.similarity = dict(type='similarity', sets=(*PAIRS, 'google', 'msr'))
  c.evals.similarity.update(restrict=30_000, density=200)
  c.keep_latest = 1
  return c


_SVD = dict(steps=5, model=dict(width=16, block=8))
_WORD2VEC = dict(steps=20, batching=dict(length=256), model=dict(width=16))
_GLOVE = dict(steps=20, batching=dict(size=512), model=dict(width=16))
_GENSIM = dict(batching=dict(length=256), model=dict(width=16, epochs=1))
SMOKE = {
  'tasks.counting:Explicit': {},
  'tasks.counting:SingularVectors': _SVD,
  'tasks.word2vec:WordPrediction': _WORD2VEC,
  'tasks.glove:GlobalVectors': _GLOVE,
  'tasks.peer:Gensim': _GENSIM,
}


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.update(SMOKE[c.task])
  c.evals.similarity.update(sets=('ws353', 'google'), density=20)


def ppmi(c, arg):
  c.task, c.steps = 'tasks.counting:Explicit', 1
  # The random window of the nets, as what it is on average
  c.counts = dict(window=5, side='both', weights='linear', subsample=1e-3)
  c.counts.seed = c.get_ref('seed')  # of what is thinned out
  c.pmi = dict(smoothing=0.75, shift=1.0, positive=True)
  c.model = {}
  c.hyper, c.schedule = dict(peak=0.0), dict(kind='constant')
  c.evals = {}


def svd(c, arg):
  ppmi(c, arg)
  c.task = 'tasks.counting:SingularVectors'
  c.steps = -(-5 * arg.d // 64)  # block x steps is 2.5 x d
  c.model = dict(width=arg.d, block=32, power=0.5, use='words')
  c.evals.spectrum = dict(type='spectrum')


def sgns(c, arg):
  c.task, c.steps = 'tasks.word2vec:WordPrediction', '5 epochs'
  c.batching = dict(lanes=32, length=2_048, subsample=1e-3)
  c.model = dict(kind='skipgram', width=arg.d, window=5, dynamic=True)
  c.model.update(block=32, most=64.0, use='words')
  c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
  c.hyper, c.schedule = dict(peak=0.025), dict(kind='linear', floor=4e-3)
  c.evals = {}


def cbow(c, arg):
  sgns(c, arg)
  c.model.kind = 'cbow'
  c.hyper, c.schedule = dict(peak=0.075), dict(kind='linear', floor=1e-3)


def glove(c, arg):
  c.task, c.steps = 'tasks.glove:GlobalVectors', '15 epochs'
  c.counts = dict(window=5, side='both', weights='harmonic', subsample=1e-3)
  c.counts.seed = c.get_ref('seed')  # of what is thinned out
  c.batching = dict(size=32_768, group=16)
  c.model = dict(width=arg.d, x_max=100.0, alpha=0.75, groups=64)
  c.hyper, c.schedule = dict(peak=0.05), dict(kind='constant')
  c.evals = {}


def gensim(c, arg):
  """The peer, of the same text with the same settings; not a road of its own."""
  sgns(c, arg)
  del c.steps  # '5 epochs', a text, and its type would stay
  c.task, c.steps = 'tasks.peer:Gensim', 1
  c.model.epochs = 5


# A road is a function that sets task, model and evals; all but the peer have a line in
# `MAIN` too.
ROADS = {'ppmi': ppmi, 'svd': svd, 'sgns': sgns, 'cbow': cbow, 'glove': glove}
ROADS['gensim'] = gensim
MAIN = {
  'PPMI': dict(arg='road=ppmi'),
  'SVD': dict(arg='road=svd'),
  'SGNS': dict(arg='road=sgns'),
  'CBOW': dict(arg='road=cbow'),
  'GloVe': dict(arg='road=glove'),
}
OTHERS = {
  'PPMI, not smoothed': {'arg': 'road=ppmi', 'pmi.smoothing': 1.0},
  'PPMI, k = 5': {'arg': 'road=ppmi', 'pmi.shift': 5.0},
  'SVD, not smoothed': {'arg': 'road=svd', 'pmi.smoothing': 1.0},
  'SVD, k = 5': {'arg': 'road=svd', 'pmi.shift': 5.0},
  'SVD, p = 0': {'arg': 'road=svd', 'model.power': 0.0},
  'SVD, p = 1': {'arg': 'road=svd', 'model.power': 1.0},
  'SGNS, not smoothed': {'arg': 'road=sgns', 'model.objective.power': 1.0},
  'SGNS, k = 1': {'arg': 'road=sgns', 'model.objective.negatives': 1},
}
FINDINGS = {  # what is gained: with it, and without
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
  roads = {label: named[label] for label in MAIN if label in named}
  text = f'{scores(roads)}\n{coverage(runs[0])}\n\nOther settings:\n\n'
  text += scores(named)
  text += '\nWhat a setting gains, in points of a hundred, seed by seed:\n\n'
  text += table(
    [
      [finding, *_gains(named[one], named[other])]
      for finding, (one, other) in FINDINGS.items()
      if one in named and other in named
    ],
    [
      'with it, less without',
      *(Column(_title(name), digits=1) for name in PAIRS + ANALOGIES),
    ],
  )
  (folder / 'table.md').write_text(text, 'utf-8')
  for file, names, what in (
    ('pairs', PAIRS, "Spearman's correlation"),
    ('analogies', ANALOGIES, 'accuracy'),
  ):
    bars(
      folder / file,
      {
        label: {_title(n): found for n in names if (found := _values(members, n))}
        for label, members in roads.items()
      },
      what,
      title='Roads to word vectors, on one text',
    )
  _pictures(named, roads, folder)


def _pictures(named, roads, folder):
  """The spectrum, crowding by frequency, and maps of one seed."""
  spectra = {
    label.replace('SVD', 'PPMI'): [run.arrays('spectrum')['values'] for run in members]
    for label, members in named.items()
    if label in ('SVD', 'SVD, not smoothed', 'SVD, k = 5')
  }
  if spectra:
    spectrum(folder / 'spectrum', spectra, title='Singular values')
  density = {label: members[0].arrays('similarity') for label, members in roads.items()}
  by_rank(
    folder / 'density',
    {label: (x['density/rank'], x['density/cosine']) for label, x in density.items()},
    title='How near the nearest words are',
  )
  for label in ('SVD', 'SGNS'):
    if label in roads:
      _map(label, roads[label][0], folder)


COUNTRIES = {
  **{'russia': 'moscow', 'france': 'paris', 'germany': 'berlin', 'italy': 'rome'},
  **{'spain': 'madrid', 'portugal': 'lisbon', 'poland': 'warsaw', 'greece': 'athens'},
  **{'england': 'london', 'ireland': 'dublin', 'austria': 'vienna', 'egypt': 'cairo'},
  **{'turkey': 'ankara', 'iran': 'tehran', 'china': 'beijing', 'japan': 'tokyo'},
  **{'cuba': 'havana', 'canada': 'ottawa', 'sweden': 'stockholm', 'norway': 'oslo'},
}


def _map(label, run, folder):
  from seqlab.word_vectors import open_vectors  # brings JAX, which a plan needs not

  vectors = open_vectors(str(run.path))
  links = [pair for pair in COUNTRIES.items() if all(word in vectors for word in pair)]
  if len(links) < 2:
    return  # of a smoke run
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
  """Of each seed, as far as the set has known words."""
  metric = f'similarity/{name}'
  return [run.final(metric) for run in members if run.has(metric)]


def scores(named):
  """A table: label -> the runs of all seeds, a line each."""
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
  return table(rows, ['road', *columns])


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
    f'On part {run.config["corpus"]["part"]} of 0 to 10 of enwiki2018. Pairs and '
    f'questions of known words only: {known}. Analogies are asked and answered among '
    'the 30,000 most frequent words.'
  )


PAPER = {}
TIME = '25 minutes for the sweep on 2 CPU cores'
