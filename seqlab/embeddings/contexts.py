"""Contexts of a word: which they are, what they weigh, and how pairs are counted."""

import dataclasses
import functools
import math

import numpy as np

from seqlab.data.store import TokenStore
from seqlab.embeddings.runs import Run, sum_sorted

SIDES = ('both', 'left', 'right')
WEIGHTS = ('flat', 'linear', 'harmonic')
MODES = ('dirty', 'clean')

_BLOCK = 1 << 16  # tokens whose draws share a seed
_NOWHERE = np.uint64(2**64 - 1)  # a key of no pair


def _either(known: tuple[str, ...]) -> str:
  return ' or '.join(map(repr, known))


@dataclasses.dataclass(frozen=True)
class Contexts:
  """What is counted; see `seqlab.embeddings.cooccurrence.cooccurrence`.

  A pair of words is a number: the centre's id, then the context's in `bits` bits. With
  both sides it is the smaller id, then the larger, as the matrix is symmetric.
  """

  V: int
  window: int
  side: str
  weights: str

  @functools.cached_property
  def bits(self) -> int:
    """That an id takes."""
    return max(1, (self.V - 1).bit_length())

  @functools.cached_property
  def denominator(self) -> int:
    """Of all weights."""
    common = {'linear': self.window, 'harmonic': math.lcm(*range(1, self.window + 1))}
    return common.get(self.weights, 1)

  @functools.cached_property
  def numerators(self) -> tuple[int, ...]:
    """Of the weights at distances 1 to w."""
    distances = range(1, self.window + 1)
    if self.weights == 'linear':
      return tuple(self.window - d + 1 for d in distances)
    if self.weights == 'harmonic':
      return tuple(self.denominator // d for d in distances)
    return (1,) * self.window

  def check(self, tokens: int) -> None:
    """Raises ValueError for unknown options, or if counts are too large to be exact."""
    if self.side not in SIDES:
      raise ValueError(f'side is {self.side!r}; it may be {_either(SIDES)}')
    if self.weights not in WEIGHTS:
      raise ValueError(f'weights are {self.weights!r}; they may be {_either(WEIGHTS)}')
    if self.window < 1 or self.V < 1:
      raise ValueError(f'window {self.window} and V {self.V:,} must be 1 or more')
    if 2 * self.bits + self.window.bit_length() > 63:
      raise ValueError(f'{self.V:,} words are too many: a pair takes 64 bits or more')
    if sum(self.numerators) * tokens >= 2**62:
      raise ValueError(
        f'{self.weights} weights in a window of {self.window} have the denominator '
        f'{self.denominator:,}, with which sums over {tokens:,} words are not exact in '
        '64 bits; take a narrower window'
      )


@dataclasses.dataclass(frozen=True)
class Thinning:
  """Places of frequent words that are left out; a function of the place and the seed.

  Attributes:
    keep: [V] float32, how likely a place of each word is kept.
    mode: 'dirty', as if the others had not been there; 'clean', with a gap.
    seed: of the draw.
  """

  keep: np.ndarray
  mode: str
  seed: int

  def check(self, V: int) -> None:
    """Raises ValueError for an unknown mode, or probabilities of other words."""
    if self.mode not in MODES:
      raise ValueError(f'mode is {self.mode!r}; it may be {_either(MODES)}')
    if len(self.keep) != V:
      raise ValueError(f'keep has {len(self.keep):,} probabilities for {V:,} words')

  def kept(self, ids: np.ndarray, start: int) -> np.ndarray:
    """[n] bool, of the ids [n] from place `start` of the text on."""
    blocks = range(start // _BLOCK, (start + len(ids) - 1) // _BLOCK + 1)
    draws = [
      np.random.default_rng([self.seed, b]).random(_BLOCK, np.float32) for b in blocks
    ]
    first = start % _BLOCK
    return np.concatenate(draws)[first : first + len(ids)] < self.keep[ids]


def places(
  store: TokenStore, start: int, stop: int, window: int, thinning: Thinning | None
) -> tuple[np.ndarray, np.ndarray, int]:
  """Places `start` to `stop` of a text, and those after them that are their contexts.

  Returns:
    ids [n + m], rows [n + m] and n: places in one row have the same number, and n of
    them are before `stop`.
  """
  row, last = np.searchsorted(store.offsets, [start, stop - 1], 'right') - 1
  row_end = int(store.offsets[last + 1])
  end = min(stop + window, row_end)
  if thinning and thinning.mode == 'dirty':
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
  rows[gaps] = -1 - gaps  # each is a row of its own
  return ids, rows, n


def count_pairs(contexts: Contexts, ids: np.ndarray, rows: np.ndarray, n: int) -> Run:
  """Numerators of the pairs whose left word is among the first n places.

  Args:
    contexts: what is counted.
    ids: [n + m] below V.
    rows: [n + m]; only places with the same number make pairs.
    n: number of places.
  """
  flat = contexts.weights == 'flat'
  spare = np.uint64(0 if flat else contexts.window.bit_length())  # for the distance
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
    np.copyto(out, _NOWHERE, where=rows[left] != rows[right])
    at += size
  pairs.sort()
  pairs = pairs[: np.searchsorted(pairs, _NOWHERE)]
  if flat:
    return sum_sorted(pairs)
  values = (pairs & np.uint64(2 ** int(spare) - 1)).view(np.int64)
  np.take(np.array([0, *contexts.numerators]), values, out=values, mode='clip')
  pairs >>= spare
  return sum_sorted(pairs, values)
