"""GloVe as a task: vectors whose dot products are the logarithms of counts."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from seqlab.config import call, check_keys
from seqlab.domains import Count, Signature
from seqlab.embeddings import glove
from seqlab.embeddings.vectors import Vectors
from seqlab.pieces import options_of
from seqlab.tasks.counting import CountingTask
from seqlab.tasks.interface import CustomUpdate
from seqlab.tasks.words import Text, check_training_split
from seqlab.types import Array, Batch, Sums, Variables


class PairBatches:
  """Batches of the pairs that were counted; see `tasks.interface.Batches`.

  Attributes:
    steps_per_epoch: number of batches in which each pair occurs once.
    report: counts of the pairs.
    tokens_per_step: mean number of pairs per batch.
  """

  def __init__(self, groups: glove.PairGroups):
    """Makes batches of the pairs in `groups`."""
    self._groups, self.steps_per_epoch = groups, groups.batches
    self.tokens_per_step = groups.pairs / groups.batches
    self.report = {
      'pairs': groups.pairs,
      'padding_waste': 1 - groups.pairs / groups.counts.size,
      'steps_per_epoch': groups.batches,
    }

  @property
  def shapes(self) -> tuple[Batch, ...]:
    """The one shape, as an empty batch."""
    return ({k: np.zeros_like(x) for k, x in self.batch(0, seed=0).items()},)

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or the i-th of n shares of its groups."""
    (i, n), size = rows, self._groups.size
    part = slice(size * i // n, size * (i + 1) // n)
    return {name: x[part] for name, x in self._groups.batch(k, seed=seed).items()}


class GlobalVectors(CountingTask, CustomUpdate):
  """Counts pairs of words, and learns from a batch of them per step."""

  sections = ('corpus', 'vocabulary', 'counts', 'batching', 'model')

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Reads the sections; see `CountingTask`.

    Args:
      config: a resolved experiment. Its section `batching` is for
        `embeddings.glove:PairGroups`; its section `model` has `width`, D, and `x_max`,
        `alpha` and `groups`, see `embeddings.glove:update`.
      text: the text and its words.
    """
    super().__init__(config, text)
    model = dict(config['model'])
    self._width = model.pop('width', 300)
    self._check_memory(4 * self._width)  # two tables, and AdaGrad's sums of both
    check_keys(model, ('x_max', 'alpha', 'groups'), where='model.')
    self._model, self._batching = model, dict(config['batching'])

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    return {
      **super().signatures(config),
      'batching': (options_of(glove.PairGroups, ('counts',)),),
      'model': ({'width': Count}, glove.update),
    }

  @functools.cached_property
  def train(self) -> glove.PairGroups:
    """All pairs, shuffled."""
    return call(glove.PairGroups, self._batching, 'batching', counts=self.counts)

  @property
  def report(self) -> dict[str, float]:
    """Counts of the text."""
    return {'vocabulary': self.words.size, 'words': self.store.total}

  def batches(self, split: str, **options: Any) -> PairBatches:
    """Returns the batches of the pairs, which are the split 'train'."""
    check_training_split(split, options)
    return PairBatches(self.train)

  def tokens(self, batch: Batch) -> int:
    """Returns the number of pairs in a batch."""
    return int(np.count_nonzero(batch['counts']))

  def flops(self, batch: Batch) -> float:
    """Returns 12 operations per number of a pair's vectors.

    They are the dot product, two gradients, and the squares of these.
    """
    return 12.0 * self.tokens(batch) * self._width

  def init(self, rng: Array) -> Variables:
    """Returns the tables and AdaGrad's sums, boxed with their logical axes."""

    def box(x: Array) -> nn.LogicallyPartitioned:
      return nn.LogicallyPartitioned(x, (None, 'embed')[: x.ndim])

    state = glove.start(rng, self.words.size, self._width)
    return {'params': {'state': jax.tree.map(box, state)}}

  def update(
    self, params: Mapping, batch: Batch, rng: Array, rate: Array, constants: None
  ) -> tuple[Mapping, Sums]:
    """Returns the tables after one batch; see `embeddings.glove:update`."""
    del rng, constants
    state, loss = glove.update(params['state'], batch, rate, **self._model)
    return {'state': state}, {'loss': loss}

  def vectors(self, variables: Variables) -> Vectors:
    """Returns a vector per word, the sum of its vectors as word and as context."""
    matrix = glove.vectors(variables['params']['state'])
    return Vectors(self.words.words, np.asarray(matrix))
