"""word2vec: vectors learnt by foreseeing the words around a word."""

from collections.abc import Mapping, Sequence
import functools
from pathlib import Path
from typing import Any, Literal

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call
from seqlab.data.windows import MAX_SENTENCE, WindowBatches, heldout_batch
from seqlab.domains import Signature
from seqlab.embeddings.vectors import Vectors
from seqlab.embeddings.word2vec import OBJECTIVES, Word2Vec
from seqlab.tasks.interface import CustomUpdate, Loss
from seqlab.tasks.words import THIN, WordTask
from seqlab.types import Array, Batch, Hyper, Sums, Variables


class WordPrediction(WordTask, CustomUpdate):
  """Skip-gram and CBOW, by any objective.

  Attributes:
    net: what is trained.
    train: batches of the text.
  """

  def __init__(self, config: Mapping, vocabulary: Path):
    """See `WordTask`.

    `model` is for `embeddings.word2vec:Word2Vec`, with `objective`, a section that
    names one of `OBJECTIVES` as `kind` and has its options, and with `use`: which
    vectors are given in the end, 'words', 'contexts' or 'both', their sum. `batching`
    is for `data.windows:WindowBatches`, with `subsample`, the threshold from which
    frequent words are thinned out, and `formula`, see `keep_probability`.
    """
    super().__init__(config, vocabulary)
    model = dict(config['model'])
    self._use = model.pop('use', 'words')
    objective = dict(model.pop('objective', {'kind': 'negative'}))
    kind = objective.pop('kind', None)
    if kind not in OBJECTIVES:
      raise ValueError(
        f'model.objective.kind is {kind!r}; it may be {", ".join(OBJECTIVES)}'
      )
    if kind == 'hierarchical' and self._use != 'words':
      raise ValueError("model.use: a tree has no vectors of contexts; set 'words'")
    counts = self.words.counts
    judge = call(OBJECTIVES[kind], objective, 'model.objective', counts=counts)
    self._batching = dict(config['batching'])
    more = dict(judge=judge, size=self.words.size)
    more['holes'] = self._batching.get('holes', False)
    self.net = call(Word2Vec, model, 'model', **more)
    self._check_room(2 * self.net.width)

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    del config
    use = {'use': Literal['words', 'contexts', 'both'], 'objective': Mapping}
    return {
      **super().signatures({}),
      'batching': (THIN, WindowBatches),
      'model': (use, Word2Vec),
    }

  @functools.cached_property
  def keep(self) -> np.ndarray:
    """[V] float32, how likely a place of each word is kept."""
    return self._keep({'subsample': 1e-3, **self._batching}, 'batching')

  @functools.cached_property
  def train(self) -> WindowBatches:
    """Batches of the text."""
    options = {k: v for k, v in self._batching.items() if k not in THIN}
    more = dict(store=self.store, keep=self.keep, window=self.net.window)
    return call(WindowBatches, options, 'batching', heldout=self.heldout, **more)

  @property
  def report(self) -> dict[str, float]:
    """Number of words in the vocabulary."""
    return {'vocabulary': self.words.size}

  def batches(self, split: str, **options: Any) -> WindowBatches:
    """Returns the batches of the text."""
    if split != 'train' or options:
      raise ValueError(f"batches are made of 'train' only, not of {split!r}")
    return self.train

  def tokens(self, batch: Batch) -> int:
    """Words of the text that a batch stands for."""
    return int(batch['count'].sum())

  def init(self, rng: Array) -> Variables:
    """Both tables, boxed with their logical axes."""
    tables = self.net.init(rng)
    names = ('vocab', None)  # whole rows, since rows are what a step looks up
    return {'params': {k: nn.LogicallyPartitioned(x, names) for k, x in tables.items()}}

  def update(
    self, params: Mapping, batch: Batch, rng: Array, rate: Array, constants: None
  ) -> tuple[Mapping, Sums]:
    """Goes over a batch; see `Word2Vec.update`."""
    del constants
    params, loss = self.net.update(params, batch, rng, rate)
    return params, {'loss': loss}

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> Loss:
    """Returns the summed loss of a batch from one state of the tables."""
    del hyper
    rng = jax.random.key(0) if rng is None else rng
    blocks = self.net.blocks(batch, rng)

    def add(total, block):
      now = self.net.loss(variables['params'], block)
      return jax.tree.map(jnp.add, total, now), None

    zeros = (jnp.zeros(()), jnp.zeros(()))
    (loss, pairs), _ = jax.lax.scan(add, zeros, blocks)
    return Loss(loss, pairs)

  def evaluation(self, most: int) -> Batch:
    """What is held out, at most so many words of it, as one batch."""
    if not self.heldout:
      raise ValueError(
        'nothing is held out: set corpus.heldout=200 to leave out every 200th sentence, '
        'or leave evals.heldout out as well'
      )
    return heldout_batch(
      self.store,
      self.heldout,
      most=most,
      length=8 * self.net.block,
      window=self.net.window,
      max_sentence=self._batching.get('max_sentence', MAX_SENTENCE),
    )

  def flops(self, batch: Batch) -> float:
    """3 products of 2 operations: each word with its mean window and its samples."""
    net = self.net
    around = (net.window + 1 if net.dynamic else 2 * net.window) * self.train.report[
      'kept'
    ]
    rivals = 1 + getattr(net.judge, 'negatives', 0)
    return 6.0 * self.tokens(batch) * around * rivals * net.width

  def vectors(self, variables: Variables) -> Vectors:
    """A vector for each word."""
    tables = variables['params']
    both = self._use == 'both'
    matrix = sum(tables.values()) if both else tables[self._use]
    return Vectors(self.words.words, np.asarray(matrix))
