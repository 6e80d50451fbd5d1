"""Sentences that differ in order or in meaning."""

import pytest

from seqlab.text import agreement, meanings
from seqlab.text.meanings import KINDS, groups, people


def _words(sentence):
  return sorted(sentence.rstrip('.').lower().split())


@pytest.mark.parametrize('kind', KINDS)
def test_groups_are_different_and_a_function_of_the_seed(kind):
  drawn = groups(kind, 60, seed=1)
  assert len({group.sentence for group in drawn}) == 60
  assert drawn == groups(kind, 60, seed=1) != groups(kind, 60, seed=2)
  for group in drawn:
    assert {group.agent, group.partner} <= {*people()}
    assert group.agent != group.partner
    assert len({group.sentence, group.same, group.other}) == 3


def test_a_swapped_sentence_has_the_same_words():
  for group in groups('time', 40):
    assert _words(group.sentence) == _words(group.same) == _words(group.other)
    subject = f'the {group.agent} '
    assert group.same.lower().startswith(subject)
    assert group.other.lower().endswith(f'the {group.agent}.')
  for group in groups('recipient', 40):
    assert _words(group.sentence) == _words(group.other)
    assert _words(group.same) == sorted([*_words(group.sentence), 'to'])
    assert group.same.endswith(f'to the {group.partner}.')


def test_a_passive_ends_with_who_acts():
  for group in groups('passive', 40):
    assert group.sentence.startswith(f'The {group.agent} ')
    assert group.same.endswith(f' by the {group.agent}.')
    assert group.other == group.sentence.replace(
      f'The {group.agent} ', f'The {group.partner} '
    )


def test_the_words_are_those_of_the_corpus():
  pairs = (agreement.sentence(0, i) for i in range(3_000))
  known = {word for pair in pairs for word in _words(pair.english)}
  for kind in KINDS:
    used = {w for g in groups(kind, 100) for t in g[1:4] for w in _words(t)}
    assert len(used - known) <= 2, used - known


def test_unknown_kinds_and_too_many_groups_are_refused(monkeypatch):
  with pytest.raises(ValueError, match=r"'voice'; it may be time"):
    groups('voice', 1)
  # Two persons, one verb and less than 50 things.
  monkeypatch.setattr(meanings, '_PEOPLE', meanings._PEOPLE[:2])
  monkeypatch.setattr(meanings, '_GIVING', meanings._GIVING[:1])
  with pytest.raises(ValueError, match='ask for fewer'):
    groups('recipient', 100)
