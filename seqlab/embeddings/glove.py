"""GloVe: vectors whose dot products are the logarithms of counts of pairs.

Pennington, Socher and Manning, "GloVe: Global Vectors for Word Representation", 2014,
https://aclanthology.org/D14-1162. AdaGrad is as in their program: it sums the squares
of learning rate times gradient over single pairs, and starts from one. Unlike there,
sums are updated before they are used, and several pairs are processed together
(`update`).

  V  words                       N  groups of a batch
  D  dimensions                  K  pairs of a group, all of the same word
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

_BLOCK = 1 << 22  # pairs that are shuffled at once, to bound the memory


class PairGroups:
  """All pairs that were counted, shuffled, in groups of pairs of the same word.

  The pairs of a word are put in random order and cut into groups of K, the last of
  which is padded with pairs of count 0; then the groups of all words are shuffled.
  Groups divide the cost of gathering and scattering the rows of words by K.

  Attributes:
    rows: [M] int32, the word of each group.
    columns: [M, K] int32, context words.
    counts: [M, K] float32; 0 for padding.
    size: N, groups per batch; M is a multiple of it.
    pairs: total number of pairs.
  """

  def __init__(
    self, counts: sparse.csr_array, *, size: Count, group: Count = 16, seed: Seed = 0
  ):
    """Shuffles the nonzeros of `counts`; needs 8 bytes per pair.

    Args:
      counts: [V, V], row word and column context.
      size: N, groups per batch.
      group: K, pairs per group.
      seed: integer seed of the shuffling.

    Raises:
      ValueError: there are no counts, one is not positive, or an option is outside its
        domain.
    """
    domains.check(PairGroups, dict(size=size, group=group, seed=seed), 'batching.')
    counts = sparse.csr_array(counts)
    if not counts.nnz or not counts.data.min() > 0:
      raise ValueError(
        f'{counts.nnz} counts, the smallest {counts.data.min(initial=np.inf)}: there must '
        f'be some, and all that are stored must be above 0 (csr_array.eliminate_zeros)'
      )
    random = np.random.default_rng(seed)
    self.size, self.pairs = size, counts.nnz
    groups = -(-np.diff(counts.indptr) // group)  # [V]
    firsts = np.concatenate([[0], np.cumsum(groups)])
    M = -(-int(firsts[-1]) // size) * size
    place = random.permutation(M).astype(np.int32)  # new index of each group
    self.rows = np.zeros(M, np.int32)
    self.rows[place[: firsts[-1]]] = np.repeat(np.arange(len(groups)), groups)
    self.columns = np.zeros((M, group), np.int32)
    self.counts = np.zeros((M, group), np.float32)
    # In blocks of rows: the keys of all pairs at once would need several times the memory
    # of the pairs.
    ends = np.searchsorted(counts.indptr, np.arange(_BLOCK, counts.nnz, _BLOCK))
    cuts = np.unique([0, *ends, len(groups)])
    for a, b in itertools.pairwise(cuts):
      part = slice(counts.indptr[a], counts.indptr[b])
      lengths = np.diff(counts.indptr[a : b + 1])
      row = np.repeat(np.arange(a, b), lengths)
      key = row + random.random(len(row))
      order = np.argsort(key, kind='stable')  # random order within a row
      within = np.arange(part.start, part.stop) - counts.indptr[row]
      at = place[firsts[row] + within // group], within % group
      self.columns[at] = counts.indices[part][order]
      self.counts[at] = counts.data[part][order]

  @property
  def batches(self) -> int:
    """Number of batches per epoch."""
    return len(self.rows) // self.size

  def batch(self, k: int, *, seed: int) -> Batch:
    """Returns batch number k, a pure function of (seed, k).

    The batches are the same in every epoch; their order is not.

    Returns:
      `rows` [N], `columns` [N, K] and `counts` [N, K].
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
  """Vectors and biases of words and contexts; also AdaGrad's sum for each of them."""

  words: Array  # [V, D]
  contexts: Array  # [V, D]
  word_biases: Array  # [V]
  context_biases: Array  # [V]


@struct.dataclass
class GloVe:
  """The state of training.

  Tables may be sharded by D over any mesh: devices then exchange dot products only.

  Attributes:
    parameters: vectors and biases.
    squares: AdaGrad's sums of squares, 1 at the start.
  """

  parameters: Parameters
  squares: Parameters


def start(rng: Array, V: int, D: int) -> GloVe:
  """Returns vectors and biases that are uniform between -1/2D and 1/2D."""
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
  """Returns the sum of each word's two vectors (section 4.2), [V, D]."""
  return state.parameters.words + state.parameters.contexts


def _errors(
  words: Array,
  contexts: Array,
  biases: Array,
  counts: Array,
  x_max: float,
  alpha: float,
) -> tuple[Array, Array]:
  """Returns the differences to the log-counts, and their weights, both [N, K].

  Args:
    words: [N, D].
    contexts: [N, K, D].
    biases: [N, K], sum of both biases.
    counts: [N, K].
    x_max: see `loss`.
    alpha: see `loss`.
  """
  target = jnp.log(jnp.where(counts > 0, counts, 1.0))  # padding has the weight 0
  difference = jnp.einsum('nkd,nd->nk', contexts, words) + biases - target
  return difference, jnp.minimum(1.0, (counts / x_max) ** alpha)


def loss(
  parameters: Parameters, batch: Batch, *, x_max: float = 100.0, alpha: float = 0.75
) -> tuple[Array, Array]:
  """Returns half the sum of weighted squared errors (equation 8), and the pairs.

  Args:
    parameters: vectors and biases.
    batch: rows [N], columns [N, K], counts [N, K].
    x_max: pairs with this count or more have the weight 1.
    alpha: pairs with a lower count x have the weight (x / x_max)^alpha.
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
  """Returns the state after the updates of a batch, a few groups at a time.

  Groups that are processed together read the same parameters. If a word occurs in them
  more than once, its gradients are summed, and AdaGrad sums the squares of single
  pairs. Only the rows of the tables that occur in the batch are touched.

  Args:
    state: the state before; donate it.
    batch: rows [N], columns [N, K], counts [N, K].
    rate: [] learning rate, 0.05 in the paper.
    x_max: see `loss`.
    alpha: see `loss`.
    groups: number of groups that are processed together; it must divide N.

  Returns:
    The state, and the sums of `loss`, of each pair before its own update.

  Raises:
    ValueError: N is not a multiple of `groups`.
  """
  N = len(batch['rows'])
  if N % groups:
    raise ValueError(
      f'batching.size is {N}, which is not a multiple of model.groups, {groups}'
    )
  parts = jax.tree.map(lambda x: x.reshape(-1, groups, *x.shape[1:]), batch)
  step = functools.partial(_update_groups, rate=rate, x_max=x_max, alpha=alpha)
  state, losses = lax.scan(step, state, parts)
  return state, (losses.sum(), jnp.sum(batch['counts'] > 0))


def _update_groups(
  state: GloVe, batch: Batch, rate: Array, x_max: float, alpha: float
) -> tuple[GloVe, Array]:
  """Returns the state after one step of AdaGrad, and the loss before it."""
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
  # The sums are updated first, so that their rows are read from the new table. XLA copies
  # a table that is read and then written in one step, unless the written values depend on
  # the values that are read.
  squares = jax.tree.map(
    lambda table, at, g: table.at[at].add(g), state.squares, places, squared
  )
  parameters = jax.tree.map(
    lambda table, at, g, s: table.at[at].add(-g * lax.rsqrt(s[at])),
    *(p, places, gradients, squares),
  )
  return GloVe(parameters, squares), 0.5 * jnp.sum(weight * difference**2)
