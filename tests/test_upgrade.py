"""Keys of the first edition as today's."""

import pytest

from seqlab.config import with_defaults
from seqlab.upgrade import FORMAT, upgrade


def _transformer(**model):
  return upgrade({'model_name': 'models.transformer:Transformer', 'model': model})


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ({}, {}),
    ({'positions': 'rotary', 'clip': 3, 'buckets': 8}, {'positions': 'rotary'}),
    ({'clip': 3}, {}),
    (
      {'positions': 'shaw', 'clip': 3, 'buckets': 8},
      {'positions': {'kind': 'shaw', 'clip': 3}},
    ),
    (
      {'positions': 't5', 'buckets': 8, 'max_distance': 9},
      {'positions': {'kind': 't5', 'buckets': 8, 'max_distance': 9}},
    ),
    (
      {'positions': 'learned', 'max_positions': 80},
      {'positions': {'kind': 'learned', 'max_length': 80}},
    ),
    (
      {'normalization': 'layer', 'norm_warmup': 5, 'norm_momentum': 0.5},
      {'normalization': 'layer'},
    ),
    (
      {
        **{'normalization': 'power', 'decoder_normalization': 'batch'},
        **{'norm_warmup': 5, 'norm_momentum': 0.5, 'norm_groups': 2},
        'batch_axis': 'data',
      },
      {
        'normalization': {
          **{'kind': 'power', 'warmup': 5, 'momentum': 0.5, 'groups': 2},
          'axis': 'data',
        },
        'decoder_normalization': {'kind': 'batch', 'momentum': 0.5, 'axis': 'data'},
      },
    ),
  ],
)
def test_options_of_a_kind_move_into_the_piece(old, new):
  upgraded = _transformer(width=8, **old)
  assert upgraded == {'model': {'kind': 'transformer', 'width': 8, **new}}
  assert upgrade(upgraded) == upgraded


@pytest.mark.parametrize(
  ('attention', 'options', 'new'),
  [
    (None, None, None),
    ('layers.alignment:Dot', None, 'dot'),
    ('seqlab.layers.alignment:ScaledDot', None, 'scaled_dot'),
    ('mine:score', None, 'mine:score'),
    (
      'layers.alignment:LocalMonotonic',
      {'window': 2},
      {'kind': 'local_monotonic', 'window': 2},
    ),
  ],
)
def test_an_attention_score_is_a_piece(attention, options, new):
  model = {'attention': attention, 'attention_options': options}
  name = 'seqlab.models.recurrent:Recurrent'
  upgraded = upgrade({'model_name': name, 'model': model})
  assert upgraded == {'model': {'kind': 'recurrent', 'attention': new}}


def test_a_users_model_and_evaluators_have_a_kind():
  old = {
    'model_name': 'mine:Model',
    'model': {'clip': 1},
    'evals': {'valid': {'type': 'translation', 'split': 'valid'}},
  }
  assert upgrade(old) == {
    'model': {'kind': 'mine:Model', 'clip': 1},
    'evals': {'valid': {'kind': 'translation', 'split': 'valid'}},
  }


def test_a_model_may_be_given_by_its_name_only():
  assert with_defaults({'model': 'transformer'})['model'] == {'kind': 'transformer'}


@pytest.mark.parametrize('number', [FORMAT + 1, '2', None])
def test_a_later_format_is_refused(number):
  with pytest.raises(
    ValueError, match=f'reads formats up to {FORMAT}: use the version'
  ):
    upgrade({'format': number, 'task': 'x'})


def test_the_format_is_not_a_key_of_an_experiment():
  assert upgrade({'format': FORMAT, 'seed': 1}) == {'seed': 1}


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ({'kind': 'word', 'byte_fallback': False}, {'kind': 'word'}),
    ({'kind': 'word', 'byte_fallback': True}, {'kind': 'word', 'byte_fallback': True}),
    ({'size': 9, 'min_count': 1}, {'size': 9}),
    ({'kind': 'bpe', 'byte_fallback': False}, {'kind': 'bpe', 'byte_fallback': False}),
  ],
)
def test_options_of_other_kinds_of_vocabulary_may_have_their_defaults(old, new):
  assert upgrade({'vocabulary': old}) == {'vocabulary': new}
