"""A model without the marks of the beginning and of the ends of sentences."""

from pathlib import Path

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.experiment import load_module
from seqlab.models.recurrent import Recurrent
from seqlab.tasks.translation import SequenceToSequence
from seqlab.tasks.vocabularies import make_vocabularies
from seqlab.text.agreement import Agreement
from seqlab.types import BOS, EOS, PAD

ROOT = Path(__file__).parents[2]
SOURCE = np.array([[5, 6, EOS, PAD], [7, EOS, PAD, PAD]], np.int32)
TARGET = np.array([[8, 5, EOS], [6, EOS, PAD]], np.int32)


def _model(**options):
  return Recurrent(10, 10, width=8, cell='gru', dtype='float32', **options)


@pytest.fixture(scope='module')
def variables():
  model = _model(attention='dot', placement='before')
  return nn.unbox(jax.jit(model.init)(jax.random.key(0), SOURCE, TARGET))


def _logits(variables, source=SOURCE, target=TARGET, **options):
  model = _model(attention='dot', placement='before', **options)
  return np.asarray(model.apply(variables, source, target))


def test_without_the_sources_end_eos_is_read_as_padding(variables):
  padded = np.where(SOURCE == EOS, PAD, SOURCE)
  without = _logits(variables, source_end=False)
  np.testing.assert_array_equal(without, _logits(variables, source=padded))
  assert np.abs(without - _logits(variables)).max() > 1e-3


def test_the_first_input_may_be_zero(variables):
  without = _logits(variables, first_token=None)
  table = variables['params']['target_embedding']['table']
  zeroed = {**variables['params'], 'target_embedding': {'table': table.at[BOS].set(0)}}
  # BOS also has a row among the outputs, which is then zero, too.
  others = [i for i in range(10) if i != BOS]
  expected = _logits({'params': zeroed})
  np.testing.assert_allclose(without[..., others], expected[..., others], atol=1e-6)
  assert np.abs(without - _logits(variables)).max() > 1e-3


def test_the_first_input_may_be_an_ordinary_token(variables):
  without = _logits(variables, first_token=7)
  table = variables['params']['target_embedding']['table']
  replaced = table.at[BOS].set(table[7])
  expected = _logits(
    {'params': {**variables['params'], 'target_embedding': {'table': replaced}}}
  )
  others = [i for i in range(10) if i != BOS]
  np.testing.assert_allclose(without[..., others], expected[..., others], atol=1e-6)
  assert np.abs(without - _logits(variables)).max() > 1e-3


@pytest.mark.parametrize('first', [None, 7])
def test_decoding_has_the_same_start(variables, first):
  model = _model(
    attention='dot', placement='before', first_token=first, source_end=False
  )
  memory = model.apply(variables, SOURCE, method='encode')
  state = model.apply(variables, memory, 2, 3, method='start')
  bos = jnp.full(2, BOS, jnp.int32)
  _, logits = model.apply(variables, memory, state, bos, method='step')
  expected = _logits(variables, first_token=first, source_end=False)[:, 0]
  np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize('end', [0.0, 0.5, 1.0, None])
def test_the_weight_of_the_targets_end_is_that_in_the_loss(variables, end):
  task = SequenceToSequence(_model(attention='dot', placement='before'), 10)
  batch = {'source': SOURCE, 'target': TARGET}
  hyper = {} if end is None else {'end_weight': jnp.float32(end)}
  loss = task.loss(variables, batch, None, hyper)
  logp = jax.nn.log_softmax(_logits(variables))
  nll = -np.take_along_axis(np.asarray(logp), TARGET[..., None], axis=-1)[..., 0]
  weights = np.where(TARGET == EOS, 1.0 if end is None else end, TARGET != PAD)
  assert float(loss.value) == pytest.approx((weights * nll).sum(), rel=1e-5)
  assert float(loss.weight) == pytest.approx(weights.sum())


@pytest.mark.slow
def test_the_first_token_of_the_study_is_a_common_word_of_its_targets(tmp_path):
  study = load_module(ROOT / 'experiments/lecture/boundaries.py')
  config = study.get_config()
  corpus = Agreement(**{k: x for k, x in config.corpus.items() if k != 'name'})
  vocabulary = make_vocabularies(config, corpus, tmp_path, lambda _: None).target
  assert vocabulary.pieces()[study.WAS] == '▁был'
  ids, _ = vocabulary.encode(corpus.read('train')[1])
  assert (ids == study.WAS).sum() > 30_000 / 7
