"""Learned vectors of absolute positions."""

from seqlab.domains import Count
from seqlab.layers.embedding import Embedding
from seqlab.layers.positions.interface import Positions
from seqlab.types import Array


class Learned(Positions):
  """Adds a learned vector per position to the embeddings.

  Gehring et al., "Convolutional Sequence to Sequence Learning", 2017, section 3.1,
  https://arxiv.org/abs/1705.03122.

  Attributes:
    max_length: number of positions that have a vector. Rows and outputs must not be
      longer.
  """

  max_length: Count = 1024

  def setup(self) -> None:
    """Makes the table."""
    self.embedding = Embedding(self.max_length, self.width, self.dtype)

  def check_length(self, length: int) -> None:
    """See `Positions.check_length`."""
    if length > self.max_length:
      raise ValueError(
        f'a row of {length} positions is longer than '
        f'model.positions.max_length={self.max_length}, the number of learned vectors: '
        f'set model.positions.max_length={length}, or make rows and outputs shorter'
      )

  def embed(self, x: Array, positions: Array) -> Array:
    """See `Positions.embed`."""
    self.check_length(positions.shape[-1])
    return x + self.embedding(positions)
