"""Measures of a run's outputs: those of its experiment, or any others by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqlab.evaluators import outputs, translation
from seqlab.evaluators.outputs import measures_for
from seqlab.metrics.characters import pieces_of
from seqlab.metrics.corpus import (
  Lines,
  Pieces,
  aligned,
  corpus_statistics,
  measure_lines,
)
from seqlab.metrics.measures import SHARES, Measure, TextMeasure
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.tasks.interface import Translates
from seqlab.train.checks import evaluator_of

Measures = Mapping[str, Measure | TextMeasure]


def measures_of(
  config: Mapping[str, Any], task: Translates, names: Sequence[str] | None = None
) -> Measures:
  """Returns the measures that the evaluators of an experiment name, by their names.

  Args:
    config: the configuration of the run.
    task: its task.
    names: names of the measures that are asked for; all if None.

  Raises:
    ValueError: two evaluators give a measure different options.
  """
  measures: dict[str, Measure | TextMeasure] = {}
  origins: dict[str, str] = {}  # name of a measure -> that of its evaluator
  for evaluator, specification in config.get('evals', {}).items():
    kind, options = evaluator_of(f'evals.{evaluator}', specification)
    if kind not in _DEFAULTS:
      continue
    given = {k: x for k, x in options.items() if k in _OPTIONS}
    for measure in measures_for(
      task, options.get('measures', _DEFAULTS[kind]), **given
    ):
      name = measure.name
      if names is not None and name not in names:
        continue
      if measures.setdefault(name, measure) != measure:
        raise ValueError(
          f'evals.{origins[name]} and evals.{evaluator} measure {name!r} with different '
          f'options: set the same {", ".join(_OPTIONS)}, or run them with --evals'
        )
      origins.setdefault(name, evaluator)
  return measures


# Evaluators that decode -> measures that they have by default.
_DEFAULTS = {outputs.Evaluator: ('exact',), translation.Evaluator: ('bleu',)}
_OPTIONS = ('tokenizer', 'separator', 'lowercase')


def chosen_measures(
  config: Mapping[str, Any], task: Translates, names: Sequence[str]
) -> Measures:
  """Returns measures by their names, as the experiment has them if it does.

  Args:
    config: the configuration of the run.
    task: its task.
    names: names of measures; see `metrics.measures.make_measures`.

  Raises:
    ValueError: a name is unknown or occurs twice, or two evaluators of the experiment
      give a measure different options.
  """
  if not names:
    return {}
  given = {measure.name: measure for measure in measures_for(task, names)}
  return given | dict(measures_of(config, task, names))


class Counted:
  """Outputs of a split, which are counted on the device.

  Attributes:
    references: as many lists of references as a line has at most; see `corpus.aligned`.
  """

  def __init__(
    self,
    task: Translates,
    ids: Sequence[np.ndarray],
    hypotheses: Sequence[str],
    references: Sequence[tuple[str, ...]],
  ):
    """Counts nothing yet.

    Args:
      task: gives the vocabulary of the outputs.
      ids: ids of R outputs.
      hypotheses: the text of the outputs.
      references: one or more references for each of them.
    """
    self.references = aligned(references)
    self._texts = hypotheses, references
    self._outputs = Pieces(ids, pieces_of(task.vocabularies.target))
    sides = ([line.encode('utf-8') for line in side] for side in self.references)
    self._sides = [Lines(side) for side in sides]

  def by_tokenizers(
    self, tokenizers: Sequence[str], *, lowercase: bool = False
  ) -> dict[str, np.ndarray]:
    """Returns tokeniser -> BLEU's ten integers per line, where the device has it."""
    options = dict(lowercase=lowercase)
    return {
      name: corpus_statistics(self._outputs, self._sides, tokenizer=name, **options)
      for name in dict.fromkeys(tokenizers)
      if name in TOKENIZERS
    }

  def by_measures(
    self, measures: Measures, categories: Sequence[str] | None
  ) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Counts by measures except 'bleu', which sacreBLEU is to confirm.

    Args:
      measures: name -> measure.
      categories: category of each line, or None.

    Returns:
      A dict for each measure and each category of it: name, score, signature and text.
      And measure -> integers of each line, [R, columns].
    """
    scores, statistics = [], {}
    for name, measure in measures.items():
      if name == 'bleu':
        continue
      rows = statistics[name] = self._rows(measure)
      description = measure.describe(len(self.references))
      scores.append(_score(measure, name, rows, description))
      for category in sorted(set(categories or ())):
        part = rows[np.array(categories) == category]
        scores.append(_score(measure, f'{name}/{category}', part))
    return scores, statistics

  def _rows(self, measure: Measure | TextMeasure) -> np.ndarray:
    if hasattr(measure, 'text_statistics'):
      return measure.text_statistics(*self._texts)
    return measure_lines(self._outputs, self._sides, measure)


def _score(
  measure: Measure | TextMeasure, name: str, rows: np.ndarray, description: str = ''
) -> dict[str, Any]:
  score = float(measure.score(rows.sum(axis=0)))
  text = f'of {len(rows):,} lines'
  return {'name': name, 'score': score, 'signature': description, 'text': text}


def shown_score(name: str, score: float) -> str:
  """Returns a score as text: a share with four digits, a percentage with two."""
  return f'{score:{".4f" if name.partition("/")[0] in SHARES else ".2f"}}'
