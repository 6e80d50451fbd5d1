"""What vectors say about who acts, on vectors whose answers are known."""

from types import SimpleNamespace

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators.meanings import Evaluator, agent_accuracy, nearer
from seqlab.text.meanings import KINDS, groups, people
from seqlab.types import PAD


class Vocabulary:
  """Words and no pieces; every word that occurs has an id."""

  size = 400

  def __init__(self):
    self._ids = {}

  def encode(self, lines):
    ids = [
      [self._ids.setdefault(w, 4 + len(self._ids)) for w in line.lower()[:-1].split()]
      for line in lines
    ]
    offsets = np.cumsum([0, *map(len, ids)])
    return np.array([i for line in ids for i in line], np.int32), offsets


class LastWord(nn.Module):
  """Its vector holds the last word of the source, and nothing else."""

  @nn.compact
  def vector(self, source):
    self.param('unused', nn.initializers.zeros, ())
    at = (source != PAD).sum(axis=1) - 2  # before EOS
    last = jnp.take_along_axis(source, at[:, None], axis=1)[:, 0]
    return jnp.eye(Vocabulary.size)[last]


def _evaluator(model, **corpus):
  corpus = SimpleNamespace(**{'name': 'agreement', 'source': 'en'} | corpus)
  task = SimpleNamespace(
    model=model,
    corpus=corpus,
    vocabularies=SimpleNamespace(source=Vocabulary()),
    reverse_source=False,
    init=lambda rng: {'params': {'unused': jnp.zeros(())}},
    stores=None,
  )
  make = resolve('evaluators.meanings:Evaluator')
  return call(make, dict(number=60), 'evals', task=task, sharding=None)


def test_a_model_of_the_last_word_is_told_from_one_of_all_words():
  evaluator = _evaluator(LastWord())
  metrics = dict(evaluator.run({'params': {'unused': jnp.zeros(())}}))
  assert {*metrics} == {*Evaluator.metrics}
  # The order of words means nothing to a bag.
  assert metrics['bag/nearer/time'] == 0.5
  # The third sentence has the words of the first, and the second has one more.
  assert metrics['bag/nearer/recipient'] == 0.0
  # "The king read the book.", "... by the king.", "The queen read the book.": the last
  # word is that of the third.
  assert metrics['vector/nearer/passive'] == 0.0
  assert metrics['untrained/nearer/passive'] == metrics['vector/nearer/passive']
  assert evaluator.arrays['vectors/time'].shape == (9, Vocabulary.size)
  assert evaluator.arrays['texts/time'][0].endswith('.')


def test_nearer_counts_ties_as_one_half():
  first, second = np.eye(2)
  triples = np.array(
    [
      [first, first, second],
      [first, second, 5 * first],
      [first, second, second],
      [first, 2 * first, first],
    ]
  )
  assert nearer(triples) == (1 + 0 + 0.5 + 0.5) / 4


def _triples(of, write):
  number = {noun: i for i, noun in enumerate(people())}
  unit = np.eye(len(number))

  def vector(agent, patient):
    return write(unit[number[agent]], unit[number[patient]])

  return np.array(
    [[vector(g.agent, g.partner)] * 2 + [vector(g.partner, g.agent)] for g in of]
  )


def test_an_agent_is_found_only_in_vectors_that_know_the_roles():
  of = groups('time', 600)
  roles = _triples(of, lambda agent, patient: np.concatenate([agent, patient]))
  words = _triples(of, lambda agent, patient: agent + patient)
  assert agent_accuracy(roles, of) == 1.0
  # One of two persons: half of the guesses are right.
  assert agent_accuracy(words, of) == pytest.approx(0.5, abs=0.1)
  assert agent_accuracy(roles, of, shuffle=np.random.default_rng(0)) < 0.2


def test_other_corpora_and_models_are_refused():
  with pytest.raises(ValueError, match=r"corpus.source='en'"):
    _evaluator(LastWord(), source='ru')
  with pytest.raises(ValueError, match='Dense has none'):
    _evaluator(nn.Dense(1))


def test_kinds_are_in_the_order_of_the_sentences():
  evaluator = _evaluator(LastWord())
  by_kind = evaluator._by_kind(np.arange(3 * 60 * 3, dtype=float)[:, None])
  assert [x[0, 0, 0] for x in by_kind.values()] == [0.0, 180.0, 360.0]
  assert [*by_kind] == [*KINDS]
