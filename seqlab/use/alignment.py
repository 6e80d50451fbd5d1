"""Alignments of words from cross-attention, in Pharaoh form: 0-0 1-2.

Each word of the target is aligned with the word of the source to which the model attends
most when it predicts it. Attention is the mean over heads of one decoder layer, by
default all heads of the last layer, as `--print-alignment` of fairseq and JoeyNMT have it.

Words of several tokens are made of their tokens as by Clark et al. 2019, section 4.1
(https://arxiv.org/abs/1906.04341): attention to a word is the sum over its tokens, and
attention of a word is the mean over its tokens. The end of a sentence is not a word.
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal

import numpy as np

from seqlab.domains import Count, check_fields
from seqlab.tasks.interface import Attended, Attends, AttentionMap, Side, needs
from seqlab.types import EOS, Variables

_TOGETHER = 64  # pairs, whose weights are in memory together

Pairs = list[tuple[int, int]]  # number of a source word and of a target word, from 0


@dataclasses.dataclass(frozen=True)
class Selection:
  """One attention of a model, and the units that it aligns.

  Attributes:
    layer: number of the layer, from 1; None for the last one.
    heads: numbers of the heads, from 1, of which the mean is taken; all if empty.
    unit: what is aligned, 'word' or 'token'.

  Raises:
    ValueError: an option is outside its domain.
  """

  layer: Count | None = None
  heads: Sequence[Count] = ()
  unit: Literal['word', 'token'] = 'word'

  def __post_init__(self):
    check_fields(self, '--')

  @property
  def is_default(self) -> bool:
    """Whether neither a layer nor heads were chosen."""
    return self.layer is None and not self.heads

  def weights(self, attention: AttentionMap) -> np.ndarray:
    """Returns the chosen weights of one kind of attention, [L, S].

    Raises:
      ValueError: the model has no such layer or head.
    """
    layers, heads = attention.weights.shape[:2]
    if self.layer is not None and self.layer > layers:
      raise ValueError(f'--layer {self.layer}: the model has {layers:,}')
    if missing := [n for n in self.heads if n > heads]:
      raise ValueError(f'--heads {missing[0]}: the model has {heads:,}')
    of_layer = attention.weights[(self.layer or layers) - 1]  # [H, L, S]
    chosen = [n - 1 for n in self.heads] or [*range(heads)]
    return of_layer[chosen].mean(axis=0)

  def describe(self, attention: AttentionMap) -> str:
    """Returns which layer and heads the weights are of: 'layer 2, mean of 8 heads'."""
    layers, heads = attention.weights.shape[:2]
    layer = f'layer {self.layer or layers}'
    if len(self.heads) == 1 or heads == 1:
      return f'{layer}, head {[*self.heads, 1][0]}'
    if self.heads:
      return f'{layer}, mean of heads {", ".join(map(str, self.heads))}'
    return f'{layer}, mean of {heads} heads'


def alignment(attended: Attended, selection: Selection) -> Pairs:
  """Returns the source word of each target word, sorted; see this module.

  Raises:
    ValueError: the model has no cross-attention, or see `Selection.weights`.
  """
  if 'cross' not in attended.maps:
    raise ValueError(
      'an alignment needs cross-attention, and the model has only: '
      f'{", ".join(attended.maps)}'
    )
  cross = attended.maps['cross']
  sides = attended.sides[cross.rows], attended.sides[cross.columns]
  rows, columns = (_numbers(side, selection.unit) for side in sides)
  weights = _of_units(selection.weights(cross), rows, columns)
  if not weights.size:
    return []
  best = weights.argmax(axis=1)
  return sorted(
    (int(source), target)
    for target, source in enumerate(best)
    if (rows == target).any()
  )


class Aligner:
  """Aligns the translations of one run with their sources.

  Attributes:
    refused: for each pair without an alignment so far, why it has none.
  """

  def __init__(self, task: Attends, variables: Variables, selection: Selection):
    """Checks that the model has the attention that is asked for.

    Raises:
      ValueError: it has not; or the task cannot show its attention.
    """
    self._task, self._variables = needs(task, Attends), variables
    self._selection = selection
    self.refused: list[str] = []
    # Layers and heads are known once an example is read, which compiles a program.
    end = {'source': [EOS], 'target': [EOS]}
    self._align([] if selection.is_default else [end])

  def align(self, pairs: Sequence[tuple[str, Sequence[int]]]) -> list[str]:
    """Returns alignments in Pharaoh form of sources and the ids of their targets.

    A pair without a target has an empty one.
    """
    aligned = [''] * len(pairs)
    numbers = [i for i, (_, target) in enumerate(pairs) if len(target)]
    for start in range(0, len(numbers), _TOGETHER):
      group = numbers[start : start + _TOGETHER]
      examples = [dict(source=pairs[i][0], target=pairs[i][1]) for i in group]
      for i, text in zip(group, self._align_or_refuse(examples), strict=True):
        aligned[i] = text
    return aligned

  def _align_or_refuse(self, examples: list[dict]) -> list[str]:
    """Aligns examples together, or one by one where one of them is too long."""
    try:
      return self._align(examples)
    except ValueError as error:
      if len(examples) == 1:
        self.refused.append(str(error))
        return ['']
    return [text for x in examples for text in self._align_or_refuse([x])]

  def _align(self, examples: list[dict]) -> list[str]:
    return [
      pharaoh(alignment(attended, self._selection))
      for attended in self._task.attend(self._variables, examples)
    ]


def pharaoh(pairs: Pairs) -> str:
  """Returns '0-0 1-2': for each pair the number of the source and of the target."""
  return ' '.join(f'{source}-{target}' for source, target in pairs)


def _numbers(side: Side, unit: str) -> np.ndarray:
  """Returns the number of each token's unit, -1 for a token that is not aligned."""
  words = np.array(side.words, int)
  if unit == 'word':
    return words
  has_end = len(words) > 0 and words[-1] < 0
  numbers = np.arange(len(words))
  return np.where(has_end & (numbers == len(words) - 1), -1, numbers)


def _of_units(weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  """Returns the attention of units to units, given that of tokens [L, S]."""
  of_rows, of_columns = (
    numbers[:, None] == np.arange(numbers.max(initial=-1) + 1)
    for numbers in (rows, columns)
  )
  counts = np.maximum(of_rows.sum(axis=0), 1)[:, None]
  return of_rows.T / counts @ weights @ of_columns
