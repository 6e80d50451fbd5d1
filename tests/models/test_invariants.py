"""Every piece of a model keeps the invariants: a new kind is tested by its name alone."""

import functools

from flax.core import FrozenDict
import jax
import numpy as np
import pytest

from seqlab import testing
from seqlab.layers import ACTIVATIONS, NORMALIZATIONS, POSITIONS, SCORES, TRANSITIONS
from seqlab.layers.recurrent import CELLS
from seqlab.models import MODELS
from seqlab.pieces import find
from seqlab.types import EOS, PAD

# Small enough that the longest distances here share a vector or a bucket, and that every
# option is used.
OPTIONS = {
  'shaw': dict(clip=2),
  't5': dict(buckets=6, max_distance=4),
  'power': dict(warmup=1, groups=2),
  'local_monotonic': dict(window=1),
  'local_predictive': dict(window=2),
  'location': dict(positions=8),
}


def _check_decoding(kind='transformer', **options):
  testing.check_causality(kind, **options)
  testing.check_cached_decoding(kind, **options)


def _all_or(check):
  """Parametrises with a quick check, and with all checks behind the marker `slow`.

  Each invariant compiles programs of its own, which takes seconds.
  """
  all_checks = pytest.param(testing.check_model, id='all', marks=pytest.mark.slow)
  return pytest.mark.parametrize('check', [pytest.param(check, id='quick'), all_checks])


def _piece(name):
  return FrozenDict(kind=name, **OPTIONS[name]) if name in OPTIONS else name


def _reads_one_side(name):
  return testing.reads_one_side(find(name, MODELS, 'model')[0])


@_all_or(_check_decoding)
@pytest.mark.parametrize('name', POSITIONS)
def test_positions(name, check):
  check(positions=_piece(name))


@_all_or(_check_decoding)
@pytest.mark.parametrize('name', NORMALIZATIONS)
def test_normalizations(name, check):
  check(normalization=_piece(name))


@_all_or(_check_decoding)
@pytest.mark.parametrize('name', ACTIVATIONS)
def test_activations(name, check):
  check(activation=_piece(name))


# Cached decoding with each score, which cannot read later tokens, is tested in
# test_recurrent.py.
@pytest.mark.slow
@pytest.mark.parametrize('name', SCORES)
def test_scores(name):
  testing.check_model('recurrent', packed=False, attention=_piece(name), cell='gru')


@_all_or(_check_decoding)
@pytest.mark.parametrize('name', TRANSITIONS)
def test_transitions(name, check):
  packed = {'packed': False} if check is testing.check_model else {}
  check('hard_attention', transition=name, **packed)


@_all_or(_check_decoding)
def test_copying_from_the_source(check):
  packed = {'packed': False} if check is testing.check_model else {}
  check('recurrent', attention='general', copy_source=True, **packed)


DECODERS = {
  'decoder': dict(positions='rotary', window=3, norm='deep'),
  'recurrent_lm': dict(cell='gru', layer_norm=True),
}


@pytest.mark.parametrize('name', [name for name in MODELS if _reads_one_side(name)])
def test_models_of_one_side(name):
  testing.check_model(name, packed=name == 'decoder', **DECODERS.get(name, {}))


@_all_or(testing.check_first_tokens)
def test_shared_layers_without_an_encoder(check):
  check('decoder', share_layers=True)


@pytest.mark.slow
@pytest.mark.parametrize('name', POSITIONS)
def test_positions_without_an_encoder(name):
  testing.check_model('decoder', positions=_piece(name))


@pytest.mark.slow
@pytest.mark.parametrize('name', NORMALIZATIONS)
def test_normalizations_without_an_encoder(name):
  testing.check_model('decoder', normalization=_piece(name))


@pytest.mark.slow
@pytest.mark.parametrize('name', CELLS)
def test_cells_without_an_encoder(name):
  testing.check_model('recurrent_lm', packed=False, cell=name)


@pytest.mark.slow
@pytest.mark.parametrize(
  'options',
  [
    dict(norm='deep', normalization='rms', positions='rotary', window=2),
    dict(share_layers=True, positions='shaw', normalization='batch'),
    dict(norm='post', normalization='batch', decoder_normalization='layer', window=0),
  ],
  ids=str,
)
def test_places_of_the_norm_and_windows(options):
  testing.check_model(**options)


@_all_or(_check_decoding)
def test_features_without_an_order(check):
  check(unordered=8)


def test_a_source_without_features_has_a_position_for_each_word():
  """The last word of a full row is at position S, beyond those of other models."""
  model, variables = testing.make_model(unordered=8)
  encode = jax.jit(functools.partial(model.apply, method='encode'))
  padding = np.full((1, 3), PAD)
  full = np.array([[5, 6, 7, 8, EOS]])
  wide = np.concatenate([full, padding], axis=1)
  values, others = (encode(variables, x).layers[0].value for x in (full, wide))
  np.testing.assert_allclose(others[:, :, :5], values, atol=1e-5)


def test_learned_positions_need_one_more_for_features():
  positions = FrozenDict(kind='learned', max_length=5)
  model, variables = testing.make_model(unordered=8, positions=positions)
  model.apply(variables, np.array([[5, 6, 17, EOS]]), method='encode')
  with pytest.raises(ValueError, match='a row of 6 positions is longer'):
    model.apply(variables, np.array([[5, 6, 7, 17, EOS]]), method='encode')


def test_the_order_of_features_has_no_effect():
  model, variables = testing.make_model(unordered=8)  # the ids 16 to 23
  encode = jax.jit(functools.partial(model.apply, method='encode'))
  source = np.array([[5, 6, 17, 20, EOS], [5, 6, 20, 17, EOS], [17, 20, 5, 6, EOS]])
  values = np.asarray(encode(variables, source).layers[0].value)  # [B, H, S, K]
  np.testing.assert_allclose(values[1][:, [0, 1, 3, 2, 4]], values[0], atol=1e-5)
  np.testing.assert_allclose(values[2][:, [2, 3, 0, 1, 4]], values[0], atol=1e-5)
  swapped = np.asarray(encode(variables, source[:, [1, 0, 2, 3, 4]]).layers[0].value)
  assert not np.allclose(swapped[0][:, [1, 0, 2, 3, 4]], values[0], atol=1e-3)
