"""Defaults of a task, and the abilities that `has` and `needs` find."""

import jax
import numpy as np
import pytest

from seqlab.tasks.interface import (
  CustomUpdate,
  EmptyBatches,
  Estimator,
  HasVectors,
  Loss,
  Task,
  Translates,
  data_report,
  has,
  method_of,
  needs,
  tokens_per_step,
  traced_init,
)
from seqlab.tasks.translation import Translation
from seqlab.tasks.word2vec import WordPrediction


class Line(Task):
  def init(self, rng):
    return {'params': {'slope': np.zeros(3), 'bias': np.zeros(())}}


@pytest.mark.parametrize(
  ('task', 'ability', 'expected'),
  [
    (Translation, Translates, True),
    (Translation, HasVectors, False),
    (Translation, CustomUpdate, False),
    (Translation, Estimator, False),
    (WordPrediction, HasVectors, True),
    (WordPrediction, CustomUpdate, True),
    (WordPrediction, Translates, False),
    (Line(), Translates, False),
  ],
)
def test_a_task_has_the_abilities_whose_methods_it_has(task, ability, expected):
  assert has(task, ability) == expected


class Shop(Line):
  """Has methods whose names an ability uses for something else."""

  def stores(self):
    return ['a', 'b']

  def vectors(self):
    return np.eye(3)

  def update(self, params, batch, rng, rate, constants):
    return params, {}


@pytest.mark.parametrize(
  ('ability', 'message'),
  [(Translates, 'no attribute `corpus`'), (HasVectors, 'no attribute `words`')],
)
def test_a_task_needs_the_attributes_of_an_ability_too(ability, message):
  assert not has(Shop(), ability)
  with pytest.raises(ValueError, match=message):
    needs(Shop(), ability)


def test_a_method_with_a_default_may_be_missing():
  assert has(Shop(), CustomUpdate)
  assert method_of(Shop(), CustomUpdate, 'constants')(None) is None


def test_a_missing_ability_is_named():
  assert needs(WordPrediction, HasVectors) is WordPrediction
  with pytest.raises(ValueError, match=r'task Line cannot translate: .* `stores`'):
    needs(Line(), Translates)


def test_defaults_count_rows_and_parameters(tmp_path):
  task = Line.from_config({}, tmp_path)
  batch = {'x': np.zeros((8, 3)), 'y': np.zeros(8)}
  assert (task.tokens(batch), task.flops(batch)) == (8, 6 * 4 * 8)
  batches = EmptyBatches((batch,))
  assert (tokens_per_step(task, batches), data_report(task, batches)) == (8, {})
  assert len(batches.batch(0, seed=0, rows=(1, 4))['x']) == 2
  assert Line.from_shapes({}) is None


def test_the_initialisation_is_traced_once_per_task():
  traced = []

  class Counting(Line):
    def init(self, rng):
      traced.append(self)
      return super().init(rng)

  task = Counting()
  for seed in range(2):
    shapes = jax.eval_shape(lambda: traced_init(task)(jax.random.key(0)))
    assert traced_init(task)(jax.random.key(seed))['params']['slope'].shape == (3,)
    assert shapes['params']['slope'].shape == (3,)
  assert traced == [task]


def test_totals_of_a_loss_hold_its_value():
  totals = Loss(2.0, 4, {'hits': (1, 4)}).totals()
  assert {k: (float(s), float(w)) for k, (s, w) in totals.items()} == {
    'loss': (2.0, 4.0),
    'hits': (1.0, 4.0),
  }
