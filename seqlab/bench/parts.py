"""All that `seqlab bench` can measure."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from seqlab.bench.bleu import measure_bleu
from seqlab.bench.counting import CountsPairs, HasMatrix, measure_counting, measure_svd
from seqlab.bench.decoding import measure_decoding, measure_generation, measure_mbr
from seqlab.bench.feed import measure_feed
from seqlab.bench.layers import measure_layers
from seqlab.bench.measure import Row, Subject
from seqlab.bench.population import fits_population, measure_population
from seqlab.bench.recurrent import measure_recurrent
from seqlab.bench.start import measure_start
from seqlab.bench.train import measure_train
from seqlab.bench.words import (
  PredictsWords,
  measure_quality,
  measure_words,
  samples_negatives,
)
from seqlab.tasks.interface import (
  CustomUpdate,
  Estimator,
  Generates,
  HasVectors,
  HoldsOut,
  Translates,
  has,
)


class Part(NamedTuple):
  """A measurement.

  Attributes:
    measure: returns its rows.
    needs: abilities that the task must have.
    fits: returns whether the experiment allows it; asked if the task has the abilities.
    slow: whether it takes so long that it is measured only if it is asked for.
  """

  measure: Callable[[Subject], list[Row]]
  needs: tuple[type, ...] = ()
  fits: Callable[[Subject], bool] = lambda subject: True
  slow: bool = False

  def applies(self, subject: Subject) -> bool:
    """Returns whether it can be measured for an experiment."""
    return all(has(subject.task, x) for x in self.needs) and self.fits(subject)


def _trains(subject: Subject) -> bool:
  return not has(subject.task, Estimator)


def _has_model(subject: Subject) -> bool:
  return hasattr(subject.task, 'model')


# In this order, since `start` must come before this process takes an accelerator, which
# the processes that it starts would then not get.
PARTS = {
  'start': Part(measure_start, fits=_trains),
  'feed': Part(measure_feed, fits=_trains),
  'train': Part(measure_train, fits=_trains),
  'decode': Part(measure_decoding, (Translates,)),
  'mbr': Part(measure_mbr, (Translates,), slow=True),
  'generate': Part(measure_generation, (Generates,)),
  'recurrent': Part(measure_recurrent, (Translates,)),
  'layers': Part(measure_layers, fits=_has_model, slow=True),
  'bleu': Part(measure_bleu, (Translates,)),
  'population': Part(measure_population, fits=fits_population),
  'words': Part(measure_words, (CustomUpdate, PredictsWords)),
  'quality': Part(
    measure_quality,
    (CustomUpdate, PredictsWords, HoldsOut, HasVectors),
    fits=samples_negatives,
    slow=True,
  ),
  'counts': Part(measure_counting, (CountsPairs,)),
  'svd': Part(measure_svd, (HasMatrix,), slow=True),
}


def choose_parts(subject: Subject, only: str | None = None) -> Iterator[Part]:
  """Yields the parts to measure: one by name, or all that apply and are not slow.

  Raises:
    ValueError: the experiment has no such part.
  """
  if only is None:
    # One at a time, since asking whether a part applies may make batches, which is for
    # after `start`.
    yield from (x for x in PARTS.values() if not x.slow and x.applies(subject))
    return
  names = [name for name, part in PARTS.items() if part.applies(subject)]
  if only not in names:
    raise ValueError(
      f'{subject.experiment} has no part {only!r} (it has: {", ".join(names)})'
    )
  yield PARTS[only]
