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
    ({'remat': True}, {'remat': 'full'}),
    ({'remat': False}, {'remat': 'none'}),
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


def test_an_option_that_no_piece_takes_is_dropped_from_an_old_file_only():
  model = {'positions': 'rotary', 'buckets': 8, 'normalization': 'layer', 'clip': 3}
  today = {'model': {'kind': 'transformer', **model}}
  assert upgrade(today) == today  # the check of keys reports both


@pytest.mark.parametrize('model', ['cbow', {'kind': 'cbow'}])
def test_a_model_of_words_may_be_a_name(model):
  config = {'task': 'tasks.word2vec:WordPrediction', 'model': model}
  assert upgrade(config) == {**config, 'model': {'kind': 'cbow'}}


@pytest.mark.parametrize(('steps', 'iterations'), [(24, {}), (30, {'iterations': 30})])
def test_the_steps_of_an_svd_are_its_iterations_unless_they_are_the_default(
  steps, iterations
):
  model = {'width': 300, 'block': 32}
  old = {'task': 'tasks.counting:SingularVectors', 'steps': steps, 'model': model}
  assert upgrade(old) == {
    'task': 'tasks.estimators.svd:SingularVectors',
    'model': {**model, **iterations},
  }


@pytest.mark.parametrize(
  ('corpus', 'upgraded'),
  [
    ({'name': 'multi30k-tok'}, {'kind': 'multi30k-tok'}),
    ({'name': 'mine', 'files': {}}, {'name': 'mine', 'files': {}}),
    ({'name': 'tatoeba', 'files': {}}, {'name': 'tatoeba', 'files': {}}),
    ({'name': 'enwiki2018', 'part': 1}, {'name': 'enwiki2018', 'part': 1}),
    ('multi30k', 'multi30k'),
  ],
)
def test_the_name_of_a_corpus_is_its_kind(corpus, upgraded):
  assert upgrade({'corpus': corpus}) == {'corpus': upgraded}


@pytest.mark.parametrize('task', ['peer:Gensim', 'counting:SingularVectors', 'x:y'])
@pytest.mark.parametrize(
  ('key', 'damaged'),
  [
    *(('hyper', 3), ('hyper', {'peak': None}), ('schedule', None), ('model', [1])),
    *(('model', 3), ('evals', 'x'), ('corpus', {'name': []}), ('batching', 3)),
    ('model', {'kind': 'recurrent', 'attention': 'a:b', 'attention_options': 3}),
    ('model', {'kind': 'transformer', 'positions': [], 'buckets': 3}),
    ('steps', '3 epochs'),
  ],
)
def test_a_damaged_configuration_is_left_to_the_checks(task, key, damaged):
  config = {'task': f'tasks.{task}', 'hyper': {'peak': 0.1}, 'model': {}, 'steps': 1}
  upgrade(config | {key: damaged})  # raises no error


def test_the_default_sections_are_as_checks_read_them():
  config = {'task': {'kind': 'ppmi'}, 'evals': {'valid': 'my:Evaluator', 'x': 3}}
  full = with_defaults(config)
  assert full['task'] == 'ppmi'
  assert full['evals'] == {'valid': {'kind': 'my:Evaluator'}, 'x': 3}


@pytest.mark.parametrize('task', ['svd', 'tasks.estimators.svd:SingularVectors'])
def test_default_iterations_are_left_out(task):
  config = {'task': task, 'model': {'width': 100, 'iterations': 8}}
  assert upgrade(config) == {'task': task, 'model': {'width': 100}}


@pytest.mark.parametrize(
  ('model', 'expected'),
  [
    ({'forget_bias': 2.0}, {'cell': {'forget_bias': 2.0, 'kind': 'lstm'}}),
    (
      {'cell': 'lstm', 'forget_bias': 0.0},
      {'cell': {'forget_bias': 0.0, 'kind': 'lstm'}},
    ),
    ({'cell': 'gru', 'forget_bias': 1.0}, {'cell': 'gru'}),
    ({'cell': 'gru', 'forget_bias': 2.0}, {'cell': 'gru', 'forget_bias': 2.0}),
  ],
)
def test_the_bias_of_the_forget_gate_is_an_option_of_the_lstm(model, expected):
  upgraded = upgrade({'model': {'kind': 'recurrent', **model}})
  assert upgraded == {'model': {'kind': 'recurrent', **expected}}


@pytest.mark.parametrize(('old', 'new'), [(True, {}), (False, {'first_token': None})])
def test_a_decoder_without_a_start_token_begins_with_zeros(old, new):
  upgraded = upgrade({'model': {'kind': 'recurrent', 'start_token': old}})
  assert upgraded == {'model': {'kind': 'recurrent', **new}}
