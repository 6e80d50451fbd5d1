"""Phrases of a corpus, found by how often their words occur together.

Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", 2013, section 4, https://arxiv.org/abs/1310.4546; word2phrase.c.
"""

from collections.abc import Sequence
import functools
from itertools import repeat
from typing import Annotated
import warnings

import numpy as np

from seqlab.domains import Count, Range, check
from seqlab.text.phrases import Phrases
from seqlab.text.plain import PlainText
from seqlab.text.words import WordCounts, count_words, tokenize_lines
from seqlab.text.workers import in_order

Counts = tuple[np.ndarray, np.ndarray]  # increasing keys, and the count of each


def find_phrases(
  corpus: PlainText,
  *,
  thresholds: Sequence[float] = (100.0,),
  min_count: Count = 5,
  max_pairs: Count = 100_000_000,
  workers: Annotated[int, Range(0)] | None = None,
) -> Phrases:
  """Finds neighbours a, b in a line that occur together more often than by chance.

  They are joined if (count(ab) - δ) / (count(a) count(b)) · words > threshold, where
  δ is `min_count`, as in word2phrase.c. Each threshold is one pass over the text as the
  passes before it joined it; the paper uses 2 to 4 passes with decreasing thresholds.

  Counts are exact unless the corpus has more than `max_pairs` different pairs. Then the
  rarest pairs so far are dropped, with a warning, as in `count_words`.

  Args:
    corpus: the text; it is read twice per pass.
    thresholds: one per pass; higher ones join less.
    min_count: minimum count of words in a phrase; also δ.
    max_pairs: bound of the memory, which is about 50 bytes per pair.
    workers: number of processes; see `count_words`.

  Raises:
    ValueError: there are no thresholds, or as in `count_words`.
  """
  if not isinstance(thresholds, Sequence) or not thresholds:
    raise ValueError(
      f'vocabulary.phrases.thresholds is {thresholds!r}; give one number per pass, as '
      'in (200.0, 100.0)'
    )
  options = dict(thresholds=thresholds, min_count=min_count, max_pairs=max_pairs)
  check(find_phrases, options | dict(workers=workers), 'vocabulary.phrases.')
  phrases = Phrases([])
  for threshold in thresholds:
    words = count_words(corpus, min_count=min_count, phrases=phrases, workers=workers)
    keys, counts = _pairs(corpus, words, max_pairs, workers)
    first, second = np.divmod(keys, words.size)
    chance = words.counts[first].astype(float) * words.counts[second]
    score = (counts - min_count) / chance * words.total
    pairs = {
      (words.words[first[i]], words.words[second[i]]): float(score[i])
      for i in np.flatnonzero(score > threshold)
    }
    phrases = Phrases([*phrases.passes, pairs])
  return phrases


def _pairs(
  corpus: PlainText, words: WordCounts, max_pairs: int, workers: int | None
) -> Counts:
  """Counts each pair of neighbours; the key of (a, b) is a · V + b."""
  count = functools.partial(_count_pairs, words.ids, words.phrases)
  total: Counts = (np.zeros(0, np.int64), np.zeros(0, np.int64))
  waiting: list[Counts] = []
  level = dropped = 0
  chunks = corpus.chunks(f'counting pairs of {corpus.name}')
  for part in in_order(count, chunks, workers=workers):
    waiting.append(part)
    if sum(len(keys) for keys, _ in waiting) > max(len(total[0]), max_pairs // 4):
      total, waiting = _merge([total, *waiting]), []
    while len(total[0]) > max_pairs:
      level, frequent = level + 1, total[1] > level + 1
      dropped += int((~frequent).sum())
      total = total[0][frequent], total[1][frequent]
  if dropped:
    warnings.warn(
      f'{corpus.name} has more than {max_pairs:,} different pairs: {dropped:,} rare '
      f'ones were dropped, so counts may be too small by up to '
      f'{level * (level + 1) // 2}; raise max_pairs for exact counts (50 bytes per pair)',
      stacklevel=3,
    )
  return _merge([total, *waiting])


def _count_pairs(ids: dict[str, int], phrases: Phrases, chunk: str) -> Counts:
  tokens = phrases.join(tokenize_lines(chunk))
  encoded = np.fromiter(map(ids.get, tokens, repeat(-1)), np.int64, len(tokens))
  first, second = encoded[:-1], encoded[1:]
  both = (first >= 0) & (second >= 0)  # neither unknown nor the end of a line
  return np.unique(first[both] * len(ids) + second[both], return_counts=True)


def _merge(parts: Sequence[Counts]) -> Counts:
  keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
  order = np.argsort(keys, kind='stable')  # fast, because the parts are sorted
  keys, counts = keys[order], counts[order]
  starts = np.flatnonzero(np.diff(keys, prepend=-1))
  return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts
