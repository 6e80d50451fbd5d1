"""Token embeddings, which may serve as output weights too."""

from flax import linen as nn
import jax.numpy as jnp

from seqlab.types import Array


class Embedding(nn.Module):
  """A table of word vectors [V, D], read by id and, transposed, as logits.

  Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017,
  https://arxiv.org/abs/1608.05859. Vectors read are scaled by √D (Vaswani et
  al. 2017, section 3.4), so that with entries of variance 1/D they start at
  variance one and logits at the scale of the hidden state.

  Attributes:
    size: number of words V.
    width: D.
    dtype: dtype of what is returned. The table stays float32.
  """

  size: int
  width: int
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Makes the table."""
    init = nn.initializers.normal(self.width**-0.5)
    init = nn.with_logical_partitioning(init, ('vocab', 'embed'))
    self.table = self.param('table', init, (self.size, self.width))

  def __call__(self, ids: Array) -> Array:
    """[B, L] int32 -> [B, L, D]."""
    return (self.table[ids] * self.width**0.5).astype(self.dtype)
