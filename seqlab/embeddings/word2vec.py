"""word2vec: vectors of words, trained to tell which words stand near.

Mikolov, Chen, Corrado and Dean, "Efficient Estimation of Word Representations in
Vector Space", 2013, https://arxiv.org/abs/1301.3781; Mikolov, Sutskever, Chen,
Corrado and Dean, "Distributed Representations of Words and Phrases and their
Compositionality", 2013, https://arxiv.org/abs/1310.4546.

Every lane of a batch is worked through in blocks of S words. All pairs of a block's
words with the E = S + 2 window words around them are one matrix product, of which a
band is used (as in pWord2Vec, Ji et al. 2016, https://arxiv.org/abs/1604.04661, for
single words). A step gathers the rows that it meets and adds to them; nothing passes
over a whole table, but where the objective is the full softmax.

Axis letters here: B lanes, S words of a block, E words around them, D width, V words.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import domains
from seqlab.domains import Count, Positive
from seqlab.embeddings.band import Band
from seqlab.embeddings.objectives import Hierarchical, Negative, Objective, Softmax
from seqlab.embeddings.rows import add_rows
from seqlab.types import Array, Batch

Tables = Mapping[str, Array]  # 'words' [V, D], 'contexts' [rows, D] float32

OBJECTIVES: dict[str, Callable[..., Objective]] = {
  'negative': Negative,
  'hierarchical': Hierarchical,
  'softmax': Softmax,
}


@dataclasses.dataclass(frozen=True)
class Word2Vec:
  """The net: which words foresee which, and by what they are judged.

  Attributes:
    judge: the objective.
    size: V.
    width: D.
    kind: 'skipgram', a word foresees each word around it, or 'cbow', the mean of the
      words around it foresees a word.
    window: words to either side.
    dynamic: draw each word's window from 1 to `window`, so that nearer words count
      more; else all have the full one.
    holes: whether batches have places without a word within sentences.
    block: S, words that are worked through together.
    most: pair-updates of one row, made from the same tables in one step, that are
      summed, see `add_rows`; None sums all.
  """

  judge: Objective
  size: int
  width: Count = 300
  kind: Literal['skipgram', 'cbow'] = 'skipgram'
  window: Count = 5
  dynamic: bool = True
  holes: bool = False
  block: Count = 32
  most: Annotated[float, Positive] | None = 64.0

  def __post_init__(self):
    domains.check_fields(self, 'model.')

  @property
  def row_bytes(self) -> float:
    """Bytes of the tables' rows that move for a word of a lane.

    A row is read to be used, and read and written to be added to. On a GPU this
    traffic is what bounds the speed.
    """
    S, E = self.block, self.block + 2 * self.window
    inputs, foreseen = (S, E) if self.kind == 'skipgram' else (E, S)
    return 3 * 4 * self.width * (inputs + self.judge.met(foreseen)) / S

  def init(self, rng: Array) -> Tables:
    """Words uniform within ± 1 / 2D, what they foresee zero, as in word2vec.c."""
    words = jax.random.uniform(rng, (self.size, self.width), minval=-0.5, maxval=0.5)
    contexts = jnp.zeros((self.judge.rows, self.width))
    return {'words': words / self.width, 'contexts': contexts}

  def update(
    self, tables: Tables, batch: Batch, rng: Array, rate: Array
  ) -> tuple[Tables, tuple[Array, Array]]:
    """Stochastic gradient descent over a batch, block after block.

    Args:
      tables: before.
      batch: `words` and `sentence`, [B, L + 2 window]; see `data.windows`.
      rng: of windows and samples.
      rate: [] learning rate.

    Returns:
      The tables, and (sum in nats, number of predictions) of the loss over the first
      lane, of each block before it was learnt from.
    """

    def step(state: tuple[Tables, Tables], block: dict[str, Any]) -> tuple:
      tables, met, losses = self.learn(*state, block, rate)
      return (tables, met), losses

    met = {name: jnp.zeros(len(table)) for name, table in tables.items()}
    (tables, _), losses = jax.lax.scan(step, (tables, met), self.blocks(batch, rng))
    return tables, jax.tree.map(jnp.sum, losses)

  def blocks(self, batch: Batch, rng: Array) -> dict[str, Any]:
    """A batch cut into n blocks, with all that chance decides.

    Bands are made here for all blocks at once: made where they are used, the compiler
    would reckon the bounds of a run anew for each of its words.

    Returns:
      `near` [n, B, E] int32; `band`, each word's window, with n in front; and what the
      objective draws.

    Raises:
      ValueError: blocks do not fill a lane.
    """
    S, w = self.block, self.window
    B, L = batch['words'].shape[0], batch['words'].shape[1] - 2 * w
    if L % S:
      raise ValueError(
        f'lanes of {L} words cannot be cut into blocks of {S}: let batching.length be '
        'a multiple of model.block'
      )
    places = np.arange(0, L, S)[:, None] + np.arange(S + 2 * w)  # [n, E]
    near, sentence = (
      jnp.moveaxis(batch[name][:, places], 1, 0) for name in ('words', 'sentence')
    )
    radius_rng, judge_rng = jax.random.split(rng)
    low = 1 if self.dynamic else w
    radius = jax.random.randint(radius_rng, (L // S, B, S), low, w + 1)
    drawn = self.judge.draw(judge_rng, (L // S, B))
    band = Band.of_windows(near, sentence, radius, holes=self.holes)
    return {'near': near, 'band': band, **drawn}

  def learn(
    self, tables: Tables, met: Tables, block: dict[str, Any], rate: Array
  ) -> tuple[Tables, Tables, tuple[Array, Array]]:
    """Learns from one block.

    Args:
      tables: before.
      met: room to count in for each, see `add_rows`.
      block: one of `blocks`.
      rate: [] learning rate.

    Returns:
      The tables, `met`, and the loss over the block's first lane, see `update`.
    """
    h, targets, band, spread = self._inputs(tables['words'], block)
    learnt = self.judge.learn(
      *(tables['contexts'], h, targets, band, block, rate, self.most, met['contexts'])
    )
    change = spread(learnt.inputs, learnt.pairs)
    words, met_words = add_rows(tables['words'], *change, self.most, met['words'])
    return (
      {'words': words, 'contexts': learnt.table},
      {'words': met_words, 'contexts': learnt.met},
      (learnt.loss, band.number[0].sum()),
    )

  def loss(self, tables: Tables, block: dict[str, Any]) -> tuple[Array, Array]:
    """Of one block: loss in nats, and the number of predictions it is the sum of."""
    h, targets, band, _ = self._inputs(tables['words'], block)
    loss = self.judge.loss(tables['contexts'], h, targets, band, block)
    return loss, band.number.sum()

  def _inputs(self, words: Array, block: dict[str, Any]) -> tuple:
    """What a block foresees, from what.

    Returns:
      Inputs [B, S, D]; words to foresee [B, T], and the band that says which input
      foresees which; and a function that takes the inputs' updates [B, S, D] and their
      numbers of pairs [B, S] to rows of `words`, these rows' updates, and their
      numbers of pairs.
    """
    place = slice(self.window, self.window + self.block)
    near = jnp.maximum(block['near'], 0)
    centre, band = near[:, place], block['band']
    if self.kind == 'skipgram':
      return words[centre], near, band, lambda d, n: (centre, d, n)
    inside = band.covers(np.arange(near.shape[1]))
    share = inside / jnp.maximum(band.number, 1)[:, None]  # [B, E, S]
    h = jnp.einsum('bes,bed->bsd', share, words[near])

    def spread(d: Array, n: Array) -> tuple[Array, Array, Array]:
      d = jnp.einsum('bes,bsd->bed', share, d)
      return near, d, jnp.einsum('bes,bs->be', share, n)

    return h, centre, Band.of_diagonal(band.number > 0), spread
