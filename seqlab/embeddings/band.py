"""Which words each input predicts, as a band of a matrix of inputs and words."""

from flax import struct
import jax.numpy as jnp
import numpy as np

from seqlab.types import Array


@struct.dataclass
class Band:
  """For each of S inputs a range of the T words of a block; some may not count.

  It holds bounds instead of a mask [B, T, S]: comparing the number of a column with two
  bounds fuses with whatever uses the mask, while reading a mask from memory costs more
  than the matrix products of the same step.

  Attributes:
    first: [..., B, S] int32, first word of each range.
    last: [..., B, S] int32, last word of each range; less than `first` if it is empty.
    number: [..., B, S] float32, number of words of the range that count.
    centre: word s + centre of range s does not count; None if every word does.
    is_word: [..., B, T] bool, positions that count in any range; None if all do.
  """

  first: Array
  last: Array
  number: Array
  centre: int | None = struct.field(pytree_node=False, default=None)
  is_word: Array | None = None

  @classmethod
  def of_diagonal(cls, mask: Array) -> 'Band':
    """Returns the band in which range s is word s alone where `mask` [B, S] is true."""
    position = np.arange(mask.shape[1])
    first = jnp.broadcast_to(position, mask.shape)
    last = jnp.where(mask, first, -1)
    return cls(first, last, mask.astype(jnp.float32))

  @classmethod
  def of_windows(
    cls, words: Array, sentence: Array, radius: Array, *, has_gaps: bool = False
  ) -> 'Band':
    """Returns the words of the same sentence within a radius, without their centre.

    Args:
      words: [..., B, E = S + 2 window] int32, negative at positions without a word.
      sentence: [..., B, E] int32, number of the sentence; negative outside of any.
      radius: [..., B, S] int32, from 0 to the window.
      has_gaps: whether there may be positions without a word within a sentence.
    """
    S = radius.shape[-1]
    window = (words.shape[-1] - S) // 2
    centre = np.arange(S) + window
    inner = slice(window, window + S)
    counts = (sentence[..., inner] >= 0) & (words[..., inner] >= 0)
    reach, number = {-1: 0, 1: 0}, jnp.zeros(radius.shape, jnp.float32)
    for side in reach:
      for d in range(1, window + 1):
        shifted = slice(window + side * d, window + side * d + S)
        same_sentence = sentence[..., shifted] == sentence[..., inner]
        inside = counts & same_sentence & (d <= radius)
        reach[side] += inside.astype(jnp.int32)
        number += inside & (words[..., shifted] >= 0)
    bounds = centre - reach[-1], centre + reach[1]
    return cls(*bounds, number, window, words >= 0 if has_gaps else None)

  def covers(self, column: np.ndarray) -> Array:
    """Returns whether each range contains the word with each number: [B, R, S] bool.

    Args:
      column: [R] numbers of words. No range contains numbers of T or more.
    """
    first, last, column = self.first[:, None], self.last[:, None], column[:, None]
    inside = (column >= first) & (column <= last)
    if self.centre is not None:
      inside &= column != np.arange(self.first.shape[-1]) + self.centre
    if self.is_word is None:
      return inside
    T = self.is_word.shape[1]
    return inside & self.is_word[:, np.minimum(column, T - 1)]
