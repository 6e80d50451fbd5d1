"""Right endings by distance, on models whose answers are known."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators.distance import Ending, endings, evidence
from seqlab.models.decoder import Decoder
from seqlab.tasks.language_model import LanguageModel
from seqlab.text.agreement import Dependency, Pair, Predicate
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.types import EOS, PAD, UNK

ROWS = batch_sharding(make_mesh(data=1, devices=1))
SANG = ('пел', 'пела', 'пело', 'пели')
WAS = ('был', 'была', 'было', 'были')


def _agree(dependent, decider):
  return [Dependency(dependent, decider, kind) for kind in ('gender', 'number')]


# The girl whom the boy saw was here: the relative pronoun is nearer than the girl.
PAIR = Pair(
  'The girl whom the boy saw was here.',
  'Девушка, которую видел мальчик, была здесь.',
  (*_agree(1, 0), *_agree(2, 3), *_agree(4, 0)),
  (1, 2, 5, 4, 6, 7),
  (Predicate(2, ('видел', 'видела', 'видело', 'видели')), Predicate(4, WAS)),
)


def test_the_distance_is_that_to_the_nearest_word_that_agrees():
  ids = {word: i for i, word in enumerate(WAS, 10)}
  assert evidence(PAIR, 4, 0) == {0, 1}
  found = endings(PAIR, lambda word: ids.get(word, UNK))
  assert found == [Ending(4, 3, 1, (10, 11, 12, 13))]


def test_predicates_without_one_answer_are_left_out():
  known = {word: i for i, word in enumerate(WAS, 10)}.get
  both = PAIR._replace(dependencies=(*PAIR.dependencies, *_agree(4, 3)))
  assert endings(both, lambda word: known(word, UNK)) == []  # two subjects
  assert endings(PAIR, lambda word: UNK) == []  # no known form
  some = {'был': 10, 'была': 11}
  assert endings(PAIR, lambda word: some.get(word, UNK)) == []
  some = {'был': 10, 'было': 12, 'были': 13}  # the right one is missing
  assert endings(PAIR, lambda word: some.get(word, UNK)) == []


def test_one_form_may_be_unknown():
  some = {'был': 10, 'была': 11, 'были': 13}
  found = endings(PAIR, lambda word: some.get(word, UNK))
  assert found == [Ending(4, 3, 1, (10, 11, PAD, 13))]


class Reads(nn.Module):
  """Knows the endings whose evidence is at most `reach` words away, and errs otherwise.

  Attributes:
    answers: for each text and position, the id to be preferred.
    texts: the texts, as nested tuples of equal lengths.
    words: V.
  """

  answers: tuple
  texts: tuple
  words: int
  hyper_names = ()
  dtype = 'float32'

  def features(self, text, previous=None, **options):
    texts, answers = jnp.array(self.texts), jnp.array(self.answers)
    width = min(texts.shape[1], text.shape[1])
    same = (text[:, None, :width] == texts[None, :, :width]).all(axis=-1)
    ids = answers[same.argmax(axis=1)]
    short = max(text.shape[1] - ids.shape[1], 0)
    ids = jnp.pad(ids, ((0, 0), (0, short)))[:, : text.shape[1]]
    # 2 v h - v² is largest for v = h; integers so small are exact in float32.
    h, v = ids - self.words // 2, jnp.arange(self.words) - self.words // 2
    hidden = jnp.stack([h, jnp.ones_like(h)], axis=-1)
    return hidden.astype(jnp.float32), jnp.stack([2.0 * v, -(v**2)], axis=-1)


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  config = dict(task='tasks.language_model:LanguageModel', seed=0, steps=1, evals={})
  config |= dict(corpus=dict(name='agreement', text='ru', train=3_000, valid=150))
  config |= dict(vocabulary=dict(kind='word', size=4_000), hyper={})
  config |= dict(batching=dict(kind='buckets', tokens=512, shapes=1, max_length=64))
  config |= dict(model=dict(kind='decoder', width=4, mlp_width=4, heads=1, layers=1))
  folder = tmp_path_factory.mktemp('distance')
  return LanguageModel.from_config(config, folder / 'vocabulary')


def _evaluator(task, **options):
  make = resolve('evaluators.distance:Evaluator')
  options = dict(split='valid', longest=4, **options)
  return call(make, options, 'evals', task=task, sharding=ROWS)


def test_a_model_that_reads_two_words_back_is_right_up_to_there(task):
  evaluator = _evaluator(task)
  texts = [
    [*task.vocabularies.text.encode([line])[0], EOS]
    for line in task.corpus.read('valid')[0]
  ]
  width = max(map(len, texts))
  rows = np.array([np.pad(ids, (0, width - len(ids))) for ids in texts])
  answers = rows.copy()
  count = np.zeros(5, int)
  for line, of_line in enumerate(evaluator._endings):
    for ending in of_line:
      assert rows[line, ending.word] == ending.forms[ending.column]
      count[min(ending.distance, 4)] += 1
      if ending.distance > 2:  # the next other form
        others = {*ending.forms} - {ending.forms[ending.column], PAD}
        wrong = sorted(others)
        answers[line, ending.word] = wrong[0]
  task.model = Reads(
    tuple(map(tuple, answers.tolist())),
    tuple(map(tuple, rows.tolist())),
    task.vocabularies.text.size,
  )
  metrics = dict(evaluator.run({'params': {}}))
  assert [metrics[f'count/{d}'] for d in (1, 2, 3, 4)] == [*count[1:]]
  assert count[1:].min() > 0
  assert [metrics[f'right/{d}'] for d in (1, 2, 3, 4)] == [1, 1, 0, 0]
  assert all(0.25 <= metrics[f'chance/{d}'] <= 1 for d in (1, 2, 3, 4))
  assert set(metrics) == set(evaluator.metrics)


def test_a_model_that_prefers_no_form_is_not_right(task):
  class Constant(nn.Module):
    def features(self, text, previous=None, **options):
      return jnp.zeros((*text.shape, 2)), jnp.zeros((4_000, 2))

  task.model = Constant()
  metrics = dict(_evaluator(task).run({'params': {}}))
  assert metrics['right/1'] == 0.0


def test_a_corpus_without_known_grammar_is_refused(task):
  corpus = task.corpus
  try:
    task.corpus = object()
    with pytest.raises(ValueError, match=r"'distance' knows the grammar of Russian"):
      _evaluator(task)
  finally:
    task.corpus = corpus


@pytest.mark.parametrize(('window', 'layers'), [(2, 2), (4, 1)])
def test_a_window_of_w_words_and_l_layers_reaches_w_l_words_back(window, layers):
  """Word 9 is predicted from word 8, which sees through to word 4, and not to word 3."""
  model = Decoder(9, width=8, mlp_width=8, heads=2, layers=layers, window=window)
  text = jax.random.randint(jax.random.key(1), (1, 10), 4, 9)
  variables = jax.jit(model.init)(jax.random.key(0), text)
  apply = jax.jit(model.apply)
  before = apply(variables, text)[0, 9]
  other = (text - 3) % 5 + 4  # another word everywhere
  for place in range(9):
    changed = apply(variables, text.at[0, place].set(other[0, place]))[0, 9]
    assert bool((changed != before).any()) == (9 - place <= window * layers + 1), place
