"""Normalisation layers."""

from flax import linen as nn
import jax.numpy as jnp


def layer_norm(dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
  """LayerNorm with a gain and a bias; statistics are taken in float32.

  Ba, Kiros and Hinton, "Layer Normalization", 2016,
  https://arxiv.org/abs/1607.06450
  """
  return nn.LayerNorm(
    epsilon=1e-6,
    dtype=dtype,
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, ('embed',)),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
    name=name,
  )
