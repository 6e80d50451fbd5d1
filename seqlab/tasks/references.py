"""References and categories of a split, for any corpus."""

from collections.abc import Sequence
from typing import Any

from seqlab.text.corpora import Corpus
from seqlab.text.vocabulary import Vocabulary, normal_form


def references_of(corpus: Any, split: str) -> list[tuple[str, ...]]:
  """Returns one or more references for each example; see `Corpus.references`.

  A corpus of one's own that does not inherit from `Corpus` has its defaults here.
  """
  if hasattr(corpus, 'references'):
    return corpus.references(split)
  return Corpus.references(corpus, split)


def writable(
  vocabulary: Vocabulary, references: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
  """Returns references in the normal form of the vocabulary that writes the outputs.

  An output of words has single spaces, so it would never be equal to a reference with
  two. References of a line that have the same normal form are one.

  Args:
    vocabulary: vocabulary of the target side.
    references: one or more references for each example.
  """
  return [
    tuple(dict.fromkeys(normal_form(vocabulary, text) for text in texts))
    for texts in references
  ]


def categories_of(corpus: Any, split: str) -> list[str] | None:
  """Returns the category of each example, or None; see `Corpus.categories`."""
  if hasattr(corpus, 'categories'):
    return corpus.categories(split)
  return Corpus.categories(corpus, split)
