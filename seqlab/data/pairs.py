"""Batch k of a parallel corpus, as a pure function of (seed, k).

There is no iterator state: to resume is to go on at k, and on more or fewer
hosts each gathers its rows of the same global batch.
"""

from collections.abc import Sequence
import functools
from typing import Any, Literal

import numpy as np

from seqlab.data.buckets import bucket_bounds
from seqlab.data.packing import pack
from seqlab.data.store import TokenStore
from seqlab.domains import Count, check
from seqlab.types import PAD, Batch

Stores = tuple[TokenStore, TokenStore]
_TOKENS, _ROWS_MULTIPLE = 4_096, 8  # of a batch, where the experiment says nothing


class PairBatches:
  """Batches of sentence pairs, by length or packed.

  'buckets': one pair a row, pairs of like length together, in at most `shapes`
  shapes chosen to waste least. 'packed': several pairs a row, in one shape.

  Attributes:
    kind: 'buckets' or 'packed'.
    shapes: the (B, S, T) there are.
    steps_per_epoch: batches in which every pair is seen once.
    report: pairs, too_long, padding_waste, target_tokens, ...
  """

  def __init__(
    self,
    source: TokenStore,
    target: TokenStore,
    *,
    kind: Literal['buckets', 'packed'] = 'buckets',
    tokens: Count = _TOKENS,
    shapes: Count = 8,
    max_length: Count | None = 256,
    rows_multiple: Count = _ROWS_MULTIPLE,
    shuffle: bool = True,
    reverse_source: bool = False,
    sampled: Sequence[Stores] = (),
  ):
    """Chooses the shapes.

    Args:
      source: source sentences.
      target: target sentences, as many.
      kind: 'buckets' or 'packed'.
      tokens: positions of a batch on either side, padding counted, at most.
      shapes: number of bucket shapes.
      max_length: pairs with a longer side, EOS counted, are left out, counted
        in the report; also the width of a packed row. None: the longest there is.
      rows_multiple: rows of a batch are a multiple of this.
      shuffle: whether each epoch has an order of its own; else by length.
      reverse_source: read the source from its end (Sutskever et al. 2014,
        https://arxiv.org/abs/1409.3215); EOS stays last.
      sampled: the same sentences, segmented at random several times. Epoch e
        reads segmentation e mod n in place of `source` and `target`; a pair's
        bucket is that of its longest segmentation, so that shapes and the
        number of steps are the same in every epoch.

    Raises:
      ValueError: the sides differ in number, or a batch cannot fit.
    """
    options = dict(kind=kind, tokens=tokens, shapes=shapes, max_length=max_length)
    options |= dict(rows_multiple=rows_multiple, shuffle=shuffle)
    check(PairBatches, {**options, 'reverse_source': reverse_source}, 'batching.')
    if len(source) != len(target):
      raise ValueError(f'{len(source):,} source and {len(target):,} target sentences')
    self.kind, self.shuffle, self.reverse_source = kind, shuffle, reverse_source
    self._variants = tuple(sampled) or ((source, target),)
    s, t = self._lengths = tuple(
      np.max([stores[side].lengths for stores in self._variants], axis=0)
      for side in (0, 1)
    )
    longer = np.maximum(s, t)
    if max_length is None:
      max_length = int(longer.max(initial=1))
    self._kept = np.flatnonzero(longer <= max_length)
    if not len(self._kept):
      raise ValueError(
        f'all {len(source):,} pairs are longer than batching.max_length={max_length}'
      )
    longest = max_length if kind == 'packed' else int(longer[self._kept].max())
    _check_fit(longest, tokens, rows_multiple)
    if kind == 'packed':
      self._packed = self._pack(max_length)
      options = dict(max_length=max_length, rows_multiple=rows_multiple)
      self.shapes = (packed_shape(tokens, **options),)
      self._members = [np.arange(len(self._packed))]
    else:
      bounds = bucket_bounds(s[self._kept], t[self._kept], shapes)
      bucket = np.searchsorted(bounds, longer[self._kept])
      self._members = [self._kept[bucket == i] for i in range(len(bounds))]
      self.shapes = tuple(
        (
          tokens // bound // rows_multiple * rows_multiple,
          int(s[rows].max()),
          int(t[rows].max()),
        )
        for bound, rows in zip(bounds.tolist(), self._members, strict=True)
      )
    counts = [
      -(-len(m) // B) for m, (B, _, _) in zip(self._members, self.shapes, strict=True)
    ]
    self.steps_per_epoch = sum(counts)
    cells = sum(
      n * B * (S + T) for n, (B, S, T) in zip(counts, self.shapes, strict=True)
    )
    words = self._mean_words(0) + self._mean_words(1)
    self.report: dict[str, Any] = {
      'pairs': len(self._kept),
      'too_long': len(source) - len(self._kept),
      'target_tokens': round(self._mean_words(1)),
      'steps_per_epoch': self.steps_per_epoch,
      'shapes': len(self.shapes),
      'padding_waste': 1 - words / cells,
    }
    # For each seed the plans of its last epochs: runs of many seeds may share this.
    self._plans = functools.cache(
      lambda seed: functools.lru_cache(4)(functools.partial(self._make_plan, seed))
    )

  def _mean_words(self, side: int) -> float:
    kept = [stores[side].lengths[self._kept].sum() for stores in self._variants]
    return float(np.mean(kept))

  def _pack(self, width: int) -> list[np.ndarray]:
    # A fixed order, so that every epoch has the same number of rows.
    order = np.random.Generator(np.random.Philox(0)).permutation(self._kept)
    return pack(*self._lengths, width, order=order)

  def _make_plan(self, seed: int, epoch: int) -> list[tuple[int, np.ndarray]]:
    """For each batch of an epoch: its shape's number and its row numbers."""
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    plan = []
    longest = np.maximum(*self._lengths)
    for i, (members, (B, _, _)) in enumerate(
      zip(self._members, self.shapes, strict=True)
    ):
      if self.shuffle:
        members = random.permutation(members)
      elif self.kind == 'buckets':
        members = members[np.argsort(longest[members], kind='stable')]
      rows = np.concatenate([members, np.full(-len(members) % B, -1, np.int64)])
      plan += [(i, part) for part in rows.reshape(-1, B)]
    if self.shuffle:
      plan = [plan[i] for i in random.permutation(len(plan))]
    return plan

  def _at(self, k: int, seed: int) -> tuple[int, np.ndarray]:
    epoch, position = divmod(k, self.steps_per_epoch)
    return self._plans(seed)(epoch)[position]

  def rows_of(self, k: int, *, seed: int = 0) -> int:
    """How many rows batch k has, those without a sentence counted."""
    return self.shapes[self._at(k, seed)[0]][0]

  def rows(self, k: int, *, seed: int = 0) -> np.ndarray:
    """The corpus's line (packed: the row) in each row of batch k; -1 for none."""
    return self._at(k, seed)[1]

  def batch(self, k: int, *, seed: int, rows: slice | None = None) -> Batch:
    """Batch k, or some of its rows.

    Args:
      k: number of the batch, from 0; epochs follow one another.
      seed: of the order.
      rows: which rows of the global batch to build; all if None.

    Returns:
      'source' [B, S] and 'target' [B, T] int32, EOS at the end of each
      sentence and PAD after it; packed, also '..._segment', from 1 in each row
      and 0 for padding, and '..._position', from 0 in each sentence.
    """
    shape, chosen = self._at(k, seed)
    if rows is not None:
      chosen = chosen[rows]
    _, S, T = self.shapes[shape]
    stores = self._variants[k // self.steps_per_epoch % len(self._variants)]
    if self.kind == 'packed':
      return self._packed_batch(stores, chosen, S, T)
    source, target = stores
    batch = {'source': source.gather(chosen, S), 'target': target.gather(chosen, T)}
    if self.reverse_source:
      batch['source'] = reverse_words(batch['source'])
    return batch

  def _packed_batch(self, stores: Stores, chosen: np.ndarray, S: int, T: int) -> Batch:
    inside = [
      self._packed[row] if row >= 0 else np.zeros(0, np.int64) for row in chosen
    ]
    pairs = np.concatenate([*inside, np.zeros(0, np.int64)]).astype(np.int64)
    counts = np.array([len(x) for x in inside], np.int64)
    row = np.repeat(np.arange(len(chosen)), counts)  # [pairs] the row of each pair
    first = np.repeat(np.cumsum(counts) - counts, counts)
    segment = np.arange(len(pairs)) - first + 1  # from 1 in each row
    batch: Batch = {}
    for side, store, width in zip(('source', 'target'), stores, (S, T), strict=True):
      lengths = store.lengths[pairs].astype(np.int64)
      ends = np.cumsum(lengths)
      before = ends - lengths  # words of earlier pairs, in all rows
      row_start = before[first]  # words before the row's first pair
      position = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
      at = np.repeat(row, lengths), position + np.repeat(before - row_start, lengths)
      ids = store.ids[np.repeat(store.offsets[pairs], lengths) + position]
      if self.reverse_source and side == 'source':
        last = np.repeat(lengths, lengths) - 1
        mirrored = np.where(position == last, last, last - 1 - position)
        ids = store.ids[np.repeat(store.offsets[pairs], lengths) + mirrored]
      for name, values in (
        ('', ids),
        ('_segment', np.repeat(segment, lengths)),
        ('_position', position),
      ):
        batch[side + name] = np.full((len(chosen), width), PAD, np.int32)
        batch[side + name][at] = values
    return batch


def _check_fit(longest: int, tokens: int, rows_multiple: int) -> None:
  if tokens < longest * rows_multiple:
    raise ValueError(
      f'a batch cannot fit: {rows_multiple} rows of {longest} positions are '
      f'{longest * rows_multiple:,}, and batching.tokens is {tokens:,}. Raise '
      f'batching.tokens, or lower batching.max_length or batching.rows_multiple'
    )


def packed_shape(
  tokens: Count = _TOKENS,
  *,
  max_length: Count,
  rows_multiple: Count = _ROWS_MULTIPLE,
  **_: Any,
) -> tuple[int, int, int]:
  """The (B, S, T) of packed batches, from the options of `PairBatches` alone.

  Raises:
    ValueError: an option is out of its domain, or a batch cannot fit.
  """
  options = dict(tokens=tokens, max_length=max_length, rows_multiple=rows_multiple)
  check(packed_shape, options, 'batching.')
  _check_fit(max_length, tokens, rows_multiple)
  B = tokens // max_length // rows_multiple * rows_multiple
  return B, max_length, max_length


def reverse_words(ids: np.ndarray) -> np.ndarray:
  """[B, L]: the words of each row from last to first, EOS and PAD where they are."""
  words = (ids != PAD).sum(axis=1)[:, None] - 1  # without EOS
  column = np.arange(ids.shape[1])
  return np.take_along_axis(
    ids, np.where(column < words, words - 1 - column, column), 1
  )
