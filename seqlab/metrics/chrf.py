"""chrF and chrF++ as pure functions on arrays, equal to sacreBLEU's.

Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015,
https://aclanthology.org/W15-3049, and "chrF++: words helping character n-grams",
2017, https://aclanthology.org/W17-4770.
"""

import jax.numpy as jnp

from seqlab.metrics.ngrams import clipped_matches
from seqlab.metrics.tokenizers import Words
from seqlab.types import Array

CHARACTER_ORDER = 6


def chrf_statistics(
  hypothesis: tuple[Words, Words], reference: tuple[Words, Words], word_order: int = 0
) -> Array:
  """Counts of n-grams, sentence by sentence; additive.

  Args:
    hypothesis: characters without white space, [..., K, 2], and words whose outer
      marks stand apart, from `tokenizers.tokenize` with 'char' and 'chrf'.
    reference: the same of the reference.
    word_order: 0 for chrF, 2 for chrF++.

  Returns:
    [..., 3 · (6 + word_order)] int32: for each order n-grams of the hypothesis (0
    where the reference has none), of the reference, and those they share.
  """
  columns = []
  for side, order in ((0, CHARACTER_ORDER), (1, word_order)):
    if not order:
      continue
    ours, theirs = hypothesis[side], reference[side]
    several = Words(theirs.hashes[..., None, :, :], theirs.count[..., None])
    matches = clipped_matches(ours, several, order)  # [..., order]
    orders = jnp.arange(order)
    there = jnp.maximum(theirs.count[..., None] - orders, 0)
    here = jnp.where(there > 0, jnp.maximum(ours.count[..., None] - orders, 0), 0)
    triples = jnp.stack([here, there, matches], axis=-1)  # [..., order, 3]
    columns.append(triples.reshape(*matches.shape[:-1], 3 * order))
  return jnp.concatenate(columns, axis=-1).astype(jnp.int32)


def chrf_score(statistics: Array, beta: float = 2.0) -> Array:
  """F-score of mean precision and recall over the orders that both sides have.

  Args:
    statistics: [..., 3 · orders], summed.
    beta: how much more recall weighs.

  Returns:
    [...], 0 to 100.
  """
  triples = jnp.asarray(statistics).astype(float)
  triples = triples.reshape(*statistics.shape[:-1], -1, 3)
  here, there, matches = (triples[..., i] for i in range(3))
  exists = (here > 0) & (there > 0)  # [..., orders]
  orders = jnp.maximum(exists.sum(axis=-1), 1)
  precision = jnp.where(exists, matches / jnp.maximum(here, 1), 0).sum(axis=-1) / orders
  recall = jnp.where(exists, matches / jnp.maximum(there, 1), 0).sum(axis=-1) / orders
  weight = beta**2
  total = weight * precision + recall
  return jnp.where(
    total > 0,
    100 * (1 + weight) * precision * recall / jnp.where(total > 0, total, 1),
    0,
  )
