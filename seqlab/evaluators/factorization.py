"""How near the dot products of skip-gram are to PMI, less the log of the samples.

Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", 2014,
section 3.1, https://papers.nips.cc/paper/5477: a pair of a word w and a context c that
is seen #(w, c) times, where #(w) counts all pairs with w, and negative sampling
draws k contexts for each from P, costs least if

  w · c = log(#(w, c) / (#(w) P(c))) - log k.

With vectors of few dimensions not all pairs can have this.

Axis letters here: V words, D width, P pairs.
"""

from collections.abc import Iterator
from typing import Annotated

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
from scipy import sparse

from seqlab.domains import Count, Range, Seed
from seqlab.embeddings.cooccurrence import cached_cooccurrence
from seqlab.embeddings.objectives import Negative
from seqlab.embeddings.word2vec import SkipGram
from seqlab.evaluators.resident import place
from seqlab.tasks.word2vec import WindowTask
from seqlab.text.download import cache_dir
from seqlab.types import Array, Variables

_BLOCK = 1 << 14  # pairs whose vectors are gathered at once


class Evaluator:
  """Correlation of w · c with its optimum, over pairs that were seen.

  Attributes:
    samples: nothing.
    about: number of pairs.
    arrays: arrays of the last run. `dot`, `optimum` and `count`, [sample], for pairs
      that were seen: w · c, its optimum, and #(w, c). `unseen`, dot products of pairs
      that were never seen.
  """

  samples: tuple[str, ...] = ()
  compiles_ahead = True
  metrics: tuple[str, ...] = ('pearson', 'weighted', 'gap', 'unseen')

  def __init__(
    self,
    task: WindowTask,
    sharding: NamedSharding,
    *,
    min_count: Annotated[float, Range(0)] = 10.0,
    unseen: Annotated[int, Range(0)] = 100_000,
    sample: Count = 50_000,
    seed: Seed = 0,
  ):
    """Counts the pairs of the task's text as the task meets them, in expectation.

    Args:
      task: skip-gram with negative sampling that holds no line out.
      sharding: sharding of batches; its mesh is used.
      min_count: pairs that are seen less often are left out. Pairs count by how often
        the window reaches them, so this need not be an integer.
      unseen: number of pairs that were never seen and are measured, drawn as negative
        sampling meets them: w by #(w), c from P.
      sample: pairs kept in `arrays`, at most.
      seed: integer seed of the samples.

    Raises:
      ValueError: the task is of another kind; or no pair is seen often enough.
    """
    _check(task)
    counts = _counts(task)
    random = np.random.default_rng(seed)
    pairs, self._count, self._optimum = _seen(task, counts, min_count)
    never = _unseen(task, counts, unseen, random)
    self._shown = np.sort(random.permutation(len(pairs))[:sample])
    self.about = (
      f'{len(pairs):,} of {counts.nnz:,} pairs were seen {min_count:g} times or more, '
      f'{self._count.sum() / counts.sum():.1%} of all that was seen; '
      f'{len(never):,} were not seen'
    )
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    self._pairs = place(_blocks(np.concatenate([pairs, never])), everywhere)
    self._jitted_dots = self._dots = jax.jit(_dots, out_shardings=everywhere)
    self._number = len(pairs) + len(never)
    self.arrays: dict[str, np.ndarray] = {}

  def compile(self, variables: Variables) -> None:
    """Compiles the dot products ahead."""
    lowered = self._jitted_dots.lower(variables['params'], self._pairs)
    self._dots = lowered.compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields:

    `pearson`: correlation of w · c with the optimum, each pair counting once;
    `weighted`: the same, each counting as often as it was seen;
    `gap`: root of the mean squared difference of the two, weighted;
    `unseen`: mean of w · c of pairs that were never seen, whose optimum is -infinity.
    """
    products = np.asarray(self._dots(variables['params'], self._pairs))
    products = products.reshape(-1)[: self._number].astype(np.float64)
    dot, unseen = np.split(products, [len(self._count)])
    shown = {'dot': dot, 'optimum': self._optimum, 'count': self._count}
    arrays = {name: x[self._shown] for name, x in shown.items()} | {'unseen': unseen}
    self.arrays = {name: x.astype(np.float32) for name, x in arrays.items()}
    yield 'pearson', _correlation(dot, self._optimum)
    yield 'weighted', _correlation(dot, self._optimum, self._count)
    square = np.average((dot - self._optimum) ** 2, weights=self._count)
    yield 'gap', float(np.sqrt(square))
    if len(unseen):
      yield 'unseen', float(unseen.mean())


def _check(task: WindowTask) -> None:
  net = task.net if isinstance(task, WindowTask) else None
  if not isinstance(net, SkipGram) or not isinstance(net.objective, Negative):
    raise ValueError(
      'evals: factorization is of skip-gram with negative sampling: set model.kind='
      "'skipgram' and model.objective.kind='negative'"
    )
  if net.parts is not None:
    raise ValueError(
      'evals: factorization is of two tables with one row per word; leave out '
      'model.subwords'
    )
  if task.heldout:
    raise ValueError(
      'evals: factorization counts every line of the text; leave corpus.heldout out'
    )


def _counts(task: WindowTask) -> sparse.csr_array:
  """Returns [V, V] expected counts of a word with a context, as the task draws both.

  Which places of frequent words are left out is drawn once, with a separate seed;
  the task draws anew in each epoch.
  """
  return cached_cooccurrence(
    task.store,
    task.words.size,
    cache_dir(),
    window=task.net.window,
    weights='linear' if task.net.dynamic else 'flat',
    keep=task.keep,
    mode='clean' if task.net.keep_gaps else 'dirty',
  )


def _noise(task: WindowTask) -> np.ndarray:
  """Returns P [V], from which negative sampling draws."""
  weights = (
    np.asarray(task.net.objective.counts, np.float64) ** task.net.objective.power
  )
  return weights / weights.sum()


def _seen(
  task: WindowTask, counts: sparse.csr_array, min_count: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Pairs [P, 2], how often each was seen [P], and its optimum [P]."""
  coo = counts.tocoo()
  often = coo.data >= min_count
  if not often.any():
    raise ValueError(
      f'evals: factorization finds no pair that was seen {min_count:g} times, the most '
      f'frequent {coo.data.max(initial=0):g}; lower min_count, or give more text'
    )
  w, c, count = coo.row[often], coo.col[often], coo.data[often]
  chance = counts.sum(axis=1)[w] * _noise(task)[c]  # of c as a sample of w's
  optimum = np.log(count / chance) - np.log(task.net.objective.negatives)
  return np.stack([w, c], axis=1), count, optimum


def _unseen(
  task: WindowTask, counts: sparse.csr_array, n: int, random: np.random.Generator
) -> np.ndarray:
  """Draws [up to n, 2] unseen pairs, distributed as in negative sampling."""
  V, words = task.words.size, counts.sum(axis=1)
  w = random.choice(V, 2 * n, p=words / words.sum())
  c = random.choice(V, 2 * n, p=_noise(task))
  never = np.asarray(counts[w, c]).ravel() == 0
  return np.stack([w, c], axis=1)[never][:n]


def _blocks(pairs: np.ndarray) -> np.ndarray:
  """Cuts pairs [P, 2] into blocks [blocks, block, 2] int32, padded with zeros."""
  pairs = np.pad(pairs, ((0, -len(pairs) % _BLOCK), (0, 0))).astype(np.int32)
  return pairs.reshape(-1, _BLOCK, 2)


def _dots(tables: dict[str, Array], pairs: Array) -> Array:
  """Returns dot products [blocks, block]."""

  def block(pair: Array) -> Array:
    words, contexts = tables['words'][pair[:, 0]], tables['contexts'][pair[:, 1]]
    return jnp.einsum('pd,pd->p', words, contexts)

  return jax.lax.map(block, pairs)


def _correlation(
  x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> float:
  """Returns the weighted Pearson correlation of [P] and [P]; NaN if undefined."""
  x, y = (a - np.average(a, weights=weights) for a in (x, y))
  xy, xx, yy = (np.average(a * b, weights=weights) for a, b in ((x, y), (x, x), (y, y)))
  return float(xy / np.sqrt(xx * yy)) if xx * yy > 0 else float('nan')
