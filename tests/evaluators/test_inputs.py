"""The drift of the inputs of sublayers, on arrays and models that are known."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators.inputs import drift
from seqlab.tasks.translation import Translation
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))


def _evaluator(config, folder, **model):
  config = config | {'model': config['model'] | model}
  task = Translation.from_config(config, folder / 'vocabulary')
  make = resolve('evaluators.inputs:Evaluator')
  options = dict(split='valid', side='decoder')
  evaluator = call(make, options, 'evals', task=task, sharding=ROWS)
  return evaluator, nn.unbox(jax.jit(task.init)(jax.random.key(0)))


def test_inputs_after_layer_norm_have_its_mean_and_deviation(tiny, tmp_path):
  evaluator, variables = _evaluator(tiny, tmp_path)
  norm = variables['params']['decoder']['norm_cross']
  norm['scale'] = 2.0 * np.ones_like(norm['scale'])
  norm['bias'] = 3.0 * np.ones_like(norm['bias'])
  metrics = dict(evaluator.run(variables))
  assert {*metrics} == {*evaluator.metrics}
  layers = len(norm['scale'])
  # Norms are in the order of their names: norm_cross, norm_mlp, norm_self.
  cross = evaluator.arrays['mean'][:layers], evaluator.arrays['deviation'][:layers]
  # Over features layer norm has mean 0 and mean square 1 at every position.
  np.testing.assert_allclose(cross[0].mean(axis=1), 3.0, atol=1e-4)
  square = cross[1] ** 2 + (cross[0] - 3.0) ** 2
  np.testing.assert_allclose(square.mean(axis=1), 4.0, rtol=1e-3)
  others = evaluator.arrays['mean'][layers:]
  np.testing.assert_allclose(others.mean(axis=1), 0.0, atol=1e-4)


def test_noise_changes_with_the_variables(tiny, tmp_path):
  evaluator, variables = _evaluator(tiny, tmp_path, normalization='noisy_batch')
  means = []
  for factor in (1.0, 1.0, 1.0 + 1e-6):
    moved = jax.tree.map(lambda x, f=factor: x * f, variables['params'])
    list(evaluator.run({**variables, 'params': moved}))
    means.append(evaluator.arrays['mean'])
  np.testing.assert_array_equal(means[0], means[1])
  assert np.sqrt(np.mean((means[2] - means[0]) ** 2)) > 0.1


def test_post_norm_is_refused(tiny, tmp_path):
  with pytest.raises(ValueError, match=r"'inputs' reads the norms before sublayers"):
    _evaluator(tiny, tmp_path, norm='post')


def test_the_drift_is_the_change_of_means_in_deviations_before_it(tmp_path):
  (tmp_path / 'samples').mkdir()
  steps = (([0.0, 0.0], [2.0, 4.0]), ([6.0, 4.0], [1.0, 1.0]), ([6.0, 4.0], [9.0, 9.0]))
  for step, (mean, deviation) in enumerate(steps):
    file = tmp_path / 'samples' / f'inputs-{10 * step:08d}.npz'
    np.savez(file, mean=[mean], deviation=[deviation])
  np.savez(tmp_path / 'samples' / 'inputs-other-00000001.npz', mean=0)
  assert drift(tmp_path, 'inputs') == [pytest.approx(5**0.5), 0.0]
