"""References and categories of a split, for any corpus."""

from typing import Any


def references_of(corpus: Any, split: str) -> list[tuple[str, ...]]:
  """Returns one or more references for each example, in the order of `read`.

  A corpus with several references has a method `references`; of any other, the target
  line is the only reference.
  """
  if hasattr(corpus, 'references'):
    return corpus.references(split)
  return [(line,) for line in corpus.read(split)[-1]]


def categories_of(corpus: Any, split: str) -> list[str] | None:
  """Returns the category of each example, in the order of `read`; None without any."""
  return corpus.categories(split) if hasattr(corpus, 'categories') else None
