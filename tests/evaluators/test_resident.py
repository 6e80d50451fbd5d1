"""Splits of any task on the devices, and the evaluators that work for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.data.arrays import ArrayBatches
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Loss, Task
from seqlab.train.mesh import batch_sharding, make_mesh

X = np.arange(21, dtype=np.float32)


class Mean(Task):
  """Squared distance of a number from the rows; how many positive rows lie above it."""

  def batches(self, split, **options):
    return ArrayBatches({'x': X}, rows=8, **options)

  def init(self, rng):
    return {'params': {'mean': jnp.float32(10)}}

  def loss(self, variables, batch, rng, hyper):
    error = batch['x'] - variables['params']['mean']
    sums = {'accuracy': (jnp.sum(error > 0), jnp.sum(batch['x'] > 0))}
    return Loss(jnp.square(error).sum(), error.size, sums)


class Shuffled(Mean):
  def batches(self, split):
    return ArrayBatches({'x': X}, rows=8)


VARIABLES = {'params': {'mean': np.float32(10)}}


def _found(kind, devices=8, **options):
  sharding = batch_sharding(make_mesh(devices=devices))
  make = resolve(f'evaluators.{kind}:Evaluator')
  evaluator = call(make, options, 'evals', task=Mean(), sharding=sharding)
  place = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
  metrics = dict(evaluator.run(jax.device_put(VARIABLES, place)))
  assert set(metrics) == set(evaluator.metrics)
  return metrics


@pytest.mark.parametrize('devices', [1, 8])
def test_the_loss_of_any_task_is_the_mean_over_all_rows(devices):
  """The last batch has 5 rows, which 8 devices do not divide."""
  metrics = _found('loss', devices, split='valid')
  assert metrics == {
    'loss': pytest.approx(np.square(X - 10).mean()),
    'accuracy': pytest.approx(10 / 20),
  }


def test_the_cross_entropy_is_the_loss_if_nothing_else_is_reported():
  metrics = _found('perplexity', split='valid')
  nll = np.square(X - 10).mean()
  assert metrics['nll'] == pytest.approx(nll)
  assert metrics['perplexity'] == pytest.approx(np.exp(metrics['nll']))
  assert metrics['accuracy'] == pytest.approx(10 / 20)


def test_other_entries_of_a_batch_stay_with_their_rows():
  sharding = batch_sharding(make_mesh())
  batches = evaluation_batches(Mean(), 'valid', sharding)
  resident = Resident(
    batches, sharding, lambda v, b: jnp.sum(b['x'] * b['y']), extra={'y': 2 * X}
  )
  everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
  out = resident.run(jax.device_put(VARIABLES, everywhere))
  assert total(out) == 2 * np.square(X).sum()


def test_batches_that_must_be_shuffled_cannot_be_evaluated():
  with pytest.raises(ValueError, match='takes no shuffle='):
    evaluation_batches(Shuffled(), 'valid', batch_sharding(make_mesh()))


class Repeated(ArrayBatches):
  def rows(self, k):
    return np.zeros(8, np.int64)


def test_batches_that_repeat_a_line_are_refused():
  batches = Repeated({'x': X}, rows=8, shuffle=False)
  with pytest.raises(ValueError, match=r'must respect shuffle=False.*method `rows`'):
    Resident(batches, batch_sharding(make_mesh()), lambda v, b: 0, extra={'y': X})
