"""Batch k of the words of a text, in which windows are looked at.

A batch is a stretch of the text, its frequent words thinned out, cut into lanes of one
length. A lane overlaps its neighbours by the window on both sides, so that no pair of
words is lost where lanes meet.
"""

from collections.abc import Iterator
import functools
import numbers
from typing import Annotated

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from seqlab.data.store import TokenStore
from seqlab.domains import Check, Count, check, check_value
from seqlab.types import Batch

NOWHERE = -1  # a place without a word, and the sentence of one outside of any
MAX_SENTENCE = 10_000  # words, as of gensim
_TOKENS = 1 << 22  # that are looked at together when batches are planned


def _check_heldout(every: int) -> None:
  if not isinstance(every, numbers.Integral) or every < 0 or every == 1:
    raise ValueError(
      '2 or more, since every so many-th sentence is held out, or 0 to hold out none'
    )


Heldout = Annotated[int, Check(_check_heldout)]  # of `corpus.heldout`


class WindowBatches:
  """Batches of a token store without special ids, a sentence or paragraph a row.

  A batch has whole sentences, so no window crosses batches. How many of their words
  stay is chance; batches are made so that they are expected to fill what there is room
  for but for six standard deviations. Should there be more words all the same, once in
  about 10^9 batches, the last ones are thinned out too.

  Attributes:
    steps_per_epoch: batches in which every word is met once.
    words: of the store that are trained on, before frequent ones are thinned out.
    tokens_per_step: mean number of words of the text per batch.
    report: counts of the data.
  """

  def __init__(
    self,
    store: TokenStore,
    keep: np.ndarray,
    *,
    lanes: Count = 32,
    length: Count = 2048,
    window: Count = 5,
    holes: bool = False,
    max_sentence: Count = MAX_SENTENCE,
    heldout: Heldout = 0,
  ):
    """Plans an epoch; one pass over the store.

    Args:
      store: the text.
      keep: [V], how likely a place of each word is kept.
      lanes: B, stretches of text that are trained on side by side.
      length: L, words of a lane.
      window: words that a lane shares with the next one.
      holes: leave the places of words that are thinned out empty, so that windows are
        measured in the text as it was ("clean", Levy et al. 2015, section 3.1); else
        the rest moves together, as in word2vec.c ("dirty").
      max_sentence: longer ones are cut, as gensim cuts them.
      heldout: every so many-th sentence is left out, for evaluation; 0 leaves none.

    Raises:
      ValueError: a number is out of range, or there is nothing to train on.
    """
    options = dict(lanes=lanes, length=length, window=window, holes=holes)
    check(WindowBatches, {**options, 'max_sentence': max_sentence}, 'batching.')
    check(WindowBatches, {'heldout': heldout}, 'corpus.')
    if length < window:
      raise ValueError(
        f'batching.length is {length}, less than the window of {window} words'
      )
    self._ids, self._keep = store.ids, np.asarray(keep, np.float32)
    self._shape, self._room = (lanes, length), lanes * length
    self.lanes, self.length, self.window = lanes, length, window
    self._holes = holes
    train, _ = sentences(store, heldout, longest=max_sentence)
    self._sentences = _cut(train, max(1, self._room // 2))
    self._check_ids(store)
    self.words = int((self._sentences[:, 1] - self._sentences[:, 0]).sum())
    if not self.words:
      raise ValueError('there are no words to train on: every row of the text is empty')
    self._batches = self._plan()
    self.steps_per_epoch = len(self._batches) - 1
    self.tokens_per_step = self.words / self.steps_per_epoch
    self.report = {
      'words': self.words,
      'sentences': len(self._sentences),
      'kept': self._expected / self.words,
      'steps_per_epoch': self.steps_per_epoch,
    }

  def _check_ids(self, store: TokenStore) -> None:
    for start in range(0, len(store.ids), _TOKENS):
      part = store.ids[start : start + _TOKENS]
      if part.min() < 0 or part.max() >= len(self._keep):
        raise ValueError(
          f'the text has an id that is none of the {len(self._keep):,} words; was it '
          'encoded with other words?'
        )

  def _plan(self) -> np.ndarray:
    """[batches + 1], the sentence with which each batch begins."""
    expected = np.concatenate(list(self._expectations()))
    total = np.concatenate([[0.0], np.cumsum(expected)])
    self._expected = float(total[-1])
    # The variance of the sum, at most: it is largest if all are kept alike.
    variance = self._room * (1 - self._expected / self.words)
    target = self._room - 6 * np.sqrt(max(variance, 0.0))
    starts = [0]
    while starts[-1] < len(expected):
      end = np.searchsorted(total, total[starts[-1]] + target, side='right') - 1
      starts.append(max(int(end), starts[-1] + 1))
    return np.array(starts)

  def _expectations(self) -> Iterator[np.ndarray]:
    """How many words of each sentence are expected to take a place."""
    lengths = self._sentences[:, 1] - self._sentences[:, 0]
    if self._holes:
      yield lengths.astype(np.float64)
      return
    parts = np.cumsum(lengths) // _TOKENS
    for part in np.split(self._sentences, np.flatnonzero(np.diff(parts)) + 1):
      ids, sizes = self._gather(part)
      total = np.concatenate([[0.0], np.cumsum(self._keep[ids], dtype=np.float64)])
      ends = np.cumsum(sizes)
      yield total[ends] - total[ends - sizes]

  def _gather(self, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ids of some sentences, and how many each has."""
    first, last = sentences[0, 0], sentences[-1, 1]
    sizes = sentences[:, 1] - sentences[:, 0]
    if last - first == sizes.sum():  # nothing between them is left out
      return self._ids[first:last], sizes
    return gather(self._ids, sentences)

  @property
  def shapes(self) -> tuple[Batch, ...]:
    """The one shape, as an empty batch."""
    wide = self.length + 2 * self.window
    empty = np.full((self.lanes, wide), NOWHERE, np.int32)
    count = np.zeros(self.lanes, np.int32)
    return ({'words': empty, 'sentence': empty, 'count': count},)

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Batch number k, a pure function of (seed, k).

    Args:
      k: from 0, over all epochs. Each epoch takes the batches in an order of its own.
      seed: of the order and of what is thinned out.
      rows: (i, n) asks for the i-th of n equal shares of the lanes.

    Returns:
      `words` [B, L + 2 window] int32, NOWHERE where there is none; `sentence` the
      same, a number that all places of one sentence share, NOWHERE outside of any;
      `count` [B] int32, words of the text that each lane stands for.
    """
    epoch, place = divmod(k, self.steps_per_epoch)
    chosen = self._order(seed, epoch)[place]
    first, last = self._batches[chosen : chosen + 2]
    ids, sizes = self._gather(self._sentences[first:last])
    number = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    draw = np.random.default_rng([seed, k]).random(len(ids), np.float32)
    kept = draw < self._keep[ids]
    if self._holes:
      ids = np.where(kept, ids.astype(np.int32), NOWHERE)
    else:
      ids, number = ids[kept][: self._room], number[kept][: self._room]
    i, n = rows
    lanes = slice(self.lanes * i // n, self.lanes * (i + 1) // n)
    share = np.diff(np.linspace(0, len(kept), self.lanes + 1).astype(np.int32))
    return {
      'words': _lanes(ids, self._shape, self.window)[lanes],
      'sentence': _lanes(number, self._shape, self.window)[lanes],
      'count': share[lanes],
    }

  @functools.lru_cache(maxsize=2)  # noqa: B019  # batches live as long as their run
  def _order(self, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 1]).permutation(self.steps_per_epoch)


def heldout_batch(
  store: TokenStore,
  every: int,
  *,
  most: int,
  length: int,
  window: int,
  max_sentence: int = MAX_SENTENCE,
) -> Batch:
  """What `WindowBatches(heldout=every)` leaves out, nothing thinned out.

  Args:
    store: the text.
    every: every so many-th sentence.
    most: words, at most; what is beyond is not looked at.
    length: of a lane.
    window: that lanes share.
    max_sentence: longer ones are cut.

  Returns:
    `words` and `sentence`, [B, length + 2 window] int32.

  Raises:
    ValueError: no sentence is left out.
  """
  train, bounds = sentences(store, every, longest=max_sentence)
  if not len(bounds):
    raise ValueError(
      f'corpus.heldout={every} leaves out none of {len(train):,} sentences: lower it, '
      'or set it to 0 and leave evals.heldout out'
    )
  sizes = bounds[:, 1] - bounds[:, 0]
  room = np.maximum(most - (np.cumsum(sizes) - sizes), 0)
  ends = bounds[:, 0] + np.minimum(sizes, room)
  words, sizes = gather(store.ids, np.stack([bounds[:, 0], ends], 1))
  number = np.repeat(np.arange(len(sizes)), sizes)
  B = -(-len(words) // length)
  return {
    'words': _lanes(words, (B, length), window),
    'sentence': _lanes(number, (B, length), window),
  }


def _lanes(values: np.ndarray, shape: tuple[int, int], window: int) -> np.ndarray:
  """[n] -> [B, L + 2 window], each lane with the ends of its neighbours."""
  B, L = shape
  row = np.full(B * L + 2 * window, NOWHERE, np.int32)
  row[window : window + len(values)] = values
  return np.ascontiguousarray(sliding_window_view(row, L + 2 * window)[::L])


def sentences(
  store: TokenStore, every: int, *, longest: int = MAX_SENTENCE
) -> tuple[np.ndarray, np.ndarray]:
  """Parts a text: what is learnt from, and every so many-th sentence for evaluation.

  Rows without words count for nothing, and longer ones for as many sentences as they
  are cut into, so that a text may be one line.

  Args:
    store: the text.
    every: 0 leaves nothing out.
    longest: sentence, in words.

  Returns:
    [n, 2] and [m, 2], first and past-the-last place of each.

  Raises:
    ValueError: `every` leaves nothing to learn from.
  """
  check_value('corpus.heldout', every, Heldout)
  bounds = _cut(np.stack([store.offsets[:-1], store.offsets[1:]], 1), longest)
  if not every:
    return bounds, bounds[:0]
  out = np.arange(1, len(bounds) + 1) % every == 0
  return bounds[~out], bounds[out]


def gather(ids: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """All ids of sentences with bounds [n, 2], in a row, and how many each has, [n]."""
  sizes = bounds[:, 1] - bounds[:, 0]
  starts = bounds[:, 0] - (np.cumsum(sizes) - sizes)
  return ids[np.arange(sizes.sum()) + np.repeat(starts, sizes)], sizes


def _cut(bounds: np.ndarray, longest: int) -> np.ndarray:
  """[n, 2] first and past-the-last place of sentences -> the same, none too long."""
  sizes = bounds[:, 1] - bounds[:, 0]
  parts = -(-sizes // longest)  # none of an empty sentence
  first = np.repeat(np.cumsum(parts) - parts, parts)
  number = np.arange(parts.sum()) - first
  start = np.repeat(bounds[:, 0], parts) + number * longest
  return np.stack(
    [start, np.minimum(start + longest, np.repeat(bounds[:, 1], parts))], 1
  )
