"""Token embeddings, which may serve as output weights too."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.layers.sharding import bring_together, copies, parts, share_out
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
    init, axes = nn.initializers.normal(self.width**-0.5), ('vocab', 'embed')
    init = nn.with_logical_partitioning(init, axes)
    self.table = self.param('table', init, (self.size, self.width))
    # One gathered table, and one sum of gradients, for all uses.
    self.copies = copies(self.table, axes) if parts() > 1 else None

  def __call__(self, ids: Array) -> Array:
    """[B, L] int32 -> [B, L, D]."""
    return self._scaled(self.table[ids])

  def by_rows(self, ids: Array) -> Array:
    """The same, of the rows of a batch, which may be shared out over devices."""
    if self.copies is None:
      return self(ids)
    vectors = jax.vmap(lambda table, ids: table[ids])(self.copies, share_out(ids))
    return self._scaled(bring_together(vectors))

  @property
  def weights(self) -> Array:
    """The table [V, D]; [n, V, D] where n shares of a batch's rows each have one."""
    return self.table if self.copies is None else self.copies

  def _scaled(self, vectors: Array) -> Array:
    return (vectors * self.width**0.5).astype(self.dtype)


def logits(hidden: Array, weights: Array) -> Array:
  """[B, T, D], and `weights` as `Embedding` has them -> [B, T, V] float32."""
  if weights.ndim == 3:
    return bring_together(jax.vmap(logits)(share_out(hidden), weights))
  weights = weights.astype(hidden.dtype)
  wide = dict(preferred_element_type=jnp.float32)
  return jnp.einsum('btd,vd->btv', hidden, weights, **wide)
