"""Linear probes, on models whose vectors are known."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators import probe
from seqlab.tasks.translation import Translation
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))


class Remembers(nn.Module):
  """Its vector of a source holds the piece at one position, and nothing else."""

  position: int
  words: int
  dtype = 'float32'

  def vector(self, source):
    return jax.nn.one_hot(source[:, self.position], self.words)


@pytest.fixture(scope='module')
def task(tiny, tmp_path_factory):
  folder = tmp_path_factory.mktemp('probe')
  return Translation.from_config(tiny, folder / 'vocabulary')


def _measured(task, model):
  task.model = model
  make = resolve('evaluators.probe:Evaluator')
  options = dict(split='valid', shortest=3, longest=6)
  evaluator = call(make, options, 'evals', task=task, sharding=ROWS)
  metrics = dict(evaluator.run({'params': {}}))
  assert set(metrics) == set(evaluator.metrics)
  return metrics, evaluator


@pytest.mark.parametrize('position', [0, 2])
def test_the_word_that_a_vector_holds_is_found(task, position):
  metrics, evaluator = _measured(
    task, Remembers(position, task.vocabularies.source.size)
  )
  for i in range(3):
    if i == position:
      assert metrics[f'right/{i + 1}'] == 1.0
      assert metrics[f'chance/{i + 1}'] < 0.5
    else:
      assert metrics[f'right/{i + 1}'] < 0.5
  for name, hits in evaluator.arrays.items():
    shares = [metrics[f'{name}/{i + 1}'] for i in range(3)]
    np.testing.assert_allclose(hits.mean(axis=0), shares)


def test_a_vector_that_holds_nothing_gives_the_most_frequent_word():
  pieces = np.array([5, 7, 7, 4, 7])
  found = probe.fit_probe(np.ones((5, 3)), pieces)(np.ones((2, 3)))
  np.testing.assert_array_equal(found, [7, 7])


def test_a_model_without_a_vector_is_named(task):
  class Other(nn.Module):
    pass

  with pytest.raises(ValueError, match=r"'probe' needs a model with one vector.*Other"):
    _measured(task, Other())


def test_the_vector_of_a_recurrent_model_is_where_its_decoder_starts():
  from seqlab.models.recurrent import Recurrent

  model = Recurrent(9, 9, width=4, cell='rnn', dtype='float32')
  source = jnp.array([[4, 5, 3], [6, 3, 0]])
  variables = jax.jit(model.init)(jax.random.key(0), source, source)
  vector = model.apply(variables, source, method='vector')
  memory = model.apply(variables, source, method='encode')
  np.testing.assert_array_equal(vector, memory.start[-1][0])
