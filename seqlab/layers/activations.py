"""Activations of the feed-forward layers.

An activation is a function of the hidden units [B, L, F], here or anywhere on the
Python path: `jax.nn:leaky_relu` works. A function of two arrays is gated: it gets two
products of the input, and the layer has no biases.
"""

from flax import linen as nn

from seqlab.types import Array


def relu(x: Array) -> Array:
  """Returns max(0, x), Vaswani et al. 2017, section 3.3."""
  return nn.relu(x)


def gelu(x: Array) -> Array:
  """Returns x Φ(x).

  Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016,
  https://arxiv.org/abs/1606.08415
  """
  return nn.gelu(x, approximate=False)


def swiglu(gate: Array, up: Array) -> Array:
  """Returns swish(gate) * up.

  Shazeer, "GLU Variants Improve Transformer", 2020, https://arxiv.org/abs/2002.05202.
  With three matrices the layer is as large as the others at two thirds of F.
  """
  return nn.silu(gate) * up
