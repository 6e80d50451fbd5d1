"""Words of tokens: known answers for several kinds of vocabularies."""

import numpy as np
import pytest

from seqlab.text.symbols import Bytes, Characters, Symbols
from seqlab.text.token_words import words_of_tokens
from seqlab.text.whole_words import Words
from seqlab.types import EOS, UNK


def _ids(vocabulary, line):
  return np.append(vocabulary.encode([line])[0], EOS)


@pytest.mark.parametrize(
  ('vocabulary', 'line', 'expected'),
  [
    (Words.train(['a b'], size=10), 'a b a', [0, 1, 2, -1]),
    (Words.train(['a b'], size=10), 'a unknown b', [0, 1, 2, -1]),
    (Characters.train(['ab c']), 'ab  c', [0, 0, -1, -1, 1, -1]),
    (Bytes(), 'é ж', [0, 0, -1, 1, 1, -1]),
    (Symbols.train(['K AE T']), 'K AE', [0, 1, -1]),
    (Words.train(['a'], size=10), '', [-1]),
  ],
)
def test_words_of_a_line(vocabulary, line, expected):
  ids = _ids(vocabulary, line)
  assert words_of_tokens(vocabulary, ids, line) == expected
  assert words_of_tokens(vocabulary, ids) == expected


class _Subwords:
  """Surfaces as SentencePiece writes them; the line cannot be encoded again."""

  def surfaces(self):
    return [b'', b' \xe2\x81\x87 ', b'', b'', b' new', b'er', b' ', b'.', b' a b']

  def encode(self, lines):
    del lines
    return np.array([99]), np.array([0, 1])


def test_a_token_belongs_to_the_word_of_its_first_visible_character():
  new, er, space, stop, several = range(4, 9)
  ids = [new, er, stop, new, space, stop, several, er, EOS]
  assert words_of_tokens(_Subwords(), ids) == [0, 0, 0, 1, -1, 2, 3, 4, -1]
  assert words_of_tokens(_Subwords(), ids, 'a line') == [0, 0, 0, 1, -1, 2, 3, 4, -1]


def test_the_line_tells_whether_an_unknown_character_ends_a_word():
  class Known(_Subwords):
    def encode(self, lines):
      assert lines == ['new☃er', 'new']
      return np.array([4, UNK, 5, 4]), np.array([0, 3, 4])

  ids = [4, UNK, 5, 4, EOS]
  assert words_of_tokens(Known(), ids) == [0, 1, 2, 3, -1]
  assert words_of_tokens(Known(), ids, 'new☃er new') == [0, 0, 0, 1, -1]
