"""Word vectors by counting: rows of a PMI matrix, and its singular vectors."""

from collections.abc import Mapping, Sequence
import functools
from pathlib import Path
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
from scipy import sparse

from seqlab.config import call, check_keys
from seqlab.domains import Count, Signature
from seqlab.embeddings import svd
from seqlab.embeddings.cooccurrence import cached_cooccurrence, cooccurrence
from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.vectors import SparseVectors, Vectors
from seqlab.tasks.interface import CustomUpdate
from seqlab.tasks.words import THIN, WordTask
from seqlab.text.download import cache_dir
from seqlab.types import Array, Batch, Sums, Variables


class CountingTask(WordTask):
  """A text, its words, and how often they come near each other."""

  sections = ('corpus', 'vocabulary', 'counts', 'model')

  def __init__(self, config: Mapping, vocabulary: Path):
    """See `WordTask`.

    `counts` is for `embeddings.cooccurrence:cooccurrence`, with `subsample` and
    `formula` as in `keep_probability`.
    """
    super().__init__(config, vocabulary)
    if self.heldout:
      raise ValueError('corpus.heldout: all lines are counted; leave it out')
    self._counts = dict(config['counts'])

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    return {**super().signatures(config), 'counts': (THIN, cooccurrence)}

  @functools.cached_property
  def counts(self) -> sparse.csr_array:
    """[V, V] weights of pairs, from the cache if they are there."""
    options = {k: v for k, v in self._counts.items() if k not in THIN}
    if self._counts.get('subsample'):
      options['keep'] = self._keep(self._counts, 'counts')
    more = dict(store=self.store, V=self.words.size, cache=cache_dir())
    known = ('window', 'side', 'weights', 'keep', 'mode', 'seed', 'memory', 'workers')
    check_keys(options, (*known, 'device'), where='counts.')
    return cached_cooccurrence(**more, **options)


class Nothing:
  """Batches of nothing; see `tasks.interface.Batches`.

  Attributes:
    steps_per_epoch: 1.
    shapes: one batch, of nothing.
    tokens_per_step: number of words of the text, since a step reads all of it.
  """

  steps_per_epoch = 1
  shapes: tuple[Batch, ...] = ({},)

  def __init__(self, words: int):
    """`words` is the number of words of the text."""
    self.tokens_per_step = float(words)

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns nothing."""
    del k, seed, rows
    return {}


class PMITask(CountingTask, CustomUpdate):
  """A text and the pointwise mutual information of its words.

  A step looks at all of the matrix, which stays on the devices; there are no batches.
  """

  sections = ('corpus', 'vocabulary', 'counts', 'pmi', 'model')

  def __init__(self, config: Mapping, vocabulary: Path):
    """See `CountingTask`; `pmi` is for `embeddings.ppmi:pmi`."""
    super().__init__(config, vocabulary)
    self._pmi = dict(config['pmi'])

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    return {**super().signatures(config), 'pmi': (pmi,), 'model': ({},)}

  @functools.cached_property
  def matrix(self) -> sparse.csr_array:
    """[V, V] float32 of PMI."""
    return call(pmi, self._pmi, 'pmi', counts=self.counts)

  @property
  def report(self) -> dict[str, float]:
    """Counts of the data."""
    V, pairs = self.words.size, self.matrix.nnz
    text = {'vocabulary': V, 'words': self.store.total}
    return {**text, 'pairs': self.counts.nnz, 'pmi': pairs, 'density': pairs / V**2}

  def batches(self, split: str, **options: Any) -> Nothing:
    """Returns batches of nothing: what was counted stays on the devices."""
    del split, options
    return Nothing(self.store.total)

  def tokens(self, batch: Batch) -> int:
    """Words of the text."""
    del batch
    return self.store.total


class Explicit(PMITask):
  """A word's vector is its row of the PMI matrix. There is nothing to train."""

  def init(self, rng: Array) -> Variables:
    """No parameters."""
    del rng
    return {'params': {}}

  def update(
    self,
    params: Mapping,
    batch: Batch,
    rng: Array,
    rate: Array,
    constants: None,
  ) -> tuple[Mapping, Sums]:
    """Does nothing; as a loss, the share of the matrix that is missed, which is 0."""
    del batch, rng, rate, constants
    return params, {'loss': (jnp.zeros(()), jnp.ones(()))}

  def flops(self, batch: Batch) -> float:
    """None."""
    del batch
    return 0.0

  def vectors(self, variables: Variables) -> SparseVectors:
    """The rows, which are not in the checkpoint: the text must be there."""
    del variables
    return SparseVectors(self.words.words, self.matrix)


class SingularVectors(PMITask):
  """A word's vector is its part of the singular vectors of the PMI matrix.

  A step is an iteration of `embeddings.svd`; as a loss it tells the share of the
  matrix's squares that is still missed.
  """

  def __init__(self, config: Mapping, vocabulary: Path):
    """See `PMITask`.

    `model` has `width`, D; `block`, vectors that are iterated together, fewer where there
    are few words; and `power` and
    `use`, see `embeddings.svd:embed`. The experiment's `steps` is the number of
    iterations; block x steps should be 2.5 D or more.
    """
    super().__init__(config, vocabulary)
    model = dict(config['model'])
    self._width, self._block = model.pop('width', 300), model.pop('block', 32)
    check_keys(model, ('power', 'use'), where='model.')
    self._embed = functools.partial(svd.embed, **model)
    self._steps = config['steps']
    if not isinstance(self._steps, int) or self._steps * self._block < self._width:
      raise ValueError(
        f'steps is {self._steps!r}; it should be a number of iterations that makes '
        f'model.block x steps {self._width} or more, better {5 * self._width // 2}'
      )
    # A basis has no more vectors than there are words.
    self._block = min(self._block, self.words.size // self._steps)
    if self._steps * self._block < self._width:
      raise ValueError(
        f'model.width is {self._width}, and {self.words.size:,} words have '
        f'{self._steps * self._block} vectors in {self._steps} iterations: lower '
        'model.width, and steps with it'
      )
    self._check_room(2 * self._steps * self._block)  # a basis, and its images

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    sizes = {'width': Count, 'block': Count}
    return {**super().signatures(config), 'model': (sizes, svd.embed)}

  def constants(self, mesh: Mesh) -> svd.Operator:
    """The matrix, on the devices."""
    return svd.Operator.create(self.matrix, mesh)

  def init(self, rng: Array) -> Variables:
    """Random vectors, and room for all iterations."""
    V, options = self.words.size, dict(block=self._block, steps=self._steps)
    state = svd.start(rng, (V, V), **options)
    rows = functools.partial(nn.LogicallyPartitioned, names=(None, 'rows', None))
    basis, images = rows(state.basis), rows(state.images)
    return {'params': {'krylov': state.replace(basis=basis, images=images)}}

  def update(
    self,
    params: Mapping,
    batch: Batch,
    rng: Array,
    rate: Array,
    constants: svd.Operator,
  ) -> tuple[Mapping, Sums]:
    """An iteration."""
    del batch, rng, rate
    state = svd.iterate(params['krylov'], constants)
    missed = svd.residual(state, constants)
    return {'krylov': state}, {'loss': (missed, jnp.ones(()))}

  def flops(self, batch: Batch) -> float:
    """Of the products with the matrix and its transpose, and with half of the basis."""
    del batch
    basis = self._steps * self._block / 2
    return 4.0 * self._block * (self.matrix.nnz + 2 * basis * self.words.size)

  def vectors(self, variables: Variables) -> Vectors:
    """Singular vectors, weighted by the singular values."""
    return Vectors(self.words.words, np.asarray(self._embed(*self.parts(variables))))

  def parts(self, variables: Variables) -> tuple[Array, Array, Array]:
    """U [V, D], S [D], V [V, D], see `embeddings.svd:finish`."""
    finish = jax.jit(svd.finish, static_argnames='D')
    return finish(variables['params']['krylov'], D=self._width)
