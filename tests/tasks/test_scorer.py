"""Scores of given translations."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.tasks.scorer import Scorer
from seqlab.tasks.translation import Translation
from seqlab.types import EOS

PAIRS = [
  ('w1 w2 w3', 'w3 w2 w1'),
  ('w5', 'w5'),
  ('w1 w2 w3 w4 w5 w6 w7 w8', 'w8 w7 w6 w5 w4 w3 w2 w1'),
  ('w2', ''),
]


@pytest.fixture(scope='module')
def task(tiny, tmp_path_factory):
  return Translation.from_config(tiny, tmp_path_factory.mktemp('scorer') / 'vocabulary')


@pytest.fixture(scope='module')
def variables(task):
  return nn.unbox(jax.jit(task.init)(jax.random.key(0)))


def test_scores_are_the_models_log_probabilities(task, variables):
  scores = Scorer(task.model, variables, task.vocabularies).score(PAIRS)
  apply = jax.jit(task.model.apply)
  for (source, target), logp in zip(PAIRS, scores, strict=True):
    sides = zip((source, target), ('source', 'target'), strict=True)
    s, t = (
      np.append(getattr(task.vocabularies, name).encode([line])[0], EOS)[None]
      for line, name in sides
    )
    expected = jax.nn.log_softmax(apply(variables, s, t))[0]
    np.testing.assert_allclose(logp, expected[np.arange(t.size), t[0]], atol=1e-4)


def test_scores_do_not_depend_on_the_batch(task, variables):
  together = Scorer(task.model, variables, task.vocabularies).score(PAIRS)
  alone = Scorer(task.model, variables, task.vocabularies, tokens=16).score(PAIRS)
  for a, b in zip(together, alone, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_source_can_be_read_from_its_end(task, variables):
  forward = Scorer(task.model, variables, task.vocabularies)
  back = Scorer(task.model, variables, task.vocabularies, reverse_source=True)
  (expected,) = forward.score([('w3 w2 w1', 'w4')])
  (scores,) = back.score([('w1 w2 w3', 'w4')])
  np.testing.assert_allclose(scores, expected, atol=1e-5)
