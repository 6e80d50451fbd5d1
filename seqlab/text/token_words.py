"""Which word each token of a text belongs to."""

from collections.abc import Sequence
import itertools

import numpy as np

from seqlab.text.lines import words
from seqlab.text.vocabulary import Vocabulary
from seqlab.types import EOS, PAD


def words_of_tokens(
  vocabulary: Vocabulary, ids: Sequence[int], line: str | None = None
) -> list[int]:
  """Returns the number of each token's word, from 0; -1 for a token of no word.

  Words are those of `text.lines`. Tokens of no word are special ones, and those that
  write white space only. In a source of several parts every token is a word.

  Args:
    vocabulary: gave the ids.
    ids: tokens of one line, with or without EOS.
    line: the line, if it is known. Words with unknown characters are then counted as
      the line has them.
  """
  ids = np.asarray(ids, np.int64)
  own = ids[(ids != EOS) & (ids != PAD)]
  if hasattr(vocabulary, 'parts'):
    numbers = [*range(len(own))]
  else:
    numbers = None if line is None else _by_encoding(vocabulary, own, line)
    if numbers is None:
      surfaces = vocabulary.surfaces()
      numbers = _by_surfaces([surfaces[i] for i in own])
  remaining = iter(numbers)
  return [-1 if i in (EOS, PAD) else next(remaining) for i in ids.tolist()]


def _by_encoding(
  vocabulary: Vocabulary, ids: np.ndarray, line: str
) -> list[int] | None:
  """Encodes each word alone; None where the line has other tokens, such as spaces."""
  flat, offsets = vocabulary.encode(words(line))
  if not np.array_equal(flat, ids):
    return None
  lengths = [b - a for a, b in itertools.pairwise(offsets)]
  return np.repeat(np.arange(len(lengths)), lengths).tolist()


def _by_surfaces(surfaces: Sequence[bytes]) -> list[int]:
  """Takes the word in which the first visible byte of each token lies."""
  number_of_byte = _words_of_bytes(b''.join(surfaces))
  numbers, end = [], 0
  for surface in surfaces:
    start, end = end, end + len(surface)
    visible = (n for n in number_of_byte[start:end] if n >= 0)
    numbers.append(next(visible, -1))
  return numbers


def _words_of_bytes(text: bytes) -> list[int]:
  """Returns the number of each byte's word, -1 for white space."""
  numbers, word, inside = [], -1, False
  # Bytes that are not UTF-8 become one character each, so that no byte is lost.
  for character in text.decode('utf-8', 'surrogateescape'):
    visible = not character.isspace()
    word += visible and not inside
    inside = visible
    size = len(character.encode('utf-8', 'surrogateescape'))
    numbers += [word if visible else -1] * size
  return numbers
