"""Evaluators, tested on models whose correct answers are known."""

import dataclasses

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.embeddings.objectives import OBJECTIVES
from seqlab.evaluators import interface
from seqlab.evaluators.agreement import forms
from seqlab.tasks.translation import Translation
from seqlab.tasks.word2vec import WordPrediction
from seqlab.text.agreement import Dependency, Pair
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))


def _task(config, folder, **changes):
  task = Translation.from_config(config | changes, folder / 'vocabulary')
  return task, nn.unbox(jax.jit(task.init)(jax.random.key(0)))


def _run(kind, task, variables, **options):
  make = resolve(f'evaluators.{kind}:Evaluator')
  evaluator = call(make, options, 'evals', task=task, sharding=ROWS)
  evaluator.compile(variables)
  return dict(evaluator.run(variables)), evaluator


@pytest.fixture(scope='module')
def fresh(tiny, tmp_path_factory):
  return _task(tiny, tmp_path_factory.mktemp('fresh'))


@pytest.fixture(scope='module')
def by_length(fresh):
  """BLEU by the lengths of sources, (3, 6) and (100,)."""
  options = dict(split='valid', beam=1)
  return [
    _run('translation', *fresh, lengths=lengths, shapes=shapes, **options)[0]
    for lengths, shapes in (((3, 6), 2), ((100,), 1))
  ]


def test_bleu_by_length_covers_the_same_sentences(by_length):
  metrics, whole = by_length
  names = [n for n in metrics if n.startswith('bleu/')]
  assert names == ['bleu/1-3', 'bleu/4-6', 'bleu/7-']
  assert metrics['bleu'] == whole['bleu']


def test_a_range_of_all_lengths_has_the_bleu_of_the_split(by_length):
  _, metrics = by_length
  assert metrics['bleu/1-100'] == metrics['bleu']
  assert 'bleu/101-' not in metrics


@pytest.mark.parametrize('lengths', [(5, 5), (6, 3), (0,)])
def test_lengths_that_do_not_increase_are_refused(fresh, lengths):
  with pytest.raises(ValueError, match=r'should rise|at least 1'):
    _run('translation', *fresh, split='valid', lengths=lengths)


def test_prefixes_are_correct_less_often_than_their_tokens(fresh):
  metrics, _ = _run('errors', *fresh, split='valid', positions=(1, 2, 4, 90))
  assert set(metrics) == {f'{n}/{p}' for n in ('forced', 'prefix') for p in (1, 2, 4)}
  assert metrics['prefix/4'] <= metrics['prefix/2'] <= metrics['prefix/1']
  # No output of the model precedes the first token.
  assert metrics['prefix/1'] == metrics['forced/1']


def test_a_masked_decoder_leaks_nothing(fresh):
  metrics, _ = _run('leak', *fresh, length=3)
  assert metrics['share'] == 0.0


def test_a_decoder_without_its_mask_leaks(tiny, tmp_path):
  task, variables = _task(tiny, tmp_path, model=tiny['model'] | {'causal': False})
  metrics, _ = _run('leak', task, variables, length=3)
  assert metrics['share'] > 0.1


def test_a_leak_needs_enough_words(fresh):
  with pytest.raises(ValueError, match='set length='):
    _run('leak', *fresh, length=500)


def test_layer_norm_has_no_gap(fresh):
  metrics, _ = _run('statistics', *fresh, split='valid')
  assert metrics['gap'] == pytest.approx(0.0, abs=1e-5)


def test_fresh_batch_norm_has_a_gap(tiny, tmp_path):
  model = tiny['model'] | {'normalization': 'batch'}
  metrics, _ = _run('statistics', *_task(tiny, tmp_path, model=model), split='valid')
  assert abs(metrics['gap']) > 1e-3
  assert metrics['gap'] == pytest.approx(metrics['nll_running'] - metrics['nll_batch'])


def test_the_loss_has_the_hyperparameters_that_it_is_given(fresh):
  plain, half, whole = (
    _run('loss', *fresh, split='valid', hyper={'label_smoothing': rate})[0]
    for rate in (0.0, 0.2, 0.4)
  )
  assert plain['loss'] == pytest.approx(plain['nll'])
  assert half['nll'] == pytest.approx(plain['nll'])
  # Label smoothing is linear in its rate.
  assert half['loss'] == pytest.approx((plain['loss'] + whole['loss']) / 2)
  assert half['loss'] != pytest.approx(plain['loss'], rel=1e-4)


def test_entropy_is_at_most_that_of_uniform_attention(fresh):
  metrics, evaluator = _run('attention', *fresh, split='valid', show=2)
  assert set(metrics) == {'entropy_encoder', 'entropy_decoder', 'entropy_cross'}
  assert all(0 < value <= np.log(9) + 1e-5 for value in metrics.values())
  weights = evaluator.arrays['cross/1']  # [layers, H, T, S]
  assert weights.shape[2:] == (
    len(evaluator.arrays['target/1']),
    len(evaluator.arrays['source/1']),
  )
  np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)


@pytest.fixture(scope='module')
def skip_gram(tmp_path_factory):
  """Returns number of lines held out -> a task of word vectors, and its variables."""
  folder = tmp_path_factory.mktemp('skip_gram')
  (folder / 'text.txt').write_text('a b c d\n' * 40, 'utf-8')
  config = {
    'vocabulary': {'min_count': 1},
    'batching': {'streams': 2, 'length': 32, 'subsample': 0.0},
    'model': {'width': 4, 'window': 1, 'max_pairs_per_row': None, 'block': 8}
    | {'objective': {'kind': 'negative', 'negatives': 2, 'pool': 8}},
  }

  def make(heldout):
    corpus = {'path': str(folder / 'text.txt'), 'heldout': heldout}
    words = folder / f'words-{heldout}'
    task = WordPrediction.from_config(config | {'corpus': corpus}, words)
    return task, nn.unbox(task.init(jax.random.key(0)))

  return make


@pytest.mark.parametrize(
  ('kind', 'options', 'heldout'),
  [
    ('attention', {'split': 'valid'}, None),
    ('errors', {'split': 'valid'}, None),
    ('leak', {'length': 3}, None),
    ('loss', {'split': 'valid'}, None),
    ('statistics', {'split': 'valid'}, None),
    ('factorization', {'min_count': 1.0, 'unseen': 10}, 0),
    ('heldout', {}, 4),
  ],
)
def test_compiling_twice_changes_nothing(fresh, skip_gram, kind, options, heldout):
  task, variables = fresh if heldout is None else skip_gram(heldout)
  metrics, evaluator = _run(kind, task, variables, **options)
  evaluator.compile(variables)
  np.testing.assert_equal(dict(evaluator.run(variables)), metrics)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_vectors_that_know_nothing_have_the_likelihood_of_their_prior(
  skip_gram, objective
):
  task, variables = skip_gram(4)
  made = OBJECTIVES[objective](np.asarray(task.words.counts))
  task.net = dataclasses.replace(task.net, objective=made)
  contexts = np.zeros((made.num_rows, task.net.width), np.float32)
  zeros = {'params': variables['params'] | {'contexts': contexts}}
  metrics, _ = _run('likelihood', task, zeros)
  # Of four words that are equally frequent.
  assert metrics['nll'] == pytest.approx(np.log(4), rel=1e-5)


def test_a_likelihood_needs_windows():
  class Other:
    def evaluation(self, max_words):
      del max_words

  with pytest.raises(ValueError, match='not for Other: remove this evaluator'):
    _run('likelihood', Other(), {})


def test_a_recurrent_model_has_attention_maps(tiny, tmp_path):
  changes = {
    'model': {'kind': 'recurrent', 'width': 8, 'attention': 'dot'},
  }
  metrics, _ = _run('attention', *_task(tiny, tmp_path, **changes), split='valid')
  assert set(metrics) == {'entropy_cross'}


def test_a_model_without_attention_has_no_attention_maps(tiny, tmp_path):
  changes = {'model': {'kind': 'recurrent', 'width': 8}}
  task, variables = _task(tiny, tmp_path, **changes)
  with pytest.raises(ValueError, match='has no attention'):
    _run('attention', task, variables, split='valid')


def test_inflected_forms_are_found_in_pieces():
  """The | b-ig | cat -> Bol-shaja | koshka, in pieces; cat decides both."""
  pair = Pair('The big cat', 'Bolshaja koshka', (Dependency(0, 1, 'gender'),), (1, 2))
  (form,) = forms(pair, source=[0, 1, 1, 2], target=[0, 0, 1])
  assert (form.ending, form.source, form.target) == (1, (3,), ())
  pair = pair._replace(dependencies=(Dependency(1, 0, 'case'),))
  (form,) = forms(pair, source=[0, 1, 1, 2], target=[0, 0, 1])
  assert (form.ending, form.source, form.target) == (2, (1, 2), (1, 2))


@pytest.fixture(scope='module')
def grammatical(tiny, tmp_path_factory):
  corpus = {'name': 'agreement', 'source': 'en', 'target': 'ru'}
  corpus |= {'train': 200, 'valid': 12, 'test': 12}
  vocabulary = {'kind': 'bpe', 'size': 400, 'shared': True}
  batching = {'kind': 'buckets', 'tokens': 1024, 'shapes': 1}
  folder = tmp_path_factory.mktemp('grammatical')
  return _task(tiny, folder, corpus=corpus, vocabulary=vocabulary, batching=batching)


def test_heads_are_removed_one_by_one(grammatical):
  metrics, evaluator = _run('agreement', *grammatical, split='valid')
  arrays = evaluator.arrays
  assert arrays['look/cross'].shape == (1, 2, 6)
  assert arrays['without/decoder'].shape == (1, 2, 4)
  assert (arrays['count'][:3] > 0).all()
  assert 0 <= metrics['look_case_cross'] <= 1
  # With both heads of the only layer gone, nothing of the source is left; with one,
  # a fresh model's guesses change.
  assert np.isfinite(arrays['without/cross']).all()


def test_agreement_needs_its_corpus(fresh):
  with pytest.raises(ValueError, match=r"corpus\.kind='agreement'"):
    _run('agreement', *fresh, split='valid')


class _Wrong(interface.Evaluator):
  def __init__(self, answer):
    self.answer = answer

  def run(self, variables):
    return self.answer


@pytest.mark.parametrize('answer', [None, [0.5], [('exact', 'much')], [('a', 1, 2)]])
def test_an_evaluator_that_yields_no_pairs_is_named(answer):
  with pytest.raises(ValueError, match=r'evals\.mine: run\(\) of .*_Wrong must yield'):
    interface.measured('mine', _Wrong(answer), {})


def test_numbers_of_arrays_are_measurements():
  assert interface.measured('mine', _Wrong([('a', np.ones(()))]), {}) == {'a': 1.0}
