"""Corpus BLEU as pure functions on arrays of ids, equal to sacreBLEU's.

Statistics of sentences are integers that add up over sentences, batches and
devices; the score is taken once, from their sum.

  statistics = ngram_statistics(hypothesis, reference).sum(axis=0)  # [10]
  score = bleu_score(statistics)

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine
Translation", 2002, https://aclanthology.org/P02-1040, with the conventions of
Post, "A Call for Clarity in Reporting BLEU Scores", 2018,
https://aclanthology.org/W18-6319.
"""

import jax.numpy as jnp

from seqlab.types import EOS, PAD, Array

MAX_ORDER = 4

# Chen and Cherry 2014, https://aclanthology.org/W14-3346; values as sacreBLEU's.
_SMOOTHING = {'exp': None, 'floor': 0.1, 'add-k': 1.0, 'none': None}


def ngram_statistics(hypothesis: Array, reference: Array) -> Array:
  """Counts n-grams and those that match, clipped, sentence by sentence.

  A sentence ends before its first EOS or PAD. Every pair of positions is
  compared, [B, L, L + T] bools, which is cheap at the lengths of sentences and
  needs no table of n-grams.

  Args:
    hypothesis: ids [B, L].
    reference: ids [B, T], one reference a sentence.

  Returns:
    [B, 10] int32: matches for n = 1..4, n-grams of the hypothesis for
    n = 1..4, length of the hypothesis, length of the reference.

  Raises:
    ValueError: the arrays are not both [B, ...] with the same B.
  """
  if hypothesis.ndim != 2 or reference.ndim != 2 or len(hypothesis) != len(reference):
    raise ValueError(
      'hypothesis and reference must be [B, L] and [B, T] with the same B, not '
      f'{hypothesis.shape} and {reference.shape}'
    )
  inside, ref_inside = _inside(hypothesis), _inside(reference)  # [B, L], [B, T]
  # Ids that equal nothing on the other side, so that no match crosses an end.
  hyp = jnp.where(inside, hypothesis, -1)
  ref = jnp.where(ref_inside, reference, -2)
  length, ref_length = inside.sum(axis=1), ref_inside.sum(axis=1)  # [B]

  same_self = hyp_self = hyp[:, :, None] == hyp[:, None, :]  # [B, L, L]
  same_ref = hyp_ref = hyp[:, :, None] == ref[:, None, :]  # [B, L, T]
  matches, totals = [], []
  for n in range(1, MAX_ORDER + 1):
    if n > 1:
      same_self &= _shift(hyp_self, n - 1)
      same_ref &= _shift(hyp_ref, n - 1)
    # The r-th occurrence of an n-gram matches if the reference has at least r:
    # summed over occurrences that is min(count here, count there).
    occurrence = jnp.tril(same_self).sum(axis=2)  # [B, L]
    in_reference = same_ref.sum(axis=2)  # [B, L]
    within = jnp.arange(hyp.shape[1])[None] + n <= length[:, None]
    matches.append((within & (occurrence <= in_reference)).sum(axis=1))
    totals.append(jnp.maximum(length - n + 1, 0))
  columns = [*matches, *totals, length, ref_length]
  return jnp.stack(columns, axis=1).astype(jnp.int32)


def bleu_score(
  statistics: Array, smoothing: str = 'exp', value: float | None = None
) -> Array:
  """BLEU of summed statistics, 0 to 100.

  Args:
    statistics: [..., 10], as `ngram_statistics` orders them.
    smoothing: for orders without a match: 'exp' (sacreBLEU's default), 'floor',
      'add-k' or 'none'.
    value: the count that 'floor' (0.1) or the k that 'add-k' (1) adds.

  Returns:
    float32 [...]; 0 if nothing matches, or the corpus has no 4-gram at all.

  Raises:
    ValueError: `smoothing` is unknown, or `statistics` has no 10 columns.
  """
  if smoothing not in _SMOOTHING:
    raise ValueError(f'smoothing={smoothing!r} is not one of {", ".join(_SMOOTHING)}')
  if statistics.shape[-1] != 2 * MAX_ORDER + 2:
    raise ValueError(f'statistics must be [..., 10], not {statistics.shape}')
  value = _SMOOTHING[smoothing] if value is None else value
  statistics = statistics.astype(jnp.float32)
  correct, total = statistics[..., :MAX_ORDER], statistics[..., MAX_ORDER:-2]
  length, ref_length = statistics[..., -2], statistics[..., -1]
  any_match = (correct > 0).any(axis=-1)

  if smoothing == 'add-k':
    added = jnp.where(jnp.arange(MAX_ORDER) > 0, value, 0.0)
    correct, total = correct + added, total + added
  missing = correct == 0
  if smoothing == 'exp':  # 1/2, 1/4, ... for the first, second, ... such order
    correct = jnp.where(missing, 0.5 ** jnp.cumsum(missing, axis=-1), correct)
  elif smoothing == 'floor':
    correct = jnp.where(missing, value, correct)

  defined = any_match & (total > 0).all(axis=-1)
  precision = correct / jnp.maximum(total, 1)  # [..., 4]
  mean = jnp.exp(jnp.log(precision).mean(axis=-1))  # geometric; exp(-inf) = 0
  brevity = jnp.exp(jnp.minimum(1 - ref_length / jnp.maximum(length, 1), 0))
  return jnp.where(defined, 100 * brevity * mean, 0.0)


def _inside(ids: Array) -> Array:
  """True before the first EOS or PAD of each row."""
  return jnp.cumsum((ids == EOS) | (ids == PAD), axis=1) == 0


def _shift(x: Array, n: int) -> Array:
  """y[:, i, j] = x[:, i + n, j + n], False beyond the end."""
  return jnp.pad(x, ((0, 0), (0, n), (0, n)))[:, n:, n:]
