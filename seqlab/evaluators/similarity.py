"""Agreement of word vectors with human judgements: pairs, analogies, neighbours."""

from collections.abc import Iterator, Sequence
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from jax.sharding import NamedSharding
import numpy as np
from rich.table import Table

from seqlab.domains import Count, Range, check
from seqlab.embeddings.vectors import SparseVectors, SubwordVectors, Vectors
from seqlab.io.console import verbatim
from seqlab.metrics.similarity import (
  Estimate,
  Result,
  analogies_result,
  pairs_result,
)
from seqlab.tasks.interface import HasVectors
from seqlab.text.words import look_up
from seqlab.text.wordsets import Analogies, Pairs, WordSet, open_wordset
from seqlab.types import Variables

ENGLISH = (
  *('ws353', 'ws353-sim', 'ws353-rel', 'men', 'simlex', 'rw', 'mturk'),
  *('google', 'msr'),
)


class Score(NamedTuple):
  """The score of vectors on a set.

  Attributes:
    set: the set.
    result: Spearman's correlation, or accuracy.
    parts: for a set of analogies, the accuracy of its parts 'semantic', 'syntactic'.
      For a set of pairs and vectors of subwords, 'subwords': the correlation where words
      outside the vocabulary have the vectors of their n-grams.
    arrays: the data behind the score. `rows` [P, 2] or [Q, 4], words as rows of the
      vectors, -1 for unknown ones; `lowered`, of the same shape, True for words that
      are known in lower case only. For pairs also `similarity` [P], NaN for unknown
      ones, and the human `scores` [P]. For analogies also `answers` [Q], -1 for
      unknown ones.
  """

  set: WordSet
  result: Result
  parts: dict[str, Result]
  arrays: dict[str, np.ndarray]


def open_sets(sets: Sequence[str | Path | WordSet]) -> list[WordSet]:
  """Opens sets, whose names must differ, since results are kept by name.

  Args:
    sets: names or paths for `text.wordsets:open_wordset`, or sets.

  Raises:
    ValueError: two have the same name; or as `open_wordset`.
    FileNotFoundError: a set's file is not there.
  """
  opened: dict[str, tuple[WordSet, str]] = {}  # name -> set, and how it was given
  for given in sets:
    wordset = given if isinstance(given, WordSet) else open_wordset(given)
    name = wordset.name
    source = name if isinstance(given, WordSet) else str(given)
    if name in opened:
      raise ValueError(
        f'two sets have the name {name!r}: {opened[name][1]} and {source}; '
        'leave one out, or rename its file'
      )
    opened[name] = wordset, source
  return [wordset for wordset, _ in opened.values()]


def evaluate_vectors(
  vectors: Vectors | SparseVectors,
  sets: Sequence[str | Path | WordSet] = ENGLISH,
  *,
  restrict: Count | None = None,
  method: Literal['add', 'mul'] = 'add',
  samples: Count = 1_000,
  seed: Annotated[int, Range(0)] = 0,
) -> list[Score]:
  """Scores vectors on pairs and analogies.

  A word of a set is looked up as the set spells it, and otherwise in lower case; the
  score contains the number of pairs or questions that need lower case. Vectors with
  capitals are thus scored by "Athens", and those without by "athens".

  Args:
    vectors: dense or sparse vectors; with `restrict`, the most frequent word first.
    sets: names or paths for `text.wordsets:open_wordset`, or sets.
    restrict: number of first words that analogies are asked and answered among; a
      question with another word is unknown. None takes all words. gensim's default is
      300,000; word2vec's demonstrations take 30,000.
    method: method of analogies, 'add' or 'mul'.
    samples: number of bootstrap samples.
    seed: integer seed of the bootstrap.

  Returns:
    A score for each set; `table` prints them.

  Raises:
    ValueError: a set or the method is unknown, or as `open_wordset`.
    FileNotFoundError: a set's file is not there.
  """
  options = dict(restrict=restrict, method=method, samples=samples, seed=seed)
  check(evaluate_vectors, options)
  scores = []
  for given in sets:
    wordset = given if isinstance(given, WordSet) else open_wordset(given)
    if isinstance(wordset, Pairs):
      scores.append(_score_pairs(vectors, wordset, samples, seed))
    else:
      scores.append(_score_analogies(vectors, wordset, restrict, method))
  return scores


def _score_pairs(
  vectors: Vectors | SparseVectors, pairs: Pairs, samples: int, seed: int
) -> Score:
  rows, lowered = look_up(pairs.words, vectors.ids)  # [P, 2]
  known = (rows >= 0).all(axis=1)
  similarity = np.where(known, vectors.cosines(np.maximum(rows, 0)), np.nan)
  result = pairs_result(similarity, pairs.scores, known, samples=samples, seed=seed)
  result = result._replace(lowered=int(lowered[known].any(axis=1).sum()))
  arrays = {'rows': rows, 'lowered': lowered, 'similarity': similarity}
  parts = {}
  if isinstance(vectors, SubwordVectors):
    parts['subwords'] = _score_subwords(vectors, pairs, rows, samples, seed)
  return Score(pairs, result, parts, arrays | {'scores': pairs.scores})


def _score_subwords(
  vectors: SubwordVectors, pairs: Pairs, rows: np.ndarray, samples: int, seed: int
) -> Result:
  """Returns the score where unseen words have the vectors of their n-grams.

  A pair is unknown only if a word shares no n-gram with the vocabulary.
  """
  unseen = np.unique(pairs.words[rows < 0].astype(str))
  spelled = {word: vectors.spelling(word) for word in unseen.tolist()}
  extended = vectors.including(spelled.values())
  rows = rows.copy()
  rows[rows < 0] = [extended.ids[spelled[word]] for word in pairs.words[rows < 0]]
  known = extended.matrix[rows].any(axis=2).all(axis=1)
  similarity = extended.cosines(rows)
  return pairs_result(similarity, pairs.scores, known, samples=samples, seed=seed)


def _score_analogies(
  vectors: Vectors | SparseVectors, questions: Analogies, restrict: int | None, method
) -> Score:
  rows, lowered = look_up(questions.words, vectors.ids)  # [Q, 4]
  limit = vectors.size if restrict is None else restrict
  known = ((rows >= 0) & (rows < limit)).all(axis=1)
  answers = np.full(len(rows), -1, np.int32)
  best, _ = vectors.answers(rows[known, :3], method=method, restrict=restrict)
  answers[known] = best[:, 0]
  right, lower = answers == rows[:, 3], lowered.any(axis=1) & known

  def result(mask: np.ndarray) -> Result:
    count = int(lower[mask].sum())
    return analogies_result(right[mask], known[mask])._replace(lowered=count)

  parts = {part: result(mask) for part, mask in questions.parts.items()}
  arrays = {'rows': rows, 'lowered': lowered, 'answers': answers}
  return Score(questions, result(np.ones(len(rows), bool)), parts, arrays)


def table(scores: Sequence[Score], title: str | None = None, note: str = '') -> Table:
  """Returns a table: scores by both conventions, with 95 % intervals and coverage.

  Args:
    scores: scores of `evaluate_vectors`.
    title: title of the table.
    note: text below the table, such as the words that analogies were answered among.
  """
  caption = 'Spearman or accuracy, 95 % bootstrap interval'
  shown = Table(
    title=None if title is None else verbatim(title),
    caption=verbatim(f'{caption}; {note}' if note else caption),
  )
  shown.add_column('set')
  for column in (
    *('unknown left out', 'unknown as 0 or wrong', 'known', 'of'),
    *('as spelled', 'in lower case'),
  ):
    shown.add_column(column, justify='right')
  for score in scores:
    percent = isinstance(score.set, Analogies)
    lines = {score.set.name: score.result}
    lines |= {f'  {part}': result for part, result in score.parts.items()}
    for name, result in lines.items():
      values = (_shown(x, percent) for x in (result.known, result.all))
      by_spelling = result.covered - result.lowered, result.lowered
      counts = (f'{n:,}' for n in (result.covered, result.total, *by_spelling))
      shown.add_row(verbatim(name), *values, *counts)
  return shown


def _shown(x: Estimate, percent: bool) -> str:
  if math.isnan(x.value):
    return '-'
  if math.isnan(x.low):
    return f'{x.value:.3f}'
  if percent:
    return f'{x.value:.1%} [{100 * x.low:.1f}, {100 * x.high:.1f}]'
  return f'{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]'


def density(
  vectors: Vectors | SparseVectors, *, words: Count = 500, n: Count = 10
) -> dict[str, np.ndarray]:
  """Returns the mean cosine of the nearest words, by frequency.

  In some vectors frequent words lie close together, and in others rare words do.

  Args:
    vectors: vectors, the most frequent word first.
    words: number of words to measure, at most; evenly spaced in log rank.
    n: number of neighbours of each.

  Returns:
    `rank` [W], 1 for the most frequent word, and `cosine` [W], the mean over a word's n
    nearest.

  Raises:
    ValueError: there is one word only, which has no neighbours; or an option is out of
      range.
  """
  check(density, dict(words=words, n=n))
  if vectors.size < 2:
    raise ValueError(
      f'density is of words and their neighbours, and there is {vectors.size} word: '
      'give it 2 or more, or leave it out (density=0)'
    )
  rank = np.unique(np.geomspace(1, vectors.size, words).round().astype(np.int32))
  _, cosines = vectors.nearest(rank - 1, min(n, vectors.size - 1))
  return {'rank': rank, 'cosine': cosines.mean(axis=1)}


class Evaluator:
  """Correlation with human scores, accuracy of analogies, neighbours of some words.

  Attributes:
    samples: a line for each shown word, its neighbours and their cosines.
    about: share of each set that the vocabulary covers.
    arrays: results of the last run, `<set>/rows` and so on, see `Score`; and with
      `density`, `density/rank` and `density/cosine`, see the function.
  """

  needs = (HasVectors,)

  def __init__(
    self,
    task: HasVectors,
    sharding: NamedSharding,
    *,
    sets: Sequence[str | Path | WordSet],
    restrict: Count | None = None,
    method: Literal['add', 'mul'] = 'add',
    show: Sequence[str] | None = None,
    neighbours: Count = 8,
    density: Annotated[int, Range(0)] = 0,
  ):
    """Reads the sets.

    Args:
      task: gives words and vectors.
      sharding: is not used; vectors are scored on the first device.
      sets: see `open_sets`.
      restrict: see `evaluate_vectors`.
      method: method of analogies, 'add' or 'mul'.
      show: words whose neighbours are shown; None shows eight, from frequent ones to
        the rarest.
      neighbours: number of neighbours of each shown word.
      density: number of words for `density`; 0 leaves it out.

    Raises:
      ValueError: a set, a shown word or the method is unknown, `sets` is empty,
        or two sets have the same name.
      FileNotFoundError: a set's file is not there.
    """
    del sharding
    if isinstance(sets, str) or not sets:
      raise ValueError(f"sets is {sets!r}; it should be a tuple, such as ('ws353',)")
    options = dict(restrict=restrict, neighbours=neighbours, density=density)
    options['method'] = method
    check(type(self), options, 'evals.similarity.')
    self._task, self._sets = task, open_sets(sets)
    self._how = dict(restrict=restrict, method=method)
    if show is None:
      V = task.words.size
      rows = np.geomspace(min(100, V), V, 8).round().astype(int) - 1
      show = [task.words.words[row] for row in np.unique(rows)]
    for word in show:
      task.words.index(word)
    self._show, self._neighbours, self._density = show, neighbours, density
    self.samples: list[str] = []
    self.arrays: dict[str, np.ndarray] = {}
    self.about = '; '.join(self._coverage(x, restrict) for x in self._sets)

  def _coverage(self, wordset: WordSet, restrict: int | None) -> str:
    analogies = isinstance(wordset, Analogies)
    rows, _ = look_up(wordset.words, self._task.words.ids)
    limit = restrict if analogies and restrict else self._task.words.size
    covered = int(((rows >= 0) & (rows < limit)).all(axis=1).sum())
    of = f'{covered:,} of {len(wordset.words):,} {wordset.unit}'
    among = f' among {restrict:,} words' if analogies and restrict else ''
    return f'{wordset.name}: {of}{among}'

  def compile(self, variables: Variables) -> None:
    """Compiles all by running it once."""
    for _ in self.run(variables):
      pass

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields, for each set, as far as they are defined:

    `ws353`: Spearman's correlation of the known pairs; or accuracy of the known
    questions, and `google_semantic`, `google_syntactic`;
    `ws353_subwords`: the correlation where unseen words have the vectors of their
    n-grams, for vectors that have them;
    `ws353_zero`: the same as `ws353` with unknown pairs as 0 and unknown questions as wrong;
    `ws353_coverage`: the share of pairs or questions that are known.
    """
    vectors = self._task.vectors(variables)
    scores = evaluate_vectors(vectors, self._sets, **self._how)
    self.arrays = {
      f'{s.set.name}/{name}': array for s in scores for name, array in s.arrays.items()
    }
    if self._density:
      densities = density(vectors, words=self._density)
      self.arrays |= {f'density/{name}': array for name, array in densities.items()}
    self.samples = [self._line(vectors, word) for word in self._show]
    for score in scores:
      name = score.set.name
      values = {name: score.result.known.value}
      values |= {f'{name}_{part}': x.known.value for part, x in score.parts.items()}
      values[f'{name}_zero'] = score.result.all.value
      values[f'{name}_coverage'] = score.result.coverage
      yield from ((key, x) for key, x in values.items() if not math.isnan(x))

  def _line(self, vectors: Vectors | SparseVectors, word: str) -> str:
    neighbours = vectors.neighbours(word, self._neighbours)
    return (
      f'{word}: {", ".join(f"{other} {cosine:.2f}" for other, cosine in neighbours)}'
    )
