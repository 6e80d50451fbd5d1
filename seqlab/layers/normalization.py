"""Normalisation layers, all called alike: norm(x, counts).

`counts` are the positions that batch statistics are taken over, bool [B, L], or None
where a model is not training. Only the norms in `batch_norm` look at it.
"""

from flax import linen as nn
import jax.numpy as jnp

from seqlab.layers.batch_norm import BatchNorm, PowerNorm
from seqlab.types import Array

NORMALIZATIONS = ('layer', 'rms', 'scale', 'batch', 'power', 'none')


def make_norm(
  kind: str,
  *,
  dtype: jnp.dtype = jnp.float32,
  momentum: float = 0.9,
  warmup: int = 4000,
  groups: int | None = None,
  axis: str | None = None,
) -> nn.Module:
  """A layer called as norm(x, counts): [B, L, D], [B, L] or None -> [B, L, D].

  Args:
    kind: one of `NORMALIZATIONS`.
    dtype: dtype of what is returned. Statistics are taken in float32.
    momentum: of 'batch' and 'power': what is kept of running statistics an update.
    warmup: of 'power': updates with the batch's own statistics.
    groups: of 'power': groups of features that are scaled beforehand.
    axis: of 'batch' and 'power': pmapped axis over which statistics are taken.

  Raises:
    ValueError: the kind is unknown.
  """
  ones = nn.with_logical_partitioning(nn.initializers.ones, ('features',))
  zeros = nn.with_logical_partitioning(nn.initializers.zeros, ('features',))
  if kind == 'layer':
    return LayerNorm(epsilon=1e-6, dtype=dtype, scale_init=ones, bias_init=zeros)
  if kind == 'rms':
    return RMSNorm(epsilon=1e-6, dtype=dtype, scale_init=ones)
  if kind == 'scale':
    return ScaleNorm(dtype=dtype)
  if kind == 'batch':
    return BatchNorm(dtype=dtype, momentum=momentum, axis=axis)
  if kind == 'power':
    return PowerNorm(
      dtype=dtype, momentum=momentum, axis=axis, warmup=warmup, groups=groups
    )
  if kind == 'none':
    return NoNorm()
  raise ValueError(f'normalization is {kind!r}; it may be one of {NORMALIZATIONS}')


class LayerNorm(nn.LayerNorm):
  """(x - mean) / standard deviation over the features, with a gain and a bias.

  Ba, Kiros and Hinton, "Layer Normalization", 2016,
  https://arxiv.org/abs/1607.06450
  """

  def __call__(self, x: Array, counts: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]."""
    return super().__call__(x)


class RMSNorm(nn.RMSNorm):
  """x / root mean square over the features, with a gain.

  Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019,
  https://arxiv.org/abs/1910.07467
  """

  def __call__(self, x: Array, counts: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]."""
    return super().__call__(x)


class ScaleNorm(nn.Module):
  """g x / |x|, with one gain g, which starts at √D.

  Nguyen and Salazar, "Transformers without Tears: Improving the Normalization of
  Self-Attention", 2019, section 3.2, https://arxiv.org/abs/1910.05895
  """

  dtype: jnp.dtype = jnp.float32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Array, counts: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]."""
    init = nn.initializers.constant(x.shape[-1] ** 0.5)
    gain = self.param('gain', nn.with_logical_partitioning(init, ()), ())
    x = x.astype(jnp.float32)
    squared = (x * x).sum(axis=-1, keepdims=True)  # [B, L, 1]
    # The root of a maximum: the root itself has no gradient at 0.
    length = jnp.sqrt(jnp.maximum(squared, self.epsilon**2))
    return (gain * x / length).astype(self.dtype)


class NoNorm(nn.Module):
  """x as it is."""

  def __call__(self, x: Array, counts: Array | None = None) -> Array:
    """[B, L, D] -> [B, L, D]."""
    return x
