import sys

import jax
import numpy as np
import pytest

from seqlab.metrics.characters import (
  EMPTY,
  as_text,
  characters,
  detokenize,
  is_space,
  piece_bytes,
  pieces_of,
)
from seqlab.metrics.corpus import Lines, Pieces
from seqlab.text.vocabulary import train_vocabulary
from seqlab.types import BOS, EOS, PAD, UNK

decoded = jax.jit(characters, static_argnums=1)


def read(rows):
  return [''.join(chr(c) for c in row if c != EMPTY) for row in np.asarray(rows)]


def test_every_character_is_decoded():
  codes = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
  lines = [
    ''.join(map(chr, codes[i : i + 1024])).encode() for i in range(0, len(codes), 1024)
  ]
  actual = np.asarray(decoded(as_text(lines, 4096)))
  np.testing.assert_array_equal(actual[actual != EMPTY], codes)


def test_invalid_bytes_become_replacement_characters_as_in_python():
  rng = np.random.default_rng(0)
  # Bytes at the limits of the ranges that are valid after each other.
  edges = [*b'a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef']
  edges += [*b'\xf0\xf1\xf3\xf4\xf5\xff']
  lines = [
    bytes(rng.choice(edges, rng.integers(0, 12)).tolist()) for _ in range(20_000)
  ]
  actual = read(decoded(as_text(lines, 12)))
  assert actual == [line.decode('utf-8', 'replace') for line in lines]


def test_lower_case_of_every_character():
  codes = [c for c in range(0x20000) if not 0xD800 <= c < 0xE000]
  text = ''.join(map(chr, codes))
  lines = [text[i : i + 1024] for i in range(0, len(text), 1024)]
  actual = read(decoded(as_text([line.encode() for line in lines], 4096), True))
  assert actual == [line.lower() for line in lines]


def test_a_final_sigma_depends_on_its_neighbours():
  rng = np.random.default_rng(1)
  parts = ['Σ', 'α', 'Α', '.', ' ', "'", '\u0301', '\u00ad', '1', 'İ', 'ʰ', '\u0345']
  lines = [''.join(rng.choice(parts, 8)) for _ in range(5_000)]
  actual = read(decoded(as_text([line.encode() for line in lines], 16), True))
  assert actual == [line.lower() for line in lines]


def test_white_space_is_that_of_python():
  codes = np.arange(sys.maxunicode + 1)
  expected = np.array([chr(c).isspace() for c in codes])
  np.testing.assert_array_equal(np.asarray(is_space(codes)), expected)


@pytest.fixture(scope='module')
def vocabulary():
  lines = ['the cat sat on the mat', 'Über den Wölfen, 3.5 %'] * 20
  return train_vocabulary(lines, kind='bpe', size=330, byte_fallback=True)


def test_ids_become_the_bytes_of_their_text(vocabulary):
  table = piece_bytes(vocabulary.surfaces())
  rng = np.random.default_rng(2)
  ids = rng.integers(0, vocabulary.size, (2_000, 12)).astype(np.int32)
  ids[ids == PAD] = EOS  # outputs have PAD only after their end
  size = 12 * table.bytes.shape[1]
  text = jax.jit(detokenize, static_argnums=2)(ids, table, size)
  lines = [
    bytes(row[:n]).decode('utf-8', 'replace').lstrip(' ')
    for row, n in zip(np.asarray(text.bytes), np.asarray(text.length), strict=True)
  ]
  assert lines == vocabulary.decode(ids)


def test_the_separator_is_not_written_before_the_first_symbol():
  lines = ['V;PST;3', ';V', '', 'V;;3']
  vocabulary = train_vocabulary(lines, kind='symbols', separator=';')
  ids = np.full((len(lines), 6), EOS, np.int32)
  for row, line in zip(ids, lines, strict=True):
    encoded, _ = vocabulary.encode([line])
    row[: len(encoded)] = encoded
  text = detokenize(ids, pieces_of(vocabulary), 16)
  written = zip(np.asarray(text.bytes), np.asarray(text.length), strict=True)
  assert [bytes(row[:n]).decode() for row, n in written] == lines
  sides = Pieces(ids, pieces_of(vocabulary)), Lines([x.encode() for x in lines])
  np.testing.assert_array_equal(sides[0].length, sides[1].length)


def test_truncated_text_has_its_complete_length(vocabulary):
  ids = vocabulary.encode(['the cat sat'])[0][None]
  text = detokenize(ids, piece_bytes(vocabulary.surfaces()), 4)
  assert bytes(np.asarray(text.bytes)[0]) == b' the'
  assert int(text.length[0]) == len(' the cat sat')


def test_special_pieces_are_empty_and_unk_has_its_sign(vocabulary):
  surfaces = vocabulary.surfaces()
  assert [surfaces[i] for i in (PAD, BOS, EOS)] == [b''] * 3
  assert surfaces[UNK].decode() == ' ⁇ '
