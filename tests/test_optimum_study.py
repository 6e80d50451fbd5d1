"""The study `experiments/lecture/optimum.py`, on counts of a few words."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from seqlab.experiment import load_module

FILE = Path(__file__).parents[1] / 'experiments/lecture/optimum.py'
K = 3


@pytest.fixture(scope='module')
def optimum():
  module = load_module(FILE, 'study')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(module, 'BLOCK', 3)  # does not divide the number of words
    yield module


@pytest.fixture(scope='module')
def counts():
  n = np.random.default_rng(0).poisson(2.0, (8, 8)).astype(float)
  return n + n.T - np.diag(np.diag(n + n.T))


def _objective(n, x):
  """Returns the objective of each pair, for x without infinities."""
  chance = K * np.outer(n.sum(axis=1), n.sum(axis=0)) / n.sum()
  return -n * np.logaddexp(0, -x) - chance * np.logaddexp(0, x)


def _best(n):
  chance = K * np.outer(n.sum(axis=1), n.sum(axis=0)) / n.sum()
  return np.where(n > 0, np.log(np.where(n > 0, n, 1) / chance), -50.0)


def test_the_optimum_is_at_the_shifted_pmi(optimum, counts):
  best = _best(counts)
  at_best = optimum.deviation(counts.astype(np.float32), K, lambda rows: best[rows])
  np.testing.assert_allclose(at_best, 0, atol=1e-4)
  for change in (-0.5, 0.5):
    moved = optimum.deviation(
      counts.astype(np.float32), K, lambda rows, c=change: best[rows] + c
    )
    assert moved[1] > 0.01
    assert moved[2] > 0.01


def test_a_deviation_is_divided_among_the_pairs(optimum, counts):
  best, x = _best(counts), np.random.default_rng(1).normal(size=counts.shape)
  lost, optimal = _objective(counts, best) - _objective(counts, x), 0.0
  optimal = _objective(counts, best).sum()
  groups = counts == 0, (counts > 0) & (best <= 0), (counts > 0) & (best > 0)
  assert all(group.any() for group in groups)
  expected = [100 * lost[group].sum() / -optimal for group in groups]
  actual = optimum.deviation(counts.astype(np.float32), K, lambda rows: x[rows])
  np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_shifted_ppmi_loses_log_2_for_each_pair_that_never_occurs(optimum, counts):
  ppmi = np.maximum(_best(counts), 0)
  never, clipped, rest = optimum.deviation(
    counts.astype(np.float32), K, lambda rows: ppmi[rows]
  )
  chance = K * np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
  optimal = _objective(counts, _best(counts)).sum()
  cost = math.log(2) * chance[counts == 0].sum()
  assert never == pytest.approx(100 * cost / -optimal, rel=1e-4)
  assert clipped > 0
  assert rest == pytest.approx(0, abs=1e-4)


def test_factors_are_fitted_to_the_objective(optimum, counts):
  U, S, V = np.linalg.svd(np.maximum(_best(counts), 0))

  def measure(one, other):
    values = one @ other.T
    n = counts.astype(np.float32)
    return optimum.deviation(n, K, lambda rows: values[rows]).sum()

  fitted = [
    measure(*optimum.fitted(counts.astype(np.float32), K, d, 0)) for d in (2, 8)
  ]
  assert 0.1 < fitted[0] < measure(U[:, :2] * S[:2], V[:2].T)
  # With as many dimensions as words only pairs that never occur keep from the optimum.
  assert 0 <= fitted[1] < 0.1


def test_the_table_and_the_raw_rows_have_the_deviations(optimum, counts, tmp_path):
  n = sparse.csr_array(counts)
  results = {
    (9, K): optimum.deviations(n, K, (2, 3)),
    (8, K): optimum.deviations(n, K, (2, 3), fit=True),
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, value in dict(WORDS=9, FITTED=8, NEGATIVES=(K,)).items():
      patch.setattr(optimum, name, value)
    patch.setattr(optimum, 'bars', lambda *args, **options: [])
    optimum.write_report(results, n, n, tmp_path)
  with open(tmp_path / 'rows.csv', encoding='utf-8', newline='') as file:
    rows = {
      (r['trial'], r['seed'], r['metric']): float(r['value'])
      for r in csv.DictReader(file)
    }
  ppmi = np.maximum(_best(counts), 0)
  U, S, V = np.linalg.svd(ppmi)
  optimal = _objective(counts, _best(counts)).sum()
  for label, x in {
    'shifted PPMI': ppmi,
    'SVD, d = 3': U[:, :3] * S[:3] @ V[:3],
  }.items():
    expected = 100 * (_objective(counts, x).sum() - optimal) / optimal
    value = rows[f'{label}, k = {K}, 9 words', '0', 'deviation']
    assert value == pytest.approx(expected, rel=0.02)
    assert rows[f'{label}, k = {K}, 8 words', '0', 'deviation'] == pytest.approx(value)
  fitted = rows[f'fitted, d = 3, k = {K}, 8 words', '0', 'deviation']
  assert 0 < fitted < rows[f'SVD, d = 3, k = {K}, 8 words', '0', 'deviation']
  text = (tmp_path / 'table.md').read_text('utf-8')
  assert f'{fitted:.2f}' in text
