"""Objectives of word prediction: negative sampling, a tree, or the whole vocabulary.

An objective learns from one block at a time: S inputs h per stream, T words, and a band
that says which input predicts which words. Gradients are written out, because they are
short, and because only the rows that occur in a block may be touched.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Annotated, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import domains
from seqlab.domains import Count, Range
from seqlab.embeddings.alias import Alias
from seqlab.embeddings.band import Band
from seqlab.embeddings.huffman import Huffman
from seqlab.embeddings.rows import add_rows, take_rows
from seqlab.types import Array


class BlockUpdate(NamedTuple):
  """The result of an objective for a block.

  Attributes:
    inputs: [B, S, D] to be added to the inputs.
    table: [V, D] the output table after the block.
    row_counts: the buffer, as it was given.
    pairs: [B, S] number of pairs that the update of each input is the sum of.
    loss: [] nats, summed over the predictions of the first stream, before the update.
  """

  inputs: Array
  table: Array
  row_counts: Array
  pairs: Array
  loss: Array


class Objective(Protocol):
  """The loss of predictions, and the update that lowers it.

  Arguments of its methods: `table` is [V, D], `h` is [B, S, D], `words` is [B, T]
  int32, `band` holds S ranges of these words, and `drawn` is what `draw` returned for
  the block.

  Attributes:
    num_rows: number of rows of the output table.
  """

  num_rows: int

  def num_lookups(self, T: int) -> int:
    """Returns the rows of the table that a block of T words per stream looks up."""
    ...

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """Returns the random numbers of blocks, with axes `shape` = [n, B] in front."""
    ...

  def learn(
    self,
    table: Array,
    h: Array,
    words: Array,
    band: Band,
    drawn: Mapping[str, Array],
    rate: Array,
    max_pairs_per_row: float | None,
    row_counts: Array,
  ) -> BlockUpdate:
    """Returns the update of a block at a learning rate `rate`.

    `max_pairs_per_row` and `row_counts` are for `add_rows`.
    """
    ...

  def loss(
    self,
    table: Array,
    h: Array,
    words: Array,
    band: Band,
    drawn: Mapping[str, Array],
  ) -> Array:
    """Returns the loss, [] nats, summed over the predictions of the block."""
    ...


class Choices(NamedTuple):
  """Yes-or-no questions about rows of the output table.

  Attributes:
    rows: [B, R] int32.
    yes: [1, R, 1] or [B, R, 1], the right answers, 1 or 0.
    weights: [B, R, S] float32, how often each input is asked each question. Inputs are
      the last axis: so the matrix products are a tenth faster on a CPU.
  """

  rows: Array
  yes: Array
  weights: Array


class _Logistic:
  """Objectives that are made of independent yes-or-no questions."""

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    del rng, shape
    return {}

  def choices(self, words: Array, band: Band, drawn: Mapping[str, Array]) -> Choices:
    raise NotImplementedError

  def learn(
    self, table, h, words, band, drawn, rate, max_pairs_per_row, row_counts
  ) -> BlockUpdate:
    rows, yes, weights = self.choices(words, band, drawn)
    outputs = take_rows(table, rows)  # [B, R, D]
    logits = jnp.einsum('brd,bsd->brs', outputs, h)
    error = (yes - jax.nn.sigmoid(logits)) * weights * rate  # [B, R, S]
    inputs = jnp.einsum('brs,brd->bsd', error, outputs)
    updates = jnp.einsum('brs,bsd->brd', error, h)
    pairs = weights.sum(axis=2)  # [B, R]
    table, row_counts = add_rows(
      table, rows, updates, pairs, max_pairs_per_row, row_counts
    )
    loss = _nats(logits[:1], yes[:1], weights[:1])
    return BlockUpdate(inputs, table, row_counts, weights.sum(axis=1), loss)

  def loss(self, table, h, words, band, drawn) -> Array:
    rows, yes, weights = self.choices(words, band, drawn)
    return _nats(jnp.einsum('brd,bsd->brs', take_rows(table, rows), h), yes, weights)


def _nats(logits: Array, yes: Array, weights: Array) -> Array:
  return (weights * (jax.nn.softplus(logits) - yes * logits)).sum()


@dataclasses.dataclass(frozen=True)
class Negative(_Logistic):
  """Negative sampling: words that occur against words that are drawn by frequency.

  Mikolov et al. 2013, section 2.2, https://arxiv.org/abs/1310.4546. A block draws
  `pool` samples that all its inputs share; each pair counts them `negatives` / `pool`
  times.

  Attributes:
    counts: [V] number of occurrences of each word.
    negatives: samples per pair.
    pool: samples per block.
    power: exponent of the counts in the distribution of samples.
  """

  counts: np.ndarray
  negatives: Count = 5
  pool: Count = 32
  power: Annotated[float, Range(0)] = 0.75

  def __post_init__(self):
    domains.check_fields(self, 'model.objective.')

  @property
  def num_rows(self) -> int:
    """One row per word."""
    return len(self.counts)

  def num_lookups(self, T: int) -> int:
    """Returns the rows of the words and of the samples."""
    return T + self.pool

  @functools.cached_property
  def _alias(self) -> Alias:
    return Alias.of(np.asarray(self.counts, np.float64) ** self.power)

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """Returns `samples` [n, B, pool] int32."""
    return {'samples': self._alias.draw(rng, (*shape, self.pool))}

  def choices(self, words: Array, band: Band, drawn: Mapping[str, Array]) -> Choices:
    """Returns the words, with the answer yes, and then the samples, with no."""
    rows = jnp.concatenate([words, drawn['samples']], axis=1)  # [B, R = T + pool]
    column = np.arange(rows.shape[1])
    yes = (column < words.shape[1])[None, :, None]
    share = band.number[:, None] * (self.negatives / self.pool)  # [B, 1, S]
    weights = jnp.where(yes, band.covers(column).astype(jnp.float32), share)
    return Choices(rows, yes.astype(np.float32), weights)


@dataclasses.dataclass(frozen=True)
class Hierarchical(_Logistic):
  """Hierarchical softmax: the path to a word in a binary tree, branch by branch.

  Morin and Bengio 2005; with Huffman's tree, Mikolov et al. 2013, section 2.1,
  https://arxiv.org/abs/1310.4546.

  Attributes:
    counts: [V] number of occurrences of each word.
  """

  counts: np.ndarray

  @property
  def num_rows(self) -> int:
    """One row per inner node."""
    return len(self.counts) - 1

  def num_lookups(self, T: int) -> int:
    """Returns the rows on the paths to all words, padded to the longest path."""
    return T * self._tree.nodes.shape[1]

  @functools.cached_property
  def _tree(self) -> Huffman:
    return Huffman.of(self.counts)

  def choices(self, words: Array, band: Band, drawn: Mapping[str, Array]) -> Choices:
    """Returns for every node on the path to every word whether the path turns right."""
    B, T = words.shape
    tree = self._tree
    P = tree.nodes.shape[1]
    rows = jnp.asarray(tree.nodes)[words].reshape(B, T * P)
    yes = jnp.asarray(tree.turns)[words].reshape(B, T * P, 1).astype(jnp.float32)
    on_path = np.arange(P) < jnp.asarray(tree.lengths)[words][..., None]  # [B, T, P]
    weights = band.covers(np.arange(T * P) // P) & on_path.reshape(B, T * P, 1)
    return Choices(rows, yes, weights.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Softmax:
  """The full softmax, in which every word of the vocabulary competes.

  It is the lecture's net: one-hot input, V outputs. A step passes over the whole output
  table, so it is for small vocabularies.

  Attributes:
    counts: [V] number of occurrences of each word.
  """

  counts: np.ndarray

  @property
  def num_rows(self) -> int:
    """One row per word."""
    return len(self.counts)

  def num_lookups(self, T: int) -> int:
    """Returns the number of all rows."""
    del T
    return self.num_rows

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """Returns nothing, as nothing is random."""
    del rng, shape
    return {}

  def _targets(self, words: Array, band: Band) -> Array:
    """Returns how often each input has each word to predict, [B, S, V]."""
    mask = band.covers(np.arange(words.shape[1]))
    B, _, S = mask.shape
    b, s = np.ogrid[:B, :S]
    zeros = jnp.zeros((B, S, self.num_rows))
    return zeros.at[b[:, None], s[:, None], words[..., None]].add(mask)

  def learn(
    self, table, h, words, band, drawn, rate, max_pairs_per_row, row_counts
  ) -> BlockUpdate:
    """See `Objective`; a row counts as many pairs as predictions of its word."""
    del drawn
    pairs, targets = band.number, self._targets(words, band)
    logp = jax.nn.log_softmax(jnp.einsum('bsd,vd->bsv', h, table))
    probabilities = jnp.exp(logp)
    error = rate * (targets - pairs[..., None] * probabilities)  # [B, S, V]
    inputs = jnp.einsum('bsv,vd->bsd', error, table)
    update = jnp.einsum('bsv,bsd->vd', error, h)
    if max_pairs_per_row is not None:
      total = targets.sum(axis=(0, 1))  # [V]
      update *= jnp.minimum(1.0, max_pairs_per_row / jnp.maximum(total, 1.0))[:, None]
    loss = -(logp[:1] * targets[:1]).sum()
    return BlockUpdate(inputs, table + update, row_counts, pairs, loss)

  def loss(self, table, h, words, band, drawn) -> Array:
    """See `Objective`."""
    del drawn
    logp = jax.nn.log_softmax(jnp.einsum('bsd,vd->bsv', h, table))
    return -(logp * self._targets(words, band)).sum()


@dataclasses.dataclass(frozen=True)
class Normalised(Softmax):
  """The distribution that vectors of negative sampling stand for; it only has a loss.

  Where negative sampling is at its optimum, w · c = log p(c | w) - log k q(c) for samples
  from q (Levy and Goldberg 2014, https://papers.nips.cc/paper/5477). So p(c | w) is
  q(c) exp(w · c), divided by its sum over all words c.

  Attributes:
    counts: [V] number of occurrences of each word.
    power: exponent of the counts in q.
  """

  power: float = 0.75

  def loss(self, table, h, words, band, drawn) -> Array:
    """See `Objective`."""
    del drawn
    prior = self.power * np.log(np.maximum(self.counts, 1)).astype(np.float32)
    logp = jax.nn.log_softmax(jnp.einsum('bsd,vd->bsv', h, table) + prior)
    return -(logp * self._targets(words, band)).sum()


def normalised(objective: Objective) -> Objective:
  """Returns an objective whose loss is a likelihood: all but negative sampling's are."""
  if not isinstance(objective, Negative):
    return objective
  return Normalised(objective.counts, power=objective.power)


# Short name -> the class, which is called with `counts` and its own options.
OBJECTIVES: dict[str, Callable[..., Objective]] = {
  'negative': Negative,
  'hierarchical': Hierarchical,
  'softmax': Softmax,
}
