"""Measures of decoded outputs: exact match, CER, PER, WER, BLEU, chrF, TER.

    c.evals.valid = dict(kind='outputs', split='dev', measures=('exact', 'per'))

All measures of an evaluator are of the same outputs, so there is one search.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
from jax.sharding import NamedSharding
import numpy as np

from seqlab.decoding.config import DECODING_OPTIONS, make_decoding
from seqlab.domains import Count, OneOf, Range
from seqlab.evaluators.decoded import Decoded
from seqlab.metrics.measures import MEASURES, Measure, TextMeasure, make_measures
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.tasks.interface import Translates
from seqlab.tasks.references import categories_of
from seqlab.types import Variables


class Evaluator:
  """Any measures of detokenised outputs; of each category, where the corpus has them.

  With several references per example the best one counts; see `metrics.measures`.

  Attributes:
    about: definitions and signatures of the measures.
    dtype: dtype of the products of its search.
  """

  needs = (Translates,)
  compiles_ahead = True
  signatures: ClassVar = (DECODING_OPTIONS,)  # the options in `**decoding`

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    split: str,
    measures: Sequence[Annotated[str, OneOf(MEASURES)]] = ('exact',),
    tokenizer: Annotated[str, OneOf(TOKENIZERS)] | None = None,
    separator: str | None = None,
    lowercase: bool = False,
    tokens: Count = 2048,
    shapes: Count = 3,
    show: Annotated[int, Range(0)] = 8,
    name: str = 'outputs',
    fingerprint: str | None = None,
    **decoding,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data, model and vocabularies.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      measures: names of measures; see `metrics.measures.make_measures`.
      tokenizer: tokeniser of 'bleu'; by default the corpus's convention.
      separator: character between the symbols of 'per', '' if every character is one;
        by default that of the target's vocabulary, or white space.
      lowercase: score without case.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
      show: number of sentences to keep as samples.
      name: name of the evaluator in the experiment, for messages.
      fingerprint: see `Resident`.
      **decoding: how outputs are found, see `decoding.config`: decoding, beam, ...

    Raises:
      ValueError: a measure is unknown, or an option does not fit.
    """
    options = dict(tokenizer=tokenizer, separator=separator, lowercase=lowercase)
    self._measures = measures_for(task, measures, **options)
    categories = categories_of(task.corpus, split)
    self._categories, part = (), None
    if categories is not None:
      self._categories, part = np.unique(categories, return_inverse=True)
      part = part.astype(np.int32), len(self._categories)
    self._decoded = Decoded(
      *(
        task,
        sharding,
        split,
        self._measures,
        make_decoding(decoding, f'evals.{name}'),
      ),
      tokens=tokens,
      shapes=shapes,
      show=show,
      parts=part,
      fingerprint=fingerprint,
    )
    endings = ['', *(f'/{category}' for category in self._categories)]
    self.metrics = tuple(f'{m.name}{end}' for m in self._measures for end in endings)
    self.dtype = self._decoded.dtype
    self.about = '; '.join(
      text for m in self._measures if (text := m.describe(self._decoded.references))
    )
    self._scores = [jax.jit(measure.score) for measure in self._measures]

  @staticmethod
  def check_options(options: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless the measures exist and the options of decoding fit."""
    make_measures(options.get('measures', ('exact',)))
    make_decoding({k: x for k, x in options.items() if k in DECODING_OPTIONS}, where)

  @property
  def samples(self) -> list[str]:
    """Source, references and output of the first sentences, from the last run."""
    return self._decoded.samples

  @property
  def arrays(self) -> dict[str, np.ndarray]:
    """Measure -> integers of each line, [R, columns], from the last run."""
    return self._decoded.statistics

  def compile(self, variables: Variables) -> Mapping[tuple, Callable]:
    """Compiles every shape; see `Resident.compile`."""
    for measure, score in zip(self._measures, self._scores, strict=True):
      score(np.ones(measure.columns, np.int32))
    return self._decoded.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields scores of measures, `exact`, and of categories, `exact/<name>`."""
    sums = self._decoded.run(variables)
    for (name, by_part), score in zip(sums.items(), self._scores, strict=True):
      yield name, float(score(by_part.sum(axis=0).astype(np.int32)))
      for category, part in zip(self._categories, by_part, strict=False):
        yield f'{name}/{category}', float(score(part.astype(np.int32)))


def measures_for(
  task: Translates,
  names: Sequence[str],
  *,
  tokenizer: str | None = None,
  separator: str | None = None,
  lowercase: bool = False,
) -> list[Measure | TextMeasure]:
  """Returns measures with the defaults of a task; see `Evaluator` for the arguments."""
  if separator is None:  # '' between characters
    separator = getattr(task.vocabularies.target, 'separator', None)
  return make_measures(
    names,
    tokenizer=tokenizer or task.corpus.convention,
    separator=separator,
    lowercase=lowercase,
  )
