"""Which vector a word gets, where it has one as word and one as context."""

from collections.abc import Callable
from typing import Annotated

from seqlab.pieces import Piece, Specification, make
from seqlab.types import Array


def word_vectors(words: Array) -> Array:
  """Returns the vectors that words have as centres of windows, [V, D]."""
  return words


def context_vectors(contexts: Array) -> Array:
  """Returns the vectors that words have as contexts, [V, D]."""
  return contexts


def sum_of_both(words: Array, contexts: Array) -> Array:
  """Returns the sum of a word's two vectors, [V, D] (Levy et al. 2015, section 3.3).

  Raises:
    ValueError: words and contexts are not the same vocabulary.
  """
  if words.shape != contexts.shape:
    raise ValueError(
      f'words are {words.shape} and contexts {contexts.shape}: they can be added only '
      "where both are the same vocabulary; set output_vectors='words'"
    )
  return words + contexts


# Short name -> function of `words` [V, D] and `contexts` [V, D], or of one of them.
OUTPUT_VECTORS: dict[str, Callable[..., Array]] = {
  'words': word_vectors,
  'contexts': context_vectors,
  'both': sum_of_both,
}
OutputVectors = Annotated[
  Specification, Piece(OUTPUT_VECTORS, context=('words', 'contexts'))
]


def choose_vectors(choice: OutputVectors, words: Array, contexts: Array) -> Array:
  """Returns the vectors that are chosen by name, [V, D].

  Args:
    choice: a short name of `OUTPUT_VECTORS`, or a path.
    words: [V, D].
    contexts: [V, D].
  """
  where = 'model.output_vectors'
  return make(choice, OUTPUT_VECTORS, where, words=words, contexts=contexts)
