"""Linear maps of each position, by an einsum."""

import functools

from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from seqlab.layers.products import product, stored
from seqlab.layers.sharding import apply_row_sharded, weight_init
from seqlab.layers.stack import PRODUCT
from seqlab.types import Array


class Linear(nn.Module):
  """x W + b, where W may have several axes to either side.

  Attributes:
    equation: einsum of x [B, L, ...] and W, such as 'bld,dhk->blhk'.
    shape: shape of W.
    axes: logical axes of W.
    kernel_init: initializer of W.
    use_bias: whether there is b, as long as the last axis of W. It starts at 0.
    dtype: dtype of the product. Parameters stay float32.
  """

  equation: str
  shape: tuple[int, ...]
  axes: tuple[str, ...]
  kernel_init: nn.initializers.Initializer
  use_bias: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the product with the kernel: [B, L, ...] -> [B, L, ...]."""
    init = weight_init(self.kernel_init, self.axes, self.dtype)
    kernel = stored(self.param('kernel', init, self.shape).astype(self.dtype))

    multiply = functools.partial(product, self.equation)
    y = apply_row_sharded(multiply, x.astype(self.dtype), kernel, self.axes)
    y = checkpoint_name(y, PRODUCT)
    if self.use_bias:
      axes = (vector_axis(self.axes[-1]),)
      init = nn.with_logical_partitioning(nn.initializers.zeros, axes)
      bias = self.param('bias', init, self.shape[-1:])
      # Added in float32, so that its gradient, a sum over all rows, is in float32 too. A
      # CPU would round a sum in bfloat16 at every row, and compute it twenty times slower.
      y = (y + bias).astype(self.dtype)
    return y


def vector_axis(axis: str) -> str:
  """Returns the logical axis of a vector along an axis of a matrix.

  Vectors of the model's width are not sharded: they are so small that gathering one
  would cost a message's latency and save hardly any memory.
  """
  return 'features' if axis == 'embed' else axis


def glorot(
  scale: float = 1.0, in_axis: int | tuple = -2, out_axis: int | tuple = -1
) -> nn.initializers.Initializer:
  """Returns the uniform initialiser of Glorot and Bengio (2010), times `scale`."""
  return nn.initializers.variance_scaling(
    scale**2, 'fan_avg', 'uniform', in_axis, out_axis
  )
