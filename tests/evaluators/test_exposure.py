"""The cost of a model's own errors, on a model whose answers are known."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators import exposure
from seqlab.models.interface import shift_right
from seqlab.tasks.translation import Translation
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.types import BOS, EOS, PAD, UNK

ROWS = batch_sharding(make_mesh(data=1, devices=1))


class Brittle(nn.Module):
  """Knows its sentences by heart, but errs at `error`, and after any wrong piece.

  Attributes:
    sources: its sources, as nested tuples of equal lengths.
    targets: their translations.
    error: the position at which it always errs.
    words: V.
  """

  sources: tuple
  targets: tuple
  error: int
  words: int
  hyper_names = ()
  dtype = 'float32'

  def _known(self, source):
    sources, targets = jnp.array(self.sources), jnp.array(self.targets)
    width = min(sources.shape[1], source.shape[1])
    same = (source[:, None, :width] == sources[None, :, :width]).all(axis=-1)
    return targets[same.argmax(axis=1)]  # [B, L]

  def _logits(self, true, known):
    return 9.0 * jax.nn.one_hot(jnp.where(known, true, UNK), self.words)

  def __call__(self, source, target, **options):
    true = self._known(source)
    short = max(target.shape[1] - true.shape[1], 0)
    true = jnp.pad(true, ((0, 0), (0, short)))[:, : target.shape[1]]
    known = shift_right(target) == shift_right(true)
    return self._logits(true, known & (jnp.arange(target.shape[1]) != self.error))

  def encode(self, source):
    return self._known(source)

  def start(self, memory, rows, max_len):
    return jnp.zeros(rows, jnp.int32)

  def step(self, memory, cache, token):
    def at(i):
      options = dict(mode='fill', fill_value=PAD)
      return jnp.take_along_axis(memory, i[:, None], 1, **options)[:, 0]

    before = jnp.where(cache == 0, BOS, at(cache - 1))
    known = (token == before) & (cache != self.error)
    return cache + 1, self._logits(at(cache), known)


@pytest.fixture(scope='module')
def measured(tiny, tmp_path_factory):
  """Metrics of a model that errs at the second piece."""
  folder = tmp_path_factory.mktemp('brittle')
  task = Translation.from_config(tiny, folder / 'vocabulary')
  batches = task.batches('valid', shuffle=False, tokens=2048, shapes=1)
  pairs = [batches.batch(k, seed=0) for k in range(batches.steps_per_epoch)]
  sides = [np.concatenate([x[side] for x in pairs]) for side in ('source', 'target')]
  sources, targets = (tuple(map(tuple, x.tolist())) for x in sides)
  V = task.vocabularies.target.size
  task.model = Brittle(sources, targets, error=1, words=V)
  make = resolve('evaluators.exposure:Evaluator')
  options = dict(split='valid', offsets=(1, 2), repairs=2)
  evaluator = call(make, options, 'evals', task=task, sharding=ROWS)
  return dict(evaluator.run({'params': {}})), evaluator, targets


def test_the_next_piece_depends_on_the_error_and_later_ones_do_not(measured):
  metrics, evaluator, targets = measured
  for place in (1, 2, 'rest'):
    assert metrics[f'true/{place}'] == 1.0
  assert metrics['own/1'] == metrics['random/1'] == 0.0
  assert metrics['own/2'] == metrics['random/2'] == 1.0
  # The second piece of a sentence with one word ends it: nothing follows its error.
  lengths = [sum(token != PAD for token in row) for row in targets]
  after = [n - 2 for n in lengths if n > 2]
  share = sum(n - 1 for n in after) / sum(after)
  assert metrics['own/rest'] == pytest.approx(share)
  assert metrics['sentences'] == len(after)
  hits, counts = evaluator.arrays['own'].T  # of each line
  assert sorted(counts[counts > 0]) == sorted(after)
  np.testing.assert_array_equal(hits, np.maximum(counts - 1, 0))


def test_a_planted_piece_stands_in_the_middle_for_every_model(measured):
  metrics, _, _ = measured
  assert metrics['planted/true/rest'] == 1.0
  assert metrics['planted/random/1'] == 0.0
  assert metrics['planted/random/2'] == 1.0


def test_what_depends_on_a_wrong_word_does_not_count(tmp_path):
  corpus = {
    'name': 'agreement',
    'source': 'en',
    'target': 'ru',
    'train': 50,
    'valid': 20,
  }
  vocabulary = {'kind': 'word', 'size': 400, 'shared': True}
  model = {'kind': 'transformer', 'width': 4, 'mlp_width': 4, 'heads': 1, 'layers': 1}
  config = dict(corpus=corpus, vocabulary=vocabulary, model=model, hyper={}, evals={})
  config |= dict(task='tasks.translation:Translation', seed=0, steps=1, batching={})
  task = Translation.from_config(config, tmp_path / 'vocabulary')
  entries = exposure._grammar(task, 'valid')
  pairs = task.corpus.pairs('valid')
  line = next(i for i, pair in enumerate(pairs) if len(pair.dependencies) > 1)
  words = pairs[line].russian.split()
  np.testing.assert_array_equal(entries['word'][line][: len(words)], range(len(words)))
  depends = entries['depends'][line]
  for dependent, decider, _ in pairs[line].dependencies:
    assert depends[dependent, decider]
  dependents = {d.dependent for d in pairs[line].dependencies}
  for word in {*range(len(words))} - dependents:
    assert depends[word].sum() == 1  # but for itself
  batch = {name: x[line : line + 1] for name, x in entries.items()}
  found = exposure._dependent(batch, len(words))[0]
  np.testing.assert_array_equal(found, depends[: len(words), : len(words)])


class EndsAtOnce(nn.Module):
  """Predicts the end of the sentence everywhere."""

  words: int
  hyper_names = ()
  dtype = 'float32'

  def __call__(self, source, target, **options):
    return jax.nn.one_hot(jnp.full(target.shape, EOS), self.words)

  def encode(self, source):
    return source

  def start(self, memory, rows, max_len):
    return jnp.zeros(rows, jnp.int32)

  def step(self, memory, cache, token):
    return cache, jax.nn.one_hot(jnp.full(token.shape, EOS), self.words)


def test_a_model_whose_errors_end_sentences_has_no_cost(tiny, tmp_path):
  task = Translation.from_config(tiny, tmp_path / 'vocabulary')
  task.model = EndsAtOnce(task.vocabularies.target.size)
  make = resolve('evaluators.exposure:Evaluator')
  evaluator = call(
    make, dict(split='valid', repairs=0), 'evals', task=task, sharding=ROWS
  )
  metrics = dict(evaluator.run({'params': {}}))
  assert metrics['sentences'] == 0
  assert np.isnan(metrics['own/rest'])


def test_one_repair_is_enough_for_a_model_with_one_error(measured):
  metrics, _, _ = measured
  assert metrics['repairs/0'] < 20
  assert metrics['repairs/1'] == metrics['repairs/2'] == pytest.approx(100)


def test_all_metrics_are_declared(measured):
  metrics, evaluator, _ = measured
  assert set(metrics) == set(evaluator.metrics)
