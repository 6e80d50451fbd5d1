"""The feed-forward layer of a Transformer."""

from flax import linen as nn
import jax.numpy as jnp

from seqlab.layers import ACTIVATIONS
from seqlab.layers.dropout import Dropout
from seqlab.layers.linear import Linear, glorot
from seqlab.pieces import Specification, bind
from seqlab.types import Array


class FeedForward(nn.Module):
  """Two dense layers at each position, from D to F and back.

  f(x W₁ + b₁) W₂ + b₂ with an activation f of one array, f(x W, x V) W₂ with a gated
  activation f of two.

  Attributes:
    width: D.
    mlp_width: F.
    activation: a function of `layers.ACTIVATIONS`, or a path to one.
    up_scale: factor of the Glorot scale at which matrices to F are initialised.
    down_scale: factor of the Glorot scale at which the matrix to D is initialised.
    dtype: dtype of the matrix products.
  """

  width: int
  mlp_width: int
  activation: Specification = 'relu'
  up_scale: float = 1.0
  down_scale: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, dropout: Array | None = None) -> Array:
    """Returns [B, L, D] for [B, L, D]; `dropout` is the rate on the F hidden units."""
    D, F = self.width, self.mlp_width
    activate, arrays = bind(self.activation, ACTIVATIONS, 'model.activation')
    options = dict(use_bias=arrays == 1, dtype=self.dtype)

    def up(name: str) -> Array:  # [B, L, F]
      axes, init = ('embed', 'mlp'), glorot(self.up_scale)
      return Linear('bld,df->blf', (D, F), axes, init, **options, name=name)(x)

    hidden = activate(up('up')) if arrays == 1 else activate(up('gate'), up('up'))
    hidden = Dropout()(hidden, dropout)
    axes, init = ('mlp', 'embed'), glorot(self.down_scale)
    down = Linear('blf,fd->bld', (F, D), axes, init, **options, name='down')
    return down(hidden)  # [B, L, D]
