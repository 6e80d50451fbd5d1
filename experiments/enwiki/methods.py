r"""Methods for word vectors, by counting and by training, on one text.

  python -m launch.sweep experiments/enwiki/methods.py --workdir runs/studies

Levy, Goldberg and Dagan 2015, tables 3 to 5, https://aclanthology.org/Q15-1016: with
the same settings no method is best on all sets (section 5). In their experiments PMI
improves if counts of contexts have the exponent 0.75 (sections 3.2 and 6), and singular
values with the exponent 0 or 0.5 are better than with 1, which is the best
approximation (sections 3.3 and 6). This study also tries the shift by log k, which
skip-gram has from its k negative samples. Nearer words count more: (w - d + 1) / w in
the random window of skip-gram.

Each method is tuned over the settings of `SETTINGS`, with three seeds each: PPMI over
exponent and shift, singular vectors over these and the exponent of the values, skip-gram and
CBOW over four learning rates. The setting with the highest mean on MEN counts, or among
those with all seeds if some diverge. MEN has by far the most pairs; it is not among the
sets that methods are compared on. Those are the halves of WordSim-353, SimLex-999, rare
words (RW) and MTurk-287. All pairs of methods are compared there, and PPMI's and SVD's
settings one at a time.

Each cell of pairs has the deviation over seeds and the 95 % interval over pairs of the mean
over seeds. Differences are tested on the same samples of pairs, each of which draws from
the seeds too; p-values are corrected by the procedure of Holm, for all predictions and
comparisons together. Drawing from three seeds contains two thirds of their variance. The
halves of WordSim-353 share pairs. Analogies have the deviation over seeds only: their
questions share words, so that no test here fits them, and no claim rests on them.

GloVe is not in this ranking. With settings of its own (https://aclanthology.org/D14-1162: ten
words to each side and 50 epochs; no subsampling) one training on one of these two parts
takes about four minutes of a core, so that even three learning rates with three seeds do
not fit; with the settings of the others, as in an earlier version, it is not evaluated.

To fit into half an hour of one core the text is two parts of enwiki2018, 7.6 million words,
with 30,000 types, 100 dimensions and three epochs; an earlier version had three parts, 50,000
types and five epochs, one learning rate, and skip-gram without smoothing and with one
negative sample, whose effects are therefore not tested here.

Predicted before the runs of this version, of which the earlier one had shown the means
without a test:
1. No method is significantly above each of the others on all five sets; refuted if one is.
2. On rare words, PPMI is below SVD, SGNS and CBOW.
3. SGNS is above CBOW on both halves of WordSim-353, and above SVD on SimLex.
4. Singular values: the exponent 0.5 is above 1 on all five sets, and 0 above 1.
5. PPMI is higher with smoothed contexts on all five sets, and with a shift by log 5 on rare
   words.
A prediction about a set is supported if the corrected p-value is below 0.05 and the sign is
the predicted one, refuted if the sign is the other one, and otherwise not decided.
"""

import itertools
import statistics

import ml_collections

from seqlab.config import parse_arg
from seqlab.metrics.rated_pairs import LEVEL, PREDICTED, PairScores, significance_tests
from seqlab.report.figures import bars
from seqlab.report.maps import by_rank, spectrum, word_map
from seqlab.report.tables import Column, table

PAIRS = ('ws353', 'ws353-sim', 'ws353-rel', 'men', 'simlex', 'rw', 'mturk')
ANALOGIES = ('google_semantic', 'google_syntactic', 'google', 'msr')
TUNED_ON = 'men'
TESTED = ('ws353-sim', 'ws353-rel', 'simlex', 'rw', 'mturk')
SEEDS = range(3)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  defaults = dict(method='sgns', d=100, parts=2, words=30_000, epochs=3)
  arg = parse_arg(arg, {'method': METHODS}, **defaults)
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
}


def smoke(c: ml_collections.ConfigDict) -> None:
  c.corpus.part = 10
  c.vocabulary.max_size = 500
  c.update(SMOKE[c.task])
  c.evals.similarity.update(sets=('men', 'ws353-sim', 'google'), density=20)


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
  c.task, c.steps = 'tasks.word2vec:WordPrediction', f'{arg.epochs} epochs'
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


def gensim(c, arg):
  """Configures the baseline for skip-gram, with the same text and settings."""
  sgns(c, arg)
  for key in ('steps', 'hyper', 'schedule', 'keep_latest'):  # of training only
    del c[key]
  c.task = 'tasks.estimators.gensim_baseline:GensimBaseline'
  c.model.update(epochs=arg.epochs, alpha=0.025, min_alpha=1e-4)


# A method is a function that sets task, model and evals.
METHODS = {'ppmi': ppmi, 'svd': svd, 'sgns': sgns, 'cbow': cbow, 'gensim': gensim}
MAIN = {
  'PPMI': dict(arg='method=ppmi'),
  'SVD': dict(arg='method=svd'),
  'SGNS': dict(arg='method=sgns'),
  'CBOW': dict(arg='method=cbow'),
}


def _peaks(method, *peaks):
  return {f'{method}, peak {x:g}': MAIN[method] | {'hyper.peak': x} for x in peaks}


UNSMOOTHED, SHIFTED = {'pmi.smoothing': 1.0}, {'pmi.shift': 5.0}
SETTINGS = {  # method -> label of a setting -> changes
  'PPMI': {
    'PPMI': MAIN['PPMI'],
    'PPMI, not smoothed': MAIN['PPMI'] | UNSMOOTHED,
    'PPMI, k = 5': MAIN['PPMI'] | SHIFTED,
  },
  'SVD': {
    'SVD': MAIN['SVD'],
    'SVD, not smoothed': MAIN['SVD'] | UNSMOOTHED,
    'SVD, k = 5': MAIN['SVD'] | SHIFTED,
    'SVD, p = 0': MAIN['SVD'] | {'model.power': 0.0},
    'SVD, p = 1': MAIN['SVD'] | {'model.power': 1.0},
  },
  'SGNS': _peaks('SGNS', 0.0125, 0.025, 0.05, 0.1),
  'CBOW': _peaks('CBOW', 0.025, 0.05, 0.1, 0.2),
}
COMPARISONS = {  # label -> variants with and without a setting
  'PPMI: contexts smoothed': ('PPMI', 'PPMI, not smoothed'),
  'SVD: contexts smoothed': ('SVD', 'SVD, not smoothed'),
  'SVD: p = 0.5, not 1': ('SVD', 'SVD, p = 1'),
  'SVD: p = 0, not 1': ('SVD, p = 0', 'SVD, p = 1'),
  'PPMI: k = 5, not 1': ('PPMI, k = 5', 'PPMI'),
  'SVD: k = 5, not 1': ('SVD, k = 5', 'SVD'),
}
COMPARISONS |= {
  f'{one} and {other}, tuned': (f'{one}, tuned', f'{other}, tuned')
  for one, other in itertools.combinations(MAIN, 2)
}
PREDICTIONS = {  # label of a comparison -> sets, and the sign
  'PPMI and SVD, tuned': (('rw',), -1),
  'PPMI and SGNS, tuned': (('rw',), -1),
  'PPMI and CBOW, tuned': (('rw',), -1),
  'SGNS and CBOW, tuned': (('ws353-sim', 'ws353-rel'), 1),
  'SVD and SGNS, tuned': (('simlex',), -1),
  'SVD: p = 0.5, not 1': (TESTED, 1),
  'SVD: p = 0, not 1': (TESTED, 1),
  'PPMI: contexts smoothed': (TESTED, 1),
  'PPMI: k = 5, not 1': (('rw',), 1),
}


def sweep(add):
  for settings in SETTINGS.values():
    for changes in settings.values():
      for seed in SEEDS:
        add(seed=seed, **changes)


def report(runs, folder):
  named = {
    label: members
    for settings in SETTINGS.values()
    for label, changes in settings.items()
    if (members := [run for run in runs if _changes(run) == changes])
  }
  tuned, chosen = {}, {}
  for method, settings in SETTINGS.items():
    if known := [label for label in settings if label in named]:
      # Not `best_by`, to which the seeds of the counts are settings too. As there, a
      # setting with which a run diverges is worse than one with all seeds.
      of = {label: _values(named[label], TUNED_ON) for label in known}
      best = max(known, key=lambda x: (len(of[x]), statistics.fmean(of[x])))
      tuned[f'{method}, tuned'], chosen[method] = named[best], best
  scored = pair_scores(tuned | named)
  text = f'{scores(tuned, scored)}\n{coverage(runs[0])}\n\n'
  text += f'Chosen by the mean on {TUNED_ON}: {"; ".join(map(": ".join, chosen.items()))}.\n\n'
  text += f'All settings:\n\n{scores(named, scored)}\n{_compared(scored)}'
  (folder / 'table.md').write_text(text, 'utf-8')
  for file, names, ylabel in (
    ('pairs', PAIRS, "Spearman's correlation"),
    ('analogies', ANALOGIES, 'accuracy'),
  ):
    bars(
      folder / file,
      {
        label: {_title(n): values for n in names if (values := _values(members, n))}
        for label, members in tuned.items()
      },
      ylabel,
      title='Methods for word vectors, on one text (bars: deviation over seeds)',
    )
  _draw(named, tuned, folder)


def pair_scores(named):
  """Returns the correlations of label -> runs with ratings, on the sets that they have."""
  arrays = {label: [x.arrays('similarity') for x in named[label]] for label in named}
  kept = next(iter(arrays.values()))[0]
  return PairScores.of_arrays(arrays, [x for x in PAIRS if f'{x}/scores' in kept])


def _compared(scored):
  """Returns the differences, and the verdicts on the predictions."""
  compared = {
    label: pair
    for label, pair in COMPARISONS.items()
    if all(variant in scored.measured for variant in pair)
  }
  sets = [name for name in TESTED if name in scored.ratings]
  tests = significance_tests(
    scored,
    {
      (label, name): [(1, one, name), (-1, other, name)]
      for label, (one, other) in compared.items()
      for name in sets
    },
  )
  found = {test.label: test for test in tests}
  rows = [
    [label, *(f'{x.value:+.3f}{"*" * x.significant}' for x in of_set)]
    for label in compared
    if (of_set := [found[label, name] for name in sets])
  ]
  text = (
    f'Differences of means, the first minus the second; * marks p < {LEVEL} after the '
    f'correction of Holm for {len(tests)} tests:\n\n{table(rows, ["difference", *sets])}\n'
  )
  rows = [
    found[label, name]._replace(label=f'{label}, {name}').judged(sign)
    for label, (names, sign) in PREDICTIONS.items()
    for name in names
    if (label, name) in found
  ]
  return f'{text}{table(rows, PREDICTED)}\n{_above_all(found, sets)}'


def _above_all(found, sets):
  """Returns the sentence on the prediction about all methods."""

  def above(one, other, name):
    first, sign = f'{one} and {other}, tuned', 1
    if (first, name) not in found:
      first, sign = f'{other} and {one}, tuned', -1
    test = found.get((first, name))
    return test is not None and test.significant and sign * test.value > 0

  winners = [
    one
    for one in MAIN
    if all(above(one, x, name) for x in MAIN if x != one for name in sets)
  ]
  return (
    f'Significantly above each other method on all {len(sets)} sets: '
    f'{", ".join(winners) or "none"}.\n'
  )


def _draw(named, tuned, folder):
  """Draws the spectrum, the density by frequency, and maps of one seed."""
  spectra = {
    label.replace('SVD', 'PPMI'): [run.arrays('spectrum')['values'] for run in members]
    for label, members in named.items()
    if label in ('SVD', 'SVD, not smoothed', 'SVD, k = 5')
  }
  if spectra:
    spectrum(folder / 'spectrum', spectra, title='Singular values')
  density = {label: members[0].arrays('similarity') for label, members in tuned.items()}
  by_rank(
    folder / 'density',
    {label: (x['density/rank'], x['density/cosine']) for label, x in density.items()},
    title='Cosine of the nearest words, by frequency',
  )
  for method in ('SVD', 'SGNS'):
    if members := tuned.get(f'{method}, tuned'):
      _map(method, members[0], folder)


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


def scores(named, scored):
  """Returns a table with one row per label.

  Args:
    named: label -> runs of all seeds.
    scored: `pair_scores` of these labels, and maybe of others.
  """
  columns = [*scored.ratings, *(Column(f'{_title(x)} (%)', None, 1) for x in ANALOGIES)]
  rows = [
    [
      label,
      *(scored.cell(label, {name: 1}) for name in scored.ratings),
      *([100 * x for x in _values(members, name)] for name in ANALOGIES),
    ]
    for label, members in named.items()
  ]
  return table(rows, ['method', *columns])


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
TIME = '(estimated) 22 minutes for the sweep on one CPU core'
