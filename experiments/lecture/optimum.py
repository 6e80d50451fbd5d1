r"""How near counted matrices are to the optimum of skip-gram with negative sampling.

  python -m launch.sweep experiments/lecture/optimum.py --workdir runs/studies

The lecture, point 2.1: a net predicts a word from a word, which is classification. With k
negative samples its objective is, with x(w, c) = w · c and P(c) = #(c) / |D|,

  l = sum over w, c of  #(w, c) log σ(x(w, c)) + k #(w) P(c) log σ(-x(w, c)),

which is largest where x = PMI(w, c) - log k, and x = -infinity for pairs that never occur
(Levy and Goldberg 2014, section 3.1, https://papers.nips.cc/paper/5477). Their table 1
gives the deviation (l - l_opt) / l_opt of shifted PPMI, max(PMI - log k, 0), and of its
truncated SVD, for a sample of pairs. Here the sum is over all pairs of 10,000 words, so it
is exact: nothing is trained or sampled. The deviation is divided into the shares of pairs
that never occur, of pairs whose PMI is at most log k, which shifted PPMI clips to 0, and
of the rest.

In their table shifted PPMI is within 0.001 % of the optimum for every k, the deviation of
the SVD grows with k, and hardly depends on d. Claimed before the first run:
- The order: for every k and d shifted PPMI is nearer to the optimum than its SVD, and the
  deviation of the SVD grows with k and falls with d. Any other order refutes this.
- Shifted PPMI is not within 0.001 %, as the sum is over all pairs: it gives every pair that
  never occurs x = 0, which costs k #(w) P(c) log 2. A deviation below 1 % refutes this.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.text_store import cached_words, encode_text
from seqlab.embeddings.cooccurrence import cached_cooccurrence
from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.svd import truncated_svd
from seqlab.report.figures import bars
from seqlab.report.tables import Column, table
from seqlab.results.raw_rows import FILE, write_computed_rows
from seqlab.text.download import cache_dir
from seqlab.text.plain import open_text

TEXT = dict(name='enwiki2018', part=(0, 1))
WORDS, WINDOW = 10_000, 5
NEGATIVES, WIDTHS = (1, 5, 15), (100, 500)
STARTS = 2  # of the iteration that finds the singular vectors
BLOCK = 500  # rows of the matrix in memory at a time

GROUPS = ('never occur', 'PMI at most log k', 'the rest')


def study(folder):
  corpus = open_text(**TEXT)
  words = cached_words(corpus, cache_dir(), min_count=5, max_size=WORDS)
  store = encode_text(corpus, words, cache_dir())
  # The random window of skip-gram has these weights on average.
  options = dict(window=WINDOW, side='right', weights='linear')
  following = cached_cooccurrence(store, words.size, cache_dir(), **options)
  counts = following + following.T
  results = {k: deviations(counts, k) for k in NEGATIVES}
  write_report(results, counts, folder)


def deviations(counts, k):
  """Returns label -> [seeds, 3], deviations in percent by `GROUPS` of pairs."""
  shifted = pmi(counts, smoothing=1.0, shift=float(k)).toarray()
  measure = functools.partial(deviation, counts.toarray().astype(np.float32), k)
  results = {'shifted PPMI': np.array([measure(lambda rows: shifted[rows])])}
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  for seed in range(STARTS):
    U, S, V = truncated_svd(shifted, max(WIDTHS), mesh, seed=seed)
    for width in WIDTHS:
      left, right = U[:, :width] * S[:width], V[:, :width].T
      results.setdefault(f'SVD, d = {width}', []).append(
        measure(lambda rows, left=left, right=right: left[rows] @ right)
      )
  return {label: np.array(x) for label, x in results.items()}


def deviation(counts, k, values):
  """Returns 100 (l - l_opt) / l_opt by `GROUPS` of pairs, [3] float64.

  Args:
    counts: [V, V] float32, #(w, c).
    k: number of negative samples.
    values: function of a slice of rows that returns x(w, c) of these rows, [rows, V].
  """
  words, contexts = counts.sum(axis=1, dtype=np.float64), counts.sum(axis=0)
  optimum, lost = 0.0, np.zeros(len(GROUPS))
  for start in range(0, len(counts), BLOCK):
    rows = slice(start, start + BLOCK)
    chance = k * np.outer(words[rows], contexts / contexts.sum(dtype=np.float64))
    best, less = _objective(counts[rows], chance.astype(np.float32), values(rows))
    optimum += np.asarray(best, np.float64).sum()
    lost += np.asarray(less, np.float64).sum(axis=1)
  return 100 * lost / -optimum


@jax.jit
def _objective(counts, chance, x):
  """Returns sums over contexts: l_opt of each row, and l_opt - l by group, [3, rows].

  Args:
    counts: [rows, V], #(w, c).
    chance: [rows, V], k #(w) P(c).
    x: [rows, V], w · c.
  """

  def objective(x):
    return counts * jax.nn.log_sigmoid(x) + chance * jax.nn.log_sigmoid(-x)

  occurs = counts > 0
  # Of pairs that never occur the optimum is 0, at x = -infinity.
  optimum = jnp.log(jnp.where(occurs, counts / chance, 1))
  best = jnp.where(occurs, objective(optimum), 0)
  clipped = occurs & (optimum <= 0)
  groups = jnp.stack([~occurs, clipped, occurs & ~clipped])
  return best.sum(axis=1), jnp.where(groups, best - objective(x), 0).sum(axis=2)


def write_report(results, counts, folder):
  """Writes the table, the raw rows and the figure."""
  shown = [
    [f'{k}', label, list(x.sum(axis=1)), *(list(part) for part in x.T)]
    for k, of_label in results.items()
    for label, x in of_label.items()
  ]
  columns = ['k', 'x(w, c)', Column('deviation (%)', digits=2)]
  columns += [Column(f'of pairs: {group}', digits=2) for group in GROUPS]
  V, share = counts.shape[0], counts.nnz / counts.shape[0] ** 2
  note = (
    f'\n{V:,} words, {counts.sum():,.0f} weighted pairs; {share:.1%} of all pairs of '
    f'words occur. The last three columns add up to the deviation. n is the number of '
    f'starts of the iteration that finds the singular vectors.\n'
  )
  (folder / 'table.md').write_text(table(shown, columns) + note, 'utf-8')
  rows = [
    [f'{label}, k = {k}', seed, metric, value]
    for k, of_label in results.items()
    for label, x in of_label.items()
    for seed, groups in enumerate(x)
    for metric, value in zip(
      ('deviation', *GROUPS), (groups.sum(), *groups), strict=True
    )
  ]
  write_computed_rows(folder / FILE, rows)
  bars(
    folder / 'deviation',
    {
      label: {f'k = {k}': list(results[k][label].sum(axis=1)) for k in NEGATIVES}
      for label in results[NEGATIVES[0]]
    },
    'deviation from the optimum (%)',
    title='Distance from the optimum of skip-gram with k negative samples',
    digits=1,
  )


PAPER = []
TIME = '5 minutes on 2 CPU cores'
