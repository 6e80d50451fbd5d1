"""chrF and chrF++ as pure functions on arrays, equal to sacreBLEU's.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015,
https://aclanthology.org/W15-3049, and "chrF++: words helping character n-grams",
2017, https://aclanthology.org/W17-4770.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from seqlab.metrics.ngrams import clipped_matches
from seqlab.metrics.tokenizers import Words, repeat_rows
from seqlab.types import Array

CHARACTER_ORDER = 6


def chrf_statistics(
  hypothesis: Sequence[Words], reference: Sequence[Words], word_order: int = 0
) -> Array:
  """Counts the n-grams of each sentence; counts can be summed over sentences.

  Args:
    hypothesis: characters without white space, [..., K, 2], and, for chrF++, words
      whose outer punctuation marks are separate tokens, from `tokenizers.tokenize` with
      'char' and 'chrf'.
    reference: the same for the reference.
    word_order: 0 for chrF, 2 for chrF++.

  Returns:
    [..., 3 · (6 + word_order)] int32: for each order the numbers of n-grams of the
    hypothesis (0 if the reference has no n-gram of that order), of the reference, and
    of both.
  """
  columns = []
  for side, order in ((0, CHARACTER_ORDER), (1, word_order)):
    if not order:
      continue
    ours, theirs = hypothesis[side], reference[side]
    references = Words(theirs.hashes[..., None, :, :], theirs.count[..., None])
    matches = clipped_matches(ours, references, order)  # [..., order]
    orders = jnp.arange(order)
    expected = jnp.maximum(theirs.count[..., None] - orders, 0)
    output = jnp.where(expected > 0, jnp.maximum(ours.count[..., None] - orders, 0), 0)
    triples = jnp.stack([output, expected, matches], axis=-1)  # [..., order, 3]
    columns.append(triples.reshape(*matches.shape[:-1], 3 * order))
  return jnp.concatenate(columns, axis=-1).astype(jnp.int32)


def nearest_chrf(
  hypothesis: Sequence[Words], references: Sequence[Words], word_order: int = 0
) -> Array:
  """Returns the counts for the reference with the best score, the first of several.

  Args:
    hypothesis: characters, and words if they are counted; see `chrf_statistics`.
    references: the same, tokens [..., Q, J, 2] and counts [..., Q].
    word_order: 0 for chrF, 2 for chrF++.

  Returns:
    [..., 3 · (6 + word_order)] int32.
  """
  Q = references[0].count.shape[-1]
  ours = [repeat_rows(words, Q) for words in hypothesis]
  statistics = chrf_statistics(ours, references, word_order)  # [..., Q, C]
  best = chrf_score(statistics).argmax(axis=-1)
  return jnp.take_along_axis(statistics, best[..., None, None], axis=-2)[..., 0, :]


def chrf_score(statistics: Array, beta: float = 2.0) -> Array:
  """Returns the F-score of the mean precision and recall over the common orders.

  Args:
    statistics: sums of the counts, [..., 3 · orders].
    beta: weight of recall relative to precision.

  Returns:
    [...], from 0 to 100.
  """
  triples = jnp.asarray(statistics).astype(float)
  triples = triples.reshape(*statistics.shape[:-1], -1, 3)
  output, expected, matches = (triples[..., i] for i in range(3))
  exists = (output > 0) & (expected > 0)  # [..., orders]
  orders = jnp.maximum(exists.sum(axis=-1), 1)
  precision = jnp.where(exists, matches / jnp.maximum(output, 1), 0)
  precision = precision.sum(axis=-1) / orders
  recall = jnp.where(exists, matches / jnp.maximum(expected, 1), 0)
  recall = recall.sum(axis=-1) / orders
  weight = beta**2
  total = weight * precision + recall
  return jnp.where(
    total > 0,
    100 * (1 + weight) * precision * recall / jnp.where(total > 0, total, 1),
    0,
  )
