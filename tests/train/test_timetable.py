"""Durations of an experiment, as steps."""

from types import SimpleNamespace

import pytest

from seqlab.train.timetable import Timetable

BATCHES = SimpleNamespace(steps_per_epoch=50, tokens_per_step=20.0)


def _timetable(**config):
  config = {'steps': 100, 'evals': {}, 'save_every': None} | config
  return Timetable.from_config(config, task=None, batches=BATCHES)


def test_epochs_and_tokens_become_steps():
  evals = {'valid': {'every': '1 epochs'}, 'long': {'every': '400 tokens'}, 'end': {}}
  timetable = _timetable(steps='3 epochs', evals=evals)
  assert timetable.steps == 150
  assert timetable.evaluate_every == {'valid': 50, 'long': 20, 'end': 150}
  assert timetable.due(100) == ['valid', 'long']


@pytest.mark.parametrize(
  ('config', 'step', 'saved'),
  [
    ({'save_every': 30}, 30, True),
    ({'save_every': 30}, 40, False),
    ({'save_every': 30, 'evals': {'valid': {'every': 40}}}, 40, True),
    ({'evals': {'valid': {'every': 7}}}, 14, True),  # as often as what is measured
    ({'steps': 5_000}, 1_000, True),
    ({'steps': 5_000}, 500, False),
  ],
)
def test_each_evaluation_has_a_checkpoint(config, step, saved):
  assert _timetable(**config).has_checkpoint(step) == saved
