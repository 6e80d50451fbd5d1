"""Contexts of a word: which words they are, their weights, how pairs are counted."""

from collections.abc import Callable, Sequence
import dataclasses
from fractions import Fraction
import functools
import math
from typing import Annotated

import numpy as np

from seqlab.data.store import TokenStore
from seqlab.embeddings.runs import Run, sum_sorted
from seqlab.pieces import Piece, Specification, make

SIDES = ('both', 'left', 'right')
MODES = ('dirty', 'clean')

_BLOCK = 1 << 16  # positions whose random numbers share a seed
_NO_PAIR = np.uint64(2**64 - 1)  # greater than the key of any pair


def flat(window: int) -> list[Fraction]:
  """Returns the weight 1 at every distance from 1 to the window."""
  return [Fraction(1)] * window


def linear(window: int) -> list[Fraction]:
  """Returns the weights (w - d + 1) / w at distances d from 1 to the window w.

  This is the expectation of word2vec's random window (Levy et al. 2015, section 3.1,
  https://aclanthology.org/Q15-1016).
  """
  return [Fraction(window - d + 1, window) for d in range(1, window + 1)]


def harmonic(window: int) -> list[Fraction]:
  """Returns the weights 1 / d at distances d from 1 to the window.

  GloVe's: Pennington et al. 2014, section 4.2, https://aclanthology.org/D14-1162.
  """
  return [Fraction(1, d) for d in range(1, window + 1)]


# Short name -> function that returns the weights at distances 1 to the window. They are
# fractions, so that sums are exact and do not depend on the order of adding.
WEIGHTINGS: dict[str, Callable[[int], Sequence[Fraction]]] = {
  'flat': flat,
  'linear': linear,
  'harmonic': harmonic,
}
Weighting = Annotated[Specification, Piece(WEIGHTINGS, context=('window',))]


@dataclasses.dataclass(frozen=True)
class Contexts:
  """The pairs that are counted; see `seqlab.embeddings.cooccurrence.cooccurrence`.

  A pair of words is a number: the centre's id, then the context's in `bits` bits. With
  both sides it is the smaller id, then the larger, as the matrix is symmetric.

  Attributes:
    V: number of words.
    window: largest distance of a context.
    side: 'both', 'left' or 'right', where contexts are.
    weighting: a name of `WEIGHTINGS`, or a path.
  """

  V: int
  window: int
  side: str
  weighting: Specification

  @functools.cached_property
  def bits(self) -> int:
    """Bits of an id."""
    return max(1, (self.V - 1).bit_length())

  @functools.cached_property
  def weights(self) -> list[Fraction]:
    """Weights at distances 1 to w.

    Raises:
      ValueError: the weighting is unknown, or a weight is not a fraction above 0.
    """
    where = 'counts.weights'
    weights = list(make(self.weighting, WEIGHTINGS, where, window=self.window))
    if len(weights) != self.window or not all(Fraction(x) > 0 for x in weights):
      raise ValueError(
        f'{where} {self.weighting!r} returns {weights}; there must be {self.window} '
        'weights above 0, one per distance'
      )
    return [Fraction(x) for x in weights]

  @functools.cached_property
  def denominator(self) -> int:
    """The common denominator of all weights."""
    return math.lcm(*(x.denominator for x in self.weights))

  @functools.cached_property
  def numerators(self) -> tuple[int, ...]:
    """Numerators of the weights at distances 1 to w."""
    return tuple(int(x * self.denominator) for x in self.weights)

  def check(self, tokens: int) -> None:
    """Raises ValueError for unknown options, or if counts are too large to be exact."""
    if self.side not in SIDES:
      raise ValueError(f'side is {self.side!r}; it may be {_either(SIDES)}')
    if self.window < 1 or self.V < 1:
      raise ValueError(f'window {self.window} and V {self.V:,} must be 1 or more')
    if 2 * self.bits + self.window.bit_length() > 63:
      raise ValueError(f'{self.V:,} words are too many: a pair takes 64 bits or more')
    if sum(self.numerators) * tokens >= 2**62:
      raise ValueError(
        f'{self.weighting} weights in a window of {self.window} have the denominator '
        f'{self.denominator:,}, with which sums over {tokens:,} words are not exact in '
        '64 bits: use a narrower window'
      )


def _either(known: tuple[str, ...]) -> str:
  return ' or '.join(map(repr, known))


@dataclasses.dataclass(frozen=True)
class Thinning:
  """Random removal of frequent words, a function of the position and the seed.

  Attributes:
    keep: [V] float32, probability that an occurrence of each word is kept.
    mode: 'dirty' removes the positions as well; 'clean' leaves a gap.
    seed: integer seed of the draws.
  """

  keep: np.ndarray
  mode: str
  seed: int

  def check(self, V: int) -> None:
    """Raises ValueError for an unknown mode, or for a wrong number of probabilities."""
    if self.mode not in MODES:
      raise ValueError(f'mode is {self.mode!r}; it may be {_either(MODES)}')
    if len(self.keep) != V:
      raise ValueError(f'keep has {len(self.keep):,} probabilities for {V:,} words')

  def kept(self, ids: np.ndarray, start: int) -> np.ndarray:
    """Returns whether each position is kept, [n] bool.

    Args:
      ids: [n] the words from position `start` of the text on.
      start: position of the first one.
    """
    blocks = range(start // _BLOCK, (start + len(ids) - 1) // _BLOCK + 1)
    draws = [
      np.random.default_rng([self.seed, b]).random(_BLOCK, np.float32) for b in blocks
    ]
    first = start % _BLOCK
    return np.concatenate(draws)[first : first + len(ids)] < self.keep[ids]


def positions(
  store: TokenStore, start: int, stop: int, window: int, thinning: Thinning | None
) -> tuple[np.ndarray, np.ndarray, int]:
  """Returns the words at positions `start` to `stop`, and the contexts that follow.

  Returns:
    ids [n + m], rows [n + m] and n: positions of one row have the same number, and n of
    them are before `stop`.
  """
  row, last = np.searchsorted(store.offsets, [start, stop - 1], 'right') - 1
  row_end = int(store.offsets[last + 1])
  end = min(stop + window, row_end)
  if thinning and thinning.mode == 'dirty':
    # The context of the last word reaches further, as words after it are removed.
    while end < row_end and thinning.kept(store.ids[stop:end], stop).sum() < window:
      end = min(end + 64 * window, row_end)
  ids, n = store.ids[start:end], stop - start
  bounds = store.offsets[row : last + 2].clip(start, end)
  rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
  if not thinning:
    return ids, rows, n
  kept = thinning.kept(ids, start)
  if thinning.mode == 'dirty':
    return ids[kept], rows[kept], int(kept[:n].sum())
  gaps = np.flatnonzero(~kept)
  rows[gaps] = -1 - gaps  # each gap is a separate row, so it has no pairs
  return ids, rows, n


def count_pairs(contexts: Contexts, ids: np.ndarray, rows: np.ndarray, n: int) -> Run:
  """Returns the summed numerators of the pairs whose left word is among the first n.

  Args:
    contexts: what is counted.
    ids: [n + m] below V.
    rows: [n + m]; only positions with the same number make pairs.
    n: number of positions.
  """
  flat = set(contexts.numerators) == {1}  # then the distance need not be kept
  spare = np.uint64(0 if flat else contexts.window.bit_length())  # bits of the distance
  second = ids.astype(np.uint64) << spare
  first = second << np.uint64(contexts.bits)
  sizes = [max(0, min(n, len(ids) - d)) for d in range(1, contexts.window + 1)]
  pairs = np.empty(sum(sizes), np.uint64)
  at = 0
  for d, size in enumerate(sizes, 1):
    out, left, right = pairs[at : at + size], slice(size), slice(d, d + size)
    if contexts.side == 'both':
      np.minimum(first[left], first[right], out=out)
      out |= np.maximum(second[left], second[right])
    elif contexts.side == 'right':
      np.bitwise_or(first[left], second[right], out=out)
    else:
      np.bitwise_or(first[right], second[left], out=out)
    if not flat:
      out |= np.uint64(d)
    np.copyto(out, _NO_PAIR, where=rows[left] != rows[right])
    at += size
  pairs.sort()
  pairs = pairs[: np.searchsorted(pairs, _NO_PAIR)]
  if flat:
    return sum_sorted(pairs)
  values = (pairs & np.uint64(2 ** int(spare) - 1)).view(np.int64)
  np.take(np.array([0, *contexts.numerators]), values, out=values, mode='clip')
  pairs >>= spare
  return sum_sorted(pairs, values)
