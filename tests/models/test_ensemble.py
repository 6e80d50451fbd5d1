"""Several models decode as one."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.decoding.config import Beam
from seqlab.models.ensemble import Ensemble
from seqlab.models.recurrent import Recurrent
from seqlab.models.transformer import Transformer
from seqlab.tasks.translator import decode

V = 12
SOURCE = np.random.default_rng(0).integers(4, V, (2, 4)).astype(np.int32)
TARGET = np.random.default_rng(1).integers(4, V, (2, 3)).astype(np.int32)


@pytest.fixture(scope='module')
def members():
  models = (
    Recurrent(V, V, width=8, attention='dot', dtype='float32'),
    Transformer(V, V, width=8, mlp_width=8, heads=2, layers=1, dtype='float32'),
  )
  keys = jax.random.split(jax.random.key(0))
  variables = tuple(
    jax.tree.map(lambda x: x * 3, nn.unbox(jax.jit(m.init)(key, SOURCE, TARGET)))
    for m, key in zip(models, keys, strict=True)
  )
  return models, variables


def _decode(model, variables, beam=2):
  return jax.jit(lambda v: decode(model, v, SOURCE, Beam(beam=beam)))(variables)


def test_log_probabilities_are_averaged(members):
  models, variables = members
  log_probs = jax.jit(Ensemble(models).apply)(variables, SOURCE, TARGET)
  each = [
    jax.nn.log_softmax(jax.jit(m.apply)(v, SOURCE, TARGET))
    for m, v in zip(models, variables, strict=True)
  ]
  np.testing.assert_allclose(log_probs, (each[0] + each[1]) / 2, atol=1e-5)


def test_an_ensemble_of_one_model_decodes_as_that_model(members):
  models, variables = members
  tokens, scores = _decode(models[0], variables[0])
  decoded = _decode(Ensemble(models[:1]), variables[:1])
  np.testing.assert_array_equal(decoded[0], tokens)
  np.testing.assert_allclose(decoded[1], scores, atol=1e-5)


def test_a_recurrent_model_and_a_transformer_decode_together(members):
  """The first word is the one with the largest mean log-probability."""
  models, variables = members
  tokens, _ = _decode(Ensemble(models), variables, beam=1)
  logp = np.array(jax.jit(Ensemble(models).apply)(variables, SOURCE, TARGET)[:, 0])
  logp[:, [0, 2]] = -np.inf  # PAD and BOS are never written
  np.testing.assert_array_equal(tokens[:, 0, 0], logp.argmax(axis=-1))


def test_methods_that_decoding_does_not_need_are_refused(members):
  models, variables = members
  with pytest.raises(ValueError, match="no method 'features'"):
    Ensemble(models).apply(variables, SOURCE, TARGET, method='features')
