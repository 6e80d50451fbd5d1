"""References and categories of a split, for any corpus."""

from typing import Any

from seqlab.text.corpora import Corpus


def references_of(corpus: Any, split: str) -> list[tuple[str, ...]]:
  """Returns one or more references for each example; see `Corpus.references`.

  A corpus of one's own that does not inherit from `Corpus` has its defaults here.
  """
  if hasattr(corpus, 'references'):
    return corpus.references(split)
  return Corpus.references(corpus, split)


def categories_of(corpus: Any, split: str) -> list[str] | None:
  """Returns the category of each example, or None; see `Corpus.categories`."""
  if hasattr(corpus, 'categories'):
    return corpus.categories(split)
  return Corpus.categories(corpus, split)
