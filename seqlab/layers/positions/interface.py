"""The interface between a kind of positions and a model."""

from collections.abc import Callable

from flax import linen as nn
from flax import struct
import jax.numpy as jnp

from seqlab.types import Array


@struct.dataclass
class PositionTerms:
  """Position terms of self-attention, computed once for all layers of a stack.

  Attributes:
    rotation: [2, B|1, L, 1, K / 2] cosines and sines that queries and keys are rotated
      by; None for no rotation.
    bias: [B|1, H, L, S] float32, added to the scaled scores; None for no bias.
    distance: [B|1, L, S] int32, for a kind that has parameters in each layer: which of
      its vectors belongs to each pair of positions; None otherwise.
  """

  rotation: Array | None = None
  bias: Array | None = None
  distance: Array | None = None


class Positions(nn.Module):
  """The positions of one stack of layers; this base class is the kind 'none'.

  A kind is a subclass. It overrides the methods that it needs, and its own fields are
  its options. All methods must work on packed rows, in which positions start again at 0
  in each sentence; attention masks every pair of positions of different sentences.

  Attributes:
    width: model width D.
    heads: number of heads H.
    bidirectional: whether a position attends to later positions, as in an encoder.
    dtype: dtype of the vectors that are added to the embeddings.
  """

  width: int
  heads: int
  bidirectional: bool
  dtype: jnp.dtype = jnp.float32

  def check_length(self, length: int) -> None:
    """Raises ValueError if a row of `length` positions is too long for this kind."""

  def embed(self, x: Array, positions: Array) -> Array:
    """Adds absolute positions to embeddings.

    Args:
      x: [B, L, D] embeddings.
      positions: [B, L] or [L] int32. In rows of several positions, [B, L > 1], they are
        at most L, since a sentence lies in its row and begins at 0, or at 1 where 0 is
        the position of features.

    Returns:
      [B, L, D], by default `x` itself.
    """
    del positions
    return x

  def attention_terms(self, query: Array, memory: Array) -> PositionTerms:
    """Returns what self-attention needs; by default nothing.

    Args:
      query: [B|1, L] int32 positions of the queries. In a step of decoding L is 1.
      memory: [B|1, S] int32 positions of the keys, of the same sequence.
    """
    del query, memory
    return PositionTerms()

  def layer_module(self) -> Callable[..., nn.Module] | None:
    """Returns what makes this kind's module in each layer; by default None.

    It is called as layer_module()(width=K, dtype=dtype), with the width of a head, and
    returns a `LayerPositions`.
    """
    return None


class LayerPositions(nn.Module):
  """Parameters of positions that every layer's self-attention has separately.

  They are in the same scope as the parameters of `layers.attention.MultiHeadAttention`.

  Attributes:
    width: width of a head, K.
    dtype: dtype of the products. Parameters stay float32.
  """

  width: int
  dtype: jnp.dtype = jnp.float32

  def content_query(self, query: Array) -> Array:
    """Returns the queries [B, L, H, K] that are multiplied with keys.

    By default they are the queries themselves.
    """
    return query

  def scores(self, query: Array, terms: PositionTerms) -> Array:
    """Returns [B, H, L, S] float32, added to the scores before they are scaled.

    Args:
      query: [B, L, H, K] queries. In a step of decoding M hypotheses stand in place of
        L, and `terms.distance` has one row for all of them, [1, 1, S]. This axis of
        size 1 is broadcast, as `layers.products.product` and `jnp.einsum` do.
      terms: result of `Positions.attention_terms`.
    """
    raise NotImplementedError

  def values(self, weights: Array, terms: PositionTerms) -> Array:
    """Returns [B, L, H, K], added to the weighted sum of the values; by default zero.

    Args:
      weights: [B, H, L, S] attention weights. In a step of decoding M hypotheses stand
        in place of L, and `terms.distance` has one row for all of them; see `scores`.
      terms: result of `Positions.attention_terms`.
    """
    del weights, terms
    return jnp.zeros((), self.dtype)


def distances(query: Array, memory: Array) -> Array:
  """Returns memory minus query: [B|1, L], [B|1, S] int32 -> [B|1, L, S] int32."""
  return memory[:, None, :] - query[:, :, None]
