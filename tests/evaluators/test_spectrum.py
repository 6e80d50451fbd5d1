import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.tasks.estimators.svd import SingularVectors
from seqlab.train.checks import check_experiment
from seqlab.train.mesh import batch_sharding, make_mesh

MESH = make_mesh(data=1, devices=1)


@pytest.fixture
def config(tmp_path):
  random = np.random.default_rng(0)
  words = [f'{a}{b}' for a in 'bcdfgk' for b in 'aeiou']
  lines = [' '.join(random.choice(words[i % 7 :: 4], 12)) for i in range(200)]
  (tmp_path / 'text.txt').write_text('\n'.join(lines), 'utf-8')
  return {
    'task': 'tasks.estimators.svd:SingularVectors',
    'seed': 0,
    'corpus': {'path': str(tmp_path / 'text.txt')},
    'vocabulary': {'min_count': 1},
    'counts': {'window': 2},
    'pmi': {},
    'model': {'width': 8, 'block': 4, 'iterations': 6},
  }


def make(task):
  kind = resolve('evaluators.spectrum:Evaluator')
  sharding = batch_sharding(MESH)
  return call(kind, {}, 'evals.spectrum', task=task, sharding=sharding)


def test_the_singular_values_are_those_of_the_matrix(config, tmp_path):
  task = SingularVectors.from_config(config, tmp_path / 'words')
  assert [done.step for done in task.fit(tmp_path, MESH)] == [*range(7)]
  evaluator, variables = make(task), task.load(tmp_path)
  evaluator.compile(variables)
  metrics = dict(evaluator.run(variables))
  expected = np.linalg.svd(task.matrix.toarray(), compute_uv=False)
  np.testing.assert_allclose(evaluator.arrays['values'], expected[:8], rtol=0.02)
  assert metrics['first'] == pytest.approx(expected[0], rel=1e-4)
  assert metrics['last'] == evaluator.arrays['values'][-1]
  share = np.square(expected[:8]).sum() / np.square(expected).sum()
  assert metrics['share'] == pytest.approx(share, rel=0.02)


def test_a_task_without_singular_values_is_refused(config):
  evals = {'spectrum': {'kind': 'spectrum'}}
  changed = config | {'task': 'tasks.estimators.ppmi:PPMIVectors', 'evals': evals}
  del changed['model']
  with pytest.raises(ValueError, match=r'evals\.spectrum: .*give singular values'):
    check_experiment(changed)
