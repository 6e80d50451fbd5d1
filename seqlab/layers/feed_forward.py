"""The feed-forward layer of a Transformer, with its activations."""

from flax import linen as nn
import jax.numpy as jnp

from seqlab.layers.attention import glorot
from seqlab.layers.dropout import Dropout
from seqlab.layers.linear import Linear
from seqlab.types import Array

ACTIVATIONS = ('relu', 'gelu', 'swiglu')


class FeedForward(nn.Module):
  """Two dense layers at each position, from D to F and back.

  'relu': max(0, x W₁ + b₁) W₂ + b₂. 'gelu': the same with x Φ(x) in the place of
  max(0, x) (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016,
  https://arxiv.org/abs/1606.08415). 'swiglu': (swish(x W) * x V) W₂, without biases
  (Shazeer, "GLU Variants Improve Transformer", 2020,
  https://arxiv.org/abs/2002.05202); with three matrices it is as large as the
  others at two thirds of F.

  Attributes:
    width: D.
    mlp_width: F.
    activation: one of `ACTIVATIONS`.
    up_scale: matrices to F start at the Glorot scale times this.
    down_scale: and so does the matrix back to D.
    dtype: dtype of the matrix products.
  """

  width: int
  mlp_width: int
  activation: str = 'relu'
  up_scale: float = 1.0
  down_scale: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, dropout: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]; `dropout` is the rate on the F hidden units."""

    D, F = self.width, self.mlp_width
    more = dict(use_bias=self.activation != 'swiglu', dtype=self.dtype)

    def up(name: str) -> Array:  # [B, L, F]
      axes, init = ('embed', 'mlp'), glorot(self.up_scale)
      return Linear('bld,df->blf', (D, F), axes, init, **more, name=name)(x)

    if self.activation == 'swiglu':
      hidden = nn.silu(up('gate')) * up('up')
    elif self.activation == 'gelu':
      hidden = nn.gelu(up('up'), approximate=False)
    else:
      hidden = nn.relu(up('up'))
    hidden = Dropout()(hidden, dropout)
    axes, init = ('mlp', 'embed'), glorot(self.down_scale)
    down = Linear('blf,fd->bld', (F, D), axes, init, **more, name='down')
    return down(hidden)  # [B, L, D]
