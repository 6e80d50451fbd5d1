"""Word vectors by counting: a word's vector is its row of the PMI matrix."""

from collections.abc import Iterator, Mapping, Sequence
import functools
from pathlib import Path
from typing import Any
import zipfile

from jax.sharding import Mesh
from scipy import sparse

from seqlab.config import call
from seqlab.domains import Signature
from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.vectors import SparseVectors
from seqlab.io import files
from seqlab.pieces import options_of
from seqlab.tasks.counting import CountingTask
from seqlab.tasks.interface import Fitted
from seqlab.tasks.words import Text
from seqlab.types import Variables


class PMITask(CountingTask):
  """A text and the pointwise mutual information of its words."""

  sections = ('corpus', 'vocabulary', 'counts', 'pmi', 'model')

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Reads the sections; see `CountingTask`. `pmi` is for `embeddings.ppmi:pmi`."""
    super().__init__(config, text)
    self._pmi = dict(config['pmi'])

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    return {**super().signatures(config), 'pmi': (options_of(pmi, ('counts',)),)}

  @functools.cached_property
  def matrix(self) -> sparse.csr_array:
    """[V, V] float32 PMI, row word and column context."""
    return call(pmi, self._pmi, 'pmi', counts=self.counts)

  @property
  def report(self) -> dict[str, float]:
    """Counts of the data: words, pairs that were counted, pairs with a PMI."""
    V, pairs = self.words.size, self.matrix.nnz
    text = {'vocabulary': V, 'words': self.store.total}
    return {**text, 'pairs': self.counts.nnz, 'pmi': pairs, 'density': pairs / V**2}


class PPMIVectors(PMITask):
  """Rows of the PMI matrix as vectors, which are sparse and V wide."""

  sections = ('corpus', 'vocabulary', 'counts', 'pmi')

  def fit(self, folder: Path, mesh: Mesh) -> Iterator[Fitted]:
    """Counts the text in one step; see `Estimator`."""
    del mesh
    file = folder / _FILE
    yield Fitted(int(file.is_file()))
    if not file.is_file():
      with files.replacing(file) as temporary, temporary.open('wb') as stream:
        # Compressing saves a third of the space, and takes thirty times as long.
        sparse.save_npz(stream, self.matrix, compressed=False)
      yield Fitted(1, {'density': self.matrix.nnz / self.words.size**2})

  def load(self, folder: Path) -> Variables:
    """Returns the matrix that `fit` left in its folder; see `Estimator`."""
    try:
      return {'params': {'matrix': sparse.load_npz(folder / _FILE)}}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'{folder / _FILE} is damaged ({error}): delete it and train again'
      ) from None

  def vectors(self, variables: Variables) -> SparseVectors:
    """Returns a vector per word: its row of the matrix."""
    return SparseVectors(self.words.words, variables['params']['matrix'])


_FILE = 'pmi.npz'
