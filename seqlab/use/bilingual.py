"""Maps the word vectors of one language to those of another, and measures the map."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table
import scipy.sparse

from seqlab.domains import Count, checked
from seqlab.embeddings.alignment import (
  RETRIEVAL,
  normalized,
  procrustes,
  translations,
)
from seqlab.embeddings.formats import check_target
from seqlab.embeddings.vectors import Vectors
from seqlab.io.console import print_table
from seqlab.io.files import write_text
from seqlab.metrics.similarity import accuracy
from seqlab.text.bilingual import WordPair, read_lexicon
from seqlab.text.words import look_up
from seqlab.word_vectors import open_vectors

PRECISIONS = (1, 5, 10)  # numbers of translations among which one should be right

_SOURCE, _TARGET = 'source.npz', 'target.npz'


@checked
def align(
  source: str | Path,
  target: str | Path,
  *,
  dictionary: str | Path,
  output: str | Path,
  evaluate: str | Path | None = None,
  centre: bool = True,
  format: str | None = None,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> dict[str, Any]:
  """Maps source vectors to the space of target vectors, and writes both.

  Both are first normalised, see `embeddings.alignment`. The folder then has `source.npz`
  and `target.npz`, vectors whose cosines may be compared across languages, `map.npz` with
  the orthogonal matrix, and `alignment.json`.

  Args:
    source: vectors of the source language; see `word_vectors:open_vectors`.
    target: vectors of the target language, of the same dimension.
    dictionary: file of word pairs to learn from; see `text.bilingual:read_lexicon`.
    output: folder that is written; it is made if necessary.
    evaluate: file of word pairs to evaluate on, none of which should be in
      `dictionary`; None evaluates nothing.
    centre: whether to subtract the mean of the vectors of each language.
    format: format of both files, see `open_vectors`.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.

  Returns:
    What `alignment.json` has: the options, the numbers of pairs and, with `evaluate`, the
    precision of each method of retrieval.

  Raises:
    ValueError: the dimensions differ, vectors are sparse, no pair of a file is known, or
      a pair to evaluate on was learnt from; or as `open_vectors`.
    FileNotFoundError: a file is missing.
  """
  check_target(f'{output}/{_SOURCE}')  # before vectors are read
  pairs = read_lexicon(dictionary)
  tests = [] if evaluate is None else read_lexicon(evaluate)
  _check_apart(pairs, tests, dictionary, evaluate)
  options = dict(average=average, choose=choose, trust=trust)
  one, other = (open_vectors(x, format, **options) for x in (source, target))
  _check_spaces(one, other, source, target)
  known = _known(one, other, pairs, dictionary)
  x, y = (normalized(vectors.matrix, centre=centre) for vectors in (one, other))
  W = procrustes(x[known[:, 0]], y[known[:, 1]])
  mapped = (x @ W).astype(np.float32)
  record = dict(source=str(source), target=str(target), centre=centre)
  record |= dict(dictionary=str(dictionary), pairs=len(pairs), known=len(known))
  print(
    f'{len(known):,} of {len(pairs):,} pairs of {dictionary} are known; they map '
    f'{one.dimensions:,} dimensions'
  )
  if len(known) < one.dimensions:
    print(
      f'they are fewer than the dimensions, so {one.dimensions - len(known):,} '
      'directions are mapped arbitrarily: give more pairs'
    )
  if evaluate is not None:
    rows = _known(one, other, tests, evaluate)
    record |= dict(evaluate=str(evaluate)) | induction(mapped, y, rows)
    _print(record, len({word for word, _ in tests}))
  folder = Path(output).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  Vectors(one.words, mapped).save(folder / _SOURCE)
  Vectors(other.words, y).save(folder / _TARGET)
  np.savez(folder / 'map.npz', map=W)
  text = json.dumps(record, indent=2, ensure_ascii=False)
  write_text(folder / 'alignment.json', f'{text}\n')
  return record


def induction(
  source: np.ndarray, target: np.ndarray, pairs: np.ndarray
) -> dict[str, Any]:
  """Returns the precision of translations: "bilingual lexicon induction".

  A word is right at n if one of its translations in the lexicon is among its best n, out
  of all words of the target.

  Args:
    source: [V, D] source vectors of length 1 in the space of the target.
    target: [W, D] target vectors of length 1.
    pairs: [P, 2] rows of source and target words.

  Returns:
    `words`, the number of source words, and for each method of retrieval 'precision@1',
    'precision@5' and 'precision@10'.
  """
  words, at = np.unique(pairs[:, 0], return_inverse=True)
  n = min(PRECISIONS[-1], len(target))
  scores: dict[str, Any] = {'words': len(words)}
  for retrieval in RETRIEVAL:
    best = translations(source, target, words, n, retrieval=retrieval)
    right = best[at] == pairs[:, 1:]  # [P, n]
    by_word = np.zeros((len(words), n), bool)
    np.logical_or.at(by_word, at, right)
    scores[retrieval] = {
      f'precision@{k}': float(by_word[:, :k].any(axis=1).mean()) for k in PRECISIONS
    }
  return scores


def _check_apart(
  pairs: Sequence[WordPair],
  tests: Sequence[WordPair],
  dictionary: str | Path,
  evaluate: str | Path | None,
) -> None:
  learnt = set(pairs)
  both = [pair for pair in tests if pair in learnt]
  if both:
    raise ValueError(
      f'{len(both):,} pairs of {evaluate} are also in {dictionary}, such as '
      f'{" ".join(both[0])!r}: evaluate on pairs that the map is not learnt from'
    )


def _check_spaces(
  one: Vectors, other: Vectors, source: str | Path, target: str | Path
) -> None:
  for vectors, path in ((one, source), (other, target)):
    if scipy.sparse.issparse(vectors.matrix):
      raise ValueError(
        f'{path} has sparse vectors, whose dimensions are words: align dense ones, such '
        'as those of an SVD'
      )
  if one.dimensions != other.dimensions:
    raise ValueError(
      f'{source} has {one.dimensions:,} dimensions and {target} {other.dimensions:,}: '
      'an orthogonal map needs equal numbers'
    )


def _known(
  one: Vectors, other: Vectors, pairs: Sequence[WordPair], path: str | Path
) -> np.ndarray:
  """Returns the rows of pairs whose words both have vectors, [P, 2] int32."""
  words = np.array(pairs, object)
  columns = look_up(words[:, 0], one.ids)[0], look_up(words[:, 1], other.ids)[0]
  rows = np.stack(columns, axis=1)
  rows = np.unique(rows[(rows >= 0).all(axis=1)], axis=0)
  if not len(rows):
    raise ValueError(
      f'no pair of {path} has a vector for both words, such as {" ".join(pairs[0])!r}: '
      'the first word of a line is looked up among the source vectors, the second among '
      'the target vectors'
    )
  return rows


def _print(record: Mapping[str, Any], total: int) -> None:
  """Prints the precisions with 95 % intervals over words."""
  words = record['words']
  print(f'{words:,} of {total:,} source words of {record["evaluate"]} are known')
  shown = Table(caption='95 % bootstrap interval over words')
  shown.add_column('retrieval')
  for n in PRECISIONS:
    shown.add_column(f'precision at {n}', justify='right')
  for retrieval in RETRIEVAL:
    values = [
      accuracy(round(record[retrieval][f'precision@{n}'] * words), words)
      for n in PRECISIONS
    ]
    cells = (f'{x.value:.1%} [{100 * x.low:.1f}, {100 * x.high:.1f}]' for x in values)
    shown.add_row(retrieval, *cells)
  print_table(shown)
