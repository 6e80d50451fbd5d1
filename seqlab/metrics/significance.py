"""P-values of differences, and their correction where many are tested."""

import numpy as np


def bootstrap_p_value(differences: np.ndarray, observed: float) -> float:
  """Returns the two-sided p-value of a difference, by the bootstrap.

  Samples are moved to mean 0, as if the null hypothesis were true; p is (n + 1) /
  (N + 1), where n of the N moved samples are at least as far from 0 as the observed
  difference (as in `metrics.bootstrap`).

  Args:
    differences: [N] differences in samples that are drawn with replacement. NaN, which
      stands for a sample without a difference, is left out.
    observed: the difference of the whole set.

  Raises:
    ValueError: there is no sample.
  """
  defined = differences[~np.isnan(differences)]
  if not len(defined):
    raise ValueError('no sample has a difference: give more samples, or a larger set')
  extreme = np.abs(defined - defined.mean()) >= abs(observed)
  return float((extreme.sum() + 1) / (len(defined) + 1))


def holm(p_values: np.ndarray) -> np.ndarray:
  """Returns p-values that are corrected for the number of tests, [N].

  Rejecting those below a level makes at least one error with at most this probability,
  whatever the tests depend on (Holm, "A Simple Sequentially Rejective Multiple Test
  Procedure", 1979, https://www.jstor.org/stable/4615733).

  Args:
    p_values: [N], in any order.
  """
  p_values = np.asarray(p_values, np.float64)
  order, N = np.argsort(p_values, kind='stable'), len(p_values)
  scaled = p_values[order] * np.arange(N, 0, -1)
  corrected = np.empty(N)
  # A test is rejected only if all with a smaller p-value are.
  corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
  return corrected
