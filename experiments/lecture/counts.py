r"""Word vectors by counting: weights of the counts, reductions, U and V, powers.

  python -m launch.sweep experiments/lecture/counts.py --workdir runs/studies

The lecture, points 1.1 to 1.5: slide a window, build the co-occurrence matrix, reduce its
dimension, or take its singular value decomposition, where "the rows of the first matrix
and of the last are the embeddings". Nothing is trained: two parts of enwiki2018, in
$SEQLAB_DATA, are counted with a window of 5, for the 10,000 most frequent words, so that
all matrices are small enough to be dense. Similarity is Spearman's correlation of cosines
with human ratings on five sets of pairs, none of which is part of another. The standard
error over pairs is that of the bootstrap. The deviation over seeds is given where chance
takes part: the random projection, and the start of the SVD's iteration.

Differences of two variants are tested on the same samples of pairs; where a variant has
several seeds, each sample draws from them too. P-values are corrected by the procedure of
Holm for all comparisons on all sets. A claim "A above B" is refuted on a set where B is
significantly above A, and not supported where neither is. Claimed before the first run:
- Weights. On every set log(1 + n) is above the raw count n, PPMI is above log(1 + n), and
  PPMI is above PMI, whose pairs that never occur count as 0.
- Reduction of PPMI to 100 dimensions. On every set the SVD, U S, is above the 100 most
  frequent contexts and above a random projection, and below the whole matrix. The SVD and
  PCA, which subtracts the mean of each column first, differ by less than 0.02.
- U and V. If the window has both sides, the matrix is symmetric: the cosines of U and of
  V are the same within 0.001. If it has the right side only, U and V do not differ
  significantly, and U + V is above U.
- Powers. On every set U S^0.5 and U S^0 are above U S, although U S is the best
  approximation of the matrix (Levy et al. 2015, https://aclanthology.org/Q15-1016).
"""

import dataclasses

import jax
import numpy as np

from seqlab.data.text_store import cached_words, encode_text
from seqlab.embeddings.cooccurrence import cached_cooccurrence
from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.svd import truncated_svd
from seqlab.embeddings.vectors import SparseVectors, Vectors
from seqlab.metrics.rated_pairs import LEVEL, PairScores, significance_tests
from seqlab.report.figures import heatmap, lines
from seqlab.report.tables import Column, table
from seqlab.results.raw_rows import FILE, write_computed_rows
from seqlab.text.download import cache_dir
from seqlab.text.plain import open_text
from seqlab.text.words import look_up
from seqlab.text.wordsets import open_wordset

TEXT = dict(name='enwiki2018', part=(0, 1))
WORDS, WINDOW = 10_000, 5
SETS = ('ws353', 'men', 'simlex', 'rw', 'mturk')
WIDTHS, WIDTH = (25, 50, 100, 200), 100
PROJECTIONS, STARTS = 5, 2  # seeds
SAMPLES = 3_000

BOTH, RIGHT = 'both sides', 'right side'
# The variant that is claimed to be above, and the other one.
COMPARISONS = (
  ('log(1 + n)', 'raw counts'),
  ('PPMI', 'log(1 + n)'),
  ('PPMI', 'PMI'),
  ('SVD, U S', 'top contexts'),
  ('SVD, U S', 'random projection'),
  ('PPMI', 'SVD, U S'),
  ('SVD, U S', 'PCA'),
  (f'{RIGHT}, U', f'{RIGHT}, V'),
  (f'{RIGHT}, U + V', f'{RIGHT}, U'),
  ('SVD, U S^0.5', 'SVD, U S'),
  ('SVD, U', 'SVD, U S'),
)


def study(folder):
  corpus = open_text(**TEXT)
  words = cached_words(corpus, cache_dir(), min_count=5, max_size=WORDS)
  store = encode_text(corpus, words, cache_dir())
  options = dict(window=WINDOW, side='right', weights='linear')
  following = cached_cooccurrence(store, words.size, cache_dir(), **options)
  counts, sets = following + following.T, Sets.open(words.words)
  ppmi = pmi(counts, smoothing=1.0)
  by_width, svd = reduced(ppmi.toarray(), sets)
  measured = weighted(counts, ppmi, sets)
  measured |= {label: widths[WIDTH] for label, widths in by_width.items()}
  measured |= factors(*svd, sets, BOTH)
  of_right = factorized(pmi(following, smoothing=1.0).toarray())
  measured |= factors(*of_right, sets, RIGHT)
  write_report(measured, by_width, sets, folder)
  draw(counts, ppmi, words.words, folder)


@dataclasses.dataclass(frozen=True)
class Sets:
  """Pairs of words with human ratings, as far as both words are known.

  Attributes:
    words: the vocabulary.
    rows: set -> [P, 2] rows of the pairs' words.
    ratings: set -> [P] human ratings.
    totals: set -> number of pairs, known or not.
  """

  words: list[str]
  rows: dict[str, np.ndarray]
  ratings: dict[str, np.ndarray]
  totals: dict[str, int]

  @classmethod
  def open(cls, words):
    """Reads the sets; `words` is the vocabulary."""
    ids, rows, ratings, totals = {w: i for i, w in enumerate(words)}, {}, {}, {}
    for wordset in map(open_wordset, SETS):
      at, _ = look_up(wordset.words, ids)
      known = (at >= 0).all(axis=1)
      rows[wordset.name] = at[known]
      ratings[wordset.name] = wordset.scores[known]
      totals[wordset.name] = len(known)
    return cls(words, rows, ratings, totals)

  def cosines(self, matrix):
    """Returns set -> [P] cosines of the rows of a dense or sparse matrix."""
    kind = Vectors if isinstance(matrix, np.ndarray) else SparseVectors
    vectors = kind(self.words, matrix.astype(np.float32))
    return {name: np.asarray(vectors.cosines(rows)) for name, rows in self.rows.items()}


# Functions that measure return label -> one `Sets.cosines` per seed.


def weighted(counts, ppmi, sets):
  """Measures the whole matrix with each weighting of its counts."""
  logs = counts.copy()
  logs.data = np.log1p(logs.data)
  matrices = {
    'raw counts': counts,
    'log(1 + n)': logs,
    'PMI': pmi(counts, smoothing=1.0, positive=False),
    'PPMI': ppmi,
  }
  return {label: [sets.cosines(matrix)] for label, matrix in matrices.items()}


def reduced(ppmi, sets):
  """Measures reductions of a dense PPMI matrix to each width.

  Returns:
    label -> width -> one `Sets.cosines` per seed; and U, S and V of the SVD.
  """
  svd = [factorized(ppmi, seed=seed) for seed in range(STARTS)]
  U, S, V = svd[0]
  centred, deviations, _ = factorized(ppmi - ppmi.mean(axis=0))
  reductions = {
    # The vocabulary begins with the most frequent word, and so do the contexts.
    'top contexts': [ppmi[:, : max(WIDTHS)]],
    'random projection': [projected(ppmi, seed) for seed in range(PROJECTIONS)],
    'PCA': [centred * deviations],
    'SVD, U S': [left * values for left, values, _ in svd],
    'SVD, U S^0.5': [U * S**0.5],
    'SVD, U': [U],
  }
  by_width = {
    label: {width: [sets.cosines(x[:, :width]) for x in matrices] for width in WIDTHS}
    for label, matrices in reductions.items()
  }
  return by_width, (U, S, V)


def projected(matrix, seed):
  """Returns products of the rows with random directions, as many as the widest."""
  random = np.random.default_rng(seed)
  shape = matrix.shape[1], max(WIDTHS)
  return matrix @ random.standard_normal(shape, np.float32)


def factorized(matrix, **options):
  """Returns U, S and V of the widest reduction."""
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  return truncated_svd(matrix, max(WIDTHS), mesh, **options)


def factors(U, S, V, sets, window):
  """Measures the rows of the first matrix, of the last, and their sum."""
  left, right = (x[:, :WIDTH] * S[:WIDTH] ** 0.5 for x in (U, V))
  named = {'U': left, 'V': right, 'U + V': left + right}
  return {f'{window}, {label}': [sets.cosines(x)] for label, x in named.items()}


def write_report(measured, by_width, sets, folder):
  """Writes the tables, the raw rows and the figures of widths."""
  scores = PairScores(measured, sets.ratings, samples=SAMPLES)
  differences = {
    (one, other, name): [(1, one, name), (-1, other, name)]
    for one, other in COMPARISONS
    for name in SETS
  }
  tests = significance_tests(scores, differences)
  curves = {}
  for label, widths in by_width.items():
    reduced_scores = PairScores(widths, sets.ratings)
    curves[label] = {
      name: {width: reduced_scores.values(width, name) for width in widths}
      for name in SETS
    }
  text = f'{_score_table(scores)}\n{_note(scores, sets)}\n'
  text += (
    f'Differences; * marks p < {LEVEL} after the correction of Holm for '
    f'{len(tests)} tests:\n\n{_difference_table(tests)}\n'
    f'Other widths D (means over seeds):\n\n{_width_table(curves)}'
  )
  (folder / 'table.md').write_text(text, 'utf-8')
  write_computed_rows(folder / FILE, _raw_rows(scores, tests, curves))
  for name in ('men', 'simlex'):
    _draw_widths(name, curves, scores.values('PPMI', name)[0], folder)


def _raw_rows(scores, tests, curves):
  for variant in scores.measured:
    for name in SETS:
      for seed, value in enumerate(scores.values(variant, name)):
        yield variant, seed, name, value
      yield variant, '', f'{name}, standard error', scores.error(variant, name)
  for test in tests:
    one, other, name = test.label
    trial = f'{one} - {other}'
    yield trial, '', name, test.value
    yield trial, '', f'{name}, p', test.p
    yield trial, '', f'{name}, p after Holm', test.corrected
  for label, of_set in curves.items():
    for name, of_width in of_set.items():
      for width, values in of_width.items():
        for seed, value in enumerate(values):
          yield f'{label}, D = {width}', seed, name, value


def _score_table(scores):
  rows = []
  for variant in scores.measured:
    row = [variant]
    for name in SETS:
      values = scores.values(variant, name)
      deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
      error = scores.error(variant, name)
      row.append(f'{np.mean(values):.3f}{deviation} ({error:.3f})')
    rows.append(row)
  return table(rows, ['vectors', *SETS])


def _note(scores, sets):
  known = (f'{name} {len(sets.rows[name]):,} of {sets.totals[name]:,}' for name in SETS)
  one, other = (scores.measured[f'{BOTH}, {x}'][0] for x in 'UV')
  largest = max(np.abs(one[name] - other[name]).max() for name in SETS)
  return (
    "Spearman's correlation of cosines with human ratings; in brackets the standard "
    f'error over pairs ({SAMPLES:,} bootstrap samples), after ± the standard deviation '
    f'over seeds ({PROJECTIONS} random projections, {STARTS} starts of the SVD). '
    f'{WORDS:,} words; known pairs: {", ".join(known)}. From "top contexts" on, vectors '
    f'have D = {WIDTH} dimensions. The last six rows are the factors of PPMI with a '
    f'window of both sides or of the right side, times S^0.5. With both sides the '
    f'cosines of U and of V differ by at most {largest:.1e}.\n'
  )


def _difference_table(tests):
  rows = {}
  for test in tests:
    one, other, _ = test.label
    row = rows.setdefault((one, other), [one, other])
    row.append(f'{test.value:+.3f}{"*" * test.significant}')
  return table([*rows.values()], ['this', 'minus that', *SETS])


def _width_table(curves):
  rows = [
    [label, f'{width}', *(float(np.mean(of_set[name][width])) for name in SETS)]
    for label, of_set in curves.items()
    for width in WIDTHS
  ]
  return table(rows, ['vectors', 'D', *(Column(name, digits=3) for name in SETS)])


def _draw_widths(name, curves, whole, folder):
  """Draws one line per reduction, with a bar of one deviation over seeds."""
  series = {}
  for label, of_set in curves.items():
    by_seed = zip(*of_set[name].values(), strict=True)
    series[label] = [(WIDTHS, values) for values in by_seed]
  lines(
    folder / f'widths-{name}',
    series,
    'dimensions',
    "Spearman's correlation",
    title=f'PPMI reduced, {name} (bars: deviation over {PROJECTIONS} projections)',
    spread='bars',
    xlog=True,
    reference={'PPMI, not reduced': whole},
  )


FREQUENT = 14  # words and contexts of the corner that is drawn
CHOSEN = ('paris', 'berlin', 'moscow', 'king', 'queen', 'dog', 'horse', 'physics')
AMONG = (
  *('france', 'germany', 'russia', 'capital', 'city', 'throne', 'son', 'breed'),
  *('animals', 'theory', 'science'),
)


def draw(counts, ppmi, words, folder):
  """Draws a corner of the matrix, and the entries of chosen words."""
  corner = counts[:FREQUENT, :FREQUENT].toarray()
  heatmap(
    folder / 'corner',
    np.log10(np.maximum(corner, 1)),
    words[:FREQUENT],
    words[:FREQUENT],
    label='log10 of the weighted count',
    xlabel='context',
    ylabel='word',
    title='Corner of the co-occurrence matrix: the most frequent words',
    digits=1,
  )
  ids = {word: i for i, word in enumerate(words)}
  rows, columns = ([w for w in chosen if w in ids] for chosen in (CHOSEN, AMONG))
  at = np.ix_([ids[w] for w in rows], [ids[w] for w in columns])
  for name, matrix, label, digits in (
    ('counts', counts, 'weighted count', 0),
    ('ppmi', ppmi, 'PPMI (nats)', 1),
  ):
    heatmap(
      folder / name,
      matrix[at].toarray(),
      columns,
      rows,
      label=label,
      xlabel='context',
      ylabel='word',
      title=f'Chosen words and contexts: {label}',
      digits=digits,
    )


PAPER = []
TIME = '3 minutes on 2 CPU cores'
