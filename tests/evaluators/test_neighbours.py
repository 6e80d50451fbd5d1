"""What stands beside a sentence, for models with masks and without them."""

from types import SimpleNamespace

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.models.transformer import Transformer

SIDE = SimpleNamespace(size=30)
IDS = jnp.ones((1, 3), jnp.int32)


def _measured(model, variables):
  sides = SimpleNamespace(source=SIDE, target=SIDE)
  task = SimpleNamespace(model=model, vocabularies=sides)
  make = resolve('evaluators.neighbours:Evaluator')
  evaluator = call(make, dict(rows=2, length=4), 'evals', task=task, sharding=None)
  metrics = dict(evaluator.run(variables))
  assert {*metrics} == {*evaluator.metrics}
  return metrics


@pytest.fixture(scope='module')
def variables():
  return nn.unbox(jax.jit(_model().init)(jax.random.key(0), IDS, IDS))


def _model(**options):
  options = dict(width=8, mlp_width=8, heads=1, layers=1, dtype='float32') | options
  return Transformer(SIDE.size, SIDE.size, **options)


@pytest.mark.parametrize('shown', [None, 'padding', 'segments'])
def test_only_what_is_not_masked_changes_the_states(variables, shown):
  options = {f'mask_{shown}': False} if shown else {}
  metrics = _measured(_model(**options), variables)
  assert (metrics['padding'] > 1e-3) == (shown == 'padding')
  assert (metrics['packing'] > 1e-3) == (shown == 'segments')
  assert min(metrics.values()) < 1e-5


class Sums(nn.Module):
  """Its states are the number of words of the source in the row."""

  dtype: str = 'float32'

  @nn.compact
  def features(self, source, target, packing=None):
    shown = (source != 0).astype(jnp.float32).sum(axis=1)[:, None, None]
    # A row of two sentences has twice the sum of one.
    return jnp.broadcast_to(shown, (*target.shape, 1)), None


def test_the_change_is_relative():
  metrics = _measured(Sums(), {})
  assert metrics['padding'] == 0.0
  assert metrics['packing'] == pytest.approx(1.0)


def test_decoding_sees_padding_only_without_the_mask(variables):
  source = np.array([[5, 6, 3]], np.int32)
  padded = np.array([[5, 6, 3, 0, 0]], np.int32)
  for is_masked in (True, False):
    model = _model(mask_padding=is_masked)
    masks = [
      np.asarray(model.apply(variables, x, method='encode').mask)
      for x in (source, padded)
    ]
    assert masks[0].all()
    assert masks[1].all() == (not is_masked)
