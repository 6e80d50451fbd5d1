"""word2vec: word vectors that are trained to predict which words occur near each other.

Mikolov, Chen, Corrado and Dean, "Efficient Estimation of Word Representations in
Vector Space", 2013, https://arxiv.org/abs/1301.3781; Mikolov, Sutskever, Chen,
Corrado and Dean, "Distributed Representations of Words and Phrases and their
Compositionality", 2013, https://arxiv.org/abs/1310.4546.

Every stream of a batch is processed in blocks of S words. All pairs of a block's words
with the E = S + 2 window words around them are one matrix product, of which a band is
used (as in pWord2Vec, Ji et al. 2016, https://arxiv.org/abs/1604.04661, for single
words). A step gathers the rows that occur in a block and adds to them; nothing passes
over a whole table, unless the objective is the full softmax.

The input vector of a word is its row of a table, or the mean of several rows: see
`embeddings.subwords`.

Axis letters here: B streams, S words of a block, E words around them, D width, V words.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import domains
from seqlab.domains import Count, Positive
from seqlab.embeddings.band import Band
from seqlab.embeddings.objectives import Objective
from seqlab.embeddings.rows import add_rows, take_rows
from seqlab.embeddings.subwords import Parts
from seqlab.types import Array, Batch

# 'words' [V, D], or more rows with `parts`; 'contexts' [num_rows, D]; float32
Tables = Mapping[str, Array]


class Predictions(NamedTuple):
  """The inputs and targets of a block.

  Attributes:
    inputs: [B, S, D].
    targets: [B, T] int32, words to predict.
    band: the targets that each input predicts.
    spread: takes updates [B, S, D] of the inputs and their numbers of pairs [B, S] to
      words, the updates of their input vectors, and their numbers of pairs.
  """

  inputs: Array
  targets: Array
  band: Band
  spread: Callable[[Array, Array], tuple[Array, Array, Array]]


@dataclasses.dataclass(frozen=True)
class Word2Vec:
  """The net without its architecture: which words predict which is up to a subclass.

  Attributes:
    objective: the loss of predictions.
    size: V, number of words.
    width: D, number of dimensions.
    window: largest distance of a context.
    dynamic: draw the window of each word from 1 to `window`, so that nearer words count
      more; otherwise every word has the full window.
    keep_gaps: whether batches have positions without a word within sentences.
    block: S, words that are processed together.
    max_pairs_per_row: number of pair updates of one row, computed from the same tables
      in one step, that are summed; see `add_rows`. None sums all.
    parts: the rows whose mean is the input vector of a word; None for one row per word.
  """

  objective: Objective
  size: int
  width: Count = 300
  window: Count = 5
  dynamic: bool = True
  keep_gaps: bool = False
  block: Count = 32
  max_pairs_per_row: Annotated[float, Positive] | None = 64.0
  parts: Parts | None = None

  def __post_init__(self):
    domains.check_fields(self, 'model.')

  def predictions(self, words: Array, span_words: Array, band: Band) -> Predictions:
    """Returns the inputs and targets of a block.

    Args:
      words: the table of words.
      span_words: [B, E] int32, the words of the block and of a window on both sides of
        it.
      band: the window of each word of the block.
    """
    raise NotImplementedError

  def num_lookups(self) -> float:
    """Returns the rows of both tables that a block looks up, per stream."""
    raise NotImplementedError

  @property
  def row_bytes(self) -> float:
    """Bytes of table rows that are moved per word of a stream.

    A row is read to be used, and read and written to be updated. On a GPU this traffic
    is what limits the speed.
    """
    return 3 * 4 * self.width * self.num_lookups() / self.block

  @property
  def num_rows_of_words(self) -> int:
    """Number of rows of the table of words."""
    return self.size if self.parts is None else self.parts.num_rows

  def init(self, rng: Array) -> Tables:
    """Returns words uniform around 0 and contexts zero.

    Words are within ± 1 / 2D as in word2vec.c; with `parts` within ± 1 / D as in
    fastText.
    """
    shape = self.num_rows_of_words, self.width
    words = jax.random.uniform(rng, shape, minval=-0.5, maxval=0.5)
    contexts = jnp.zeros((self.objective.num_rows, self.width))
    scale = self.width if self.parts is None else self.width / 2
    return {'words': words / scale, 'contexts': contexts}

  def update(
    self, tables: Tables, batch: Batch, rng: Array, rate: Array
  ) -> tuple[Tables, tuple[Array, Array]]:
    """Returns the tables after stochastic gradient descent, block after block.

    Args:
      tables: before.
      batch: `words` and `sentence`, [B, L + 2 window]; see `data.windows`.
      rng: key of windows and samples.
      rate: [] learning rate.

    Returns:
      The tables, and (sum in nats, number of predictions) of the loss over the first
      stream, of each block before its own update.
    """

    def step(state: tuple[Tables, Tables], block: dict[str, Any]) -> tuple:
      tables, row_counts, losses = self.learn(*state, block, rate)
      return (tables, row_counts), losses

    row_counts = {name: jnp.zeros(len(table)) for name, table in tables.items()}
    blocks = self.blocks(batch, rng)
    (tables, _), losses = jax.lax.scan(step, (tables, row_counts), blocks)
    return tables, jax.tree.map(jnp.sum, losses)

  def blocks(self, batch: Batch, rng: Array) -> dict[str, Any]:
    """Cuts a batch into n blocks, and draws all their random numbers.

    The bands of all blocks are made here at once: if they were made where they are
    used, the compiler would compute the bounds of a range again for each of its words.

    Returns:
      `span_words` [n, B, E] int32; `band`, the window of each word, with n in front;
      and the random numbers of the objective.

    Raises:
      ValueError: the length of a stream is not a multiple of the block.
    """
    S, w = self.block, self.window
    B, L = batch['words'].shape[0], batch['words'].shape[1] - 2 * w
    if L % S:
      raise ValueError(
        f'streams of {L} words cannot be cut into blocks of {S}: set batching.length to '
        'a multiple of model.block'
      )
    places = np.arange(0, L, S)[:, None] + np.arange(S + 2 * w)  # [n, E]
    span_words, sentence = (
      jnp.moveaxis(batch[name][:, places], 1, 0) for name in ('words', 'sentence')
    )
    radius_rng, objective_rng = jax.random.split(rng)
    low = 1 if self.dynamic else w
    radius = jax.random.randint(radius_rng, (L // S, B, S), low, w + 1)
    drawn = self.objective.draw(objective_rng, (L // S, B))
    band = Band.of_windows(span_words, sentence, radius, has_gaps=self.keep_gaps)
    # Positions without a word are in no range, so any valid row may be read for them.
    return {'span_words': jnp.maximum(span_words, 0), 'band': band, **drawn}

  def learn(
    self, tables: Tables, row_counts: Tables, block: dict[str, Any], rate: Array
  ) -> tuple[Tables, Tables, tuple[Array, Array]]:
    """Returns the tables after the update of one block.

    Args:
      tables: before.
      row_counts: a buffer per table, see `add_rows`.
      block: one of `blocks`.
      rate: [] learning rate.

    Returns:
      The tables, the buffers, and the loss over the first stream, see `update`.
    """
    predictions = self._predictions(tables, block)
    update = self.objective.learn(
      tables['contexts'],
      predictions.inputs,
      predictions.targets,
      predictions.band,
      block,
      rate,
      self.max_pairs_per_row,
      row_counts['contexts'],
    )
    words, word_counts = self._add_inputs(
      tables['words'],
      *predictions.spread(update.inputs, update.pairs),
      self.max_pairs_per_row,
      row_counts['words'],
    )
    return (
      {'words': words, 'contexts': update.table},
      {'words': word_counts, 'contexts': update.row_counts},
      (update.loss, predictions.band.number[0].sum()),
    )

  def loss(self, tables: Tables, block: dict[str, Any]) -> tuple[Array, Array]:
    """Returns the loss of one block in nats, and its number of predictions."""
    inputs, targets, band, _ = self._predictions(tables, block)
    loss = self.objective.loss(tables['contexts'], inputs, targets, band, block)
    return loss, band.number.sum()

  def inputs(self, table: Array, words: Array) -> Array:
    """Returns the input vectors of words, [...] int32 -> [..., D]."""
    return (take_rows if self.parts is None else self.parts.means)(table, words)

  @property
  def _add_inputs(self) -> Callable[..., tuple[Array, Array]]:
    """Adds to the input vectors of words; arguments are those of `add_rows`."""
    return add_rows if self.parts is None else self.parts.add

  def _rows_of(self, num_words: int) -> float:
    """Returns the number of rows of the table of words that so many words have."""
    return num_words * (1 if self.parts is None else self.parts.mean_count)

  def _predictions(self, tables: Tables, block: dict[str, Any]) -> Predictions:
    return self.predictions(tables['words'], block['span_words'], block['band'])

  def _centre(self, span_words: Array) -> Array:
    """Returns the words of the block itself, [B, S]."""
    return span_words[:, self.window : self.window + self.block]


@dataclasses.dataclass(frozen=True)
class SkipGram(Word2Vec):
  """A word predicts each word around it."""

  def predictions(self, words: Array, span_words: Array, band: Band) -> Predictions:
    """See `Word2Vec.predictions`."""
    centre = self._centre(span_words)
    return Predictions(
      self.inputs(words, centre), span_words, band, lambda d, n: (centre, d, n)
    )

  def num_lookups(self) -> float:
    """See `Word2Vec.num_lookups`."""
    around = self.block + 2 * self.window
    return self._rows_of(self.block) + self.objective.num_lookups(around)


@dataclasses.dataclass(frozen=True)
class CBOW(Word2Vec):
  """The mean of the words around a word predicts it ("continuous bag of words")."""

  def predictions(self, words: Array, span_words: Array, band: Band) -> Predictions:
    """See `Word2Vec.predictions`."""
    inside = band.covers(np.arange(span_words.shape[1]))
    share = inside / jnp.maximum(band.number, 1)[:, None]  # [B, E, S]
    h = jnp.einsum('bes,bed->bsd', share, self.inputs(words, span_words))

    def spread(d: Array, n: Array) -> tuple[Array, Array, Array]:
      d = jnp.einsum('bes,bsd->bed', share, d)
      return span_words, d, jnp.einsum('bes,bs->be', share, n)

    targets = self._centre(span_words)
    return Predictions(h, targets, Band.of_diagonal(band.number > 0), spread)

  def num_lookups(self) -> float:
    """See `Word2Vec.num_lookups`."""
    around = self.block + 2 * self.window
    return self._rows_of(around) + self.objective.num_lookups(self.block)


# Short name -> the class; `model.kind` of an experiment.
ARCHITECTURES: dict[str, Callable[..., Word2Vec]] = {
  'skipgram': SkipGram,
  'cbow': CBOW,
}
