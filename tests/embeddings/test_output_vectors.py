import numpy as np
import pytest

from seqlab.embeddings.output_vectors import OUTPUT_VECTORS, choose_vectors

WORDS, CONTEXTS = np.random.default_rng(0).normal(size=(2, 5, 3))


def mean(words, contexts):
  """A choice that a user defines."""
  return (words + contexts) / 2


@pytest.mark.parametrize('choice', [*OUTPUT_VECTORS, f'{__name__}:mean'])
def test_there_is_a_vector_per_word(choice):
  assert choose_vectors(choice, WORDS, CONTEXTS).shape == (5, 3)


def test_vectors_are_those_of_the_name():
  np.testing.assert_array_equal(choose_vectors('words', WORDS, CONTEXTS), WORDS)
  np.testing.assert_array_equal(choose_vectors('contexts', WORDS, CONTEXTS), CONTEXTS)
  np.testing.assert_array_equal(
    choose_vectors('both', WORDS, CONTEXTS), WORDS + CONTEXTS
  )
  chosen = choose_vectors(f'{__name__}:mean', WORDS, CONTEXTS)
  np.testing.assert_array_equal(chosen, (WORDS + CONTEXTS) / 2)


def test_an_unknown_name_is_refused_with_a_suggestion():
  with pytest.raises(ValueError, match=r"'word'; did you mean 'words'"):
    choose_vectors('word', WORDS, CONTEXTS)
