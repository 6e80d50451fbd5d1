"""Kinds of normalisation, all called as norm(x, mask).

`mask` has the positions that batch statistics are taken over, bool [B, L]; it is None
where a model does not train. Only the norms in `batch_norm` use it.

A kind is a Linen module, here or anywhere on the Python path. It gets `dtype`, the
dtype of its result, if it has such a field; its other fields are its options.
Statistics are computed in float32.
"""

from typing import Annotated

from flax import linen as nn
import jax.numpy as jnp

from seqlab.domains import Positive
from seqlab.types import Array

_ONES = nn.with_logical_partitioning(nn.initializers.ones, ('features',))
_ZEROS = nn.with_logical_partitioning(nn.initializers.zeros, ('features',))


class LayerNorm(nn.LayerNorm):
  """(x - mean) / standard deviation over the features, with a gain and a bias.

  Ba, Kiros and Hinton, "Layer Normalization", 2016,
  https://arxiv.org/abs/1607.06450
  """

  epsilon: Annotated[float, Positive] = 1e-6
  scale_init: nn.initializers.Initializer = _ONES
  bias_init: nn.initializers.Initializer = _ZEROS

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states: [B, L, D] -> [B, L, D]."""
    return super().__call__(x)


class RMSNorm(nn.RMSNorm):
  """x / root mean square over the features, with a gain.

  Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019,
  https://arxiv.org/abs/1910.07467
  """

  epsilon: Annotated[float, Positive] = 1e-6
  scale_init: nn.initializers.Initializer = _ONES

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states: [B, L, D] -> [B, L, D]."""
    return super().__call__(x)


class ScaleNorm(nn.Module):
  """g x / |x|, with one gain g, which starts at √D.

  Nguyen and Salazar, "Transformers without Tears: Improving the Normalization of
  Self-Attention", 2019, section 3.2, https://arxiv.org/abs/1910.05895
  """

  dtype: jnp.dtype = jnp.float32
  epsilon: Annotated[float, Positive] = 1e-5

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states: [B, L, D] -> [B, L, D]."""
    init = nn.initializers.constant(x.shape[-1] ** 0.5)
    gain = self.param('gain', nn.with_logical_partitioning(init, ()), ())
    x = x.astype(jnp.float32)
    squared = (x * x).sum(axis=-1, keepdims=True)  # [B, L, 1]
    # The root of a maximum: the root itself has no gradient at 0.
    length = jnp.sqrt(jnp.maximum(squared, self.epsilon**2))
    return (gain * x / length).astype(self.dtype)


class NoNorm(nn.Module):
  """x as it is."""

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns `x`: [B, L, D] -> [B, L, D]."""
    return x
