"""Attention of examples, compared with what the model itself sows."""

import functools

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.models.interface import attention_weights
from seqlab.tasks.interface import Attends, needs
from seqlab.tasks.language_model import LanguageModel
from seqlab.tasks.translation import Translation
from seqlab.types import BOS, EOS, PAD
from seqlab.use.attention import attend
from seqlab.use.runs import LoadedRun

LONG, SHORT = ('w1 w2 w3 w4', 'w4 w3'), ('w5', 'w1')
RECURRENT = {'kind': 'recurrent', 'width': 8, 'attention': 'additive'}


def _fresh(kind, config, folder):
  task = kind.from_config(config, folder / 'vocabulary')
  return task, nn.unbox(jax.jit(task.init)(jax.random.key(0)))


def _examples(*pairs):
  return [{'source': source, 'target': target} for source, target in pairs]


def _sown(task, variables, pair):
  """Returns the weights of one pair, read without padding."""
  sides = task.vocabularies.source, task.vocabularies.target
  ids = [np.append(v.encode([x])[0], EOS) for v, x in zip(sides, pair, strict=True)]
  weights = jax.jit(functools.partial(attention_weights, task.model))
  by_kind = weights(variables, *(x[None] for x in ids))
  return {kind: np.asarray(w[:, 0]) for kind, w in by_kind.items()}


@pytest.fixture(scope='module')
def translation(tiny, tmp_path_factory):
  """A task, its variables, and the attention of three pairs; the last is by tokens."""
  task, variables = _fresh(Translation, tiny, tmp_path_factory.mktemp('attention'))
  ids = task.vocabularies.target.encode([LONG[1]])[0].tolist()
  pairs = (LONG, SHORT, (LONG[0], [*ids, EOS, PAD, PAD]))
  return task, variables, task.attend(variables, _examples(*pairs))


def test_weights_are_those_that_the_model_sows_without_padding(translation):
  task, variables, attended = translation
  expected = _sown(task, variables, LONG)
  assert set(attended[0].maps) == {'encoder', 'decoder', 'cross'}
  for kind, attention in attended[0].maps.items():
    np.testing.assert_allclose(attention.weights, expected[kind], atol=1e-6)


def test_rows_sum_to_one_over_the_tokens_of_their_sides(translation):
  for one in translation[2]:
    for attention in one.maps.values():
      sides = one.sides[attention.rows], one.sides[attention.columns]
      assert attention.weights.shape == (1, 2, *(len(x.tokens) for x in sides))
      np.testing.assert_allclose(attention.weights.sum(axis=-1), 1.0, atol=1e-5)


def test_sides_name_tokens_and_words(translation):
  attended = translation[2][0]
  source, target, read = (attended.sides[x] for x in ('source', 'target', 'read'))
  assert source == (['w1', 'w2', 'w3', 'w4', '</s>'], [0, 1, 2, 3, -1])
  assert target == (['w4', 'w3', '</s>'], [0, 1, -1])
  assert read == (['<s>', 'w4', 'w3'], [-1, 0, 1])
  cross, decoder = attended.maps['cross'], attended.maps['decoder']
  assert (cross.rows, cross.columns) == ('target', 'source')
  assert (decoder.rows, decoder.columns) == ('target', 'read')
  assert not np.triu(decoder.weights, 1).any()  # nothing that comes later is read


def test_a_target_may_be_given_by_its_tokens(translation):
  by_text, _, by_ids = translation[2]
  assert by_ids.sides == by_text.sides
  np.testing.assert_allclose(
    by_ids.maps['cross'].weights, by_text.maps['cross'].weights, atol=1e-6
  )


@pytest.mark.slow
def test_a_reversed_source_is_shown_in_the_order_of_the_text(tiny, tmp_path):
  config = tiny | {
    'model': RECURRENT,
    'batching': tiny['batching'] | {'reverse_source': True},
  }
  task, variables = _fresh(Translation, config, tmp_path)
  (attended,) = task.attend(variables, _examples(LONG))
  assert attended.sides['source'].tokens == ['w1', 'w2', 'w3', 'w4', '</s>']
  assert set(attended.maps) == {'cross'}
  # The model reads w4 w3 w2 w1 and then the end.
  expected = _sown(task, variables, ('w4 w3 w2 w1', LONG[1]))['cross']
  shown = attended.maps['cross'].weights
  np.testing.assert_allclose(shown[..., [3, 2, 1, 0, 4]], expected, atol=1e-6)


@pytest.mark.slow
def test_a_model_without_attention_is_named_before_anything_is_read(tiny, tmp_path):
  config = tiny | {'model': {'kind': 'recurrent', 'width': 8}}
  task, variables = _fresh(Translation, config, tmp_path)
  with pytest.raises(
    ValueError, match=r'Recurrent.*has no attention: set model.attent'
  ):
    task.attend(variables, [])


@pytest.fixture(scope='module')
def language_model(tiny, corpus_files, tmp_path_factory):
  return _fresh(
    LanguageModel,
    {
      'corpus': {'kind': 'running', 'files': {'train': corpus_files['train'][0]}},
      'vocabulary': {'kind': 'word', 'size': 100},
      'batching': {'kind': 'windows', 'length': 6, 'rows': 2},
      'model': {**tiny['model'], 'kind': 'decoder'},
    },
    tmp_path_factory.mktemp('text'),
  )


def test_a_language_model_attends_to_what_it_has_read(language_model):
  task, variables = language_model
  (attended,) = task.attend(variables, [{'text': 'w1 w2\nw3'}])
  assert attended.sides['text'] == (
    ['w1', 'w2', '</s>', 'w3', '</s>'],
    [0, 1, -1, 2, -1],
  )
  # Running text begins after the end of a line.
  assert attended.sides['read'].tokens == ['</s>', 'w1', 'w2', '</s>', 'w3']
  ids = task.vocabularies.text.encode(['w1 w2', 'w3'])[0]
  text = np.array([[*ids[:2], EOS, ids[2], EOS]])
  weights = jax.jit(functools.partial(attention_weights, task.model))
  expected = weights(variables, text, np.array([EOS]))
  decoder = attended.maps['decoder']
  assert (decoder.rows, decoder.columns) == ('text', 'read')
  np.testing.assert_allclose(decoder.weights, expected['decoder'][:, 0], atol=1e-6)
  other = weights(variables, text, np.array([BOS]))
  assert np.abs(decoder.weights - other['decoder'][:, 0]).max() > 1e-3


def test_a_text_longer_than_the_context_is_refused(language_model):
  task, variables = language_model
  with pytest.raises(ValueError, match=r'7 tokens.*learnt to read 6: give a shorter'):
    task.attend(variables, [{'text': 'w1 ' * 6}])


class _Own:
  """A task of one's own: each token of the target attends to the last of the source."""

  sides = ('source', 'target')

  def attend(self, variables, examples):
    return [(variables, example) for example in examples]


def test_a_task_of_ones_own_may_show_attention():
  loaded = LoadedRun(None, needs(_Own(), Attends), 'variables', [1])
  texts, attended = attend(loaded, 'a b', 'c', {})
  assert attended == ('variables', {'source': 'a b', 'target': 'c'})
  assert texts == attended[1]
  with pytest.raises(ValueError, match='_Own cannot translate: give the target'):
    attend(loaded, 'a b', None, {})
  with pytest.raises(ValueError, match='--max-length has no effect: the target is'):
    attend(loaded, 'a b', 'c', {'length': (1, 2)})


def test_a_target_is_refused_where_there_is_one_text(language_model):
  loaded = LoadedRun(None, *language_model, [1])
  for target, options in (('x', {}), (None, {'beam': 2})):
    with pytest.raises(
      ValueError, match=r'--(target|beam) is for tasks that translate'
    ):
      attend(loaded, 'w1', target, options)
  with pytest.raises(ValueError, match='the text is blank'):
    attend(loaded, ' ', None, {})
