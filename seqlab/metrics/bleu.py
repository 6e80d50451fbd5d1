"""Corpus BLEU as pure functions on arrays, equal to sacreBLEU's.

The statistics of sentences are integers. They are summed over sentences, batches and
devices, and the score is computed once from their sum.

  text = detokenize(ids, table, N)                       # [B, N] bytes
  words = tokenize(characters(text), '13a', K)           # [B, K] hashed tokens
  statistics = bleu_statistics(words, references).sum(axis=0)  # [10]
  score = bleu_score(statistics)

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine
Translation", 2002, https://aclanthology.org/P02-1040, with the conventions of
Post, "A Call for Clarity in Reporting BLEU Scores", 2018,
https://aclanthology.org/W18-6319.
"""

import jax.numpy as jnp

from seqlab.metrics.ngrams import clipped_matches
from seqlab.metrics.tokenizers import Words
from seqlab.types import Array

MAX_ORDER = 4

# Chen and Cherry 2014, https://aclanthology.org/W14-3346; values as sacreBLEU's.
_SMOOTHING = {'exp': None, 'floor': 0.1, 'add-k': 1.0, 'none': None}


def bleu_statistics(hypothesis: Words, references: Words) -> Array:
  """Returns the ten integers per sentence from which BLEU is computed.

  The function is pure, so it can be jitted, vmapped and sharded. The statistics of a
  corpus are their sums over its sentences. Tokens are compared by two hashes of 31
  bits. The probability that two different tokens of at most n characters have the same
  hashes is below (n / (2^31 - 1))^2 over the random bases of the hashes, which is 2e-15
  for n = 100. A test set of 3,000 sentences compares a few million pairs.

  Args:
    hypothesis: tokens [..., K, 2] and counts [...], from `tokenizers.tokenize`.
    references: tokens [..., R, K', 2] and counts [..., R]. The count of an n-gram is
      clipped by its largest count in one reference. The reference length is the one
      closest to the hypothesis length, and the shorter of two equally close ones.

  Returns:
    [..., 10] int32: matches for n = 1..4, n-grams of the hypothesis for
    n = 1..4, length of the hypothesis, length of the reference.

  Raises:
    ValueError: the shapes do not fit each other.
  """
  if references.count.shape[:-1] != hypothesis.count.shape:
    raise ValueError(
      f'hypotheses {hypothesis.count.shape} need references [..., R] of the same leading '
      f'shape, not {references.count.shape}'
    )
  length = hypothesis.count[..., None]  # [..., 1]
  matches = clipped_matches(hypothesis, references, MAX_ORDER)
  totals = jnp.maximum(length - jnp.arange(MAX_ORDER), 0)
  distance = jnp.abs(references.count - length)  # [..., R]
  nearest = distance == distance.min(axis=-1, keepdims=True)
  largest = jnp.iinfo(jnp.int32).max
  closest = jnp.where(nearest, references.count, largest).min(axis=-1, keepdims=True)
  columns = [matches, totals, length, closest]
  return jnp.concatenate(columns, axis=-1).astype(jnp.int32)


def bleu_score(
  statistics: Array,
  smoothing: str = 'exp',
  value: float | None = None,
  *,
  effective_order: bool = False,
) -> Array:
  """Returns BLEU of summed statistics, from 0 to 100.

  Args:
    statistics: sums of the ten BLEU counts, [..., 10], in the order of
      `bleu_statistics`.
    smoothing: smoothing of orders without a match: 'exp' (sacreBLEU's default),
      'floor', 'add-k' or 'none'.
    value: the count of 'floor' (0.1 by default) or the k of 'add-k' (1 by default).
    effective_order: for single sentences: whether the mean is only over the orders of
      which the hypothesis has an n-gram.

  Returns:
    [...] float32, or float64 if JAX has x64 enabled; 0 if nothing matches.

  Raises:
    ValueError: `smoothing` is unknown, or `statistics` does not have 10 columns.
  """
  if smoothing not in _SMOOTHING:
    raise ValueError(f'smoothing={smoothing!r} is not one of {", ".join(_SMOOTHING)}')
  if statistics.shape[-1] != 2 * MAX_ORDER + 2:
    raise ValueError(f'statistics must be [..., 10], not {statistics.shape}')
  value = _SMOOTHING[smoothing] if value is None else value
  statistics = jnp.asarray(statistics).astype(float)
  correct, total = statistics[..., :MAX_ORDER], statistics[..., MAX_ORDER:-2]
  any_match = (correct > 0).any(axis=-1)

  if smoothing == 'add-k':
    added = jnp.where(jnp.arange(MAX_ORDER) > 0, value, 0.0)
    correct, total = correct + added, total + added
  missing = correct == 0
  if smoothing == 'exp':  # 1/2, 1/4, ... for the first, second, ... such order
    correct = jnp.where(missing, 0.5 ** jnp.cumsum(missing, axis=-1), correct)
  elif smoothing == 'floor':
    correct = jnp.where(missing, value, correct)

  exists = total > 0  # [..., 4]
  precision = jnp.where(exists, correct / jnp.where(exists, total, 1), 0.0)
  if effective_order:
    logs = jnp.where(exists, jnp.log(precision), 0.0)
    mean = jnp.exp(logs.sum(axis=-1) / jnp.maximum(exists.sum(axis=-1), 1))
  else:
    mean = jnp.exp(jnp.log(precision).mean(axis=-1))  # geometric; exp(-inf) = 0
  return jnp.where(any_match, 100 * brevity_penalty(statistics) * mean, 0.0)


def brevity_penalty(statistics: Array) -> Array:
  """Returns exp(1 - r / h) if the hypotheses' length h is below r, else 1."""
  length = jnp.asarray(statistics[..., -2]).astype(float)
  ref_length = statistics[..., -1]
  return jnp.exp(jnp.minimum(1 - ref_length / jnp.maximum(length, 1e-9), 0))
