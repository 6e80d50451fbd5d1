"""Uses of word vectors: scores, neighbours, analogies, files for other tools.

They come from a run's folder, or from a file that `embeddings.formats` reads.
"""

from collections.abc import Sequence
import math
from pathlib import Path
import sys
from typing import Literal

import numpy as np

from seqlab.domains import Count, checked
from seqlab.embeddings.formats import check_target
from seqlab.embeddings.vectors import (
  Ranking,
  SparseVectors,
  SubwordVectors,
  Vectors,
)
from seqlab.evaluators.similarity import ENGLISH, evaluate_vectors, open_sets, table
from seqlab.io.console import print_table
from seqlab.metrics.similarity import Estimate, Result
from seqlab.text.words import spellings
from seqlab.text.wordsets import Analogies
from seqlab.train.folder import RunFolder
from seqlab.train.vectors import check_source, is_run, open_source
from seqlab.use.records import record_evaluation, timestamp

_RESTRICT = 30_000  # most frequent words of a run, as in word2vec's demonstrations


@checked
def open_vectors(
  path: str | Path,
  format: str | None = None,
  *,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> Vectors | SparseVectors:
  """Returns the vectors of a run, or of a file.

  Args:
    path: a run's folder; or a file of vectors, or a folder of TensorBoard's projector.
      All may be in a bucket, such as gs://bucket/vectors.bin; a file is then copied to
      the cache, again each time that it changes.
    format: format of a file, see `embeddings.formats`; None decides by the name.
    average: number of a run's checkpoints to average.
    choose: whether to take the 'last' or the 'best' checkpoints of a run.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    FileNotFoundError: there is neither a run nor a file, or the run has not finished.
    ValueError: the run has no word vectors, or too few checkpoints; an option does not
      apply to a run or to a file; or the file is damaged.
  """
  vectors, _ = open_source(
    str(path), format, average=average, choose=choose, trust=trust
  )
  return vectors


@checked
def evaluate_words(
  path: str | Path,
  *,
  sets: Sequence[str | Path] = ENGLISH,
  restrict: Count | Literal['auto'] | None = 'auto',
  method: Literal['add', 'mul'] = 'add',
  format: str | None = None,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> dict:
  """Scores vectors on sets of pairs and analogies, and prints a table.

  The table says to which words analogies are restricted, and how many pairs and questions
  are known as the set spells them and in lower case.

  Args:
    path: see `open_vectors`.
    sets: see `evaluators.similarity:open_sets`.
    restrict: number of first words to which analogies are restricted; None takes all.
      'auto' takes the 30,000 most frequent words of a run, and all words of a file:
      many files have the most frequent words first, but none says so, and some are in
      alphabetical order.
    method: method of analogies, 'add' or 'mul'.
    format: see `open_vectors`.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.

  Returns:
    The options, and under `scores` for each set the scores by both conventions and the
    coverage. A score that is not defined is None. For a run, this is also added to
    `evaluations.jsonl` in its folder.

  Raises:
    ValueError: as `open_vectors` and `open_sets`; or the method is unknown.
    FileNotFoundError: as they raise it.
  """
  path = str(path)
  check_source(path, format, average, choose, trust)
  opened = open_sets(sets)  # first, because vectors take longer to read
  vectors, steps = open_source(
    path, format, average=average, choose=choose, trust=trust
  )
  if restrict == 'auto':
    restrict = _RESTRICT if is_run(path) else None
  if restrict is not None and restrict >= vectors.size:
    restrict = None
  scores = evaluate_vectors(vectors, opened, restrict=restrict, method=method)
  title = f'{path}: {vectors.size:,} words, {vectors.dimensions:,} dimensions'
  analogies = any(isinstance(wordset, Analogies) for wordset in opened)
  note = _restriction(path, vectors, restrict) if analogies else ''
  print_table(table(scores, title, note))
  results = {score.set.name: _plain(score.result) for score in scores}
  for score in scores:
    parts = score.parts.items()
    results |= {f'{score.set.name} {part}': _plain(result) for part, result in parts}
  row = {
    'date': timestamp(),
    'restrict': restrict,
    'method': method,
    'steps': steps,
    'scores': results,
  }
  if is_run(path):
    record_evaluation(RunFolder.open(path, trust=trust), row)
  return row


def _restriction(
  path: str, vectors: Vectors | SparseVectors, restrict: int | None
) -> str:
  """Returns a note that says to which words analogies are restricted."""
  if restrict is None:
    return f'analogies among all {vectors.size:,} words'
  kind = 'most frequent' if is_run(path) else 'first'
  return f'analogies among the {restrict:,} {kind} of {vectors.size:,} words'


def _plain(result: Result) -> dict:
  return {
    'known': _defined(result.known),
    'all': _defined(result.all),
    'covered': int(result.covered),
    'total': int(result.total),
    'as_spelled': int(result.covered - result.lowered),
    'in_lower_case': int(result.lowered),
  }


def _defined(x: Estimate) -> dict:
  """Returns an estimate as a dict, with None for NaN, which JSON does not have."""
  return {k: None if math.isnan(v) else float(v) for k, v in x._asdict().items()}


@checked
def neighbours(
  path: str | Path,
  words: Sequence[str],
  n: Count = 10,
  *,
  format: str | None = None,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> None:
  """Prints the nearest words of each word, and their cosines.

  Vectors of subwords have neighbours of words outside the vocabulary, too, which are
  marked in the output.

  Args:
    path: see `open_vectors`.
    words: words whose neighbours are printed.
    n: number of neighbours per word.
    format: see `open_vectors`.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.

  Raises:
    ValueError: a word is unknown, also in form C and in lower case, or has a vector of
      zeros; there is no other word; or as `open_vectors`.
  """
  vectors = open_vectors(path, format, average=average, choose=choose, trust=trust)
  size = vectors.size
  if size < 2:
    raise ValueError(f'{path} has one word only, which has no neighbours')
  extended, words = _spellings(vectors, words)
  # All, before any is printed.
  rankings = [extended.neighbours(word, n, restrict=size) for word in words]
  for word, ranking in zip(words, rankings, strict=True):
    print(word if word in vectors else f'{word} (by its n-grams)')
    _print(ranking)


@checked
def analogy(
  path: str | Path,
  words: Sequence[str],
  n: Count = 10,
  *,
  method: Literal['add', 'mul'] = 'add',
  restrict: Count | None = None,
  format: str | None = None,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> None:
  """Prints the words that are to the third as the second is to the first.

  Args:
    path: see `open_vectors`.
    words: three words; of vectors of subwords they may be outside the vocabulary.
    n: number of answers.
    method: 'add' or 'mul'.
    restrict: number of first words to answer among; None takes all.
    format: see `open_vectors`.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.

  Raises:
    ValueError: as `neighbours`; or the vocabulary has only the three words.
  """
  if len(words) != 3:
    raise ValueError(f'an analogy has 3 words, and there are {len(words)}')
  vectors = open_vectors(path, format, average=average, choose=choose, trust=trust)
  size = vectors.size if restrict is None else min(restrict, vectors.size)
  vectors, (a, b, c) = _spellings(vectors, words)
  ranking = vectors.analogy(a, b, c, n, method=method, restrict=size)
  if not ranking:
    raise ValueError(f'{path}: among {size:,} words there are none besides these three')
  print(f'{a} is to {b} as {c} is to')
  _print(ranking)


def _spellings(
  vectors: Vectors | SparseVectors, words: Sequence[str]
) -> tuple[Vectors | SparseVectors, list[str]]:
  """Returns vectors that include some words, and the spelling of each that has one.

  It is the first of the `spellings` of a word that has a vector; vectors of subwords are
  extended by the words that have none.

  Raises:
    ValueError: no spelling has a vector, or the vector is 0, which has no direction.
  """
  has_subwords = isinstance(vectors, SubwordVectors)
  forms = []
  for word in words:
    unseen = vectors.spelling(word) if has_subwords else word
    forms.append(next((form for form in spellings(word) if form in vectors), unseen))
  extended = vectors.including(forms) if has_subwords else vectors
  for form in forms:
    row = extended.matrix[[extended.index(form)]]
    if not np.any(row.data if isinstance(vectors, SparseVectors) else row):
      reason = (
        'is all 0'
        if form in vectors
        else 'would be all 0, because no n-gram of it is known'
      )
      raise ValueError(f'the vector of {form!r} {reason}: it has no neighbours')
  return extended, forms


def _print(ranking: Ranking) -> None:
  for word, score in ranking:
    print(f'  {score:7.4f}  {word}')


@checked
def save(
  path: str | Path,
  to: str | Path,
  format: str | None = None,
  *,
  source: str | None = None,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> None:
  """Writes vectors for other tools; see `embeddings.formats:write`.

  Args:
    path: see `open_vectors`.
    to: the new file; a folder for the format 'projector'.
    format: format of the new file; None decides by the name, and vectors of subwords in
      .bin are a model of fastText.
    source: format of the file that is read; None decides by the name.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.
  """
  check_target(to, format)
  vectors = open_vectors(path, source, average=average, choose=choose, trust=trust)
  vectors.save(to, format)
  size = f'{vectors.size:,} words, {vectors.dimensions:,} dimensions'
  print(f'{to}: {size}', file=sys.stderr)
