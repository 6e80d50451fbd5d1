"""Hyperparameters that rise during training."""

from pathlib import Path

import numpy as np
import pytest

from seqlab.experiment import load_experiment
from seqlab.metrics_file import read_metrics
from seqlab.tasks.interface import Loss
from seqlab.train.checks import check_experiment
from seqlab.train.hyper_schedules import HyperSchedules
from seqlab.train.loop import train

ROOT = Path(__file__).parents[2]
LINEAR = {'kind': 'linear', 'updates': 4}


def _rises(**schedules):
  hyper = {'peak': 1.0, 'dropout': 0.5, 'other': None}
  return HyperSchedules.of({'hyper': hyper, 'hyper_schedules': schedules})


def test_a_linear_rise_ends_at_the_value():
  at = [_rises(dropout=LINEAR).at(k, {'dropout': 0.5})['dropout'] for k in (0, 1, 4, 9)]
  np.testing.assert_allclose(at, [0.0, 0.125, 0.5, 0.5])


def test_an_inverse_sigmoid_is_that_of_bengio():
  rises = _rises(dropout={'kind': 'inverse_sigmoid', 'k': 100})
  for update in (0, 300, 461, 50_000):
    found = rises.at(update, {'dropout': 1.0})['dropout']
    with np.errstate(over='ignore'):
      true_tokens = 100 / (100 + np.exp(np.float64(update) / 100))
    np.testing.assert_allclose(found, 1 - true_tokens, atol=1e-5)


@pytest.mark.parametrize(
  ('schedules', 'message'),
  [
    ({'peak': LINEAR}, r'hyper_schedules\.peak: schedule has the learning rate'),
    ({'dropuot': LINEAR}, r"hyper has no 'dropuot'; did you mean 'dropout'"),
    ({'other': LINEAR}, r"hyper has no 'other'"),
    ({'dropout': 'linear'}, r'hyper_schedules\.dropout.*updates'),
    ({'dropout': {'kind': 'linear', 'updates': 0}}, r'updates is 0'),
    ({'dropout': {'kind': 'cubic'}}, r"no 'cubic'|unknown.*cubic"),
  ],
)
def test_a_wrong_rise_is_named(schedules, message):
  with pytest.raises(ValueError, match=message):
    _rises(**schedules)


def test_the_loss_gets_the_risen_value(point, monkeypatch, tmp_path):
  module = __import__('seqlab_test_tasks')

  class Told(module.Point):
    hyper = ('told',)

    def loss(self, variables, batch, rng, hyper):
      loss = super().loss(variables, batch, rng, hyper)
      told = {'told': (hyper['told'] * loss.weight, loss.weight)}
      return Loss(loss.value, loss.weight, sums=told)

  monkeypatch.setattr(module, 'Told', Told, raising=False)
  train(
    point
    | {
      'task': 'seqlab_test_tasks:Told',
      'steps': 6,
      'hyper': {'peak': 0.1, 'told': 0.5},
      'hyper_schedules': {'told': LINEAR},
    },
    tmp_path,
  )
  told = [row['told'] for row in read_metrics(tmp_path / 'metrics.jsonl')]
  np.testing.assert_allclose(told, [0.0, 0.125, 0.25, 0.375, 0.5, 0.5])


def test_an_override_gives_an_experiment_a_rise():
  start = '--config.hyper_schedules.label_smoothing'
  overrides = [f'{start}.kind=linear', f'{start}.updates=7']
  config = load_experiment(f'{ROOT}/experiments/agreement/transformer.py', overrides)
  expected = {'label_smoothing': {'kind': 'linear', 'updates': 7}}
  assert config['hyper_schedules'] == expected
  check_experiment(config)
  config['hyper_schedules']['label_smoothing']['updates'] = 0
  with pytest.raises(ValueError, match=r'label_smoothing.*updates is 0'):
    check_experiment(config)
