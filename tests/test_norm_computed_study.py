"""The study `experiments/lecture/norm_computed.py`, on small models."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from seqlab.experiment import load_module

FILE = Path(__file__).parents[1] / 'experiments/lecture/norm_computed.py'


@pytest.fixture
def study(monkeypatch):
  module = load_module(FILE, 'study')
  for name, value in dict(WIDTH=8, WORDS=40, ROWS=2, LENGTH=5).items():
    monkeypatch.setattr(module, name, value)
  return module


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['pre', 'post'])
def test_first_gradients_are_those_of_the_second_matrix_of_each_layer(study, norm):
  norms = study.first_gradients(norm, 2, seed=0)
  gradient = study.loss_gradient(norm, 2, seed=0)
  kernel = gradient['decoder']['feed_forward']['down']['kernel']
  assert kernel.shape == (2, 16, 8)
  expected = [np.linalg.norm(np.float64(layer)) for layer in kernel]
  np.testing.assert_allclose(norms, expected, rtol=1e-6)
  assert (norms > 0).all()
  total = sum(float((x**2).sum()) for x in jax.tree.leaves(gradient)) ** 0.5
  assert norms.max() < total


def _results(study):
  """Results for which every claim holds."""
  last = {('pre', 2): 1.0, ('pre', 12): 0.41, ('post', 2): 1.0, ('post', 12): 1.1}
  norms = {
    (norm, layers): [
      np.linspace(1, 1 if norm == 'pre' else 3, layers)
      * last.get((norm, layers), 0.7)
      / (1 if norm == 'pre' else 3)
    ]
    * 3
    for norm in study.NORMS
    for layers in study.DEPTHS
  }
  sizes = ((10, 900), (12, 1_000), (40, 1_020))
  return norms, dict(zip(study.STATISTICS, sizes, strict=True))


def test_claims_hold_where_the_numbers_are_as_claimed(study):
  norms, messages = _results(study)
  rows = {row[0]: row[1:] for row in study.claims(norms, messages)}
  assert {row[-1] for row in rows.values()} == {'yes'}
  assert rows['2. pre-norm, last layer, 12 layers over 2'][0] == '0.410'
  assert rows['4. messages, synchronised minus unsynchronised'][0] == '28.000'
  norms['post', 12] = norms['pre', 12]
  messages['batch normalisation, synchronised'] = (30, 2_000)
  refuted = [row[0] for row in study.claims(norms, messages) if row[-1] == 'no']
  assert [name[0] for name in refuted] == ['1', '3', '4', '4']


def test_the_report_has_the_tables_and_the_raw_rows(study, tmp_path, monkeypatch):
  for figure in ('lines', 'bars'):
    monkeypatch.setattr(study, figure, lambda *args, **options: [])
  study.write_report(*_results(study), tmp_path)
  text = (tmp_path / 'table.md').read_text('utf-8')
  cells = [
    [cell.strip() for cell in line.split('|')[1:-1]] for line in text.split('\n')
  ]
  assert ['batch normalisation, synchronised', '40', '1,020'] in cells
  assert [
    'post-norm',
    '12',
    '0.3667 ± 0.0000',
    '1.1000 ± 0.0000',
    '3.00 ± 0.00',
    '3',
  ] in (cells)
  with open(tmp_path / 'rows.csv', encoding='utf-8', newline='') as file:
    rows = {(r['trial'], r['seed'], r['metric']): r for r in csv.DictReader(file)}
  value = float(rows['post-norm, 12 layers', '2', 'gradient, layer 12']['value'])
  assert value == pytest.approx(1.1)
  assert rows['layer normalisation', '', 'bytes']['value'] == '900'


@pytest.mark.slow
def test_a_plan_has_the_messages_of_the_gradients():
  study = load_module(FILE, 'study')  # with its own sizes: 8 devices need 8 rows
  messages, size = study.planned(normalization='layer')
  assert messages >= 1
  assert size >= 4 * 230_144  # each parameter's gradient once
