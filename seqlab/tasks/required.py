"""What the translation of a line has to contain: first words, and phrases."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seqlab.decoding.config import DecodingConfig, Ruled
from seqlab.tasks.sentences import encode_lines, padded
from seqlab.text.vocabulary import Vocabulary
from seqlab.types import PAD, UNK


class Required(NamedTuple):
  """What the translation of a line has to contain.

  Attributes:
    prefix: text with which it begins, of whole words; '' for none.
    phrases: texts that it contains, of whole words, in any order.
  """

  prefix: str = ''
  phrases: tuple[str, ...] = ()


class RequiredIds(NamedTuple):
  """The same as tokens of the target vocabulary."""

  prefix: np.ndarray
  phrases: tuple[np.ndarray, ...]

  def problem(self, limit: int) -> str:
    """Returns why no translation of at most `limit` tokens has them; '' if one may."""
    if any(UNK in ids for ids in (self.prefix, *self.phrases)):
      return 'requires a token that is not in the target vocabulary'
    # The longest, and not the sum, since phrases may overlap.
    count = max(map(len, (self.prefix, *self.phrases)))
    if count >= limit:
      return (
        f'requires {count} tokens in a row, and its translation may have {limit}, the '
        'end included: raise --max-length'
      )
    return ''


def encode_required(
  vocabulary: Vocabulary,
  decoding: DecodingConfig,
  required: Mapping[int, Required],
  lengths: Mapping[int, int],
) -> tuple[dict[int, RequiredIds], dict[int, str]]:
  """Encodes what translations have to contain.

  Args:
    vocabulary: vocabulary of the translations.
    decoding: how outputs are found.
    required: number of a line -> what its translation has to contain.
    lengths: number of a line -> number of tokens of its source. Other lines have no
      translation.

  Returns:
    For each line its tokens; for lines of which no translation can have them, why.

  Raises:
    ValueError: the kind of decoding cannot do it.
  """
  given = {
    i: x for i, x in required.items() if i in lengths and (x.prefix or x.phrases)
  }
  _check_kind(decoding, given)
  flat = [text for x in given.values() for text in (x.prefix, *x.phrases)]
  encoded = iter([ids[:-1] for ids in encode_lines(vocabulary, flat)])
  tokens = {
    i: RequiredIds(next(encoded), tuple(next(encoded) for _ in x.phrases))
    for i, x in given.items()
  }
  problems = {i: x.problem(decoding.limit(lengths[i])) for i, x in tokens.items()}
  refused = {i: problem for i, problem in problems.items() if problem}
  return {i: x for i, x in tokens.items() if i not in refused}, refused


def _check_kind(decoding: DecodingConfig, required: Mapping[int, Required]) -> None:
  kind = type(decoding).__name__
  if required and not isinstance(decoding, Ruled):
    raise ValueError(
      f'{kind} cannot begin outputs with given words: choose another --decoding, such as '
      'beam'
    )
  if any(x.phrases for x in required.values()) and not decoding.takes_phrases:
    raise ValueError(
      f'{kind} cannot make outputs contain phrases: search with --beam 2 or more, in one '
      'group'
    )


def required_arrays(
  required: Mapping[int, RequiredIds],
  rows: Sequence[int],
  num_rows: int,
  limit: int,
) -> dict[str, np.ndarray]:
  """Returns the arguments of `translator.decode` for a batch.

  Args:
    required: number of a line -> its tokens.
    rows: numbers of the lines in the first rows of the batch.
    num_rows: number of rows of the batch.
    limit: the longest output.
  """
  chosen = {k: required[i] for k, i in enumerate(rows) if i in required}
  arrays = {}
  if any(len(x.prefix) for x in chosen.values()):
    given = {k: chosen[k].prefix if k in chosen else () for k in range(len(rows))}
    arrays['prefix'] = padded(given, range(len(rows)), (num_rows, limit))
  phrases = [ids for x in chosen.values() for ids in x.phrases]
  if phrases:
    # Powers of two, since each shape is compiled.
    C = _power_of_two(max(len(x.phrases) for x in chosen.values()))
    P = _power_of_two(max(map(len, phrases)))
    arrays['phrases'] = np.full((num_rows, C, P), PAD, np.int32)
    for k, x in chosen.items():
      for c, ids in enumerate(x.phrases):
        arrays['phrases'][k, c, : len(ids)] = ids
  return arrays


def _power_of_two(n: int) -> int:
  return 1 << max(0, n - 1).bit_length()
