"""Phrases of a corpus, found by how often their words come together.

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

Counts = tuple[np.ndarray, np.ndarray]  # keys, increasing, and how often each comes


def find_phrases(
  corpus: PlainText,
  *,
  thresholds: Sequence[float] = (100.0,),
  min_count: Count = 5,
  max_pairs: Count = 100_000_000,
  workers: Annotated[int, Range(0)] | None = None,
) -> Phrases:
  """Finds neighbours a, b in a line that come together more often than by chance.

  They are joined if (count(ab) - δ) / (count(a) count(b)) · words > threshold, where
  δ is `min_count`, as in word2phrase.c. Each threshold is a pass over the text that
  the passes before it joined; the paper takes 2 to 4, with decreasing thresholds.

  Counts are exact, unless more than `max_pairs` different pairs are met: then the
  rarest so far are forgotten, with a warning, as in `count_words`.

  Args:
    corpus: the text; it is read twice a pass.
    thresholds: one for each pass; higher ones join less.
    min_count: rarer words are in no phrase, and δ.
    max_pairs: bounds the memory, at about 50 bytes each.
    workers: processes; see `count_words`.

  Raises:
    ValueError: there are no thresholds, or as `count_words`.
  """
  if not isinstance(thresholds, Sequence) or not thresholds:
    raise ValueError(
      f'vocabulary.phrases.thresholds is {thresholds!r}; it has a number for each pass, '
      'as (200.0, 100.0)'
    )
  options = dict(thresholds=thresholds, min_count=min_count, max_pairs=max_pairs)
  check(find_phrases, options | dict(workers=workers), 'vocabulary.phrases.')
  found = Phrases([])
  for threshold in thresholds:
    words = count_words(corpus, min_count=min_count, phrases=found, workers=workers)
    keys, counts = _pairs(corpus, words, max_pairs, workers)
    first, second = np.divmod(keys, words.size)
    chance = words.counts[first].astype(float) * words.counts[second]
    score = (counts - min_count) / chance * words.total
    pairs = {
      (words.words[first[i]], words.words[second[i]]): float(score[i])
      for i in np.flatnonzero(score > threshold)
    }
    found = Phrases([*found.passes, pairs])
  return found


def _pairs(
  corpus: PlainText, words: WordCounts, max_pairs: int, workers: int | None
) -> Counts:
  """How often each pair of neighbours comes, as a · V + b."""
  count = functools.partial(_count_pairs, words.ids, words.phrases)
  total: Counts = (np.zeros(0, np.int64), np.zeros(0, np.int64))
  waiting: list[Counts] = []
  level = forgotten = 0
  chunks = corpus.chunks(f'counting pairs of {corpus.name}')
  for part in in_order(count, chunks, workers=workers):
    waiting.append(part)
    if sum(len(keys) for keys, _ in waiting) > max(len(total[0]), max_pairs // 4):
      total, waiting = _merge([total, *waiting]), []
    while len(total[0]) > max_pairs:
      level, often = level + 1, total[1] > level + 1
      forgotten += int((~often).sum())
      total = total[0][often], total[1][often]
  if forgotten:
    warnings.warn(
      f'{corpus.name} has more than {max_pairs:,} different pairs: {forgotten:,} rare '
      f'ones were forgotten on the way, so counts may be up to {level * (level + 1) // 2}'
      ' short; raise max_pairs for exact ones (50 bytes each)',
      stacklevel=3,
    )
  return _merge([total, *waiting])


def _count_pairs(ids: dict[str, int], phrases: Phrases, chunk: str) -> Counts:
  tokens = phrases.join(tokenize_lines(chunk))
  found = np.fromiter(map(ids.get, tokens, repeat(-1)), np.int64, len(tokens))
  first, second = found[:-1], found[1:]
  both = (first >= 0) & (second >= 0)  # neither unknown nor the end of a line
  return np.unique(first[both] * len(ids) + second[both], return_counts=True)


def _merge(parts: Sequence[Counts]) -> Counts:
  keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
  order = np.argsort(keys, kind='stable')  # the parts are sorted, which it makes use of
  keys, counts = keys[order], counts[order]
  starts = np.flatnonzero(np.diff(keys, prepend=-1))
  return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts
