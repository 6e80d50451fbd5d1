import jax
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from seqlab.metrics.edit import edit_distance, nearest_edits
from seqlab.metrics.tokenizers import Words


def _random(rng, rows, width, dtype, kinds=4):
  tokens = rng.integers(0, kinds, (rows, width, 1)).astype(dtype)
  return Words(tokens, rng.integers(0, width + 1, rows))


def _lists(words):
  return [row[:n, 0].tolist() for row, n in zip(*words, strict=True)]


@pytest.mark.parametrize(
  ('rows', 'widths', 'dtype'),
  [
    (2_000, (9, 7), np.uint8),
    (2_000, (12, 30), np.int32),
    (9, (1, 1), np.int32),
    pytest.param(100_000, (40, 50), np.int32, marks=pytest.mark.slow),
  ],
)
def test_distances_are_rapidfuzz(rows, widths, dtype):
  rng = np.random.default_rng(0)
  one, other = (_random(rng, rows, width, dtype) for width in widths)
  expected = [
    Levenshtein.distance(*pair) for pair in zip(_lists(one), _lists(other), strict=True)
  ]
  np.testing.assert_array_equal(jax.jit(edit_distance)(one, other), expected)


def test_sequences_too_long_for_16_bits_have_their_distance():
  n = 17_000
  one = Words(np.zeros((1, n, 1), np.uint8), np.array([n]))
  other = Words(np.ones((1, 2, 1), np.uint8), np.array([2]))
  assert jax.jit(edit_distance)(one, other).tolist() == [n]


def test_tokens_are_equal_if_both_of_their_hashes_are():
  one = Words(np.array([[[1, 2], [3, 4]]]), np.array([2]))
  other = Words(np.array([[[1, 2], [3, 5]]]), np.array([2]))
  assert jax.jit(edit_distance)(one, other).tolist() == [1]


@pytest.mark.parametrize('order', [[0, 1, 2], [2, 1, 0]])
def test_the_shortest_of_the_nearest_references_counts(order):
  """'ab' is one edit from 'abc' and from 'a', and two from 'abcd'."""
  texts = [[1, 2, 3], [1], [1, 2, 3, 4]]
  tokens = np.zeros((1, 3, 4, 1), np.int32)
  for row, n in zip(tokens[0], order, strict=True):
    row[: len(texts[n]), 0] = texts[n]
  references = Words(tokens, np.array([[len(texts[n]) for n in order]]))
  output = Words(np.array([[[1], [2]]]), np.array([2]))
  edits, length = nearest_edits(output, references)
  assert (int(edits[0]), int(length[0])) == (1, 1)
