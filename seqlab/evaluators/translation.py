"""BLEU of translations, measured on the devices that hold the model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
from jax.sharding import NamedSharding
import numpy as np

from seqlab.decoding.config import DECODING_OPTIONS, make_decoding
from seqlab.domains import Count, OneOf, Range
from seqlab.evaluators.decoded import Decoded
from seqlab.metrics.measures import BLEU, check_tokenizer
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.tasks.interface import Translates
from seqlab.text.lines import words as words_of
from seqlab.types import Variables


class Evaluator:
  """Corpus BLEU of detokenised outputs, sacreBLEU's to the last integer.

  Attributes:
    about: sacreBLEU's signature of the BLEU that is reported.
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
    tokens: Count = 2048,
    shapes: Count = 3,
    show: Annotated[int, Range(0)] = 8,
    tokenizer: Annotated[str, OneOf(TOKENIZERS)] | None = None,
    lowercase: bool = False,
    lengths: Sequence[Count] = (),
    name: str = 'translation',
    fingerprint: str | None = None,
    **decoding,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data, model and vocabularies.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
      show: number of sentences to keep as samples.
      tokenizer: '13a', 'none' or 'char'; by default the corpus's convention.
      lowercase: score without case.
      lengths: bounds of source lengths, in words; BLEU is reported for each part of
        the split too (Bahdanau et al. 2015, figure 2). (10, 20) makes three parts.
      name: name of the evaluator in the experiment, for messages.
      fingerprint: see `Resident`.
      **decoding: how outputs are found, see `decoding.config`: decoding, beam, ...

    Raises:
      ValueError: the tokeniser is not one of those on the device.
    """
    tokenizer = tokenizer or task.corpus.convention
    check_tokenizer(tokenizer)
    measure = BLEU(tokenizer, lowercase)
    source = [len(words_of(line)) for line in task.corpus.read(split)[0]]
    self._part = np.searchsorted(lengths, source).astype(np.int32)  # [R]
    self._parts = _part_names(lengths)
    # One part would only repeat the score of the whole split.
    by_length = self._parts if len(self._parts) > 1 else ()
    self.metrics = ('bleu', *(f'bleu/{name}' for name in by_length), 'length_ratio')
    self._decoded = Decoded(
      *(task, sharding, split, [measure], make_decoding(decoding, f'evals.{name}')),
      tokens=tokens,
      shapes=shapes,
      show=show,
      parts=(self._part, len(self._parts)),
      fingerprint=fingerprint,
    )
    self.dtype = self._decoded.dtype
    self.about = measure.describe(self._decoded.references)
    self._score = jax.jit(measure.score)

  @staticmethod
  def check_options(options: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless the options of decoding fit together."""
    make_decoding({k: x for k, x in options.items() if k in DECODING_OPTIONS}, where)

  @property
  def samples(self) -> list[str]:
    """Source, references and output of the first sentences, from the last run."""
    return self._decoded.samples

  @property
  def arrays(self) -> dict[str, np.ndarray]:
    """BLEU's integers of each line, [R, 10], from the last run, and its part, [R]."""
    return {**self._decoded.statistics, 'part': self._part}

  def compile(self, variables: Variables) -> Mapping[tuple, Callable]:
    """Compiles every shape; see `Resident.compile`."""
    jax.block_until_ready(self._score(np.ones(10, np.int32)))
    return self._decoded.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields bleu, bleu/1-10 and so on, and the length of outputs over references."""
    by_part = self._decoded.run(variables)['bleu']
    statistics = by_part.sum(axis=0)  # [10]
    yield 'bleu', float(self._score(statistics.astype(np.int32)))
    for name, part in zip(self._parts, by_part, strict=True):
      if len(self._parts) > 1 and part[9]:
        yield f'bleu/{name}', float(self._score(part.astype(np.int32)))
    yield 'length_ratio', statistics[8] / max(statistics[9], 1)


def _part_names(bounds: Sequence[int]) -> list[str]:
  """Names the parts of a split by length: (10, 20) -> ['1-10', '11-20', '21-']."""
  if list(bounds) != sorted(set(bounds)) or any(bound < 1 for bound in bounds):
    raise ValueError(f'evals: lengths={tuple(bounds)} should rise, from 1 or more')
  starts = [1, *(bound + 1 for bound in bounds)]
  return [f'{a}-{b}' for a, b in zip(starts, [*bounds, ''], strict=True)]
