"""GloVe: vectors whose dot products are the logarithms of counts of pairs.

Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation", 2014,
https://aclanthology.org/D14-1162. AdaGrad as in their program: its sums are of squared
gradients of single pairs, times the rate, and start from one. Here they grow before they
are used, and some pairs are taken together (`update`).

  V  words                       N  groups of a batch
  D  dimensions                  K  pairs of a group, which share their word
"""

import functools
import itertools
from typing import Annotated

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from seqlab import domains
from seqlab.domains import Count, Positive, Range, Seed
from seqlab.types import Array, Batch

_BLOCK = 1 << 22  # pairs that are shuffled at once


class PairGroups:
  """All pairs that were counted, shuffled, in groups that share their word.

  A word's pairs are put in random order and cut into groups of K, the last one filled
  up with pairs without a count; the groups of all words are shuffled. Groups make the
  gathering and scattering of words' rows K times cheaper.

  Attributes:
    rows: [M] int32, the word of each group.
    columns: [M, K] int32, context words.
    counts: [M, K] float32; 0 for what fills up.
    size: N, groups in a batch; M is a multiple of it.
    pairs: how many there are in all.
  """

  def __init__(
    self, counts: sparse.csr_array, *, size: Count, group: Count = 16, seed: Seed = 0
  ):
    """Shuffles the nonzeros of `counts`, [V, V]; needs 8 bytes a pair.

    Args:
      counts: row word, column context.
      size: N.
      group: K.
      seed: of the shuffling.

    Raises:
      ValueError: there are no counts, or one is below zero; or a number is.
    """
    domains.check(PairGroups, dict(size=size, group=group, seed=seed), 'batching.')
    counts = sparse.csr_array(counts)
    if not counts.nnz or not counts.data.min() > 0:
      raise ValueError(
        f'{counts.nnz} counts, the smallest {counts.data.min(initial=np.inf)}: there '
        f'must be some, and all stored ones above 0 (csr_array.eliminate_zeros)'
      )
    random = np.random.default_rng(seed)
    self.size, self.pairs = size, counts.nnz
    groups = -(-np.diff(counts.indptr) // group)  # [V]
    firsts = np.concatenate([[0], np.cumsum(groups)])
    M = -(-int(firsts[-1]) // size) * size
    place = random.permutation(M).astype(np.int32)  # where each group goes
    self.rows = np.zeros(M, np.int32)
    self.rows[place[: firsts[-1]]] = np.repeat(np.arange(len(groups)), groups)
    self.columns = np.zeros((M, group), np.int32)
    self.counts = np.zeros((M, group), np.float32)
    ends = np.searchsorted(counts.indptr, np.arange(_BLOCK, counts.nnz, _BLOCK))
    cuts = np.unique([0, *ends, len(groups)])
    for a, b in itertools.pairwise(cuts):
      part = slice(counts.indptr[a], counts.indptr[b])
      lengths = np.diff(counts.indptr[a : b + 1])
      row = np.repeat(np.arange(a, b), lengths)
      key = row + random.random(len(row))
      order = np.argsort(key, kind='stable')  # shuffled within their row
      within = np.arange(part.start, part.stop) - counts.indptr[row]
      at = place[firsts[row] + within // group], within % group
      self.columns[at] = counts.indices[part][order]
      self.counts[at] = counts.data[part][order]

  @property
  def batches(self) -> int:
    """Batches in an epoch."""
    return len(self.rows) // self.size

  def batch(self, k: int, *, seed: int) -> Batch:
    """Batch number k, a pure function of (seed, k): rows [N], columns, counts [N, K].

    Batches stay the same; their order is drawn anew for every epoch.
    """
    epoch, i = divmod(k, self.batches)
    first = (
      np.random.default_rng((seed, epoch)).permutation(self.batches)[i] * self.size
    )
    part = slice(first, first + self.size)
    return {
      'rows': self.rows[part],
      'columns': self.columns[part],
      'counts': self.counts[part],
    }


@struct.dataclass
class Parameters:
  """Vectors and biases of words and of contexts, or one number for each of theirs."""

  words: Array  # [V, D]
  contexts: Array  # [V, D]
  word_biases: Array  # [V]
  context_biases: Array  # [V]


@struct.dataclass
class GloVe:
  """What an update reads and returns.

  Tables may be sharded by D over any mesh: then devices exchange dot products only.

  Attributes:
    parameters: of the model.
    squares: AdaGrad's sums, 1 at first.
  """

  parameters: Parameters
  squares: Parameters


def start(rng: Array, V: int, D: int) -> GloVe:
  """Uniform between -1/2D and 1/2D, vectors and biases alike."""
  shapes = Parameters((V, D), (V, D), (V,), (V,))
  leaves, tree = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
  half = 0.5 / D
  drawn = [
    jax.random.uniform(key, shape, minval=-half, maxval=half)
    for key, shape in zip(jax.random.split(rng, len(leaves)), leaves, strict=True)
  ]
  parameters = tree.unflatten(drawn)
  return GloVe(parameters, jax.tree.map(jnp.ones_like, parameters))


def vectors(state: GloVe) -> Array:
  """Word vectors, the sum of both roles of a word (section 4.2): [V, D]."""
  return state.parameters.words + state.parameters.contexts


def _errors(
  words: Array,
  contexts: Array,
  biases: Array,
  counts: Array,
  x_max: float,
  alpha: float,
) -> tuple[Array, Array]:
  """[N, D], [N, K, D], [N, K], [N, K] -> differences and their weights, [N, K]."""
  seen = counts > 0
  target = jnp.log(jnp.where(seen, counts, 1.0))
  difference = jnp.einsum('nkd,nd->nk', contexts, words) + biases - target
  return difference, jnp.minimum(1.0, (counts / x_max) ** alpha)


def loss(
  parameters: Parameters, batch: Batch, *, x_max: float = 100.0, alpha: float = 0.75
) -> tuple[Array, Array]:
  """Half the weighted squared errors (equation 8), summed, and the number of pairs.

  Args:
    parameters: of the model.
    batch: rows [N], columns [N, K], counts [N, K].
    x_max: count from which pairs weigh 1.
    alpha: pairs counted x times weigh (x / x_max)^alpha below that.
  """
  p, rows, columns = parameters, batch['rows'], batch['columns']
  biases = p.word_biases[rows][:, None] + p.context_biases[columns]  # [N, K]
  difference, weight = _errors(
    p.words[rows], p.contexts[columns], biases, batch['counts'], x_max, alpha
  )
  return 0.5 * jnp.sum(weight * difference**2), jnp.sum(batch['counts'] > 0)


def update(
  state: GloVe,
  batch: Batch,
  rate: Array,
  *,
  x_max: Annotated[float, Positive] = 100.0,
  alpha: Annotated[float, Range(0)] = 0.75,
  groups: Count = 64,
) -> tuple[GloVe, tuple[Array, Array]]:
  """Takes the groups of a batch, some at a time, one after another.

  Groups that are taken together see the same parameters; where a word is among them
  more than once its gradients are summed, and the sums of squares are those of single
  pairs. Only rows of the tables that are in the batch are touched.

  Args:
    state: to go on from; donate it.
    batch: rows [N], columns [N, K], counts [N, K].
    rate: of learning, 0.05 in the paper.
    x_max: see `loss`.
    alpha: see `loss`.
    groups: taken together; N must be a multiple of it.

  Returns:
    The state, and the sums of `loss`, each pair's before its update.

  Raises:
    ValueError: N is not a multiple of `groups`.
  """
  N = len(batch['rows'])
  if N % groups:
    raise ValueError(
      f'batching.size is {N}, which is no multiple of model.groups, {groups}'
    )
  parts = jax.tree.map(lambda x: x.reshape(-1, groups, *x.shape[1:]), batch)
  step = functools.partial(_take, rate=rate, x_max=x_max, alpha=alpha)
  state, losses = lax.scan(step, state, parts)
  return state, (losses.sum(), jnp.sum(batch['counts'] > 0))


def _take(
  state: GloVe, batch: Batch, rate: Array, x_max: float, alpha: float
) -> tuple[GloVe, Array]:
  """One step of AdaGrad, and the loss before it."""
  p, rows, columns = state.parameters, batch['rows'], batch['columns']
  words, contexts = p.words[rows], p.contexts[columns]  # [N, D], [N, K, D]
  biases = p.word_biases[rows][:, None] + p.context_biases[columns]  # [N, K]
  difference, weight = _errors(words, contexts, biases, batch['counts'], x_max, alpha)
  error = rate * weight * difference  # [N, K]
  to_contexts = error[..., None] * words[:, None]  # [N, K, D]
  gradients = Parameters(
    words=jnp.einsum('nk,nkd->nd', error, contexts),
    contexts=to_contexts,
    word_biases=error.sum(axis=1),
    context_biases=error,
  )
  squared = Parameters(
    words=jnp.einsum('nk,nkd->nd', error**2, contexts**2),
    contexts=to_contexts**2,
    word_biases=jnp.sum(error**2, axis=1),
    context_biases=error**2,
  )
  places = Parameters(rows, columns, rows, columns)
  # Sums first, so that their rows are read from the new table: XLA copies a table that
  # is read and then written in one step, unless what is written depends on what is read.
  squares = jax.tree.map(
    lambda table, at, g: table.at[at].add(g), state.squares, places, squared
  )
  parameters = jax.tree.map(
    lambda table, at, g, s: table.at[at].add(-g * lax.rsqrt(s[at])),
    *(p, places, gradients, squares),
  )
  return GloVe(parameters, squares), 0.5 * jnp.sum(weight * difference**2)
