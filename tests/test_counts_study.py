"""The study `experiments/lecture/counts.py`, on a text of a few words."""

import csv
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from seqlab.experiment import load_module
from seqlab.text.wordsets import Pairs

FILE = Path(__file__).parents[1] / 'experiments/lecture/counts.py'
WORDS = [f'w{letter}' for letter in 'abcdefghijkl']
# Words i and i + 6 have the same neighbours, and ratings say so.
PAIRS = [(i, j) for i in range(12) for j in range(i)]
RATINGS = np.array([10.0 * (i == j + 6) + 0.01 * (i + j) for i, j in PAIRS])
TEXT = [
  [random.integers(6) + 6 * random.integers(2) for _ in range(8)]
  for random in map(np.random.default_rng, range(60))
]


@pytest.fixture(scope='module')
def counts():
  return load_module(FILE, 'study')


@pytest.fixture
def small(counts, tmp_path, monkeypatch):
  """The module with a small text, and sets that are five times the same."""
  file = tmp_path / 'text.txt'
  lines = (' '.join(WORDS[i] for i in line) for line in TEXT)
  file.write_text(''.join(f'{line}\n' for line in lines), 'utf-8')
  monkeypatch.setattr(counts, 'TEXT', dict(path=str(file)))
  pairs = tuple((WORDS[i], WORDS[j]) for i, j in PAIRS)
  unknown = (*pairs, ('wa', 'elephant')), np.append(RATINGS, 1.0)
  monkeypatch.setattr(counts, 'open_wordset', lambda name: Pairs(name, *unknown))
  for name, value in dict(WIDTHS=(2, 4), WIDTH=4, WINDOW=2, SAMPLES=40).items():
    monkeypatch.setattr(counts, name, value)
  for name in ('heatmap', 'lines'):  # takes long, and is tested elsewhere
    monkeypatch.setattr(counts, name, lambda *args, **options: [])
  return counts


def _expected_counts():
  """Returns counts with linear weights: 1 for a neighbour, 1/2 for the next one."""
  n = np.zeros((12, 12))
  for line in TEXT:
    for at, word in enumerate(line):
      for distance in (1, 2):
        for other in line[at + distance : at + distance + 1]:
          n[word, other] += 1.5 - distance / 2
          n[other, word] += 1.5 - distance / 2
  return n


def _correlation(rows):
  unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  cosines = [unit[i] @ unit[j] for i, j in PAIRS]
  return scipy.stats.spearmanr(cosines, RATINGS).statistic


def test_the_raw_rows_are_correlations_of_the_counted_vectors(small, tmp_path):
  small.study(tmp_path)
  with open(tmp_path / 'rows.csv', encoding='utf-8', newline='') as file:
    rows = {(r['trial'], r['seed'], r['metric']): r for r in csv.DictReader(file)}
  n = _expected_counts()
  ratio = n * n.sum() / np.outer(n.sum(axis=1), n.sum(axis=0))
  pmi = np.log(np.where(n > 0, ratio, 1))
  for trial, vectors in {
    'raw counts': n,
    'log(1 + n)': np.log1p(n),
    'PMI': pmi,
    'PPMI': np.maximum(pmi, 0),
  }.items():
    value = float(rows[trial, '0', 'men']['value'])
    assert value == pytest.approx(_correlation(vectors), abs=0.03), trial
  U, S, _ = np.linalg.svd(np.maximum(pmi, 0))
  expected = _correlation(U[:, :4] * S[:4])
  assert float(rows['SVD, U S', '0', 'men']['value']) == pytest.approx(
    expected, abs=0.03
  )
  both = [float(rows[f'both sides, {x}', '0', 'men']['value']) for x in 'UV']
  assert both[0] == pytest.approx(both[1], abs=0.03)
  assert ('random projection', '4', 'rw') in rows
  one, other = (float(rows[x, '0', 'ws353']['value']) for x in ('PPMI', 'PMI'))
  difference = float(rows['PPMI - PMI', '', 'ws353']['value'])
  assert difference == pytest.approx(one - other)
  text = (tmp_path / 'table.md').read_text('utf-8')
  assert 'men 66 of 67' in text
  assert 'Holm for 55 tests' in text
