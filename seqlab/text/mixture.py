"""Mixtures of corpora: several languages or tasks for one model.

c.corpus = dict(kind='mixture', weights=dict(de=1.0, fr=2.0), tags=True)
c.corpus.corpora = dict(
  de=dict(kind='multi30k', source='en', target='de'),
  fr=dict(kind='multi30k', source='en', target='fr'),
)
"""

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from seqlab import domains
from seqlab.config import call, check_keys
from seqlab.domains import Positive
from seqlab.text.corpora import Corpus, open_corpus
from seqlab.text.tables import PART

_FORMAT = 1  # increment it when the same corpora are mixed differently
_TAG = {'kind': 'symbols', 'ordered': False}  # vocabulary of the tags


class Mixture(Corpus):
  """Several corpora with the same sides; see `Corpus`.

  A split has the examples of all corpora, one after the other; only splits that all of
  them have are splits of the mixture. The category of an example is the name of its
  corpus, followed by a slash and its category there, if it has one.
  """

  def __init__(
    self,
    *,
    corpora: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
    tags: bool = False,
    convention: str | None = None,
  ):
    """Opens the corpora, and reads nothing.

    Args:
      corpora: name -> section `corpus` of one of them.
      weights: name -> share of its examples in training, relative to the other weights.
        An epoch has as many examples as the corpora have together, so that those of a
        small corpus with a large weight occur several times. None takes each of them
        once.
      tags: whether the name of the corpus is added to each source as its last part, a
        symbol without a position: 'Two dogs.<tab>fr'.
      convention: tokenisation of BLEU; by default that of the corpora.

    Raises:
      ValueError: an option is wrong, or the corpora do not fit together.
    """
    options = dict(weights=weights, tags=tags, convention=convention)
    domains.check(Mixture, options, 'corpus.')
    if not hasattr(corpora, 'items') or not corpora:
      raise ValueError(
        'corpus.corpora must be a section of corpora, such as dict(de=dict(...))'
      )
    for name, section in corpora.items():
      _check_corpus(name, section)
    self._corpora = {
      name: call(open_corpus, section, f'corpus.corpora.{name}')
      for name, section in corpora.items()
    }
    self._weights, self._tags = dict(weights or {}), tags
    self._check()
    first, *_ = self._corpora.values()
    self.name = 'mixture'
    self.sides = {
      side: '+'.join(dict.fromkeys(x.sides[side] for x in self._corpora.values()))
      for side in first.sides
    }
    conventions = {x.convention for x in self._corpora.values()}
    self.convention = convention or (
      conventions.pop() if len(conventions) == 1 else '13a'
    )

  def _check(self) -> None:
    (name, first), *others = self._corpora.items()
    for other, corpus in others:
      if [*corpus.sides] != [*first.sides] or _rules(corpus) != _rules(first):
        raise ValueError(
          f'corpus.corpora: {name} and {other} have different sides, or columns with '
          'different vocabularies; a mixture needs the same'
        )
    if self._weights:
      where = 'corpus.weights.'
      check_keys(self._weights, self._corpora, needed=self._corpora, where=where)
      for key, weight in self._weights.items():
        domains.check_value(f'{where}{key}', weight, _WEIGHT)
    if (self._weights or self._tags) and [*first.sides] != ['source', 'target']:
      raise ValueError('corpus.weights and corpus.tags are for parallel text')

  @property
  def rules(self) -> dict[str, Any]:
    """Vocabularies of the parts of sides; see `Corpus`."""
    rules = dict(_rules(next(iter(self._corpora.values()))))
    if self._tags:
      rules['source'] = [*rules.get('source', [None]), _TAG]
    return rules

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits that all corpora have."""
    first, *others = (corpus.splits for corpus in self._corpora.values())
    return tuple(split for split in first if all(split in x for x in others))

  def read(self, split: str) -> tuple[list[str], ...]:
    """Returns the lines of each side. Raises as the corpora do."""
    sides: list[list[str]] = [[] for _ in self.sides]
    for name, corpus in self._corpora.items():
      first, *others = corpus.read(split)
      if self._tags:
        self._check_tabs(name, split, first)
        first = [f'{line}{PART}{name}' for line in first]
      for side, lines in zip(sides, (first, *others), strict=True):
        side += lines
    return tuple(sides)

  def _check_tabs(self, name: str, split: str, sources: list[str]) -> None:
    """Raises ValueError if a source has more parts than its corpus says."""
    parts = len(_rules(self._corpora[name]).get('source', [None]))
    for number, line in enumerate(sources, 1):
      if line.count(PART) >= parts:
        raise ValueError(
          f'corpus.corpora.{name}: the source {line!r}, line {number:,} of split '
          f'{split!r}, has a tab, which the tag has to be separated by: replace it, as '
          'by a space'
        )

  def references(self, split: str) -> list[tuple[str, ...]]:
    """Returns the references of each example, in the order of `read`."""
    return [x for corpus in self._corpora.values() for x in corpus.references(split)]

  def categories(self, split: str) -> list[str]:
    """Returns the corpus of each example, with its category there if it has one."""
    names = []
    for name, corpus in self._corpora.items():
      own = corpus.categories(split)
      size = len(corpus.read(split)[0])
      names += [name] * size if own is None else [f'{name}/{x}' for x in own]
    return names

  def repeats(self, split: str) -> np.ndarray | None:
    """Returns how often each example occurs per epoch, [R] float64; None for once."""
    if not self._weights:
      return None
    sizes = {name: len(x.read(split)[0]) for name, x in self._corpora.items()}
    share = sum(sizes.values()) / sum(self._weights.values())  # of a weight of 1
    return np.concatenate(
      [np.full(n, self._weights[name] * share / n) for name, n in sizes.items()]
    )

  def skipped(self, split: str) -> int:
    """Returns how many examples the corpora leave out because a side is empty."""
    return sum(corpus.skipped(split) for corpus in self._corpora.values())

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of all that decides what `read` returns."""
    digests = {name: x.fingerprint(split) for name, x in self._corpora.items()}
    content = json.dumps([_FORMAT, split, self._tags, [*digests.items()]])
    return hashlib.sha256(content.encode()).hexdigest()

  def files(self, split: str) -> dict[str, str]:
    """Returns the files of a split, with the sha256 of their text."""
    each = (corpus.files(split) for corpus in self._corpora.values())
    return {file: digest for files in each for file, digest in files.items()}

  def inputs(self) -> list[Path]:
    """Returns files on this machine that it may read."""
    return [path for corpus in self._corpora.values() for path in corpus.inputs()]


def _check_corpus(name: str, section: Any) -> None:
  if not name or any(c.isspace() for c in name):
    raise ValueError(
      f'corpus.corpora has the name {name!r}: a name has no white space, since it may '
      'be a tag and a category'
    )
  if not hasattr(section, 'items'):
    raise ValueError(
      f'corpus.corpora.{name} is {section!r}; it must be a section, such as '
      "dict(kind='multi30k', source='en', target='de')"
    )


_WEIGHT = Annotated[float, Positive]


def _rules(corpus: Corpus) -> Mapping[str, Any]:
  return getattr(corpus, 'rules', {})
