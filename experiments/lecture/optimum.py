r"""How near counted matrices are to the optimum of skip-gram with negative sampling.

  python -m launch.sweep experiments/lecture/optimum.py --workdir runs/studies

The lecture, point 2.1: a net predicts a word from a word, which is classification. With k
negative samples its objective is, with x(w, c) = w · c and P(c) = #(c) / |D|,

  l = sum over w, c of  #(w, c) log σ(x(w, c)) + k #(w) P(c) log σ(-x(w, c)),

which is largest where x = PMI(w, c) - log k, and x = -infinity for pairs that never occur
(Levy and Goldberg 2014, section 3.1, https://papers.nips.cc/paper/5477). Their table 1
gives the deviation (l - l_opt) / l_opt of shifted PPMI, max(PMI - log k, 0), of its
truncated SVD, and of trained vectors, for a sample of pairs. Here the sum is over all
pairs of words, so it is exact. The deviation is divided into the shares of pairs that
never occur, of pairs whose PMI is at most log k, which shifted PPMI clips to 0, and of the
rest. Of the 1,000 most frequent words there are also factors W C^T that are fitted to l
itself, by L-BFGS from random ones. Unlike skip-gram this has neither samples nor a learning
rate; skip-gram may be farther from the optimum.

In their table shifted PPMI is within 0.001 % of the optimum for every k, the deviation of
the SVD grows with k, and hardly depends on d. Claimed before the first run:
- The order: for every k and d shifted PPMI is nearer to the optimum than its SVD, and the
  deviation of the SVD grows with k and falls with d. Any other order refutes this.
- Shifted PPMI is not within 0.001 %, as the sum is over all pairs: it gives every pair that
  never occurs x = 0, which costs k #(w) P(c) log 2. A deviation below 1 % refutes this.

Claimed after that, before factors were fitted for the first time:
- With 5 and 15 negative samples the fitted factors are nearer to the optimum than shifted
  PPMI, with 25 dimensions and with 100: the low rank costs less than clipping at 0. One of
  the four cases in another order refutes this.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

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
WORDS, FITTED, WINDOW = 10_000, 1_000, 5
NEGATIVES, WIDTHS, FITTED_WIDTHS = (1, 5, 15), (100, 500), (25, 100)
STARTS = 1  # seeds of the fits, and of the SVD beside them
ITERATIONS = 100  # of L-BFGS, at most
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
  frequent = counts[:FITTED, :FITTED]
  results = {}
  for k in NEGATIVES:
    results[WORDS, k] = deviations(counts, k, WIDTHS)
    results[FITTED, k] = deviations(frequent, k, FITTED_WIDTHS, fit=True)
  write_report(results, counts, frequent, folder)


def deviations(counts, k, widths, *, fit=False):
  """Returns label -> [seeds, 3], deviations in percent by `GROUPS` of pairs."""
  shifted = pmi(counts, smoothing=1.0, shift=float(k)).toarray()
  counts = counts.toarray().astype(np.float32)
  measure = functools.partial(deviation, counts, k)
  results = {'shifted PPMI': [measure(lambda rows: shifted[rows])]}
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  for seed in range(STARTS if fit else 1):
    U, S, V = truncated_svd(shifted, max(widths), mesh, seed=seed)
    factors = {f'SVD, d = {d}': (U[:, :d] * S[:d], V[:, :d]) for d in widths}
    if fit:
      factors |= {f'fitted, d = {d}': fitted(counts, k, d, seed) for d in widths}
    for label, (one, other) in factors.items():
      found = measure(lambda rows, one=one, other=other: one[rows] @ other.T)
      results.setdefault(label, []).append(found)
  return {label: np.array(x) for label, x in results.items()}


def fitted(counts, k, d, seed):
  """Returns W and C, both [V, d], such that W C^T maximises l, from random ones."""
  counts = jnp.asarray(counts)
  chance = k * jnp.outer(counts.sum(axis=1), counts.sum(axis=0) / counts.sum())
  shape = 2, len(counts), d

  @jax.jit
  @jax.value_and_grad
  def loss(factors):
    words, contexts = factors
    return -_objective(counts, chance, words @ contexts.T).sum() / counts.sum()

  def function(flat):
    value, gradient = loss(jnp.asarray(flat.reshape(shape), jnp.float32))
    return float(value), np.asarray(gradient, np.float64).ravel()

  start = 0.1 * np.random.default_rng(seed).standard_normal(shape)
  options = dict(maxiter=ITERATIONS, maxcor=20, gtol=0)
  found = minimize(
    function, start.ravel(), jac=True, method='L-BFGS-B', options=options
  )
  return found.x.reshape(shape).astype(np.float32)


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
    best, less = _compare(counts[rows], chance.astype(np.float32), values(rows))
    optimum += np.asarray(best, np.float64).sum()
    lost += np.asarray(less, np.float64).sum(axis=1)
  return 100 * lost / -optimum


@jax.jit
def _compare(counts, chance, x):
  """Returns sums over contexts: l_opt of each row, and l_opt - l by group, [3, rows].

  Args:
    counts: [rows, V], #(w, c).
    chance: [rows, V], k #(w) P(c).
    x: [rows, V], w · c.
  """
  occurs = counts > 0
  # Of pairs that never occur the optimum is 0, at x = -infinity.
  optimum = jnp.log(jnp.where(occurs, counts / chance, 1))
  best = jnp.where(occurs, _objective(counts, chance, optimum), 0)
  clipped = occurs & (optimum <= 0)
  groups = jnp.stack([~occurs, clipped, occurs & ~clipped])
  lost = best - _objective(counts, chance, x)
  return best.sum(axis=1), jnp.where(groups, lost, 0).sum(axis=2)


def _objective(counts, chance, x):
  """Returns l of each pair, with one logarithm, as log σ(-x) = log σ(x) - x."""
  return (counts + chance) * jax.nn.log_sigmoid(x) - chance * x


def write_report(results, counts, frequent, folder):
  """Writes the table, the raw rows and the figure."""
  flat = [
    (V, k, label, x)
    for (V, k), of_label in sorted(results.items(), key=lambda item: -item[0][0])
    for label, x in of_label.items()
  ]
  shown = [
    [f'{V:,}', f'{k}', label, list(x.sum(axis=1)), *(list(part) for part in x.T)]
    for V, k, label, x in flat
  ]
  columns = ['words', 'k', 'x(w, c)', Column('deviation (%)', digits=2)]
  columns += [Column(f'of pairs: {group}', digits=2) for group in GROUPS]
  share, of_frequent = (100 * n.nnz / n.shape[0] ** 2 for n in (counts, frequent))
  note = (
    f'\n{counts.sum():,.0f} weighted pairs of {WORDS:,} words, {share:.1f} % of which '
    f'occur; of the pairs of the {FITTED:,} most frequent ones, {of_frequent:.1f} %. The '
    'last three columns of numbers add up to the deviation. n is the number of starts of '
    f'the iterations; at most {ITERATIONS} iterations of '
    'L-BFGS fit the factors.\n'
  )
  (folder / 'table.md').write_text(table(shown, columns) + note, 'utf-8')
  rows = [
    [f'{label}, k = {k}, {V} words', seed, metric, value]
    for V, k, label, x in flat
    for seed, groups in enumerate(x)
    for metric, value in zip(
      ('deviation', *GROUPS), (groups.sum(), *groups), strict=True
    )
  ]
  write_computed_rows(folder / FILE, rows)
  bars(
    folder / 'deviation',
    {
      label: {
        f'k = {k}': list(results[FITTED, k][label].sum(axis=1)) for k in NEGATIVES
      }
      for label in results[FITTED, NEGATIVES[0]]
    },
    'deviation from the optimum (%)',
    title=f'Distance from the optimum, {FITTED:,} words',
  )


PAPER = []
TIME = '5 minutes on 2 CPU cores'
