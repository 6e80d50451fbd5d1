r"""Windows of 1 to 10 words, on sets of similarity and of relatedness.

  python -m launch.sweep experiments/enwiki/window.py --workdir runs/studies

Levy and Goldberg 2014, sections 2 and 4, https://aclanthology.org/P14-2050, find that a
wide window puts words of the same topic near each other, and a narrow window words of
the same kind. This study compares sets of similarity with sets of relatedness.
SimLex-999 and the half of WordSim-353 that Agirre et al. 2009,
https://aclanthology.org/N09-1003, found similar are of the first kind; its other half
and MEN are of the second. "Lean" is the mean correlation of the first two minus that of
the others.

A window of w words on each side, whose width is drawn for each word, has w + 1 pairs per
word of the text on average. So skip-gram cannot have the same number of epochs and the same
number of pairs at two windows, and gets both: two epochs at every window, or as many
epochs as make 12 pairs per word (6 with w = 1, 2 with w = 5, 1.09 with w = 10). Singular
vectors of PPMI have neither. To fit into half an hour of one core the text is two parts
of enwiki2018, 7.6 million words, with 30,000 types and 100 dimensions; an earlier
version had four parts, five times as many pairs with equal pairs only, one learning rate,
and windows of two words too. Levels are therefore lower than there.

Skip-gram gets four learning rates with three seeds each; the rate with the lowest mean
held-out loss counts, which no set of pairs takes part in. A rate with which a seed diverges is
not chosen while another has all seeds: in a probe a run of ten words and 1.09 epochs did
with 0.1, and one of one word and two epochs had a lower loss with 0.1 than with 0.2. Other
settings are the same for all.

Each cell of the table has the deviation over seeds and the 95 % interval over pairs of the
mean over seeds. Differences are tested on the same samples of pairs, each of which draws
from the seeds too, and p-values are corrected by the procedure of Holm for all predictions
together. A prediction is supported if the corrected p-value is below 0.05 and the sign is
the predicted one, refuted if it is below 0.05 and the sign is the other one, and otherwise
not decided. With three seeds, drawing from them contains two thirds of their variance. The
halves of WordSim-353 share pairs, which are drawn for each half alone.

Predicted before the runs of this version; the earlier one had shown 1 to 3 for singular
vectors and for equal pairs:
1. Lean is lower with ten words than with one: for singular vectors, and for skip-gram with
   equal pairs and with equal epochs.
2. The mean of the sets of relatedness is higher with ten words, for all three.
3. SimLex is higher with ten words for singular vectors, lower for skip-gram with equal
   pairs, and higher for skip-gram with equal epochs, where ten words have 5.5 times as
   many pairs.
4. So the change of SimLex from one word to ten is greater with equal epochs than with equal
   pairs, and that of relatedness too: a part of an effect "of the window" is one of the
   number of pairs.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.metrics.rated_pairs import PREDICTED, PairScores, significance_tests
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, curves
from seqlab.report.tables import table

SIMILARITY = {'ws353-sim': 'WordSim-353, similarity', 'simlex': 'SimLex-999'}
RELATEDNESS = {'ws353-rel': 'WordSim-353, relatedness', 'men': 'MEN'}
SETS = SIMILARITY | RELATEDNESS
LEAN = dict.fromkeys(SIMILARITY, 1 / 2) | dict.fromkeys(RELATEDNESS, -1 / 2)
RELATED = dict.fromkeys(RELATEDNESS, 1 / 2)
WINDOWS = (1, 5, 10)
EPOCHS, PAIRS = 2, 12  # PAIRS is of a word of the text
PEAKS = (0.0125, 0.025, 0.05, 0.1)
SEEDS = range(3)
SHOWN = ('doctor', 'car', 'guitar', 'russia', 'winter', 'horse')

SVD, BY_PAIRS, BY_EPOCHS = 'SVD of PPMI', 'SGNS, equal pairs', 'SGNS, equal epochs'
ARGUMENTS = {  # series -> window -> argument; two series share the trials of one window
  SVD: {w: f'method=svd,window={w}' for w in WINDOWS},
  BY_PAIRS: {w: f'window={w},epochs={PAIRS / (w + 1):.2f}' for w in WINDOWS},
  BY_EPOCHS: {w: f'window={w},epochs={EPOCHS:.2f}' for w in WINDOWS},
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'method': ('svd', 'sgns')}
  arg = parse_arg(arg, choices, method='sgns', window=5, epochs=2.0, d=100, parts=2)
  c = ml_collections.ConfigDict()
  c.seed = 0

  # Data
  c.corpus = dict(name='enwiki2018', part=tuple(range(arg.parts)))
  c.vocabulary = dict(min_count=5, max_size=30_000)
  c.evals = {}

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
    c.corpus.heldout = 200
    c.steps = f'{arg.epochs} epochs'
    c.batching = dict(streams=32, length=2_048, subsample=1e-3)
    c.model = dict(kind='skipgram', width=arg.d, window=arg.window, dynamic=True)
    c.model.update(block=32, max_pairs_per_row=64.0, output_vectors='words')
    c.model.objective = dict(kind='negative', negatives=5, pool=32, power=0.75)
    c.hyper, c.schedule = dict(peak=0.05), dict(kind='linear', floor=4e-3)
    c.keep_latest = 1
    c.evals.heldout = dict(kind='heldout', words=20_000)

  # Evaluation
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
  c.evals.similarity.show = None


def sweep(add):
  for arg in dict.fromkeys(x for of in ARGUMENTS.values() for x in of.values()):
    for peak in (None,) if arg.startswith('method=svd') else PEAKS:
      for seed in SEEDS:
        add(arg=arg, seed=seed, **({'hyper.peak': peak} if peak else {}))


def report(runs, folder):
  trained = [run for run in runs if run.has('heldout/loss')]
  chosen = best_by(trained, lambda run: run.overrides['arg'], 'heldout/loss', 'min')
  for run in runs:
    if run not in trained:
      chosen.setdefault(run.overrides['arg'], []).append(run)
  groups = {
    (series, w): chosen[arg]
    for series, by_window in ARGUMENTS.items()
    for w, arg in by_window.items()
    if arg in chosen
  }
  arrays = {key: [x.arrays('similarity') for x in groups[key]] for key in groups}
  scores = PairScores.of_arrays(arrays, tuple(SETS))
  rows = [
    [
      f'{series}, {w}',
      *(scores.cell((series, w), {name: 1}) for name in SETS),
      scores.cell((series, w), LEAN),
      *_settings(members),
    ]
    for (series, w), members in groups.items()
  ]
  columns = ['method, window', *SETS.values()]
  columns += ['mean of similarity, less that of relatedness', 'epochs', 'peak', 'n']
  predictions = {
    label: (terms, sign)
    for label, (terms, sign) in _predictions().items()
    if all(variant in groups for _, variant, _ in terms)
  }
  tests = significance_tests(
    scores, {label: terms for label, (terms, _) in predictions.items()}
  )
  text = table(rows, columns)
  text += (
    "\nSpearman's correlation, mean over n seeds ± deviation over them, and the 95 % "
    'interval over pairs. "peak" is the learning rate with the lowest held-out loss of '
    f'{", ".join(map(str, PEAKS))}.\n\n'
  )
  verdicts = [test.judged(predictions[test.label][1]) for test in tests]
  text += table(verdicts, PREDICTED)
  for (series, w), members in groups.items():
    if series != BY_PAIRS and w in (WINDOWS[0], WINDOWS[-1]):
      text += f'\nNearest words, {series}, window {w}, {_neighbours(members[0])}'
  (folder / 'table.md').write_text(text, 'utf-8')
  _draw(groups, folder)


def _predictions():
  """Returns label -> terms of a contrast, see `PairScores.contrast`, and its sign."""

  def widening(series, factors, sign=1):
    ends = ((sign, WINDOWS[-1]), (-sign, WINDOWS[0]))
    return [(s * x, (series, w), name) for s, w in ends for name, x in factors.items()]

  simlex, related = {'simlex': 1}, 'mean of relatedness'
  signs = {SVD: 1, BY_PAIRS: -1, BY_EPOCHS: 1}  # of SimLex
  predictions = {}
  for series, sign in signs.items():
    change = f'from 1 word to 10, {series}'
    predictions |= {
      f'lean, {change}': (widening(series, LEAN), -1),
      f'{related}, {change}': (widening(series, RELATED), 1),
      f'SimLex-999, {change}': (widening(series, simlex), sign),
    }
  for label, factors in (('SimLex-999', simlex), (related, RELATED)):
    terms = widening(BY_EPOCHS, factors) + widening(BY_PAIRS, factors, -1)
    predictions[f'{label}, the change with equal epochs minus equal pairs'] = terms, 1
  return predictions


def _settings(members):
  """Returns the epochs, the learning rate and the number of the runs."""
  run, n = members[0], str(len(members))
  if not run.has('heldout/loss'):
    return '-', '-', n
  return f'{run.final("epoch"):.2f}', f'{run.config["hyper"]["peak"]:g}', n


def _draw(groups, folder):
  label = dict(xlabel='window (words on each side)', xlog=True, spread='bars')
  note = '(bars: deviation over seeds)'
  of_series = {}
  for (series, w), members in groups.items():
    of_series.setdefault(series, {})[w] = members
  files = {SVD: 'svd', BY_PAIRS: 'sgns-pairs', BY_EPOCHS: 'sgns-epochs'}
  for series, members in of_series.items():
    lines(
      folder / f'sets-{files[series]}',
      {title: curves(members, _sum({x: 1})) for x, title in SETS.items()},
      ylabel="Spearman's correlation",
      title=f'{series} {note}',
      ylim=(0, None),
      **label,
    )
  lines(
    folder / 'lean',
    {series: curves(members, _sum(LEAN)) for series, members in of_series.items()},
    ylabel='correlation: similarity minus relatedness',
    title=f'Similarity minus relatedness, by window {note}',
    **label,
  )


def _sum(factors):
  return lambda run: sum(f * run.final(f'similarity/{x}') for x, f in factors.items())


def _neighbours(run):
  """Returns the lines of the last evaluation, as a Markdown list."""
  file = max((run.path / 'samples').glob('similarity-*.txt'))
  shown = ''.join(f'- {line}\n' for line in file.read_text('utf-8').splitlines())
  return f'seed {run.config["seed"]}:\n\n{shown}'


PAPER = []
TIME = '(estimated from two trials) 20 minutes for the sweep on one CPU core'
