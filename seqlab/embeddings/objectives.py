"""What a prediction of words is judged by: sampling, a tree, or the whole vocabulary.

Each objective learns from a block: S inputs h a lane, T words, and a band that says which
input foresees which words. Gradients are written out, since they are short, and since
only the rows that are met are to be touched.
"""

from collections.abc import Mapping
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
from seqlab.embeddings.rows import add_rows
from seqlab.types import Array


class Learnt(NamedTuple):
  """What a block teaches.

  Attributes:
    inputs: [B, S, D], to be added to the inputs.
    table: [V, D], the output table after the block.
    met: as it was given.
    pairs: [B, S], updates of pairs that each input's is the sum of.
    loss: [] nats, summed over the first lane's predictions, as they were before.
  """

  inputs: Array
  table: Array
  met: Array
  pairs: Array
  loss: Array


class Objective(Protocol):
  """How predictions are judged, and what is learnt from that.

  In what follows `table` is [V, D], `h` [B, S, D], `words` [B, T] int32, `band` of S
  runs of these words, and `drawn` what `draw` gave for this block.
  """

  rows: int  # of the output table

  def met(self, T: int) -> int:
    """Rows of the table that a lane's block of T words to foresee looks up."""
    ...

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """What blocks need of chance, `shape` [n, B] in front."""
    ...

  def learn(
    self,
    table: Array,
    h: Array,
    words: Array,
    band: Band,
    drawn: Mapping[str, Array],
    rate: Array,
    most: float | None,
    met: Array,
  ) -> Learnt:
    """Learns from a block at a learning rate; `most` and `met` are for `add_rows`."""
    ...

  def loss(
    self,
    table: Array,
    h: Array,
    words: Array,
    band: Band,
    drawn: Mapping[str, Array],
  ) -> Array:
    """[] nats, summed over the block's predictions."""
    ...


class Choices(NamedTuple):
  """Yes-or-no questions about rows of the output table.

  Attributes:
    rows: [B, R] int32.
    yes: [1, R, 1] or [B, R, 1], the right answers, 1 or 0.
    weights: [B, R, S] float32, how often each input is asked each question. Inputs
      stand last: so the matrix products are a tenth faster on a CPU.
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

  def learn(self, table, h, words, band, drawn, rate, most, met) -> Learnt:
    rows, yes, weights = self.choices(words, band, drawn)
    outputs = table[rows]  # [B, R, D]
    logits = jnp.einsum('brd,bsd->brs', outputs, h)
    error = (yes - jax.nn.sigmoid(logits)) * weights * rate  # [B, R, S]
    inputs = jnp.einsum('brs,brd->bsd', error, outputs)
    updates = jnp.einsum('brs,bsd->brd', error, h)
    table, met = add_rows(table, rows, updates, weights.sum(axis=2), most, met)
    loss = _nats(logits[:1], yes[:1], weights[:1])
    return Learnt(inputs, table, met, weights.sum(axis=1), loss)

  def loss(self, table, h, words, band, drawn) -> Array:
    rows, yes, weights = self.choices(words, band, drawn)
    return _nats(jnp.einsum('brd,bsd->brs', table[rows], h), yes, weights)


def _nats(logits: Array, yes: Array, weights: Array) -> Array:
  return (weights * (jax.nn.softplus(logits) - yes * logits)).sum()


@dataclasses.dataclass(frozen=True)
class Negative(_Logistic):
  """Negative sampling: words that are there against words drawn by frequency.

  Mikolov et al. 2013, section 2.2, https://arxiv.org/abs/1310.4546. A block draws
  `pool` samples for all its inputs; each pair counts them `negatives` / `pool` times.

  Attributes:
    counts: [V], how often each word comes.
    negatives: samples a pair.
    pool: samples a block.
    power: of the counts.
  """

  counts: np.ndarray
  negatives: Count = 5
  pool: Count = 32
  power: Annotated[float, Range(0)] = 0.75

  def __post_init__(self):
    domains.check_fields(self, 'model.objective.')

  @property
  def rows(self) -> int:
    """A row a word."""
    return len(self.counts)

  def met(self, T: int) -> int:
    """Those of the words and of the samples."""
    return T + self.pool

  @functools.cached_property
  def _alias(self) -> Alias:
    return Alias.of(np.asarray(self.counts, np.float64) ** self.power)

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """`samples` [n, B, pool] int32."""
    return {'samples': self._alias.draw(rng, (*shape, self.pool))}

  def choices(self, words: Array, band: Band, drawn: Mapping[str, Array]) -> Choices:
    """The words, and after them the samples."""
    rows = jnp.concatenate([words, drawn['samples']], axis=1)  # [B, R = T + pool]
    column = np.arange(rows.shape[1])
    yes = (column < words.shape[1])[None, :, None]
    share = band.number[:, None] * (self.negatives / self.pool)  # [B, 1, S]
    weights = jnp.where(yes, band.covers(column).astype(jnp.float32), share)
    return Choices(rows, yes.astype(np.float32), weights)


@dataclasses.dataclass(frozen=True)
class Hierarchical(_Logistic):
  """Hierarchical softmax: the way to a word through a binary tree, turn by turn.

  Morin and Bengio 2005; with Huffman's tree, Mikolov et al. 2013, section 2.1,
  https://arxiv.org/abs/1310.4546.

  Attributes:
    counts: [V], how often each word comes.
  """

  counts: np.ndarray

  @property
  def rows(self) -> int:
    """A row an inner node."""
    return len(self.counts) - 1

  def met(self, T: int) -> int:
    """Those of all ways to the words, padded to the longest."""
    return T * self._tree.nodes.shape[1]

  @functools.cached_property
  def _tree(self) -> Huffman:
    return Huffman.of(self.counts)

  def choices(self, words: Array, band: Band, drawn: Mapping[str, Array]) -> Choices:
    """At every node on the way to every word, whether it goes on to the one side."""
    B, T = words.shape
    tree = self._tree
    P = tree.nodes.shape[1]
    rows = jnp.asarray(tree.nodes)[words].reshape(B, T * P)
    yes = jnp.asarray(tree.turns)[words].reshape(B, T * P, 1).astype(jnp.float32)
    on_way = np.arange(P) < jnp.asarray(tree.lengths)[words][..., None]  # [B, T, P]
    weights = band.covers(np.arange(T * P) // P) & on_way.reshape(B, T * P, 1)
    return Choices(rows, yes, weights.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Softmax:
  """The full softmax: every word of the vocabulary is a rival. For small ones.

  The lecture's net as it stands: one-hot in, V outputs. Its step passes over the whole
  output table.

  Attributes:
    counts: [V], how often each word comes.
  """

  counts: np.ndarray

  @property
  def rows(self) -> int:
    """A row a word."""
    return len(self.counts)

  def met(self, T: int) -> int:
    """All."""
    del T
    return self.rows

  def draw(self, rng: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """Nothing."""
    del rng, shape
    return {}

  def _wanted(self, words: Array, band: Band) -> Array:
    """[B, S, V], how often each input has each word to foresee."""
    mask = band.covers(np.arange(words.shape[1]))
    B, _, S = mask.shape
    b, s = np.ogrid[:B, :S]
    zeros = jnp.zeros((B, S, self.rows))
    return zeros.at[b[:, None], s[:, None], words[..., None]].add(mask)

  def learn(self, table, h, words, band, drawn, rate, most, met) -> Learnt:
    """See `Objective`; `most` bounds the pairs that a step sums in all rows alike."""
    del drawn
    pairs, wanted = band.number, self._wanted(words, band)
    logp = jax.nn.log_softmax(jnp.einsum('bsd,vd->bsv', h, table))
    chances = jnp.exp(logp)
    error = rate * (wanted - pairs[..., None] * chances)  # [B, S, V]
    inputs = jnp.einsum('bsv,vd->bsd', error, table)
    update = jnp.einsum('bsv,bsd->vd', error, h)
    if most is not None:
      often = wanted.sum(axis=(0, 1))  # [V]
      update *= jnp.minimum(1.0, most / jnp.maximum(often, 1.0))[:, None]
    loss = -(logp[:1] * wanted[:1]).sum()
    return Learnt(inputs, table + update, met, pairs, loss)

  def loss(self, table, h, words, band, drawn) -> Array:
    """See `Objective`."""
    del drawn
    logp = jax.nn.log_softmax(jnp.einsum('bsd,vd->bsv', h, table))
    return -(logp * self._wanted(words, band)).sum()
