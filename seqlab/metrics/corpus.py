"""Scores of whole test sets: from lines of text or of ids to statistics of each line.

Lines of similar length share an array, so that few shapes are compiled and there is
little padding. The length of each line is known in advance, so no line is truncated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import functools
import os
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from seqlab.domains import Count, checked
from seqlab.metrics import bootstrap
from seqlab.metrics.bleu import MAX_ORDER, bleu_score, brevity_penalty
from seqlab.metrics.characters import PieceBytes, Text, characters, detokenize
from seqlab.metrics.measures import BLEU, Measure, TextMeasure, signature
from seqlab.metrics.tokenizers import TOKENIZERS, Words, tokenize
from seqlab.text.lines import read_lines as text_lines
from seqlab.types import EOS, PAD, Array

_POSITIONS = 1 << 16  # bytes of one side in a batch
_SHORTEST = 128  # bytes; the width of an array is this number times a power of two


class Side(Protocol):
  """Lines of outputs or references; `length` has their numbers of bytes, [R]."""

  length: np.ndarray

  def text(self, rows: np.ndarray, size: int, B: int) -> Text:
    """Returns the lines numbered `rows` as bytes [B, size], followed by empty lines."""
    ...


class Lines:
  """Lines of text in UTF-8."""

  def __init__(self, lines: Sequence[bytes]):
    self.length = np.array([len(line) for line in lines], np.int64)
    self._bytes = np.frombuffer(b''.join(lines), np.uint8)
    self._start = np.cumsum(self.length) - self.length

  def text(self, rows: np.ndarray, size: int, B: int) -> Text:
    """Gathers rows from one long array."""
    length = np.zeros(B, np.int32)
    length[: len(rows)] = self.length[rows]
    table = np.zeros((B, size), np.uint8)
    if len(self._bytes) < self.length.sum() + size:  # windows of the last lines
      self._bytes = np.pad(self._bytes, (0, 2 * size))
    table[: len(rows)] = sliding_window_view(self._bytes, size)[self._start[rows]]
    table *= np.arange(size, dtype=np.int32) < length[:, None]
    return Text(table, length)


class Pieces:
  """Lines as ids of pieces up to EOS or PAD; the device turns them into text."""

  def __init__(self, ids: Sequence[np.ndarray], table: PieceBytes):
    longest = max((len(row) for row in ids), default=0)
    self._ids = np.zeros((len(ids), max(1, longest)), np.int32)
    for row, sentence in zip(self._ids, ids, strict=True):
      row[: len(sentence)] = sentence
    self._table = table
    inside = np.cumsum((self._ids == EOS) | (self._ids == PAD), axis=1) == 0
    length = np.where(inside, table.length[self._ids], 0).sum(axis=1)
    self.length = np.maximum(length - table.separator, 0)

  def text(self, rows: np.ndarray, size: int, B: int) -> Text:
    """Gathers rows and detokenises them."""
    ids = np.zeros((B, self._ids.shape[1]), np.int32)
    ids[: len(rows)] = self._ids[rows]
    return _detokenize(ids, self._table, size)


_detokenize = jax.jit(detokenize, static_argnums=2)


def corpus_statistics(
  hypotheses: Side,
  references: Sequence[Side],
  *,
  tokenizer: str = '13a',
  lowercase: bool = False,
) -> np.ndarray:
  """Returns BLEU's ten integers of each line, [R, 10]; see `bleu.bleu_statistics`.

  Args:
    hypotheses: R lines.
    references: one or more sides of R lines.
    tokenizer: '13a', 'none' or 'char'.
    lowercase: whether to convert to lower case first, as in `case:lc`.

  Returns:
    Statistics, [R, 10] int64.

  Raises:
    ValueError: the tokeniser is unknown, there are no references, or the numbers of
      lines differ.
  """
  if tokenizer not in TOKENIZERS:
    raise ValueError(f'tokenizer {tokenizer!r} is not one of {", ".join(TOKENIZERS)}')
  return measure_lines(hypotheses, references, BLEU(tokenizer, lowercase))


def measure_lines(
  hypotheses: Side, references: Sequence[Side], measure: Measure
) -> np.ndarray:
  """Returns the integers of each line by a measure, [R, columns] int64.

  Args:
    hypotheses: R lines.
    references: one or more sides of R lines; see `aligned`.
    measure: a measure of the device.

  Raises:
    ValueError: there are no references, or the numbers of lines differ.
  """

  def count(texts: list[Text]) -> Array:
    size = texts[0].bytes.shape[1]
    statistics, cut = _measured(texts, measure, size // 4)
    if cut:  # unusually short words; a token has at least one character
      statistics, _ = _measured(texts, measure, size)
    return statistics

  return _each_line([hypotheses, *references], count, measure.columns)


def measure_texts(
  hypotheses: Sequence[str],
  references: Sequence[Sequence[str]],
  measure: Measure | TextMeasure,
) -> np.ndarray:
  """Returns the integers of each text by a measure, [R, columns] int64.

  Args:
    hypotheses: R texts.
    references: one or more references for each of them.
    measure: any measure.
  """
  if hasattr(measure, 'text_statistics'):
    return measure.text_statistics(hypotheses, references)
  sides = [Lines([x.encode() for x in side]) for side in aligned(references)]
  return measure_lines(Lines([x.encode() for x in hypotheses]), sides, measure)


def aligned(references: Sequence[Sequence[str]]) -> list[list[str]]:
  """Returns as many sides as a line has references at most, each with R lines.

  A line with fewer references has its last one several times, which changes no measure.
  """
  width = max(map(len, references), default=1)
  return [[texts[min(q, len(texts) - 1)] for texts in references] for q in range(width)]


def _each_line(
  sides: Sequence[Side], count: Callable[[list[Text]], Array], columns: int
) -> np.ndarray:
  """Applies `count` to every batch and collects all rows, [R, columns]."""
  counts = [len(side.length) for side in sides]
  if len(sides) < 2 or min(counts) != max(counts):
    raise ValueError(
      f'numbers of lines differ: {counts[0]:,} outputs and {counts[1:]} references'
    )
  out = np.zeros((counts[0], columns), np.int64)

  def fill(batch: tuple[np.ndarray, int, int]) -> None:
    rows, size, B = batch
    out[rows] = np.asarray(count([s.text(rows, size, B) for s in sides]))[: len(rows)]

  # On a CPU one computation does not use all cores, so several run concurrently.
  batches = _batches(np.max([side.length for side in sides], axis=0))
  with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
    list(pool.map(fill, batches))
  return out


def _batches(length: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
  """Yields rows by increasing length, the width of their array in bytes, and B."""
  size = _SHORTEST
  rest = np.argsort(length, kind='stable')
  while len(rest):
    fit = int(np.searchsorted(length[rest], size, side='right'))
    rows, rest = rest[:fit], rest[fit:]
    # A power of two, so that sets of different sizes share compiled shapes.
    B = min(max(1, _POSITIONS // size), 1 << max(0, fit - 1).bit_length())
    for start in range(0, fit, B):
      yield rows[start : start + B], size, B
    size *= 2


@functools.partial(jax.jit, static_argnums=(1, 2))
def _measured(texts: list[Text], measure: Measure, room: int) -> tuple[Array, Array]:
  """Returns statistics [B, columns], and whether a line has more than `room` words.

  The statistics are correct only if none has.
  """
  text = jax.tree.map(lambda *x: jnp.stack(x), *texts)  # [1 + Q, B, N]
  tokens, cut = [], jnp.zeros((), bool)
  for unit in measure.units:
    size = text.bytes.shape[-1] if unit.of_characters else room
    words = tokenize(characters(text, unit.lowercase), unit.tokenizer, size)
    tokens.append(words)
    cut |= words.count.max() > size
  ours = [jax.tree.map(lambda x: x[0], words) for words in tokens]
  theirs = [jax.tree.map(lambda x: jnp.moveaxis(x[1:], 0, 1), w) for w in tokens]
  return measure.statistics(ours, theirs), cut


def line_words(lines: Lines, tokenizer: str, lowercase: bool = False) -> Words:
  """Returns the tokens of each line as arrays of the host, for repeated comparisons.

  Args:
    lines: R lines.
    tokenizer: see `tokenizers.tokenize`.
    lowercase: whether to convert to lower case first.

  Returns:
    Hashes [R, K, F] and counts [R], where K is the number of tokens of the longest
    line.
  """
  batches = []
  for rows, size, B in _batches(lines.length):
    words = _line_words(lines.text(rows, size, B), tokenizer, lowercase, size)
    batches.append((rows, words))
  longest = max((int(words.count.max()) for _, words in batches), default=0)
  features = 1 if tokenizer == 'text' else 2
  hashes = np.zeros((len(lines.length), max(1, longest), features), np.uint32)
  count = np.zeros(len(lines.length), np.int32)
  for rows, words in batches:
    part = np.asarray(words.hashes)[: len(rows), :longest]
    hashes[rows, : part.shape[1]] = part
    count[rows] = np.asarray(words.count)[: len(rows)]
  return Words(hashes, count)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _line_words(text: Text, tokenizer: str, lowercase: bool, room: int) -> Words:
  return tokenize(characters(text, lowercase), tokenizer, room)


def score(statistics: np.ndarray, **options) -> dict[str, Any]:
  """Returns BLEU of summed statistics in double precision, with its components.

  Args:
    statistics: sums of the ten BLEU counts, [10].
    **options: options of `bleu.bleu_score`.

  Returns:
    A dict with sacreBLEU's names: score, counts, totals, sys_len, ref_len, bp.
  """
  with jax.enable_x64(True):
    value = float(bleu_score(jnp.asarray(statistics), **options))
    penalty = float(brevity_penalty(jnp.asarray(statistics)))
  integers = [int(x) for x in statistics]
  return {
    'score': value,
    'counts': integers[:MAX_ORDER],
    'totals': integers[MAX_ORDER:-2],
    'sys_len': integers[-2],
    'ref_len': integers[-1],
    'bp': penalty,
  }


def read_lines(path: str | Path) -> list[bytes]:
  """Returns the lines of a plain or gzipped file, by the definition of `text.lines`.

  sacreBLEU reads the same lines, except for a byte order mark at the start, which it
  makes a part of the first word.

  Raises:
    ValueError: the file is damaged, or is not text in UTF-8; the message names the
      line.
  """
  return [line.encode('utf-8') for line in text_lines(path)]


def check_parallel(sides: Mapping[str, Sequence]) -> None:
  """Checks that the sides are not empty and have equal numbers of lines.

  Args:
    sides: name, for messages -> lines; the hypotheses first.

  Raises:
    ValueError: a side has another number of lines, or there are none.
  """
  (first, lines), *_ = sides.items()
  for name, side in sides.items():
    if len(side) != len(lines):
      raise ValueError(
        f'{first} has {len(lines):,} lines and {name} has {len(side):,}: every line '
        'needs its reference'
      )
  if not len(lines):
    raise ValueError(f'{first} has no lines')


@checked
def bleu_of_files(
  hypothesis: str | Path,
  references: Sequence[str | Path],
  *,
  tokenizer: str = '13a',
  lowercase: bool = False,
  confidence: bool = False,
  samples: Count = 1_000,
  seed: bootstrap.Seed = 0,
) -> dict[str, Any]:
  """Returns BLEU of a file, computed on the device.

  Args:
    hypothesis: path of a file with one output per line.
    references: paths of files with the same number of lines.
    tokenizer: '13a', 'none' or 'char'.
    lowercase: whether to convert to lower case first.
    confidence: whether to add the mean and the half width of the 95 % interval of
      bootstrap samples.
    samples: number of bootstrap samples.
    seed: seed of the samples.

  Returns:
    The dict of `score`, with the signature and the number of sentences.

  Raises:
    ValueError: the files have different numbers of lines, or one is not UTF-8.
  """
  files = [hypothesis, *references]
  sides = [read_lines(file) for file in files]
  for file, side in zip(files, sides, strict=True):
    check_parallel({str(hypothesis): sides[0], str(file): side})
  rows = corpus_statistics(
    Lines(sides[0]),
    [Lines(side) for side in sides[1:]],
    tokenizer=tokenizer,
    lowercase=lowercase,
  )
  result = score(rows.sum(axis=0))
  fields = {}
  if confidence:
    mean, half = bootstrap.confidence_interval(rows, samples=samples, seed=seed)
    result |= {'mean': mean, 'ci': half}
    fields = {'bs': samples, 'seed': seed}
  result['signature'] = signature(
    references=len(references), tokenizer=tokenizer, lowercase=lowercase, **fields
  )
  result['sentences'] = len(rows)
  return result
