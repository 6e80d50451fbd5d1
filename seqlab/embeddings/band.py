"""Which words a word has around it, as a band of a matrix."""

from flax import struct
import jax.numpy as jnp
import numpy as np

from seqlab.types import Array


@struct.dataclass
class Band:
  """For each of S inputs a run of T words, of which some may not count.

  Bounds instead of a mask [B, T, S], since comparing a column's number with two bounds
  fuses with whatever the mask is used for; reading a mask costs more than the matrix
  products beside it.

  Attributes:
    first: [..., B, S] int32, the first word of each run.
    last: [..., B, S] int32, its last word; less than the first if it is empty.
    number: [..., B, S] float32, words of it that count.
    own: word s + own of run s does not count; None if all do.
    there: [..., B, T] bool, words that count in any run; None for all.
  """

  first: Array
  last: Array
  number: Array
  own: int | None = struct.field(pytree_node=False, default=None)
  there: Array | None = None

  @classmethod
  def of_diagonal(cls, some: Array) -> 'Band':
    """Run number s is word s alone, or nothing; `some` [B, S] bool says which."""
    place = np.arange(some.shape[1])
    first = jnp.broadcast_to(place, some.shape)
    last = jnp.where(some, first, -1)
    return cls(first, last, some.astype(jnp.float32))

  @classmethod
  def of_windows(
    cls, words: Array, sentence: Array, radius: Array, *, holes: bool = False
  ) -> 'Band':
    """Words within a radius and the same sentence, their centre left out.

    Args:
      words: [..., B, E = S + 2 window] int32, less than 0 where there is no word.
      sentence: [..., B, E] int32, a number that neighbours of one sentence share,
        negative outside of any.
      radius: [..., B, S] int32, from 0 to the window.
      holes: whether there may be places without a word within sentences.
    """
    S = radius.shape[-1]
    window = (words.shape[-1] - S) // 2
    centre = np.arange(S) + window
    here = slice(window, window + S)
    counts = (sentence[..., here] >= 0) & (words[..., here] >= 0)
    reach, number = {-1: 0, 1: 0}, jnp.zeros(radius.shape, jnp.float32)
    for side in reach:
      for d in range(1, window + 1):
        there = slice(window + side * d, window + side * d + S)
        same = sentence[..., there] == sentence[..., here]
        inside = counts & same & (d <= radius)
        reach[side] += inside.astype(jnp.int32)
        number += inside & (words[..., there] >= 0)
    bounds = centre - reach[-1], centre + reach[1]
    return cls(*bounds, number, window, words >= 0 if holes else None)

  def covers(self, column: np.ndarray) -> Array:
    """[B, R, S] bool, whether a run has the word with the number of each column, [R].

    Words with numbers of T or more are in no run.
    """
    first, last, column = self.first[:, None], self.last[:, None], column[:, None]
    inside = (column >= first) & (column <= last)
    if self.own is not None:
      inside &= column != np.arange(self.first.shape[-1]) + self.own
    if self.there is None:
      return inside
    T = self.there.shape[1]
    return inside & self.there[:, np.minimum(column, T - 1)]
