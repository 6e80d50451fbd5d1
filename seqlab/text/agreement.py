"""The embedded corpus: English to Russian from a synchronous grammar.

Every rule writes both languages at once, so a Russian sentence follows from the
English one, and the grammar knows what decides each form: adjectives, past tenses
and relative pronouns agree with nouns that may be far away; verbs and prepositions
govern cases; adverbs, possessors and experiencers change their place.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
import hashlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from seqlab.domains import Count, Range
from seqlab.text import lexicon
from seqlab.text.corpora import Corpus
from seqlab.text.lexicon import ACC, DAT, GEN, INS, NOM, PRE, Adjective, Noun, Verb

SPLITS = ('train', 'valid', 'test')
_SHORTEST, _LONGEST = 3, 40  # words
_LONG = 16  # words; of longer sentences 60 % are left out
_MASK = (1 << 64) - 1


class Dependency(NamedTuple):
  """A Russian word whose form another word decides.

  Attributes:
    dependent: index of the word.
    decider: index of the word that decides its form.
    kind: what is decided; see `Pair`.
  """

  dependent: int
  decider: int
  kind: str


class Predicate(NamedTuple):
  """A Russian word that agrees with a subject in gender and number.

  Attributes:
    word: its index.
    forms: the forms with a masculine, feminine and neuter subject and with a plural one;
      some may be equal.
  """

  word: int
  forms: tuple[str, ...]


class Pair(NamedTuple):
  """A sentence in both languages; words are separated by spaces.

  Attributes:
    english: the sentence.
    russian: its translation.
    dependencies: dependencies between Russian words. The kinds 'gender', 'number' and
      'case' say what the decider decides; 'antecedent' leads from свой to the subject.
    alignment: for each Russian word the index of the English word that it translates,
      or -1.
    predicates: verbs, participles and adjectives that agree with a subject.
  """

  english: str
  russian: str
  dependencies: tuple[Dependency, ...]
  alignment: tuple[int, ...]
  predicates: tuple[Predicate, ...] = ()


def sentence(seed: int, index: int, split: str = 'train') -> Pair:
  """Returns a sentence, as a pure function of the arguments.

  A hash of the English sentence decides which split it belongs to, so that no sentence
  is in two splits; sentences of other splits are drawn and dropped.

  Args:
    seed: integer seed of the corpus.
    index: number of the sentence.
    split: name of the split.

  Raises:
    ValueError: there is no such split.
  """
  return _written(seed, index, split).pair()


def _written(seed: int, index: int, split: str) -> '_Writer':
  _check_split(split)
  draw = _Draw(seed, index)
  while True:
    writer = _Writer(draw)
    if writer.write() and _split_of(writer.english) == split:
      return writer


def _check_split(split: str) -> None:
  if split not in SPLITS:
    raise ValueError(f'the corpus has no split {split!r}: {", ".join(SPLITS)}')


def _split_of(english: str) -> str:
  slot = hashlib.sha256(english.encode()).digest()[0] % 16
  return {0: 'test', 1: 'valid'}.get(slot, 'train')


class Agreement(Corpus):
  """The embedded corpus.

  Attributes:
    name: 'agreement'.
    convention: how BLEU tokenises it.
    splits: names of the splits.
    sides: name of a side -> its language code.
    source: language of the source, 'en' or 'ru'; None for text of one language.
    target: the other one; None for text of one language.
  """

  name, convention, splits = 'agreement', '13a', SPLITS

  def __init__(
    self,
    *,
    source: str | None = None,
    target: str | None = None,
    text: str | None = None,
    train: Count = 30_000,
    valid: Count = 500,
    test: Count = 1_000,
    max_words: Annotated[int, Range(5)] = _LONGEST,
    seed: int = 0,
  ):
    """Generates nothing yet.

    Args:
      source: language of the source, 'en' or 'ru'; by default 'en'.
      target: the other language; by default 'ru'.
      text: 'en' or 'ru' for the sentences of this language alone, in place of both.
      train: number of pairs in the training split.
      valid: number of pairs in the split 'valid'.
      test: number of pairs in the split 'test'.
      max_words: number of words of the longest sentence, in either language; the grammar
        writes up to 40.
      seed: integer seed of the sentences.

    Raises:
      ValueError: the languages are not these two, or both and `text` are given.
    """
    if text is None:
      source, target = source or 'en', target or 'ru'
      if sorted((source, target)) != ['en', 'ru']:
        raise ValueError(
          f'the corpus is not from {source!r} to {target!r}: '
          "set corpus.source='en' and corpus.target='ru', or the reverse"
        )
    elif source is not None or target is not None or text not in ('en', 'ru'):
      raise ValueError(
        f"corpus.text is {text!r}: set it to 'en' or 'ru', without corpus.source and "
        'corpus.target, for sentences of one language'
      )
    self.source, self.target, self.seed = source, target, seed
    self.max_words = max_words
    self.sizes = {'train': train, 'valid': valid, 'test': test}
    self.sides = (
      {'text': text} if text else {'source': source or '', 'target': target or ''}
    )
    self._read: dict[str, tuple[list[str], ...]] = {}

  def read(self, split: str) -> tuple[list[str], ...]:
    """Returns the sentences of each side, line by line.

    In 'valid' and 'test' no sentence occurs twice.

    Raises:
      ValueError: there is no such split.
    """
    _check_split(split)
    if split not in self._read:
      pairs = list(self._drawn(split))
      texts = {'en': [x.english for x in pairs], 'ru': [x.russian for x in pairs]}
      self._read[split] = tuple(texts[language] for language in self.sides.values())
    return self._read[split]

  def skipped(self, split: str) -> int:
    """Returns 0: no sentence is empty."""
    _check_split(split)
    return 0

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of the split's text and of the direction."""
    digest = hashlib.sha256(f'{"-".join(self.sides.values())}\n'.encode())
    for side in self.read(split):
      digest.update('\n'.join(side).encode() + b'\0')
    return digest.hexdigest()

  def files(self, split: str) -> dict[str, str]:
    """Returns no files, since the text is generated."""
    del split
    return {}

  def inputs(self) -> list[Path]:
    """Returns no files, since the text is generated."""
    return []

  def pairs(self, split: str) -> list[Pair]:
    """Returns what `read` reads, with dependencies and alignments.

    Raises:
      ValueError: there is no such split.
    """
    _check_split(split)
    return [*_pairs(self.seed, self.sizes[split], split, self.max_words)]

  def _drawn(self, split: str) -> Iterator['_Writer']:
    return _drawn(self.seed, self.sizes[split], split, self.max_words)


def _drawn(seed: int, size: int, split: str, max_words: int) -> Iterator['_Writer']:
  seen: set[str] = set()
  index = count = 0
  while count < size:
    written = _written(seed, index, split)
    index += 1
    if max(len(written.en), len(written.ru)) > max_words:
      continue
    if split == 'train' or written.english not in seen:
      seen.add(written.english)
      count += 1
      yield written


# Kept, since the trials of a sweep ask for the same sentences, and sixteen are drawn for
# one of 'test'.
@lru_cache(maxsize=4)
def _pairs(seed: int, size: int, split: str, max_words: int) -> tuple[Pair, ...]:
  return tuple(written.pair() for written in _drawn(seed, size, split, max_words))


class _Draw:
  """Random numbers that are the same everywhere.

  The linear congruential generator of MMIX, upper half (Knuth, The Art of Computer
  Programming, volume 2, 3rd edition, section 3.3.4, table 1), from a hashed seed.
  """

  def __init__(self, seed: int, index: int):
    mixed = hashlib.sha256(f'{seed}/{index}'.encode()).digest()
    self._state = int.from_bytes(mixed[:8], 'little')

  def below(self, n: int) -> int:
    """Returns an integer from 0 to n - 1."""
    self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
    return ((self._state >> 32) * n) >> 32

  def chance(self, percent: int) -> bool:
    """Returns True with this probability, in percent."""
    return self.below(100) < percent

  def choice(self, items: Sequence) -> Any:
    """Returns one of the items, each with the same probability."""
    return items[self.below(len(items))]

  def weighted(self, options: Sequence[tuple[int, Any]]) -> Any:
    """Returns an option, with a probability proportional to its weight."""
    at = self.below(sum([weight for weight, _ in options]))
    for weight, option in options:
      at -= weight
      if at < 0:
        return option
    raise AssertionError


# Words and phrases of a sentence that is being written.


class _Word:
  """A word; `origin` is the English word that a Russian word translates."""

  __slots__ = ('origin', 'text')

  def __init__(self, text: str, origin: '_Word | None' = None):
    self.text, self.origin = text, origin


_COMMA = _Word(',')


def _words(text: str) -> list[_Word]:
  return [_Word(part) for part in text.split()]


class _Phrase:
  """A phrase in both languages.

  Attributes:
    en: English words.
    ru: Russian words.
    head: Russian noun of the phrase.
    tops: Russian words whose case is governed from outside.
  """

  __slots__ = ('en', 'head', 'ru', 'tops')

  def __init__(self, en=(), ru=(), head: _Word | None = None):
    self.en, self.ru, self.head = list(en), list(ru), head
    self.tops = [head]

  @property
  def has_clause(self) -> bool:
    return _COMMA in self.ru

  def add(self, *others: '_Phrase') -> '_Phrase':
    """Appends other phrases, in the same order in both languages."""
    for other in others:
      self.en += other.en
      self.ru += other.ru
    return self


def _conjunction(en: str, ru: str, *, comma: bool = False) -> _Phrase:
  word = _Word(en)
  before = [_COMMA] if comma else []
  return _Phrase([*before, word], [*before, *(_Word(r, word) for r in ru.split())])


class _Nominal:
  """A subject or object, before it has a case.

  Attributes:
    kind: 'noun', 'pronoun', 'relative' (a relative pronoun) or 'both'.
    of: nominal that a pronoun refers to.
    parts: the two nominals of 'both'.
    tags: tags of the noun.
    column: Russian gender, 0 to 2, or 3 for the plural.
    pronoun: key of the English pronoun.
    heads: Russian words that others agree with, known once they are written.
    uncounted: whether no numeral may precede it.
    ranks: ranks of its adjectives.
  """

  def __init__(self, kind, noun, plural, *, of=None, parts=(), uncounted=False):
    self.kind, self.noun, self.plural = kind, noun, plural
    self.of, self.parts, self.uncounted = of, parts, uncounted
    self.heads: list[_Word] = []
    self.ranks: set[int] = of.ranks if of else set()
    self.animate = noun.animate
    self.tags = parts[0].tags & parts[1].tags if parts else noun.tags
    self.column = 3 if plural else 'mfn'.index(noun.gender)
    person = plural or 'person' in self.tags
    self.pronoun = lexicon.COLUMNS[self.column] if person else 'n'

  @classmethod
  def standing_for(cls, kind: str, of: '_Nominal') -> '_Nominal':
    return cls(kind, of.noun, of.plural, of=of, parts=of.parts)


class _Frame(NamedTuple):
  """The elements that a clause may contain.

  Attributes:
    aspects: aspects of its verb; '' for an adjective as the predicate.
    mode: 'plain', 'ongoing' (was -ing) or 'perfect' (had -ed).
    tail: whether a relative clause may end it.
    timed: whether it may have an adverb of time.
    depth: number of relative clauses around it.
    negative: whether it may be negated.
  """

  aspects: str = 'pis'
  mode: str = 'plain'
  tail: bool = True
  timed: bool = True
  depth: int = 0
  negative: bool = True


# Which words go together.


@cache
def _nouns(*tags: str) -> tuple[Noun, ...]:
  accepted = {tag for words in tags for tag in words.split()}
  return tuple(noun for noun in lexicon.NOUNS if noun.tags & accepted)


@cache
def _subjects(verb: Verb) -> tuple[Noun, ...]:
  return tuple(noun for noun in lexicon.NOUNS if noun.tags & verb.subject)


@cache
def _objects(verb: Verb) -> tuple[Noun, ...]:
  return tuple(noun for noun in lexicon.NOUNS if noun.tags & verb.object)


@cache
def _verbs_of(subject: frozenset[str], aspects: str) -> tuple[Verb, ...]:
  """Returns verbs; 'o' is the aspect of 'was -ing', 'w' that of willed actions."""

  def fits(verb: Verb) -> bool:
    return (
      verb.aspect in aspects
      or ('o' in aspects and bool(verb.english[3] and verb.ongoing))
      or ('w' in aspects and verb.willed and verb.aspect == 'p')
    )

  return tuple(v for v in lexicon.VERBS if v.subject & subject and fits(v))


@cache
def _verbs_to(object: frozenset[str]) -> tuple[Verb, ...]:
  return tuple(verb for verb in lexicon.VERBS if verb.object & object)


@cache
def _passives(object: frozenset[str]) -> tuple[Verb, ...]:
  return tuple(verb for verb in _verbs_to(object) if verb.passive)


@cache
def _verbs_in(place: frozenset[str]) -> tuple[Verb, ...]:
  verbs = []
  for verb in lexicon.VERBS:
    where = {a.rstrip('!')[3:] for a in verb.adjuncts if a.startswith('in:')}
    if not verb.object and where & place:
      verbs.append(verb)
  return tuple(verbs)


@cache
def _adjectives(noun: frozenset[str], definite: bool) -> tuple[Adjective, ...]:
  return tuple(
    a for a in lexicon.ADJECTIVES if a.tags & noun and (a.rank > 0 or definite)
  )


@cache
def _predicates(subject: frozenset[str]) -> tuple[Adjective, ...]:
  return tuple(a for a in _adjectives(subject, False) if a.rank < 5)


_OWNED = frozenset(
  {'kin', 'own', 'pet', 'held', 'clothes', 'furniture', 'vehicle', 'house', 'room'}
  | {'garden', 'kitchen', 'horse', 'picture', 'story', 'song'}
)
_OWN, _TOPIC = lexicon.OWN, 'topic'
_NUMERALS = ('two', 'three', 'four', 'five')
_SAYING = (
  ('said', 'сказал'),
  ('knew', 'знал'),
  ('heard', 'услышал'),
  ('remembered', 'вспомнил'),
  ('forgot', 'забыл'),
)
# English, Russian, aspects: 'o' takes the imperfective infinitive.
_MODALS = (
  ('wanted', 'хотел', 'w'),
  ('decided', 'решил', 'w'),
  ('promised', 'пообещал', 'w'),
  ('was able', 'смог', 'w'),
  ('was not able', 'не смог', 'w'),
  ('began', 'начал', 'o'),
)
_COMPARATIVES = (
  ('taller', 'выше', 'adult youth boy'),
  ('older', 'старше', 'person'),
  ('younger', 'моложе', 'youth adult'),
  ('stronger', 'сильнее', 'person wild'),
  ('cleverer', 'умнее', 'person pet'),
  ('kinder', 'добрее', 'person'),
  ('richer', 'богаче', 'adult'),
)
# Modifiers of a noun: tags of the noun; prepositions, case and tags of the second noun;
# its number: one, many, any, or that of the first noun.
_MODIFIERS = (
  ('cup', 'of', '', GEN, 'tea milk water', 'one'),
  ('plate', 'of', '', GEN, 'soup', 'one'),
  ('basket', 'of', '', GEN, 'fruit', 'many'),
  ('box', 'of', '', GEN, 'pencil apple toy', 'many'),
  ('book told letter', 'about', 'о', PRE, 'person animal castle island', 'any'),
  ('key', 'to', 'от', GEN, 'house room suitcase', 'one'),
  ('door window', 'of', '', GEN, 'house castle palace school museum', 'one'),
  ('street', 'of', '', GEN, 'city village', 'one'),
  ('person', 'in', 'в', PRE, 'clothes', 'same'),
  ('female', 'in', 'в', PRE, 'gown', 'same'),
)
# Places: prepositions, case and tags of the noun.
_SPOTS = {
  'spot': (
    ('on', 'на', PRE, 'surface'),
    ('under', 'под', INS, 'surface'),
    ('in', 'в', PRE, 'container'),
  ),
  'seat': (('on', 'на', PRE, 'surface floor'), ('by', 'у', GEN, 'window door')),
  'outside': (
    ('by', 'у', GEN, 'window door tree'),
    ('in front of', 'перед', INS, 'house castle palace building public'),
    ('behind', 'за', INS, 'house school museum castle tree'),
    ('on', 'на', PRE, 'bridge shore'),
  ),
  'above': (('above', 'над', INS, 'table bed door'), ('by', 'у', GEN, 'window')),
  'onto': (('on', 'на', ACC, 'surface'), ('into', 'в', ACC, 'container')),
  'upon': (('onto', 'на', ACC, 'surface'),),
  'floor': (('onto', 'на', ACC, 'floor'),),
  'taken': (('from', 'с', GEN, 'surface'), ('out of', 'из', GEN, 'container')),
}
# Conjunctions; what the main clause and the other one may be; how often the other
# one comes first, and how often both have one subject, in percent.
_STATE = _Frame('s', timed=False)
_DONE = _Frame('p', tail=False, timed=False, negative=False)
_ONGOING = _Frame('o', 'ongoing', tail=False, timed=False)
_BEFORE = _Frame('p', 'perfect', tail=False, timed=False)
_COMPLEX = (
  ('when', 'когда', _DONE, _DONE, 50, 45),
  ('when', 'когда', _ONGOING, _DONE, 50, 0),
  ('while', 'пока', _DONE, _ONGOING, 60, 45),
  ('because', 'потому что', _DONE, _STATE, 0, 60),
  ('because', 'потому что', _DONE, _Frame('', timed=False), 0, 90),
  ('although', 'хотя', _DONE, _STATE, 40, 60),
  ('after', 'после того как', _DONE, _BEFORE, 50, 45),
)


class _Writer:
  """Writes one sentence."""

  def __init__(self, draw: _Draw):
    self.draw = draw
    self.links: list[tuple[_Word, _Word, str]] = []
    self.predicates: list[tuple[_Word, tuple[str, ...]]] = []
    self.used: set[Any] = set()  # words, so that none occurs twice
    self.topic: _Nominal | None = None  # nominal that pronouns refer to

  def write(self) -> bool:
    """Writes a sentence; returns whether it is kept.

    Sentences that are too short or too long, and most of the long ones, are dropped.
    """
    phrase = self.draw.weighted(self.KINDS)(self)
    self.english, self.en = _join(phrase.en)
    self.russian, self.ru = _join(phrase.ru)
    longest = max(len(self.en), len(self.ru))
    if longest > _LONG and not self.draw.chance(40):
      return False  # long sentences make every batch wide; a few of them suffice
    return longest <= _LONGEST and min(len(self.en), len(self.ru)) >= _SHORTEST

  def pair(self) -> Pair:
    """Returns the pair that was written."""
    at = {word: i for i, word in enumerate(self.ru)}
    links = sorted({(at[a], at[b], kind) for a, b, kind in self.links})
    place = {word: i for i, word in enumerate(self.en)}
    alignment = tuple(place.get(word.origin, -1) for word in self.ru)
    dependencies = tuple(Dependency(*link) for link in links)
    predicates = [
      Predicate(at[word], forms) for word, forms in self.predicates if word in at
    ]
    return Pair(
      self.english, self.russian, dependencies, alignment, tuple(sorted(predicates))
    )

  # Sentences.

  def simple(self) -> _Phrase:
    frame = _Frame()
    return self.clause(self.subject(frame), frame)

  def existential(self) -> _Phrase:
    """Writes, for example, "there was a book on the table": на столе была книга."""
    if self.draw.chance(50):
      location, tags = self.spot('spot', None), 'held cat'
    else:
      location, tags = self.place('place'), 'person animal vehicle'
    nominal = self.nominal(tags, uncounted=True)
    new = self.render(nominal, NOM, bare=True)
    be = _Word('were' if nominal.plural else 'was')
    was = self.agreeing(lexicon.WAS, nominal, be)
    self.govern(new, was)
    return _Phrase(
      [_Word('there'), be, *new.en, *location.en], [*location.ru, was, *new.ru]
    )

  def compound(self) -> _Phrase:
    """Writes two main clauses."""
    one = _Frame(tail=False)
    first = self.clause(self.subject(one), one)
    en, ru = self.draw.choice((('and', 'а'), ('but', 'но')))
    two = _Frame(tail=False, timed=False)
    second = self.clause(self.subject(two), two)
    return first.add(_conjunction(en, ru, comma=True), second)

  def two_verbs(self) -> _Phrase:
    """Writes a subject with two verbs, the second of which is far away from it."""
    frame = _Frame('p')
    subject = self.subject(frame)
    phrase = self.render(subject, NOM, english='subject', clause=True)
    verbs = _verbs_of(subject.tags, 'p')
    lasting = [v for v in verbs if v.english[0] not in ('fall asleep', 'disappear')]
    short = frame._replace(tail=False)
    first = self.verb_phrase(subject, short, self.pick(lasting or verbs), phrase)
    second = self.verb_phrase(subject, frame, self.pick(verbs), phrase)
    return phrase.add(first, _conjunction('and', 'и'), second)

  def complex(self) -> _Phrase:
    """Writes a main clause and a clause of time or reason."""
    en, ru, main, other, initial, same_subject = self.draw.choice(_COMPLEX)
    opening = _conjunction(en, ru)
    comma = [_COMMA]
    if self.draw.chance(initial):
      first, second = self.two_clauses(other, main, same_subject)
      return opening.add(first, _Phrase(comma, comma), second)
    first, second = self.two_clauses(main, other, same_subject)
    return first.add(_Phrase([], comma), opening, second)

  def two_clauses(self, one: _Frame, two: _Frame, same_subject: int) -> list[_Phrase]:
    """Writes two clauses; the second may have the subject of the first."""
    subject = self.subject(one)
    first = self.clause(subject, one)
    self.topic = subject
    other = self.again(subject, two, self.draw.chance(same_subject))
    return [first, self.clause(other, two)]

  def reported(self) -> _Phrase:
    """Writes, for example, "she said that he had come"."""
    subject = self.subject(_Frame(), 'person')
    clause = self.draw.chance(30)
    phrase = self.render(subject, NOM, english='subject', clause=clause)
    en, ru = self.draw.choice(_SAYING)
    word = _Word(en)
    verb = self.agreeing(lexicon.past_forms(ru), subject, word)
    self.govern(phrase, verb)
    phrase.add(_Phrase([word], [verb, _COMMA]), _conjunction('that', 'что'))
    self.topic = subject
    frame = _Frame('p', 'perfect', timed=False)
    inner = self.again(subject, frame, self.draw.chance(35))
    return phrase.add(self.clause(inner, frame))

  KINDS = (
    (76, simple),
    (8, existential),
    (3, compound),
    (5, two_verbs),
    (5, complex),
    (3, reported),
  )

  # Topics of a sentence.

  def pick(self, options: Sequence) -> Any:
    """Returns a word that is not in the sentence yet, if there is one."""
    for _ in range(12):
      word = self.draw.choice(options)
      if word not in self.used:
        break
    self.used.add(word)
    return word

  def nominal(self, *tags: str, plural: int = 25, uncounted: bool = False) -> _Nominal:
    return self.number(self.pick(_nouns(*tags)), plural, uncounted)

  def number(self, noun: Noun, plural: int = 25, uncounted: bool = False) -> _Nominal:
    countable = len(noun.english) > 1 and 'single' not in noun.tags
    if 'kin' in noun.tags:
      plural = min(plural, 10)
    is_plural = countable and self.draw.chance(plural)
    return _Nominal('noun', noun, is_plural, uncounted=uncounted)

  def subject(self, frame: _Frame, tags: str = '') -> _Nominal:
    """Returns a nominal that can be the subject of such a clause."""
    while True:
      kinds = ((72, 'person'), (18, 'animal'), (10, 'thing inside'))
      first = self.nominal(tags or self.draw.weighted(kinds))
      if first.animate and not first.plural and self.draw.chance(10):
        kind = 'person' if 'person' in first.tags else 'animal'
        parts = (first, self.nominal(kind, plural=20))
        first = _Nominal('both', first.noun, True, parts=parts)
      if self.options(first, frame):
        return first

  def again(self, subject: _Nominal, frame: _Frame, same_subject: bool) -> _Nominal:
    """Returns a pronoun for the same subject, or another subject."""
    pronoun = _Nominal.standing_for('pronoun', subject)
    return (
      pronoun if same_subject and self.options(pronoun, frame) else self.subject(frame)
    )

  # Dependencies.

  def agree(self, word: _Word, decider: _Word, column: int) -> None:
    """Notes an agreement in number, and in the singular in gender too."""
    if column < 3:
      self.links.append((word, decider, 'gender'))
    self.links.append((word, decider, 'number'))

  def agreeing(self, forms: Sequence[str], subject: _Nominal, origin) -> _Word:
    """Returns the form of a verb or short adjective that agrees with the subject."""
    word = _Word(forms[subject.column], origin)
    self.predicates.append((word, tuple(forms)))
    for head in subject.heads:
      self.agree(word, head, subject.column)
    return word

  def govern(self, phrase: _Phrase, decider: _Word) -> _Phrase:
    self.links += [(top, decider, 'case') for top in phrase.tops]
    return phrase

  def preposition(self, phrase: _Phrase, en: str, ru: str, governor) -> _Phrase:
    """Puts prepositions before a phrase; the Russian one governs it, if any."""
    words = _words(en)
    phrase.en[:0] = words
    if ru:
      governor = _Word(_before(ru, phrase.ru[0].text), words[0] if words else None)
      phrase.ru.insert(0, governor)
    return self.govern(phrase, governor)

  # Nominals in a case.

  def render(self, nominal: _Nominal, case: int, **options) -> _Phrase:
    """Returns words of both languages, and notes what decides the Russian forms.

    Args:
      nominal: what to render.
      case: Russian case.
      **options: options of a noun: `clause`, whether a relative clause may follow;
        `owner`, whose it may be; `bare`, whether it is indefinite; `simple`, for
        few words; `depth` of relative clauses. Of a pronoun: `english`,
        'subject' or 'object'; `after`, whether a preposition stands before it.
    """
    return getattr(self, f'render_{nominal.kind}')(nominal, case, **options)

  def render_both(
    self, nominal, case, *, english='object', after='', depth=0, **unused
  ):
    del english, after, unused
    one, two = (self.render(part, case, depth=depth) for part in nominal.parts)
    nominal.heads = [one.head, two.head]
    phrase = _Phrase(head=one.head).add(one, _conjunction('and', 'и'), two)
    phrase.tops = [*one.tops, *two.tops]
    return phrase

  def render_pronoun(self, nominal, case, *, english='object', after='', **unused):
    del unused
    word = _Word(lexicon.ENGLISH_PRONOUNS[nominal.pronoun][english == 'object'])
    form = lexicon.PRONOUNS[lexicon.COLUMNS[nominal.column]][case]
    head = _Word('н' + form if after and form[0] in 'еи' else form, word)
    for antecedent in nominal.of.heads:
      self.agree(head, antecedent, nominal.column)
    nominal.heads = [head]
    return _Phrase([word], [head], head)

  def render_relative(self, nominal, case, *, english='object', after='', **unused):
    del unused
    if 'person' in nominal.tags:
      word = _Word('who' if english == 'subject' else 'whom')
    else:
      word = _Word('which' if after else 'that')
    head = _Word(lexicon.WHICH.form(nominal.column, case, nominal.animate), word)
    self.agree(head, nominal.of.heads[0], nominal.column)
    nominal.heads = [head]
    return _Phrase([word], [head], head)

  def render_noun(
    self, nominal, case, *, clause=False, owner=None, bare=False, simple=False, depth=0,
    english='object', after='',
  ):  # fmt: skip
    del english, after
    determiner = self.determine(nominal, owner, bare, simple)
    phrase = self.described(nominal, case, determiner, simple)
    self.put_determiner(phrase, nominal, case, determiner, owner)
    may_modify = not simple and not isinstance(determiner, _Nominal)
    if may_modify and self.draw.chance(7 if nominal.animate else 16):
      self.modify(phrase, nominal, depth)
    elif clause and depth < 2 and self.draw.chance(16):
      phrase.add(self.relative_clause(nominal, depth + 1))
    return phrase

  def determine(self, nominal, owner, bare, simple):
    """Returns a determiner: an article, a demonstrative or a possessor."""
    noun, draw = nominal.noun, self.draw
    indefinite = '' if nominal.plural or len(noun.english) == 1 else 'a'
    if bare:
      return indefinite
    is_kin = 'kin' in noun.tags
    if noun.tags & _OWNED:
      if owner and owner.animate and owner.noun is not noun:
        if _can_own(owner, noun) and draw.chance(60 if is_kin else 25):
          return _OWN
        if self.topic and self.may_be_the_topics(noun, owner) and draw.chance(40):
          return _TOPIC
      if not simple and draw.chance(45 if is_kin else 12):
        return self.nominal(
          'adult elder' if 'heir' in noun.tags else 'person', plural=12
        )
      if draw.chance(25 if is_kin else 6):
        return draw.choice((lexicon.MY, lexicon.OUR))
    if is_kin or 'unique' in noun.tags:
      return 'the'
    if draw.chance(7):
      return draw.choice((lexicon.THIS, lexicon.THAT))
    return indefinite if draw.chance(30) else 'the'

  def may_be_the_topics(self, noun: Noun, owner: _Nominal) -> bool:
    """Returns whether 'his' refers to another person than the owner, who is nearer."""
    topic = self.topic
    person = 'person' in topic.tags and topic.noun is not noun
    return person and topic.pronoun != owner.pronoun and _can_own(topic, noun)

  def described(self, nominal, case, determiner, simple) -> _Phrase:
    """Returns numeral, adjectives and noun."""
    noun = nominal.noun
    numeral = self.choose_numeral(nominal, determiner)
    plural, own_case, other_case = nominal.plural, case, case
    if numeral:
      plural, own_case, other_case = _counted(numeral, noun, case)
    en = _words(noun.english[nominal.plural])
    head = _Word(noun.forms[plural][own_case], en[-1])
    phrase = _Phrase(en, [head], head)
    nominal.heads = [head]
    counter = self.put_numeral(phrase, noun, case, numeral) if numeral else None
    definite = determiner == 'the' and not nominal.plural
    adjectives = self.choose_adjectives(noun, definite, simple)
    nominal.ranks.update(adjective.rank for adjective in adjectives)
    for i, adjective in enumerate(adjectives):
      word = _Word(adjective.english[0])
      form = adjective.form(nominal.column, other_case, noun.animate)
      russian = _Word(form, word)
      phrase.en.insert(i + bool(numeral), word)
      phrase.ru.insert(-1, russian)
      if own_case != case:  # the numeral decides
        self.links += [(russian, counter, 'number'), (russian, counter, 'case')]
        self.links += [(russian, head, 'gender')] * (numeral != 'five')
      else:
        self.agree(russian, head, nominal.column)
        self.links.append((russian, head, 'case'))
    return phrase

  def choose_numeral(self, nominal, determiner) -> str | None:
    if not nominal.plural or nominal.uncounted or determiner not in ('the', ''):
      return None
    # In Russian, subjects with five take a singular or a plural verb: avoid them.
    num_choices = len(_NUMERALS) - (not nominal.animate)
    return _NUMERALS[self.draw.below(num_choices)] if self.draw.chance(25) else None

  def put_numeral(self, phrase, noun, case, numeral) -> _Word:
    word = _Word(numeral)
    _, own_case, _ = _counted(numeral, noun, case)
    animate = case == ACC and own_case == ACC  # двух мальчиков
    text = lexicon.NUMERALS[numeral][GEN if animate else case]
    if text == 'два' and noun.gender == 'f':
      text = 'две'
    russian = _Word(text, word)
    if text in ('два', 'две'):
      self.links.append((russian, phrase.head, 'gender'))
    if own_case != case:
      self.links += [(phrase.head, russian, 'number'), (phrase.head, russian, 'case')]
      phrase.tops = [russian]
    else:
      phrase.tops = [russian, phrase.head]
    phrase.en.insert(0, word)
    phrase.ru.insert(0, russian)
    return russian

  def choose_adjectives(self, noun, definite, simple) -> list[Adjective]:
    options = _adjectives(noun.tags, definite)
    count = 0 if self.draw.chance(57) or not options else 1
    count += count and not simple and self.draw.chance(20)
    chosen: dict[int, Adjective] = {}
    for _ in range(count):
      adjective = self.pick(options)
      chosen.setdefault(adjective.rank, adjective)
    return [chosen[rank] for rank in sorted(chosen)]

  def put_determiner(self, phrase, nominal, case, determiner, owner) -> None:
    if isinstance(determiner, _Nominal):
      self.put_possessor(phrase, determiner)
    elif isinstance(determiner, Adjective):
      word = _Word(determiner.english[nominal.plural and len(determiner.english) > 1])
      if determiner is _OWN:
        word.text = lexicon.ENGLISH_PRONOUNS[owner.pronoun][2]
      form = determiner.form(nominal.column, case, nominal.animate)
      russian = _Word(form, word)
      self.agree(russian, phrase.head, nominal.column)
      self.links.append((russian, phrase.head, 'case'))
      if determiner is _OWN:
        self.links += [(russian, head, 'antecedent') for head in owner.heads]
      phrase.en.insert(0, word)
      phrase.ru.insert(0, russian)
    elif determiner == _TOPIC:
      word = _Word(lexicon.ENGLISH_PRONOUNS[self.topic.pronoun][2])
      column = self.topic.column
      russian = _Word(lexicon.POSSESSIVES[lexicon.COLUMNS[column]], word)
      for head in self.topic.heads:
        self.agree(russian, head, column)
      phrase.en.insert(0, word)
      phrase.ru.insert(0, russian)
    elif determiner:
      vowel = determiner == 'a' and phrase.en[0].text[0] in 'aeiou'
      phrase.en.insert(0, _Word('an' if vowel else determiner))

  def put_possessor(self, phrase, possessor) -> None:
    """Returns, for example, "the king's book": книга короля."""
    owner_phrase = self.render(possessor, GEN, simple=True)
    last = owner_phrase.en[-1]
    last.text += "'" if possessor.plural and last.text[-1] == 's' else "'s"
    self.govern(owner_phrase, phrase.head)
    phrase.en = owner_phrase.en + phrase.en
    phrase.ru += owner_phrase.ru

  def modify(self, phrase, nominal, depth) -> None:
    """Adds a modifier: a cup of tea, a book about the king, the key to the house."""
    options = [m for m in _MODIFIERS if nominal.tags & set(m[0].split())]
    if not options:
      return
    _, en, ru, case, tags, number = self.draw.choice(options)
    plural = {'one': 0, 'many': 100, 'any': 30, 'same': 100 * nominal.plural}[number]
    other = self.nominal(tags, plural=plural, uncounted=True)
    bare = number in ('many', 'same') or 'mass' in other.tags
    rest = self.render(other, case, bare=bare, simple=True, depth=depth)
    phrase.add(self.preposition(rest, en, ru, phrase.head))

  # Relative clauses.

  def relative_clause(self, nominal: _Nominal, depth: int) -> _Phrase:
    """Adds a clause: who loved the teacher, whom the teacher loved, or whose ..."""
    which = _Nominal.standing_for('relative', nominal)
    options = [(50, self.subject_relative)]
    if _verbs_to(which.tags):
      options.append((34, self.object_relative))
    if _verbs_in(which.tags):
      options.append((40, self.place_relative))
    if 'person' in which.tags:
      options.append((8, self.whose_relative))
    phrase = self.draw.weighted(options)(which, depth)
    return _Phrase(phrase.en, [_COMMA, *phrase.ru, _COMMA])

  def subject_relative(self, which: _Nominal, depth: int) -> _Phrase:
    return self.clause(which, _Frame(depth=depth))

  def object_relative(self, which: _Nominal, depth: int) -> _Phrase:
    """Puts a Russian verb before its subject if nothing else follows the verb."""
    verb = self.pick(_verbs_to(which.tags))
    subject = self.number(self.pick(_subjects(verb)), 20)
    subject_phrase = self.render(subject, NOM, english='subject', simple=True)
    before, after = verb.prepositions
    pronoun = self.render(which, verb.case, after=before)
    vp, russian = self.finite(verb, subject, 'plain')
    self.govern(subject_phrase, russian[-1])
    self.preposition(pronoun, before, after, russian[-1])
    rest = self.complements(verb, subject, russian[-1], depth=depth, object=False)
    when, time = [], []
    if _has_time(verb, russian) and self.draw.chance(10):
      when, time = self.time()
    if len(russian) == 1 and not rest.ru:
      ru = [*russian, *subject_phrase.ru]
    else:
      ru = [*subject_phrase.ru, *russian, *rest.ru]
    return _Phrase(
      [*pronoun.en, *subject_phrase.en, *vp, *rest.en, *when], [*pronoun.ru, *time, *ru]
    )

  def place_relative(self, which: _Nominal, depth: int) -> _Phrase:
    """Writes, for example, "in which the king lived": в котором жил король."""
    del depth
    verb = self.pick(_verbs_in(which.tags))
    subject = self.number(self.pick(_subjects(verb)), 20)
    subject_phrase = self.render(subject, NOM, english='subject', simple=True)
    english, russian, _ = which.noun.at
    pronoun = self.render(which, PRE, after=english)
    phrase = self.preposition(pronoun, english, russian, None)
    vp, words = self.finite(verb, subject, 'plain', negative=False)
    self.govern(subject_phrase, words[-1])
    return phrase.add(_Phrase([*subject_phrase.en, *vp], [*words, *subject_phrase.ru]))

  def whose_relative(self, which: _Nominal, depth: int) -> _Phrase:
    """Writes, for example, "whose brother lived there": брат которого жил там."""
    owned = self.nominal('kin pet', plural=0)
    en = [_Word('whose'), *_words(owned.noun.english[0])]
    head = _Word(owned.noun.lemma, en[-1])
    pronoun = _Word(lexicon.WHICH.form(which.column, GEN, which.animate), en[0])
    self.agree(pronoun, which.of.heads[0], which.column)
    self.links.append((pronoun, head, 'case'))
    owned.heads = [head]
    phrase = _Phrase(en, [head, pronoun], head)
    verb = self.pick(_verbs_of(owned.tags, 'pis'))
    return phrase.add(self.verb_phrase(owned, _Frame(depth=depth), verb, phrase))

  # Clauses.

  def options(self, subject: _Nominal, frame: _Frame) -> list[tuple[int, Callable]]:
    """Returns the possible predicates of a subject, with weights."""
    tags, aspects = subject.tags, frame.aspects
    options: list[tuple[int, Callable]] = []
    if _verbs_of(tags, aspects):
      options.append((72, _Writer.verbal))
    if frame.mode == 'plain' and (not aspects or 's' in aspects):
      if _predicates(tags):
        options.append((12, _Writer.adjectival))
      if aspects and 'person' in tags:
        options += [(6, _Writer.liking), (6, _Writer.having), (3, _Writer.needing)]
        options += [(8, _Writer.modal), (3, _Writer.comparing)]
        options += [(3, _Writer.becoming)] if not subject.plural else []
      elif aspects == 'pis' and _passives(tags):
        options.append((14, _Writer.passive))
    return options

  def clause(self, subject: _Nominal, frame: _Frame) -> _Phrase:
    """Writes a subject and its predicate."""
    return self.draw.weighted(self.options(subject, frame))(self, subject, frame)

  def open(self, subject, case, frame, after='') -> _Phrase:
    """Writes the subject at the beginning of a clause, maybe in an oblique case."""
    clause = not frame.depth
    return self.render(
      subject, case, english='subject', clause=clause, depth=frame.depth, after=after
    )

  def verbal(self, subject, frame) -> _Phrase:
    """Writes a subject and a verb with its complements."""
    subject_phrase = self.open(subject, NOM, frame)
    verb = self.pick(_verbs_of(subject.tags, frame.aspects))
    vp = self.verb_phrase(subject, frame, verb, subject_phrase)
    phrase = _Phrase(subject_phrase.en + vp.en, subject_phrase.ru + vp.ru)
    timed = frame.timed and frame.mode == 'plain' and _has_time(verb, vp.ru)
    if not timed or not self.draw.chance(20):
      return phrase
    # An adverb that ends a sentence after a clause is read as part of that clause.
    late = not vp.has_clause and (subject.kind == 'relative' or self.draw.chance(50))
    if subject.kind == 'relative' and not late:
      return phrase
    when, time = self.time()
    phrase.en = phrase.en + when if late else when + phrase.en
    at = len(subject_phrase.ru) if subject.kind == 'relative' else 0
    phrase.ru[at:at] = time
    return phrase

  def time(self) -> tuple[list[_Word], list[_Word]]:
    english = self.draw.choice(tuple(lexicon.TIMES))
    when = _words(english)
    return when, [_Word(part, when[0]) for part in lexicon.TIMES[english].split()]

  def verb_phrase(self, subject, frame, verb: Verb, subject_phrase: _Phrase) -> _Phrase:
    """Writes a verb and its complements, after the phrase of its subject."""
    en, ru = self.finite(verb, subject, frame.mode, frame.negative)
    self.govern(subject_phrase, ru[-1])
    bare = len(ru) == 1
    tail = frame.tail and frame.depth < 2
    rest = self.complements(verb, subject, ru[-1], clause=tail, depth=frame.depth)
    if bare and verb.manners and self.draw.chance(18):
      word = _Word(self.draw.choice(verb.manners))
      adverb = _Word(lexicon.MANNERS[word.text], word)
      if subject.kind == 'relative':
        en.insert(frame.mode != 'plain', word)
        ru.insert(0, adverb)
      elif not rest.has_clause:
        rest.en.append(word)
        ru.insert(0, adverb)
    return _Phrase(en, ru).add(rest)

  def finite(self, verb, subject, mode, negative: bool = True):
    """Returns the verb in both languages, with auxiliary, negation and 'often'."""
    negated = negative and mode == 'plain' and self.draw.chance(12)
    en = _words(_finite_english(verb, subject.plural, mode, negated))
    forms = verb.ongoing[1] if mode == 'ongoing' else verb.past
    main = 2 if negated else mode != 'plain' or verb.english[0].startswith('be ')
    ru = [self.agreeing(forms, subject, en[main])]
    if negated:
      ru.insert(0, _Word('не', en[1]))
    elif mode == 'plain' and verb.aspect != 'p' and self.draw.chance(15):
      usual = lexicon.FREQUENCIES_OF[verb.aspect]
      word = _Word(self.draw.choice(usual))
      en.insert(verb.english[0].startswith('be '), word)
      ru[:0] = [_Word(part, word) for part in lexicon.FREQUENCIES[word.text].split()]
    return en, ru

  def complements(
    self, verb, subject, governor, *, clause=False, depth=0, object=True
  ) -> _Phrase:
    """Returns object, recipient, instrument and place, ordered as in both languages."""
    required = [a.rstrip('!') for a in verb.adjuncts if a.endswith('!')]
    optional = [a for a in verb.adjuncts if not a.endswith('!')]
    if optional and self.draw.chance(14 if depth else 31):
      required.append(self.draw.choice(optional))
    if verb.object and object:
      first = 'dative' in required and (verb.prepositions[0] or self.draw.chance(65))
      required.insert(1 if first else 0, 'object')
    rest = _Phrase()
    for i, name in enumerate(required):
      last = clause and i == len(required) - 1
      if name == 'object':
        rest.add(self.direct(verb, subject, governor, last, depth))
      elif name == 'dative':
        second = 'object' in required[:i] or not (object or verb.prepositions[0])
        to = ('for' if verb.english[0] == 'buy' else 'to') if second else ''
        recipient = self.nominal('person', plural=20)
        phrase = self.render(recipient, DAT, owner=subject, clause=last, depth=depth)
        rest.add(self.preposition(phrase, to, '', governor))
      else:
        rest.add(self.adjunct(name, governor))
    return rest

  def direct(self, verb, subject, governor, clause, depth) -> _Phrase:
    """Returns the object, which is sometimes the topic."""
    before, after = verb.prepositions
    topic = self.topic
    differs = topic and topic is not subject and topic is not subject.of
    fits = differs and 'person' in topic.tags and topic.tags & verb.object
    if fits and self.draw.chance(35):
      nominal = _Nominal.standing_for('pronoun', topic)
    else:
      noun = self.pick(_objects(verb))
      plural = 0 if 'inside' in noun.tags else 25
      if verb.english[0] == 'wear':
        plural = 100 * subject.plural
      nominal = self.number(noun, plural)
    phrase = self.render(
      nominal, verb.case, owner=subject, clause=clause, depth=depth, after=after
    )
    return self.preposition(phrase, before, after, governor)

  def adjunct(self, name: str, governor: _Word) -> _Phrase:
    """Returns an instrument, a companion, a place or a destination, by its name."""
    kind, _, tags = name.partition(':')
    if kind in _SPOTS:
      return self.spot(kind, governor)
    if kind == 'in':
      return self.place(tags)
    if kind == 'with':
      tool = self.render(self.nominal(tags, plural=0), INS, simple=True, bare=True)
      return self.preposition(tool, 'with', '', governor)
    if kind == 'company':
      en, ru, case = self.draw.choice((('with', 'с', INS), ('without', 'без', GEN)))
      friend = self.render(self.nominal('person', plural=20), case, simple=True)
      return self.preposition(friend, en, ru, governor)
    nominal = self.nominal(tags, plural=0)
    russian = nominal.noun.at[1]
    if kind == 'to':
      phrase = self.render(nominal, ACC, simple=True)
      return self.preposition(phrase, 'to', russian, governor)
    phrase = self.render(nominal, GEN, simple=True)
    return self.preposition(phrase, 'from', {'в': 'из', 'на': 'с'}[russian], governor)

  def place(self, tags: str) -> _Phrase:
    """Returns a place, for example "in the garden" or "at the market"."""
    nominal = self.nominal(tags, plural=0)
    english, russian, _ = nominal.noun.at
    return self.located(nominal, english, russian, PRE)

  def spot(self, kind: str, governor) -> _Phrase:
    """Returns a place, for example "on the table" or "under the bed"."""
    english, russian, case, tags = self.draw.choice(_SPOTS[kind])
    nominal = self.nominal(tags, plural=0)
    return self.located(nominal, english, russian, case, governor)

  def located(self, nominal, english, russian, case, governor=None) -> _Phrase:
    phrase = self.render(nominal, case, simple=True)
    if case == PRE and nominal.noun.at:
      phrase.head.text = nominal.noun.at[2]  # в саду
    return self.preposition(phrase, english, russian, governor)

  # Clauses of other kinds.

  def adjectival(self, subject, frame) -> _Phrase:
    """Writes, for example, "was tall": был высоким, была больна, устали."""
    subject_phrase = self.open(subject, NOM, frame)
    options = _predicates(subject.tags)
    others = [a for a in options if a.rank not in subject.ranks]
    adjective = self.pick(others or options)
    be = _Word('were' if subject.plural else 'was')
    word = _Word(adjective.english[0])
    was = self.agreeing(lexicon.WAS, subject, be)
    if adjective.predicate:
      predicate = self.agreeing(adjective.predicate, subject, word)
    else:
      forms = [column[INS] for column in adjective.forms]
      predicate = self.agreeing(forms, subject, word)
      self.links.append((predicate, was, 'case'))
    en, ru = [be, word], [was, predicate]
    if adjective.bare:
      ru, self.links = [predicate], [link for link in self.links if link[0] is not was]
    self.govern(subject_phrase, ru[0])
    if self.draw.chance(12):
      en.insert(1, _Word('not'))
      ru.insert(0, _Word('не', en[1]))
    return subject_phrase.add(_Phrase(en, ru))

  def liking(self, subject, frame) -> _Phrase:
    """Writes, for example, "the girl liked the book": девушке понравилась книга."""
    subject_phrase = self.open(subject, DAT, frame)
    tags = 'goods told person pet inside food'
    nominal = self.nominal(tags, uncounted=True)
    phrase = self.render(nominal, NOM, clause=frame.tail, depth=frame.depth)
    negated = self.draw.chance(15)
    en = _words('did not like' if negated else 'liked')
    verb = self.agreeing(lexicon.past_forms('понравился'), nominal, en[-1])
    self.govern(subject_phrase, verb)
    self.govern(phrase, verb)
    ru = [_Word('не', en[1]), verb] if negated else [verb]
    return subject_phrase.add(_Phrase(en, ru), phrase)

  def having(self, subject, frame) -> _Phrase:
    """Writes "the girl had a book": у девушки была книга; "had no": не было книги."""
    subject_phrase = self.open(subject, GEN, frame, after='у')
    self.preposition(subject_phrase, '', 'у', None)
    tags = 'goods pet horse house garden relation own'
    also = 'gown' if 'female' in subject.tags else ''
    nominal = self.nominal(tags, also, plural=12, uncounted=True)
    had = _Word('had')
    without = self.draw.chance(25)
    case, clause = (GEN, False) if without else (NOM, frame.tail)
    phrase = self.render(nominal, case, bare=True, clause=clause, depth=frame.depth)
    if not without:
      verb = self.agreeing(lexicon.WAS, nominal, had)
      self.govern(phrase, verb)
      return subject_phrase.add(_Phrase([had], [verb]), phrase)
    if phrase.en[0].text in ('a', 'an'):
      phrase.en.pop(0)
    no = _Word('no')
    negation = _Word('не', no)
    self.govern(phrase, negation)
    return subject_phrase.add(
      _Phrase([had, no], [negation, _Word('было', had)]), phrase
    )

  def needing(self, subject, frame) -> _Phrase:
    """Writes, for example, "the girl needed a key": девушке был нужен ключ."""
    subject_phrase = self.open(subject, DAT, frame)
    nominal = self.nominal('goods key doctor horse teacher', plural=12, uncounted=True)
    phrase = self.render(nominal, NOM, bare=True, clause=frame.tail, depth=frame.depth)
    word = _Word('needed')
    was = self.agreeing(lexicon.WAS, nominal, word)
    needed = self.agreeing(('нужен', 'нужна', 'нужно', 'нужны'), nominal, word)
    self.govern(subject_phrase, needed)
    self.govern(phrase, needed)
    return subject_phrase.add(_Phrase([word], [was, needed]), phrase)

  def modal(self, subject, frame) -> _Phrase:
    """Writes, for example, "wanted to buy a book": хотела купить книгу."""
    subject_phrase = self.open(subject, NOM, frame)
    english, russian, aspects = self.draw.choice(_MODALS)
    if subject.plural:
      english = english.replace('was', 'were')
    en = _words(english)
    *no, masculine = russian.split()
    finite = self.agreeing(lexicon.past_forms(masculine), subject, en[-1])
    self.govern(subject_phrase, finite)
    verb = self.pick(_verbs_of(subject.tags, aspects))
    base = _words('to ' + verb.english[0])
    form = verb.ongoing[0] if aspects == 'o' else verb.infinitive
    infinitive = _Word(form, base[1])
    clause = frame.tail and frame.depth < 2
    rest = self.complements(verb, subject, infinitive, clause=clause, depth=frame.depth)
    ru = [*(_Word(part, en[1]) for part in no), finite, infinitive]
    return subject_phrase.add(_Phrase(en + base, ru), rest)

  def becoming(self, subject, frame) -> _Phrase:
    """Writes, for example, "became a doctor": стала врачом."""
    subject_phrase = self.open(subject, NOM, frame)
    kind = 'man_staff' if subject.column == 0 else 'woman_staff'
    job = self.nominal('staff', kind, plural=0)
    phrase = self.render(job, INS, bare=True, simple=True)
    word = _Word('became')
    verb = self.agreeing(lexicon.past_forms('стал'), subject, word)
    self.govern(subject_phrase, verb)
    return subject_phrase.add(_Phrase([word], [verb]), self.govern(phrase, verb))

  def comparing(self, subject, frame) -> _Phrase:
    """Writes, for example, "was taller than the boy": была выше мальчика."""
    subject_phrase = self.open(subject, NOM, frame)
    options = [c for c in _COMPARATIVES if subject.tags & set(c[2].split())]
    english, russian, tags = self.draw.choice(options)
    other = self.nominal(tags, plural=20)
    clause = frame.tail and frame.depth < 2
    than = self.render(other, GEN, owner=subject, clause=clause, depth=frame.depth)
    en = _words(f'{"were" if subject.plural else "was"} {english} than')
    was = self.agreeing(lexicon.WAS, subject, en[0])
    self.govern(subject_phrase, was)
    comparative = _Word(russian, en[1])
    return subject_phrase.add(
      _Phrase(en, [was, comparative]), self.govern(than, comparative)
    )

  def passive(self, subject, frame) -> _Phrase:
    """Writes, for example, "was built by the king": был построен королём."""
    subject_phrase = self.open(subject, NOM, frame)
    verb = self.pick(_passives(subject.tags))
    agent = self.number(self.pick(_subjects(verb)), 20)
    clause = frame.tail and frame.depth < 2
    by = self.render(agent, INS, clause=clause, depth=frame.depth)
    be = 'were' if subject.plural else 'was'
    en = _words(f'{be} {verb.english[2]} by')
    was = self.agreeing(lexicon.WAS, subject, en[0])
    participle = self.agreeing(verb.passive, subject, en[1])
    self.govern(subject_phrase, was)
    self.govern(by, participle)
    return subject_phrase.add(_Phrase(en, [was, participle]), by)


def _can_own(owner: _Nominal, noun: Noun) -> bool:
  """Returns whether a possessor fits: no animal has kin, and no child has children."""
  if 'heir' in noun.tags and 'young' in owner.tags:
    return False
  return 'kin' not in noun.tags or 'person' in owner.tags


def _counted(numeral: str, noun: Noun, case: int) -> tuple[bool, int, int]:
  """Returns number and case of a noun after a numeral, and the case of its adjectives.

  Два больших дома, две новые книги, пять книг; but двух мальчиков, двум книгам.
  """
  direct = case == NOM or (case == ACC and (numeral == 'five' or not noun.animate))
  if not direct:
    return True, case, case
  if numeral == 'five':
    return True, GEN, GEN
  return False, GEN, NOM if noun.gender == 'f' else GEN


def _finite_english(verb: Verb, plural: bool, mode: str, negated: bool) -> str:
  base, past, participle, ing = verb.english
  be = 'were' if plural else 'was'
  if mode == 'ongoing':
    return f'{be} {ing}'
  if mode == 'perfect':
    return f'had {participle}'
  if base.startswith('be '):
    return f'{be} not {base[3:]}' if negated else f'{be} {base[3:]}'
  return f'did not {base}' if negated else past


def _has_time(verb: Verb, russian: Sequence[_Word]) -> bool:
  """Returns whether an adverb of time fits: not with a state, nor with 'often'."""
  often = {text.split()[0] for text in lexicon.FREQUENCIES.values()}
  return verb.aspect != 's' and russian[0].text not in often


_CONSONANTS = frozenset('бвгджзйклмнпрстфхцчшщ')


def _before(preposition: str, word: str) -> str:
  """Returns the form of a preposition before a word: в or во, с or со, о or об."""
  cluster = word[1:2] in _CONSONANTS
  if preposition == 'в' and ((cluster and word[0] in 'вф') or word.startswith('двор')):
    return 'во'
  if preposition == 'с' and (
    (cluster and word[0] in 'сзшж') or word.startswith(('льв', 'втор'))
  ):
    return 'со'
  if preposition == 'к' and word.startswith(('льв', 'втор')):
    return 'ко'
  if preposition == 'о' and word[0] in 'аоуэи':
    return 'об'
  return preposition


def _join(words: Sequence[_Word]) -> tuple[str, list[_Word]]:
  """Returns the sentence, and its words; commas are joined to the words before them."""
  kept: list[_Word] = []
  texts: list[str] = []
  for word in words:
    if word is not _COMMA:
      kept.append(word)
      texts.append(word.text)
    elif texts[-1][-1] != ',':
      texts[-1] += ','
  text = ' '.join(texts).rstrip(',')
  return text[0].upper() + text[1:] + '.', kept
