"""Bilingual lexicons: files of word pairs, and pairs that parallel text associates."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.sparse

from seqlab.domains import Count, Range, check
from seqlab.io.files import write_text
from seqlab.text.lines import read_lines
from seqlab.text.words import tokenize

WordPair = tuple[str, str]  # a word and its translation


def read_lexicon(path: str | Path) -> list[WordPair]:
  """Reads a file with a word and its translation per line, plain or gzipped.

  They are separated by a tab, or by spaces as in MUSE's dictionaries. A word with
  several translations has several lines. Empty lines are skipped, and so are repeated
  ones.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a word and its translation, or there is none.
  """
  pairs = []
  for number, line in enumerate(read_lines(Path(path).expanduser()), 1):
    if not line.strip():
      continue
    words = [word.strip() for word in line.split('\t' if '\t' in line else None)]
    if len(words) != 2 or not all(words):
      raise ValueError(
        f'line {number:,} of {path} is {line[:60]!r}; it should be a word, a tab and '
        'its translation'
      )
    pairs.append((words[0], words[1]))
  if not pairs:
    raise ValueError(f'{path} has no pairs of words: name a file with one per line')
  return list(dict.fromkeys(pairs))


def write_lexicon(path: Path, pairs: Iterable[WordPair]) -> None:
  """Writes a file that `read_lexicon` reads, with tabs."""
  write_text(path, ''.join(f'{source}\t{target}\n' for source, target in pairs))


def associated_words(
  sources: Sequence[str],
  targets: Sequence[str],
  *,
  min_count: Count = 10,
  min_dice: Annotated[float, Range(0, 1)] = 0.3,
) -> list[WordPair]:
  """Returns words of parallel text that are each other's best translation.

  With n(s) the number of sentence pairs whose source has the word s, and n(s, t) that of
  pairs whose target also has t, the association of s and t is Dice's coefficient
  2 n(s, t) / (n(s) + n(t)) (Smadja, McKeown and Hatzivassiloglou 1996,
  https://aclanthology.org/J96-1001). A pair is kept if neither word has an equal or a
  higher coefficient with another word. So every word has one translation at most.

  Args:
    sources: N sentences, of which `text.words:tokenize` takes the words.
    targets: N translations.
    min_count: smallest n(s, t).
    min_dice: smallest coefficient.

  Returns:
    Pairs of words, the most frequent first.

  Raises:
    ValueError: the numbers of sentences differ, or an option is out of range.
  """
  check(associated_words, dict(min_count=min_count, min_dice=min_dice))
  if len(sources) != len(targets):
    raise ValueError(
      f'{len(sources):,} sentences have {len(targets):,} translations: give one each'
    )
  (left, in_left), (right, in_right) = _occurrences(sources), _occurrences(targets)
  both = (in_left.T @ in_right).tocoo()
  n_left, n_right = in_left.sum(axis=0), in_right.sum(axis=0)
  dice = 2 * both.data / (n_left[both.row] + n_right[both.col])
  best = _is_single_best(both.row, dice, len(left))
  best &= _is_single_best(both.col, dice, len(right))
  best &= (both.data >= min_count) & (dice >= min_dice)
  chosen = np.flatnonzero(best)
  order = sorted(chosen, key=lambda i: (-both.data[i], left[both.row[i]]))
  return [(left[both.row[i]], right[both.col[i]]) for i in order]


def _occurrences(lines: Sequence[str]) -> tuple[list[str], scipy.sparse.csr_array]:
  """Returns V words, and which lines have which words: [N, V] of 1.0."""
  ids: dict[str, int] = {}
  rows = [sorted({ids.setdefault(w, len(ids)) for w in tokenize(x)}) for x in lines]
  indptr = np.cumsum([0, *map(len, rows)])
  indices = np.array([i for row in rows for i in row], np.int64)
  shape = len(lines), len(ids)
  ones = np.ones(len(indices))
  return list(ids), scipy.sparse.csr_array((ones, indices, indptr), shape=shape)


def _is_single_best(words: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
  """Returns whether each value is the largest of its word, without an equal one."""
  largest = np.zeros(size)
  np.maximum.at(largest, words, values)
  is_best = values == largest[words]
  number = np.bincount(words[is_best], minlength=size)
  return is_best & (number[words] == 1)


def split_lexicon(
  pairs: Sequence[WordPair], *, test: Count, seed: int = 0
) -> tuple[list[WordPair], list[WordPair]]:
  """Divides a lexicon into pairs to learn from and pairs to evaluate on.

  Source words are drawn at random, and all translations of a word are in the same part.

  Args:
    pairs: the lexicon.
    test: number of source words to evaluate on.
    seed: integer seed of the draw.

  Raises:
    ValueError: no word would be left to learn from.
  """
  words = list(dict.fromkeys(source for source, _ in pairs))
  if test >= len(words):
    raise ValueError(
      f'{test:,} of {len(words):,} source words are for evaluation: none is left to '
      'learn from'
    )
  drawn = set(np.random.default_rng(seed).permutation(words)[:test].tolist())
  return (
    [pair for pair in pairs if pair[0] not in drawn],
    [pair for pair in pairs if pair[0] in drawn],
  )
