"""Batch k of the words of a text, for tasks that read a window around each word.

A batch is a stretch of the text without some of its frequent words, cut into streams of
one length. A stream overlaps its neighbours by the window on both sides, so that no
pair of words is lost where streams meet.
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

# Id at a position without a word; also its sentence, if it is outside of sentences.
NO_WORD = -1
MAX_SENTENCE = 10_000  # words, gensim's limit
_TOKENS = 1 << 22  # tokens that are read at once when batches are planned


def _check_heldout(every: int) -> None:
  if not isinstance(every, numbers.Integral) or every < 0 or every == 1:
    raise ValueError(
      '2 or more, to hold out every 2nd (3rd, ...) sentence, or 0 to hold out none'
    )


Heldout = Annotated[int, Check(_check_heldout)]  # of `corpus.heldout`


class WindowBatches:
  """Batches of a token store without special ids, one sentence or paragraph per row.

  A batch has whole sentences, so no window crosses batches. How many of their words are
  kept is random; batches are planned so that the expected number of words, plus six
  standard deviations, fills them. If a batch has more words nevertheless, which happens
  once in about 10^9 batches, its last words are dropped.

  Attributes:
    steps_per_epoch: number of batches in which every word of the text occurs once.
    words: number of words that are trained on, before frequent ones are removed.
    tokens_per_step: mean number of words of the text per batch.
    report: counts of the data.
  """

  def __init__(
    self,
    store: TokenStore,
    keep: np.ndarray,
    *,
    streams: Count = 32,
    length: Count = 2048,
    window: Count = 5,
    keep_gaps: bool = False,
    max_sentence: Count = MAX_SENTENCE,
    heldout: Heldout = 0,
  ):
    """Plans an epoch, in one pass over the store.

    Args:
      store: the text.
      keep: [V] probability that an occurrence of each word is kept.
      streams: B, stretches of text that are trained on in parallel.
      length: L, number of words per stream.
      window: number of words that a stream shares with the next one.
      keep_gaps: leave the positions of removed words empty, so that windows are
        measured in the original text ("clean", Levy et al. 2015, section 3.1);
        otherwise the remaining words move together, as in word2vec.c ("dirty").
      max_sentence: longest sentence in words; longer ones are cut, as gensim does.
      heldout: hold out every so many-th sentence for evaluation; 0 holds out none.

    Raises:
      ValueError: a number is out of range, or there is nothing to train on.
    """
    options = dict(streams=streams, length=length, window=window, keep_gaps=keep_gaps)
    check(WindowBatches, {**options, 'max_sentence': max_sentence}, 'batching.')
    check(WindowBatches, {'heldout': heldout}, 'corpus.')
    if length < window:
      raise ValueError(
        f'batching.length is {length}, less than the window of {window} words'
      )
    self._ids, self._keep = store.ids, np.asarray(keep, np.float32)
    self._shape, self._capacity = (streams, length), streams * length
    self.streams, self.length, self.window = streams, length, window
    self._keep_gaps = keep_gaps
    train, _ = sentences(store, heldout, longest=max_sentence)
    self._sentences = _cut(train, max(1, self._capacity // 2))
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
          f'the text has an id outside the {len(self._keep):,} words: it was encoded '
          'with other words'
        )

  def _plan(self) -> np.ndarray:
    """Returns the first sentence of each batch, and the end: [batches + 1]."""
    expected = np.concatenate(list(self._expectations()))
    total = np.concatenate([[0.0], np.cumsum(expected)])
    self._expected = float(total[-1])
    # An upper bound: the variance is largest if all words have the same probability.
    variance = self._capacity * (1 - self._expected / self.words)
    target = self._capacity - 6 * np.sqrt(max(variance, 0.0))
    starts = [0]
    while starts[-1] < len(expected):
      end = np.searchsorted(total, total[starts[-1]] + target, side='right') - 1
      starts.append(max(int(end), starts[-1] + 1))
    return np.array(starts)

  def _expectations(self) -> Iterator[np.ndarray]:
    """Yields the expected number of positions that each sentence takes."""
    lengths = self._sentences[:, 1] - self._sentences[:, 0]
    if self._keep_gaps:
      yield lengths.astype(np.float64)
      return
    parts = np.cumsum(lengths) // _TOKENS
    for part in np.split(self._sentences, np.flatnonzero(np.diff(parts)) + 1):
      ids, sizes = self._gather(part)
      total = np.concatenate([[0.0], np.cumsum(self._keep[ids], dtype=np.float64)])
      ends = np.cumsum(sizes)
      yield total[ends] - total[ends - sizes]

  def _gather(self, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids of some sentences, and the length of each."""
    first, last = sentences[0, 0], sentences[-1, 1]
    sizes = sentences[:, 1] - sentences[:, 0]
    if last - first == sizes.sum():  # the sentences are contiguous
      return self._ids[first:last], sizes
    return gather(self._ids, sentences)

  @property
  def shapes(self) -> tuple[Batch, ...]:
    """The one shape, as an empty batch."""
    wide = self.length + 2 * self.window
    empty = np.full((self.streams, wide), NO_WORD, np.int32)
    count = np.zeros(self.streams, np.int32)
    return ({'words': empty, 'sentence': empty, 'count': count},)

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch number k, a pure function of (seed, k).

    Args:
      k: number of the batch, counted from 0 over all epochs. The order of batches is
        drawn anew in each epoch.
      seed: integer seed of the order and of which words are kept.
      rows: (i, n) asks for the i-th of n equal shares of the streams.

    Returns:
      `words` [B, L + 2 window] int32, NO_WORD where there is none; `sentence` of the
      same shape, the number of the sentence at each position, NO_WORD outside of any;
      `count` [B] int32, number of words of the text that each stream was made from.
    """
    epoch, place = divmod(k, self.steps_per_epoch)
    chosen = self._order(seed, epoch)[place]
    first, last = self._batches[chosen : chosen + 2]
    ids, sizes = self._gather(self._sentences[first:last])
    number = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    draw = np.random.default_rng([seed, k]).random(len(ids), np.float32)
    kept = draw < self._keep[ids]
    if self._keep_gaps:
      ids = np.where(kept, ids.astype(np.int32), NO_WORD)
    else:
      ids, number = ids[kept][: self._capacity], number[kept][: self._capacity]
    i, n = rows
    part = slice(self.streams * i // n, self.streams * (i + 1) // n)
    share = np.diff(np.linspace(0, len(kept), self.streams + 1).astype(np.int32))
    return {
      'words': _streams(ids, self._shape, self.window)[part],
      'sentence': _streams(number, self._shape, self.window)[part],
      'count': share[part],
    }

  @functools.lru_cache(maxsize=2)  # noqa: B019  # batches live as long as their run
  def _order(self, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 1]).permutation(self.steps_per_epoch)


def heldout_batch(
  store: TokenStore,
  every: int,
  *,
  max_words: int,
  length: int,
  window: int,
  max_sentence: int = MAX_SENTENCE,
) -> Batch:
  """Returns the sentences that `WindowBatches(heldout=every)` holds out, as one batch.

  All their words are kept.

  Args:
    store: the text.
    every: every so many-th sentence is held out.
    max_words: largest number of words; later ones are ignored.
    length: number of words per stream.
    window: number of words that neighbouring streams share.
    max_sentence: longest sentence in words; longer ones are cut.

  Returns:
    `words` and `sentence`, [B, length + 2 window] int32.

  Raises:
    ValueError: no sentence is held out.
  """
  train, bounds = sentences(store, every, longest=max_sentence)
  if not len(bounds):
    raise ValueError(
      f'corpus.heldout={every} holds out none of {len(train):,} sentences: lower it, '
      'or set it to 0 and leave out evals.heldout'
    )
  sizes = bounds[:, 1] - bounds[:, 0]
  room = np.maximum(max_words - (np.cumsum(sizes) - sizes), 0)
  ends = bounds[:, 0] + np.minimum(sizes, room)
  words, sizes = gather(store.ids, np.stack([bounds[:, 0], ends], 1))
  number = np.repeat(np.arange(len(sizes)), sizes)
  B = -(-len(words) // length)
  return {
    'words': _streams(words, (B, length), window),
    'sentence': _streams(number, (B, length), window),
  }


def _streams(values: np.ndarray, shape: tuple[int, int], window: int) -> np.ndarray:
  """Cuts [n] into [B, L + 2 window], each stream with the ends of its neighbours."""
  B, L = shape
  row = np.full(B * L + 2 * window, NO_WORD, np.int32)
  row[window : window + len(values)] = values
  return np.ascontiguousarray(sliding_window_view(row, L + 2 * window)[::L])


def sentences(
  store: TokenStore, every: int, *, longest: int = MAX_SENTENCE
) -> tuple[np.ndarray, np.ndarray]:
  """Splits a text into sentences to learn from and sentences that are held out.

  Rows without words do not count, and a long row counts as the sentences that it is cut
  into, so a text may be a single line.

  Args:
    store: the text.
    every: hold out every so many-th sentence; 0 holds out none.
    longest: longest sentence in words; longer rows are cut.

  Returns:
    [n, 2] and [m, 2], first and past-the-last position of each sentence.

  Raises:
    ValueError: `every` is not a valid number.
  """
  check_value('corpus.heldout', every, Heldout)
  bounds = _cut(np.stack([store.offsets[:-1], store.offsets[1:]], 1), longest)
  if not every:
    return bounds, bounds[:0]
  out = np.arange(1, len(bounds) + 1) % every == 0
  return bounds[~out], bounds[out]


def gather(ids: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the ids of sentences with bounds [n, 2], joined, and their lengths [n]."""
  sizes = bounds[:, 1] - bounds[:, 0]
  starts = bounds[:, 0] - (np.cumsum(sizes) - sizes)
  return ids[np.arange(sizes.sum()) + np.repeat(starts, sizes)], sizes


def _cut(bounds: np.ndarray, longest: int) -> np.ndarray:
  """Cuts sentences that are too long; [n, 2] first and past-the-last positions."""
  sizes = bounds[:, 1] - bounds[:, 0]
  parts = -(-sizes // longest)  # none of an empty sentence
  first = np.repeat(np.cumsum(parts) - parts, parts)
  number = np.arange(parts.sum()) - first
  start = np.repeat(bounds[:, 0], parts) + number * longest
  return np.stack(
    [start, np.minimum(start + longest, np.repeat(bounds[:, 1], parts))], 1
  )
