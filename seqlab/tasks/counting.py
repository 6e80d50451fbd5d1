"""A text and how often its words occur near each other."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

from scipy import sparse

from seqlab.config import check_keys
from seqlab.domains import Signature
from seqlab.embeddings.cooccurrence import cached_cooccurrence, cooccurrence
from seqlab.tasks.words import SUBSAMPLING, Text, WordTask
from seqlab.text.download import cache_dir


class CountingTask(WordTask):
  """A task that learns from counts of pairs of words."""

  sections = ('corpus', 'vocabulary', 'counts', 'model')

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Reads the section `counts`; nothing is counted yet.

    Args:
      config: a resolved experiment. Its section `counts` is for
        `embeddings.cooccurrence:cooccurrence`, with `subsample` and `formula` as in
        `keep_probability`.
      text: the text and its words.

    Raises:
      ValueError: lines are held out, which counting does not support.
    """
    super().__init__(config, text)
    if self.heldout:
      raise ValueError('corpus.heldout: all lines are counted; leave it out')
    self._counts = dict(config['counts'])

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    return {**super().signatures(config), 'counts': (SUBSAMPLING, cooccurrence)}

  @functools.cached_property
  def counts(self) -> sparse.csr_array:
    """[V, V] weights of pairs, row word and column context, from the cache if there."""
    options = {k: v for k, v in self._counts.items() if k not in SUBSAMPLING}
    if self._counts.get('subsample'):
      options['keep'] = self._keep_probability(self._counts, 'counts')
    known = ('window', 'side', 'weights', 'keep', 'mode', 'seed', 'memory', 'workers')
    check_keys(options, (*known, 'device'), where='counts.')
    return cached_cooccurrence(self.store, self.words.size, cache_dir(), **options)
