"""Sentences of the embedded corpus's grammar that differ in order, or in who does what.

Sutskever et al. 2014, figure 2, https://arxiv.org/abs/1409.3215, draw the vectors of such
sentences. In each group two sentences have the same meaning and another words' order, and a
third has the order or the words of the first and another meaning.
"""

from typing import NamedTuple

import numpy as np

from seqlab.text import lexicon
from seqlab.text.lexicon import Noun, Verb

KINDS = ('time', 'recipient', 'passive')


class Group(NamedTuple):
  """Three English sentences.

  Attributes:
    kind: 'time': "Yesterday the king saw the girl." and "The king saw the girl
      yesterday."; 'recipient': "The king gave the girl the book." and "The king gave
      the book to the girl."; 'passive': "The king read the book." and "The book was read
      by the king."
    sentence: the first of the two.
    same: the second, which has the same meaning.
    other: another meaning: in 'time' and 'recipient' the two persons of `sentence` have
      changed places, in 'passive' another person acts.
    agent: who acts in `sentence` and `same`, as an English noun.
    partner: the other person: who acts in `other`.
  """

  kind: str
  sentence: str
  same: str
  other: str
  agent: str
  partner: str


def groups(kind: str, number: int, seed: int = 0) -> list[Group]:
  """Returns different groups of a kind, drawn at random.

  Args:
    kind: one of `KINDS`.
    number: number of groups.
    seed: integer seed.

  Raises:
    ValueError: the kind is unknown, or there are not so many groups.
  """
  if kind not in KINDS:
    raise ValueError(f'the kind of meanings is {kind!r}; it may be {", ".join(KINDS)}')
  random = np.random.default_rng((seed, KINDS.index(kind)))
  write = {'time': _time, 'recipient': _recipient, 'passive': _passive}[kind]
  drawn: dict[str, Group] = {}
  for _ in range(20 * number):
    group = write(random)
    drawn.setdefault(group.sentence, group)
    if len(drawn) == number:
      return [*drawn.values()]
  raise ValueError(
    f'there are not {number:,} groups of the kind {kind!r}: ask for fewer'
  )


def people() -> list[str]:
  """Returns the English nouns of the persons that occur."""
  return [noun.english[0] for noun in _PEOPLE]


# Without kin, before which the grammar writes whose it is.
_PEOPLE = [
  noun
  for noun in lexicon.NOUNS
  if 'person' in noun.tags and not noun.tags & {'kin', 'relation'}
]


def _fit(nouns: list[Noun], tags: frozenset[str]) -> list[Noun]:
  return [noun for noun in nouns if noun.tags & tags]


def _is_plain(verb: Verb) -> bool:
  """Returns whether a verb has an object without a preposition, and nothing else."""
  required = [name for name in verb.adjuncts if name.endswith('!')]
  return bool(verb.object) and not verb.prepositions[0] and not required


_MEETING = [
  verb
  for verb in lexicon.VERBS
  if _is_plain(verb)
  and verb.aspect != 's'
  and len(_fit(_fit(_PEOPLE, verb.subject), verb.object)) == len(_PEOPLE)
]
_GIVING = [
  verb
  for verb in lexicon.VERBS
  if verb.object
  and not verb.prepositions[0]
  and {'dative', 'dative!'} & {*verb.adjuncts}
  and verb.english[0] != 'buy'  # for, and not to, somebody
]
_ACTING = [
  verb
  for verb in lexicon.VERBS
  if verb.passive and _is_plain(verb) and len(_fit(_PEOPLE, verb.subject)) > 1
]


def _choice(random: np.random.Generator, items: list):
  return items[random.integers(len(items))]


def _two(random: np.random.Generator, nouns: list[Noun]) -> tuple[str, str]:
  """Returns two different nouns with their articles."""
  i, j = random.choice(len(nouns), 2, replace=False)
  return nouns[i].english[0], nouns[j].english[0]


def _time(random: np.random.Generator) -> Group:
  verb, when = _choice(random, _MEETING), _choice(random, [*lexicon.TIMES])
  agent, partner = _two(random, _PEOPLE)
  clause, swapped = (
    f'the {a} {verb.english[1]} the {b}'
    for a, b in ((agent, partner), (partner, agent))
  )
  return Group(
    'time',
    _sentence(f'{when} {clause}'),
    _sentence(f'{clause} {when}'),
    _sentence(f'{when} {swapped}'),
    agent,
    partner,
  )


def _recipient(random: np.random.Generator) -> Group:
  verb = _choice(random, _GIVING)
  agent, partner = _two(random, _fit(_PEOPLE, verb.subject))
  gift = _choice(
    random, [n for n in _fit([*lexicon.NOUNS], verb.object) if _is_thing(n)]
  )
  gave, it = verb.english[1], gift.english[0]
  return Group(
    'recipient',
    _sentence(f'the {agent} {gave} the {partner} the {it}'),
    _sentence(f'the {agent} {gave} the {it} to the {partner}'),
    _sentence(f'the {partner} {gave} the {agent} the {it}'),
    agent,
    partner,
  )


def _passive(random: np.random.Generator) -> Group:
  verb = _choice(random, _ACTING)
  agent, partner = _two(random, _fit(_PEOPLE, verb.subject))
  thing = _choice(
    random, [n for n in _fit([*lexicon.NOUNS], verb.object) if _is_thing(n)]
  )
  did, done, it = verb.english[1], verb.english[2], thing.english[0]
  return Group(
    'passive',
    _sentence(f'the {agent} {did} the {it}'),
    _sentence(f'the {it} was {done} by the {agent}'),
    _sentence(f'the {partner} {did} the {it}'),
    agent,
    partner,
  )


def _is_thing(noun: Noun) -> bool:
  return 'person' not in noun.tags


def _sentence(text: str) -> str:
  return f'{text[0].upper()}{text[1:]}.'
