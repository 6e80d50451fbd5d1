"""The words of the embedded corpus, with every form of each Russian one.

Paradigms come from declension classes; forms that a class does not give are written out
with the word. The classes, the spelling rules and the stress patterns follow
Zaliznyak, "Грамматический словарь русского языка" (1977). The tags of a word say which
words it combines with: a person reads a book, a cat does not.
"""

from dataclasses import dataclass

NOM, GEN, DAT, ACC, INS, PRE = range(6)
_VELARS, _HUSHERS, _VOWELS = 'гкх', 'жшчщ', 'аеёиоуыэюя'


@dataclass(frozen=True, eq=False)
class Noun:
  """A noun, English and Russian.

  Attributes:
    english: singular and plural; one form for a mass noun, which has no plural.
    gender: 'm', 'f' or 'n'; words agree with this, not with the ending.
    animate: whether the accusative is the genitive.
    forms: singular and plural, each nominative to prepositional.
    tags: classes of words that it combines with.
    at: for a place, the English preposition, the Russian one (в or на) and the form
      after it that names a location: mostly the prepositional, but в саду.
  """

  english: tuple[str, ...]
  gender: str
  animate: bool
  forms: tuple[tuple[str, ...], tuple[str, ...]]
  tags: frozenset[str]
  at: tuple[str, str, str] | None

  @property
  def lemma(self) -> str:
    """Nominative singular."""
    return self.forms[0][NOM]


@dataclass(frozen=True, eq=False)
class Adjective:
  """An adjective or another word that is declined like one.

  Attributes:
    english: the only form; for demonstratives, singular and plural.
    forms: for each column of `COLUMNS`, nominative to prepositional. The accusative is
      that of inanimates; animates have the genitive in its place.
    tags: tags of the nouns that it may precede.
    rank: adjectives are ordered by rank, and no two of one rank occur together.
    predicate: the four forms of the short adjective after 'was', where Russian uses
      it; if empty, the predicate is the instrumental of the long adjective.
    bare: whether the predicate has no был: устал.
  """

  english: tuple[str, ...]
  forms: tuple[tuple[str, ...], ...]
  tags: frozenset[str] = frozenset()
  rank: int = 0
  predicate: tuple[str, ...] = ()
  bare: bool = False

  def form(self, column: int, case: int, animate: bool) -> str:
    """Returns the form that agrees with a noun.

    Args:
      column: index in `COLUMNS`: gender, or plural.
      case: NOM to PRE.
      animate: whether the noun is.
    """
    if case == ACC and animate and column in (0, 3):
      case = GEN
    return self.forms[column][case]


@dataclass(frozen=True, eq=False)
class Verb:
  """A verb, English and Russian: one Russian form for each English one.

  Attributes:
    english: base, past, past participle, present participle.
    infinitive: Russian infinitive of the verb that translates the simple past.
    past: its past: masculine, feminine, neuter and plural.
    subject: tags of nouns that may be its subject.
    object: tags of nouns that may be its object; '' if intransitive.
    case: case of the object in Russian.
    prepositions: English and Russian preposition of the object; '' for none.
    aspect: 'p' perfective, 'i' imperfective, 's' a state (imperfective, and
      neither 'yesterday' nor 'was -ing').
    ongoing: infinitive and past of the imperfective that translates 'was -ing'.
    adjuncts: names of adjuncts that may follow; one with '!' must follow.
    manners: English adverbs that may modify it.
    passive: the four forms of the short participle.
    willed: whether the subject can decide to do it.
  """

  english: tuple[str, str, str, str]
  infinitive: str
  past: tuple[str, ...]
  subject: frozenset[str]
  object: frozenset[str]
  case: int = ACC
  prepositions: tuple[str, str] = ('', '')
  aspect: str = 'p'
  ongoing: tuple[str, tuple[str, ...]] | None = None
  adjuncts: tuple[str, ...] = ()
  manners: tuple[str, ...] = ()
  passive: tuple[str, ...] = ()
  willed: bool = True


COLUMNS = ('m', 'f', 'n', 'plural')


def decline_noun(
  lemma: str,
  gender: str,
  animate: bool,
  *,
  stem: str = '',
  stressed: bool = False,
  nominative: str = '',
  genitive: str = '',
  singular: str = '',
  plural: str = '',
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns singular and plural, each nominative to prepositional.

  Args:
    lemma: the nominative singular.
    gender: 'm', 'f' or 'n'.
    animate: whether the accusative is the genitive, in the plural and in the
      masculine singular.
    stem: stem of the other forms, where a vowel is dropped: отец, отц-.
    stressed: whether the endings are stressed: ножом, королём, судьёй.
    nominative: nominative plural, where the class does not give it: дома.
    genitive: genitive plural, where the class does not give it: окон.
    singular: all six forms, where no class gives them.
    plural: the five forms without the accusative, where no class gives them.
  """
  singular_forms = (
    singular.split() if singular else _singular(lemma, gender, stem, stressed)
  )
  if not singular and gender == 'm' and lemma[-1] not in 'ая':
    singular_forms[ACC] = singular_forms[GEN] if animate else lemma
  plural_forms = plural.split() if plural else _plural(lemma, gender, stem, stressed)
  if nominative:
    plural_forms[0] = nominative
  if genitive:
    plural_forms[1] = genitive
  plural_forms.insert(ACC, plural_forms[GEN] if animate else plural_forms[NOM])
  return tuple(singular_forms), tuple(plural_forms)


def _singular(lemma: str, gender: str, stem: str, stressed: bool) -> list[str]:
  last, stem = lemma[-1], stem or _stem(lemma)
  if gender == 'f' and last == 'ь':
    return [lemma, stem + 'и', stem + 'и', lemma, stem + 'ью', stem + 'и']
  if last == 'а':
    o = 'о' if stressed or stem[-1] not in _HUSHERS + 'ц' else 'е'
    ends = 'а', _y(stem), 'е', 'у', o + 'й', 'е'
  elif last == 'я':
    e = 'и' if stem[-1] == 'и' else 'е'
    ends = 'я', 'и', e, 'ю', 'ёй' if stressed else 'ей', e
  elif last in 'ьйе' and stem[-1] not in _HUSHERS + 'ц':
    e = 'и' if stem[-1] == 'и' else 'е'
    ends = last, 'я', 'ю', last, 'ём' if stressed else 'ем', e
  else:  # a hard consonant, or -о
    e = 'е' if stem[-1] in _HUSHERS + 'ц' and not stressed else 'о'
    ends = '', 'а', 'у', last if gender == 'n' else '', e + 'м', 'е'
  return [lemma, *(stem + end for end in ends[1:])]


def _plural(lemma: str, gender: str, stem: str, stressed: bool) -> list[str]:
  """Returns the five forms without the accusative."""
  last, stem = lemma[-1], stem or _stem(lemma)
  soft = last in 'яьйе' and stem[-1] not in _HUSHERS + 'ц'
  a = 'я' if soft else 'а'
  first = a if gender == 'n' else 'и' if soft else _y(stem)
  if stem[-1] == 'и' and gender != 'm':
    second = 'й'  # станций, зданий
  elif last in 'ьй' or last == 'е' or (last not in 'аоя' and stem[-1] in _HUSHERS):
    second = 'ев' if last == 'й' else 'ей'
  elif last in 'аоя':
    second = 'ь' if last == 'я' else ''
  else:
    second = 'ев' if stem[-1] == 'ц' and not stressed else 'ов'
  return [stem + end for end in (first, second, a + 'м', a + 'ми', a + 'х')]


def _stem(lemma: str) -> str:
  return lemma[:-1] if lemma[-1] in 'аоеяьй' else lemma


def _y(stem: str) -> str:
  return 'и' if stem[-1] in _VELARS + _HUSHERS else 'ы'


def decline_adjective(lemma: str) -> tuple[tuple[str, ...], ...]:
  """Returns a long adjective: for each of `COLUMNS`, nominative to prepositional.

  The classes are hard (новый, молодой), soft (синий) and mixed (тихий, хороший,
  большой); the last consonant and the stress of the ending decide.
  """
  stem, stressed = lemma[:-2], lemma.endswith('ой')
  soft = lemma.endswith('ий') and stem[-1] not in _VELARS + _HUSHERS
  y = 'и' if soft or stem[-1] in _VELARS + _HUSHERS else 'ы'
  o = 'е' if soft or (stem[-1] in _HUSHERS and not stressed) else 'о'
  a, u = ('я', 'ю') if soft else ('а', 'у')
  him = [o + 'го', o + 'му', None, y + 'м', o + 'м']
  her = [o + 'й', o + 'й', u + 'ю', o + 'й', o + 'й']
  rows = (
    [lemma[-2:], *him[:2], lemma[-2:], *him[3:]],
    [a + 'я', *her],
    [o + 'е', *him[:2], o + 'е', *him[3:]],
    [y + 'е', y + 'х', y + 'м', y + 'е', y + 'ми', y + 'х'],
  )
  return tuple(tuple(stem + end for end in row) for row in rows)


def past_forms(masculine: str) -> tuple[str, ...]:
  """Returns masculine, feminine, neuter and plural of the past tense."""
  if masculine.endswith('лся'):
    stem = masculine[:-2]
    return masculine, stem + 'ась', stem + 'ось', stem + 'ись'
  if masculine.endswith(('шёл', 'шел')):
    stem = masculine[:-2] + 'л'  # вошёл, вошла; вышел, вышла
  elif masculine.endswith('л'):
    stem = masculine
  else:
    stem = masculine.replace('ё', 'е') + 'л'  # помог, помогла; принёс, принесла
  return masculine, stem + 'а', stem + 'о', stem + 'и'


def _table(text: str) -> tuple[tuple[str, ...], ...]:
  return tuple(tuple(line.split()) for line in text.strip().splitlines())


# Function words.
THIS = Adjective(
  ('this', 'these'),
  _table("""
    этот этого этому этот этим этом
    эта этой этой эту этой этой
    это этого этому это этим этом
    эти этих этим эти этими этих
  """),
)
THAT = Adjective(
  ('that', 'those'),
  _table("""
    тот того тому тот тем том
    та той той ту той той
    то того тому то тем том
    те тех тем те теми тех
  """),
)
MY = Adjective(
  ('my',),
  _table("""
    мой моего моему мой моим моём
    моя моей моей мою моей моей
    моё моего моему моё моим моём
    мои моих моим мои моими моих
  """),
)
OWN = Adjective(
  ('',),
  tuple(tuple('сво' + form[2:] for form in row) for row in MY.forms),
)
OUR = Adjective(
  ('our',),
  _table("""
    наш нашего нашему наш нашим нашем
    наша нашей нашей нашу нашей нашей
    наше нашего нашему наше нашим нашем
    наши наших нашим наши нашими наших
  """),
)
THIRD = Adjective(
  ('third',),
  _table("""
    третий третьего третьему третий третьим третьем
    третья третьей третьей третью третьей третьей
    третье третьего третьему третье третьим третьем
    третьи третьих третьим третьи третьими третьих
  """),
  frozenset({'counted'}),
)
SECOND = Adjective(('second',), decline_adjective('второй'), frozenset({'counted'}))
WHICH = Adjective(('which',), decline_adjective('который'))

# Nominative to prepositional; after a preposition, forms that begin with a vowel get
# an н: с ним, у неё.
PRONOUNS = {
  'm': ('он', 'его', 'ему', 'его', 'им', 'нём'),
  'f': ('она', 'её', 'ей', 'её', 'ей', 'ней'),
  'n': ('оно', 'его', 'ему', 'его', 'им', 'нём'),
  'plural': ('они', 'их', 'им', 'их', 'ими', 'них'),
}
# English subject, object, possessive.
ENGLISH_PRONOUNS = {
  'm': ('he', 'him', 'his'),
  'f': ('she', 'her', 'her'),
  'n': ('it', 'it', 'its'),
  'plural': ('they', 'them', 'their'),
}
POSSESSIVES = {'m': 'его', 'f': 'её', 'n': 'его', 'plural': 'их'}

# Nominative to prepositional; два also has a feminine.
NUMERALS = {
  'two': ('два', 'двух', 'двум', 'два', 'двумя', 'двух'),
  'three': ('три', 'трёх', 'трём', 'три', 'тремя', 'трёх'),
  'four': ('четыре', 'четырёх', 'четырём', 'четыре', 'четырьмя', 'четырёх'),
  'five': ('пять', 'пяти', 'пяти', 'пять', 'пятью', 'пяти'),
}

WAS = ('был', 'была', 'было', 'были')


def _pluralize(english: str) -> str:
  head, space, last = english.rpartition(' ')
  if last.endswith(('s', 'x', 'ch', 'sh')) or last in ('hero',):
    last += 'es'
  elif last.endswith('y') and last[-2] not in 'aeiou':
    last = last[:-1] + 'ies'
  else:
    last += 's'
  return head + space + last


def _noun(
  english: str,
  lemma: str,
  gender: str,
  tags: str,
  *,
  at: str = '',
  locative: str = '',
  **declension,
) -> Noun:
  """Makes a noun; `english` may give the plural: 'man|men'; `at`, both prepositions."""
  singular, _, plural = english.partition('|')
  all_tags = frozenset(tags.split())
  animate = bool(all_tags & {'person', 'animal'})
  if declension.pop('indeclinable', False):
    forms = ((lemma,) * 6,) * 2
  else:
    forms = decline_noun(lemma, gender, animate, **declension)
  names = (
    (singular,) if 'mass' in all_tags else (singular, plural or _pluralize(singular))
  )
  location = (*at.split(), locative or forms[0][PRE]) if at else None
  sex = {'female' if gender == 'f' else 'male'} if 'person' in all_tags else set()
  kind = (
    set() if animate else {'place'} if at and 'unique' not in all_tags else {'thing'}
  )
  return Noun(
    names, gender, animate, forms, all_tags | {singular} | kind | sex, location
  )


def _adjective(
  english: str, lemma: str, rank: int, tags: str, predicate: str = '', *, bare=False
) -> Adjective:
  forms = decline_adjective(lemma)
  short = tuple(predicate.split())
  return Adjective((english,), forms, frozenset(tags.split()), rank, short, bare)


def _verb(
  english: str,
  russian: str,
  subject: str = 'person',
  object: str = '',
  *,
  case: int = ACC,
  by: str = ' ',
  aspect: str = 'p',
  ongoing: str = '',
  adjuncts: str = '',
  manners: str = '',
  passive: str = '',
  willed: bool = True,
) -> Verb:
  """Makes a verb; `by` holds both prepositions, separated by a space, maybe empty."""
  infinitive, masculine = russian.split()
  past = past_forms(masculine)
  if ongoing:
    other, masculine = ongoing.split()
    during = other, past_forms(masculine)
  else:
    during = (infinitive, past) if aspect == 'i' else None
  base, *rest = (part.strip() for part in english.split(','))
  short = tuple(passive + end for end in ('', 'а', 'о', 'ы')) if passive else ()
  before, after = by.split(' ')
  return Verb(
    (base, *rest),
    infinitive,
    past,
    frozenset(subject.split()),
    frozenset(object.split()),
    case,
    (before, after),
    aspect,
    during,
    tuple(adjuncts.split()),
    tuple(manners.split()),
    short,
    willed,
  )


# fmt: off
NOUNS = (
  # Persons. Words tagged kin have a possessor; staff can follow "became".
  _noun('boy', 'мальчик', 'm', 'person young'),
  _noun('girl', 'девушка', 'f', 'person youth', genitive='девушек'),
  _noun('little girl', 'девочка', 'f', 'person young', genitive='девочек'),
  _noun('child|children', 'ребёнок', 'm', 'person young', stem='ребёнк', plural='дети детей детям детьми детях'),
  _noun('man|men', 'мужчина', 'm', 'person adult'),
  _noun('woman|women', 'женщина', 'f', 'person adult'),
  _noun('teacher', 'учитель', 'm', 'person adult staff', nominative='учителя'),
  _noun('doctor', 'врач', 'm', 'person adult staff', stressed=True),
  _noun('nurse', 'медсестра', 'f', 'person adult woman_staff', plural='медсёстры медсестёр медсёстрам медсёстрами медсёстрах'),
  _noun('friend', 'друг', 'm', 'person adult own', plural='друзья друзей друзьям друзьями друзьях'),
  _noun('brother', 'брат', 'm', 'person adult kin relation', plural='братья братьев братьям братьями братьях'),
  _noun('sister', 'сестра', 'f', 'person adult kin relation', plural='сёстры сестёр сёстрам сёстрами сёстрах'),
  _noun('father', 'отец', 'm', 'person adult kin single', stem='отц', stressed=True),
  _noun('mother', 'мать', 'f', 'person adult kin single', singular='мать матери матери мать матерью матери', plural='матери матерей матерям матерями матерях'),
  _noun('son', 'сын', 'm', 'person youth kin heir', plural='сыновья сыновей сыновьям сыновьями сыновьях'),
  _noun('daughter', 'дочь', 'f', 'person youth kin heir', singular='дочь дочери дочери дочь дочерью дочери', plural='дочери дочерей дочерям дочерьми дочерях'),
  _noun('grandfather', 'дедушка', 'm', 'person elder kin', genitive='дедушек'),
  _noun('grandmother', 'бабушка', 'f', 'person elder kin', genitive='бабушек'),
  _noun('uncle', 'дядя', 'm', 'person adult kin', genitive='дядей'),
  _noun('neighbour', 'сосед', 'm', 'person adult own', plural='соседи соседей соседям соседями соседях'),
  _noun('guest', 'гость', 'm', 'person adult'),
  _noun('king', 'король', 'm', 'person adult royal', stressed=True),
  _noun('queen', 'королева', 'f', 'person adult royal'),
  _noun('prince', 'принц', 'm', 'person adult royal'),
  _noun('princess', 'принцесса', 'f', 'person adult royal'),
  _noun('actor', 'актёр', 'm', 'person adult man_staff'),
  _noun('actress', 'актриса', 'f', 'person adult woman_staff'),
  _noun('waiter', 'официант', 'm', 'person adult man_staff'),
  _noun('waitress', 'официантка', 'f', 'person adult woman_staff', genitive='официанток'),
  _noun('artist', 'художник', 'm', 'person adult staff'),
  _noun('soldier', 'солдат', 'm', 'person adult man_staff', genitive='солдат'),
  _noun('cook', 'повар', 'm', 'person adult staff', nominative='повара'),
  _noun('thief|thieves', 'вор', 'm', 'person adult', plural='воры воров ворам ворами ворах'),
  _noun('judge', 'судья', 'm', 'person adult staff', stressed=True, plural='судьи судей судьям судьями судьях'),
  _noun('hero', 'герой', 'm', 'person adult man_staff'),
  # Animals.
  _noun('cat', 'кошка', 'f', 'animal pet hunter', genitive='кошек'),
  _noun('dog', 'собака', 'f', 'animal pet hunter biter'),
  _noun('horse', 'лошадь', 'f', 'animal farmed biter', plural='лошади лошадей лошадям лошадьми лошадях'),
  _noun('duck', 'утка', 'f', 'animal farmed prey', genitive='уток'),
  _noun('bird', 'птица', 'f', 'animal prey'),
  _noun('mouse|mice', 'мышь', 'f', 'animal prey'),
  _noun('hare', 'заяц', 'm', 'animal prey', stem='зайц'),
  _noun('fox', 'лиса', 'f', 'animal wild hunter biter'),
  _noun('wolf|wolves', 'волк', 'm', 'animal wild hunter biter'),
  _noun('bear', 'медведь', 'm', 'animal wild'),
  _noun('lion', 'лев', 'm', 'animal wild biter', stem='льв'),
  # Things that are read, sung or told.
  _noun('book', 'книга', 'f', 'solid held goods readable written counted'),
  _noun('letter', 'письмо', 'n', 'solid held readable written sent counted', genitive='писем'),
  _noun('newspaper', 'газета', 'f', 'solid held goods readable'),
  _noun('story', 'рассказ', 'm', 'readable written told counted'),
  _noun('fairy tale', 'сказка', 'f', 'readable written told', genitive='сказок'),
  _noun('song', 'песня', 'f', 'told counted', genitive='песен'),
  _noun('map', 'карта', 'f', 'solid held goods used shown'),
  _noun('dictionary', 'словарь', 'm', 'solid held goods used', stressed=True),
  _noun('picture', 'картина', 'f', 'solid goods hung shown'),
  # Things.
  _noun('key', 'ключ', 'm', 'solid held', stressed=True),
  _noun('knife|knives', 'нож', 'm', 'solid held goods', stressed=True),
  _noun('pencil', 'карандаш', 'm', 'solid held goods', stressed=True),
  _noun('cup', 'чашка', 'f', 'solid held goods washed broken counted', genitive='чашек'),
  _noun('plate', 'тарелка', 'f', 'solid held goods washed broken', genitive='тарелок'),
  _noun('mirror', 'зеркало', 'n', 'solid goods broken hung washed'),
  _noun('lamp', 'лампа', 'f', 'solid goods broken fixed stood hung'),
  _noun('umbrella', 'зонт', 'm', 'solid held goods used', stressed=True),
  _noun('ball', 'мяч', 'm', 'solid held goods', stressed=True),
  _noun('toy', 'игрушка', 'f', 'solid held goods fixed', genitive='игрушек'),
  _noun('gift', 'подарок', 'm', 'held sent', stem='подарк'),
  _noun('flower', 'цветок', 'm', 'held goods plant drawn', stem='цветк', plural='цветы цветов цветам цветами цветах'),
  _noun('ring', 'кольцо', 'n', 'solid held goods', stressed=True, genitive='колец'),
  _noun('tree', 'дерево', 'n', 'solid plant drawn', plural='деревья деревьев деревьям деревьями деревьях'),
  _noun('table', 'стол', 'm', 'solid goods furniture surface painted', stressed=True),
  _noun('chair', 'стул', 'm', 'solid goods furniture surface painted fixed', plural='стулья стульев стульям стульями стульях'),
  _noun('bed', 'кровать', 'f', 'solid goods furniture surface'),
  _noun('box', 'коробка', 'f', 'solid goods container', genitive='коробок'),
  _noun('basket', 'корзина', 'f', 'solid goods container'),
  _noun('suitcase', 'чемодан', 'm', 'solid goods container opened'),
  _noun('door', 'дверь', 'f', 'solid opened painted fixed counted'),
  _noun('window', 'окно', 'n', 'solid opened washed counted', genitive='окон'),
  _noun('dress', 'платье', 'n', 'laundry gown', genitive='платьев'),
  _noun('coat', 'пальто', 'n', 'solid goods clothes', indeclinable=True),
  _noun('shirt', 'рубашка', 'f', 'solid goods clothes laundry', genitive='рубашек'),
  _noun('hat', 'шляпа', 'f', 'solid goods clothes'),
  _noun('scarf|scarves', 'шарф', 'm', 'solid goods clothes'),
  _noun('car', 'машина', 'f', 'solid goods vehicle fixed washed'),
  _noun('bicycle', 'велосипед', 'm', 'solid goods vehicle fixed'),
  _noun('boat', 'лодка', 'f', 'solid goods vehicle fixed built painted drawn', genitive='лодок'),
  # Food and drink.
  _noun('apple', 'яблоко', 'n', 'held food fruit bait', plural='яблоки яблок яблокам яблоками яблоках'),
  _noun('pear', 'груша', 'f', 'held food fruit'),
  _noun('cucumber', 'огурец', 'm', 'held food fruit cut', stem='огурц', stressed=True),
  _noun('pie', 'пирог', 'm', 'food baked cut', stressed=True),
  _noun('egg', 'яйцо', 'n', 'held food fruit', stressed=True, genitive='яиц'),
  _noun('bread', 'хлеб', 'm', 'mass food baked cut bait'),
  _noun('cheese', 'сыр', 'm', 'mass food cut bait'),
  _noun('meat', 'мясо', 'n', 'mass food cooked cut bait'),
  _noun('soup', 'суп', 'm', 'mass food cooked'),
  _noun('milk', 'молоко', 'n', 'mass drink bait_drink'),
  _noun('tea', 'чай', 'm', 'mass drink'),
  _noun('water', 'вода', 'f', 'mass drink bait_drink', stressed=True),
  # Places.
  _noun('house', 'дом', 'm', 'inside home built calm painted drawn counted goal', nominative='дома', at='in в'),
  _noun('room', 'комната', 'f', 'inside calm indoors counted goal', at='in в'),
  _noun('kitchen', 'кухня', 'f', 'calm indoors work goal', genitive='кухонь', at='in на'),
  _noun('garden', 'сад', 'm', 'outdoors calm growing goal', locative='саду', at='in в'),
  _noun('forest', 'лес', 'm', 'outdoors wild_place growing goal', nominative='леса', locative='лесу', at='in в'),
  _noun('field', 'поле', 'n', 'outdoors wild_place growing goal', at='in в'),
  _noun('yard', 'двор', 'm', 'outdoors calm growing goal', stressed=True, at='in в'),
  _noun('street', 'улица', 'f', 'outdoors counted goal', at='in на'),
  _noun('square', 'площадь', 'f', 'outdoors public goal', at='in на'),
  _noun('bridge', 'мост', 'm', 'outdoors built counted', locative='мосту', stressed=True, at='on на'),
  _noun('shore', 'берег', 'm', 'outdoors calm goal', nominative='берега', locative='берегу', at='on на'),
  _noun('island', 'остров', 'm', 'outdoors wild_place home growing', nominative='острова', at='on на'),
  _noun('lake', 'озеро', 'n', 'outdoors goal', plural='озёра озёр озёрам озёрами озёрах', at='at на'),
  _noun('floor', 'пол', 'm', 'single unique', locative='полу', stressed=True, at='on на'),
  _noun('city', 'город', 'm', 'home far', nominative='города', at='in в'),
  _noun('village', 'деревня', 'f', 'home far', genitive='деревень', at='in в'),
  _noun('school', 'школа', 'f', 'inside public work built goal', at='at в'),
  _noun('shop', 'магазин', 'm', 'inside public work trade goal', at='in в'),
  _noun('market', 'рынок', 'm', 'public work trade goal', stem='рынк', at='at на'),
  _noun('station', 'станция', 'f', 'public work goal', at='at на'),
  _noun('theatre', 'театр', 'm', 'inside public work outing goal', at='at в'),
  _noun('museum', 'музей', 'm', 'inside public work sight outing goal', at='in в'),
  _noun('library', 'библиотека', 'f', 'inside public work calm goal', at='in в'),
  _noun('cafe', 'кафе', 'n', 'inside public work calm outing goal', indeclinable=True, at='in в'),
  _noun('castle', 'замок', 'm', 'inside home sight built drawn outing goal', stem='замк', at='in в'),
  _noun('palace', 'дворец', 'm', 'inside home sight built outing goal', stem='дворц', stressed=True, at='in в'),
  _noun('building', 'здание', 'n', 'inside built', at='in в'),
)
# fmt: on

# Rank 0 needs a definite noun; ranks 0 and 5 are not used as predicates.
# fmt: off
ADJECTIVES = (
  SECOND,
  THIRD,
  _adjective('last', 'последний', 0, 'counted'),
  _adjective('neighbouring', 'соседний', 0, 'house room yard street city village shop school'),
  _adjective('kind', 'добрый', 1, 'adult elder youth'),
  _adjective('clever', 'умный', 1, 'person cat dog fox'),
  _adjective('brave', 'храбрый', 1, 'adult youth boy dog lion'),
  _adjective('beautiful', 'красивый', 1, 'girl woman sister daughter queen princess actress horse bird flower tree clothes dress ring picture song city garden castle palace lake island bridge'),
  _adjective('strong', 'сильный', 1, 'man son brother uncle soldier hero horse bear lion wolf'),
  _adjective('polite', 'вежливый', 1, 'young youth adult'),
  _adjective('famous', 'знаменитый', 1, 'actor actress artist doctor hero cook judge picture book museum theatre castle library'),
  _adjective('poor', 'бедный', 1, 'man woman artist soldier neighbour'),
  _adjective('rich', 'богатый', 1, 'man woman royal uncle neighbour guest actor actress city'),
  _adjective('sad', 'грустный', 1, 'person told letter'),
  _adjective('cheerful', 'весёлый', 1, 'person song'),
  _adjective('happy', 'счастливый', 1, 'person', 'счастлив счастлива счастливо счастливы'),
  _adjective('hungry', 'голодный', 1, 'person animal', 'голоден голодна голодно голодны'),
  _adjective('angry', 'сердитый', 1, 'person', 'сердит сердита сердито сердиты'),
  _adjective('tired', 'усталый', 1, 'person horse dog', 'устал устала устало устали', bare=True),
  _adjective('ill', 'больной', 1, 'person horse dog', 'болен больна больно больны'),
  _adjective('funny', 'смешной', 1, 'young toy hat story picture dog duck'),
  _adjective('interesting', 'интересный', 1, 'readable museum city'),
  _adjective('good', 'хороший', 1, 'staff man_staff woman_staff friend neighbour son readable told dictionary map goods school library'),
  _adjective('tasty', 'вкусный', 1, 'food tea'),
  _adjective('warm', 'тёплый', 1, 'coat scarf milk water room house bread'),
  _adjective('cold', 'холодный', 1, 'milk water soup tea room house lake'),
  _adjective('hot', 'горячий', 1, 'soup tea pie milk meat'),
  _adjective('empty', 'пустой', 1, 'basket box suitcase cup plate room street square house shop'),
  _adjective('dark', 'тёмный', 1, 'room forest street garden yard kitchen'),
  _adjective('quiet', 'тихий', 1, 'young street village library garden song yard lake'),
  _adjective('clean', 'чистый', 1, 'plate cup shirt dress window room kitchen street water'),
  _adjective('dirty', 'грязный', 1, 'plate cup shirt window ball dog street car kitchen'),
  _adjective('broken', 'сломанный', 1, 'chair bicycle toy lamp umbrella car', 'сломан сломана сломано сломаны'),
  _adjective('expensive', 'дорогой', 1, 'goods clothes dress furniture vehicle'),
  _adjective('tall', 'высокий', 2, 'adult youth boy tree building'),
  _adjective('big', 'большой', 2, 'animal solid fruit pie inside garden forest field yard square bridge island lake city village market'),
  _adjective('small', 'маленький', 2, 'boy child animal solid fruit pie flower inside garden yard square bridge island lake city village'),
  _adjective('long', 'длинный', 2, 'letter story song dress scarf coat street bridge knife table boat'),
  _adjective('short', 'короткий', 2, 'letter story song dress street pencil'),
  _adjective('heavy', 'тяжёлый', 2, 'suitcase box book dictionary table basket door'),
  _adjective('old', 'старый', 3, 'adult elder animal solid told readable inside garden street square bridge city village market station yard'),
  _adjective('young', 'молодой', 3, 'youth adult horse wild'),
  _adjective('new', 'новый', 3, 'goods dress readable told vehicle door window house school shop bridge'),
  _adjective('fresh', 'свежий', 3, 'food milk'),
  _adjective('red', 'красный', 4, 'clothes dress vehicle ball flower apple cup pencil umbrella box suitcase door'),
  _adjective('white', 'белый', 4, 'cat dog horse hare bird mouse duck clothes dress house flower plate cup car castle'),
  _adjective('black', 'чёрный', 4, 'cat dog horse bird wolf bear clothes dress umbrella car suitcase box'),
  _adjective('blue', 'синий', 4, 'clothes dress vehicle ball pencil cup door plate umbrella flower'),
  _adjective('green', 'зелёный', 4, 'clothes dress apple pear cucumber tree table lamp bicycle car ball field island'),
  _adjective('wooden', 'деревянный', 5, 'table chair bed house box bridge boat toy door'),
  _adjective('golden', 'золотой', 5, 'ring cup key'),
)
# fmt: on

# English to Russian. The grammar decides the position of an adverb.
TIMES = {
  'yesterday': 'вчера',
  'in the morning': 'утром',
  'in the evening': 'вечером',
  'at night': 'ночью',
  'last week': 'на прошлой неделе',
  'on Sunday': 'в воскресенье',
  'two days ago': 'два дня назад',
}
FREQUENCIES = {
  'often': 'часто',
  'always': 'всегда',
  'sometimes': 'иногда',
  'never': 'никогда не',
}
FREQUENCIES_OF = {'i': ('often', 'sometimes', 'never'), 's': ('always', 'never')}
MANNERS = {
  'quickly': 'быстро',
  'slowly': 'медленно',
  'carefully': 'осторожно',
  'attentively': 'внимательно',
  'patiently': 'терпеливо',
  'loudly': 'громко',
  'quietly': 'тихо',
}

# Verbs of one English lemma and different Russian ones differ in their objects.
# fmt: off
VERBS = (
  _verb('buy, bought, bought, buying', 'купить купил', object='goods gown food drink', ongoing='покупать покупал', adjuncts='in:trade dative', passive='куплен'),
  _verb('sell, sold, sold, selling', 'продать продал', object='goods gown', ongoing='продавать продавал', adjuncts='in:trade dative', passive='продан'),
  _verb('read, read, read, reading', 'прочитать прочитал', object='readable', ongoing='читать читал', adjuncts='in:calm', manners='quickly attentively', passive='прочитан'),
  _verb('write, wrote, written, writing', 'написать написал', object='written', ongoing='писать писал', adjuncts='with:pencil', manners='quickly slowly', passive='написан'),
  _verb('draw, drew, drawn, drawing', 'нарисовать нарисовал', object='drawn animal', ongoing='рисовать рисовал', adjuncts='with:pencil', manners='quickly slowly', passive='нарисован'),
  _verb('find, found, found,', 'найти нашёл', object='held pet child', adjuncts='in:place spot', manners='quickly', passive='найден', willed=False),
  _verb('lose, lost, lost,', 'потерять потерял', object='held clothes', adjuncts='in:place', willed=False),
  _verb('see, saw, seen,', 'видеть видел', 'person animal', 'person animal', aspect='i', adjuncts='in:outdoors', willed=False),
  _verb('love, loved, loved,', 'любить любил', 'person', 'person animal told food drink', aspect='s'),
  _verb('know, knew, known,', 'знать знал', 'person', 'person told city', aspect='s'),
  _verb('forget, forgot, forgotten,', 'забыть забыл', object='held clothes', adjuncts='in:inside', willed=False),
  _verb('remember, remembered, remembered,', 'вспомнить вспомнил', object='told person', willed=False),
  _verb('open, opened, opened, opening', 'открыть открыл', object='opened', ongoing='открывать открывал', manners='slowly quietly carefully', passive='открыт'),
  _verb('open, opened, opened, opening', 'открыть открыл', object='door suitcase', ongoing='открывать открывал', adjuncts='with:key', passive='открыт'),
  _verb('close, closed, closed, closing', 'закрыть закрыл', object='opened', ongoing='закрывать закрывал', manners='slowly quietly carefully', passive='закрыт'),
  _verb('wash, washed, washed, washing', 'вымыть вымыл', object='washed dog fruit', ongoing='мыть мыл', manners='quickly carefully', passive='вымыт'),
  _verb('wash, washed, washed, washing', 'постирать постирал', object='laundry', ongoing='стирать стирал', manners='carefully'),
  _verb('break, broke, broken,', 'разбить разбил', 'person cat', 'broken', passive='разбит', willed=False),
  _verb('repair, repaired, repaired, repairing', 'починить починил', object='fixed', ongoing='чинить чинил', adjuncts='in:yard', manners='quickly slowly'),
  _verb('build, built, built, building', 'построить построил', 'adult', 'built', ongoing='строить строил', adjuncts='in:far', passive='построен'),
  _verb('eat, ate, eaten, eating', 'съесть съел', object='food', ongoing='есть ел', adjuncts='in:calm', manners='quickly slowly', passive='съеден'),
  _verb('eat, ate, eaten, eating', 'съесть съел', 'animal', 'bait', ongoing='есть ел', manners='quickly'),
  _verb('drink, drank, drunk, drinking', 'выпить выпил', object='drink', ongoing='пить пил', adjuncts='in:calm', manners='quickly slowly'),
  _verb('drink, drank, drunk, drinking', 'выпить выпил', 'animal', 'bait_drink', ongoing='пить пил'),
  _verb('cook, cooked, cooked, cooking', 'приготовить приготовил', 'adult youth elder', 'cooked', ongoing='готовить готовил', adjuncts='in:kitchen', passive='приготовлен'),
  _verb('bake, baked, baked, baking', 'испечь испёк', 'adult youth elder', 'baked', ongoing='печь пёк', adjuncts='in:kitchen'),
  _verb('cut, cut, cut, cutting', 'нарезать нарезал', object='cut', ongoing='резать резал', adjuncts='with:knife', manners='quickly carefully'),
  _verb('take, took, taken,', 'взять взял', object='held', adjuncts='taken', manners='quickly quietly'),
  _verb('bring, brought, brought,', 'принести принёс', object='held food drink', adjuncts='dative'),
  _verb('hide, hid, hidden,', 'спрятать спрятал', object='held', adjuncts='spot', manners='quickly', passive='спрятан'),
  _verb('steal, stole, stolen,', 'украсть украл', 'thief man boy waiter', 'held clothes bicycle horse', passive='украден'),
  _verb('hear, heard, heard,', 'услышать услышал', 'person', 'song person', willed=False),
  _verb('listen, listened, listened, listening', 'слушать слушал', object='told person', by='to ', aspect='i', manners='attentively'),
  _verb('wait, waited, waited, waiting', 'ждать ждал', object='person', by='for ', aspect='i', adjuncts='in:place', manners='patiently'),
  _verb('look, looked, looked, looking', 'посмотреть посмотрел', 'person pet', 'person animal picture map', by='at на', ongoing='смотреть смотрел', manners='attentively'),
  _verb('look, looked, looked, looking', 'искать искал', object='held pet child clothes', by='for ', aspect='i', adjuncts='in:place'),
  _verb('meet, met, met,', 'встретить встретил', object='person', adjuncts='in:place', willed=False),
  _verb('invite, invited, invited,', 'пригласить пригласил', object='person', adjuncts='to:outing'),
  _verb('thank, thanked, thanked,', 'поблагодарить поблагодарил', object='person'),
  _verb('hug, hugged, hugged,', 'обнять обнял', object='person pet'),
  _verb('wake, woke, woken,', 'разбудить разбудил', 'person pet', 'person pet'),
  _verb('feed, fed, fed, feeding', 'накормить накормил', object='pet farmed young', ongoing='кормить кормил', passive='накормлен'),
  _verb('chase, chased, chased, chasing', 'гнаться гнался', 'hunter', 'prey thief', case=INS, by=' за', aspect='i'),
  _verb('catch, caught, caught,', 'поймать поймал', 'hunter', 'prey', passive='пойман'),
  _verb('catch, caught, caught,', 'поймать поймал', 'person', 'prey thief ball', passive='пойман'),
  _verb('frighten, frightened, frightened,', 'испугать испугал', 'wild dog letter', 'person', willed=False),
  _verb('bite, bit, bitten,', 'укусить укусил', 'biter', 'person', willed=False),
  _verb('paint, painted, painted, painting', 'покрасить покрасил', object='painted', ongoing='красить красил', manners='quickly carefully', passive='покрашен'),
  _verb('sing, sang, sung, singing', 'спеть спел', object='song', ongoing='петь пел', adjuncts='dative', manners='loudly quietly'),
  _verb('wear, wore, worn,', 'носить носил', object='clothes ring', aspect='s'),
  _verb('wear, wore, worn,', 'носить носил', 'female', 'gown', aspect='s'),
  _verb('put, put, put,', 'положить положил', object='held', adjuncts='onto!', manners='carefully quickly'),
  _verb('visit, visited, visited,', 'навестить навестил', object='person'),
  _verb('visit, visited, visited,', 'посетить посетил', object='sight'),
  _verb('leave, left, left,', 'выйти вышел', 'person pet', 'inside', case=GEN, by=' из', manners='quickly quietly'),
  _verb('enter, entered, entered,', 'войти вошёл', 'person pet', 'inside', by=' в', manners='quickly quietly'),
  _verb('approach, approached, approached,', 'подойти подошёл', 'person animal', 'person animal house tree window table bridge', case=DAT, by=' к', manners='quickly slowly quietly'),
  _verb('help, helped, helped, helping', 'помочь помог', object='person', case=DAT, ongoing='помогать помогал'),
  _verb('believe, believed, believed,', 'поверить поверил', object='person', case=DAT, willed=False),
  _verb('answer, answered, answered,', 'ответить ответил', object='person', case=DAT, manners='quietly loudly'),
  _verb('phone, phoned, phoned,', 'позвонить позвонил', object='person', case=DAT),
  _verb('smile, smiled, smiled, smiling', 'улыбнуться улыбнулся', object='person', case=DAT, by='at ', ongoing='улыбаться улыбался'),
  _verb('envy, envied, envied,', 'завидовать завидовал', object='person', case=DAT, aspect='s'),
  _verb('be proud, was proud, been proud,', 'гордиться гордился', object='person', case=INS, by='of ', aspect='s'),
  _verb('admire, admired, admired,', 'восхищаться восхищался', object='picture hero actor actress castle palace horse flower', case=INS, aspect='s'),
  _verb('own, owned, owned,', 'владеть владел', 'adult', 'castle island shop cafe', case=INS, aspect='s'),
  _verb('use, used, used, using', 'пользоваться пользовался', object='used', case=INS, aspect='i'),
  _verb('be afraid, was afraid, been afraid,', 'бояться боялся', 'person', 'wild dog thief judge king', case=GEN, by='of ', aspect='s'),
  _verb('avoid, avoided, avoided,', 'избегать избегал', object='person', case=GEN, aspect='i'),
  _verb('dream, dreamed, dreamed,', 'мечтать мечтал', object='vehicle clothes house ring horse dog', case=PRE, by='of о', aspect='i'),
  _verb('think, thought, thought, thinking', 'думать думал', object='person told letter', case=PRE, by='about о', aspect='i'),
  _verb('talk, talked, talked, talking', 'разговаривать разговаривал', object='person', case=INS, by='with с', aspect='i', adjuncts='in:place', manners='loudly quietly'),
  _verb('say goodbye, said goodbye, said goodbye,', 'попрощаться попрощался', object='person', case=INS, by='to с'),
  _verb('play, played, played, playing', 'играть играл', 'young pet', 'pet toy ball young', case=INS, by='with с', aspect='i', adjuncts='in:calm'),
  _verb('knock, knocked, knocked, knocking', 'постучать постучал', object='door window', by='on в', ongoing='стучать стучал', manners='loudly quietly'),
  _verb('tell, told, told, telling', 'рассказать рассказал', object='person animal castle island city', case=PRE, by='about о', ongoing='рассказывать рассказывал', adjuncts='dative!'),
  _verb('give, gave, given,', 'дать дал', object='held food drink', adjuncts='dative!'),
  _verb('show, showed, shown, showing', 'показать показал', object='shown letter readable clothes gown', ongoing='показывать показывал', adjuncts='dative!'),
  _verb('send, sent, sent,', 'отправить отправил', object='sent book', adjuncts='dative!', passive='отправлен'),
  # Without an object.
  _verb('sit, sat, sat, sitting', 'сидеть сидел', 'person pet', aspect='i', adjuncts='seat!', manners='quietly'),
  _verb('stand, stood, stood, standing', 'стоять стоял', 'person farmed', aspect='i', adjuncts='outside!'),
  _verb('stand, stood, stood, standing', 'стоять стоял', 'stood furniture vehicle', aspect='i', adjuncts='in:calm!'),
  _verb('lie, lay, lain, lying', 'лежать лежал', 'held', aspect='i', adjuncts='spot!', willed=False),
  _verb('hang, hung, hung, hanging', 'висеть висел', 'hung', aspect='i', adjuncts='above!'),
  _verb('hang, hung, hung, hanging', 'висеть висел', 'clothes', aspect='i', adjuncts='in:indoors!', willed=False),
  _verb('grow, grew, grown, growing', 'расти рос', 'plant', aspect='i', adjuncts='in:growing!', willed=False),
  _verb('sleep, slept, slept, sleeping', 'спать спал', 'person animal', aspect='i', adjuncts='in:calm seat'),
  _verb('fall asleep, fell asleep, fallen asleep,', 'заснуть заснул', 'person animal', adjuncts='in:calm', manners='quickly', willed=False),
  _verb('wake up, woke up, woken up,', 'проснуться проснулся', 'person animal', willed=False),
  _verb('work, worked, worked, working', 'работать работал', 'adult', aspect='i', adjuncts='in:work'),
  _verb('live, lived, lived,', 'жить жил', 'person', aspect='s', adjuncts='in:home!'),
  _verb('walk, walked, walked, walking', 'гулять гулял', 'person', aspect='i', adjuncts='in:outdoors! company', manners='slowly'),
  _verb('dance, danced, danced, dancing', 'танцевать танцевал', 'person', aspect='i', adjuncts='company in:public'),
  _verb('run, ran, run,', 'побежать побежал', 'person pet', adjuncts='to:goal!', manners='quickly'),
  _verb('go, went, gone,', 'пойти пошёл', 'person', adjuncts='to:public! company'),
  _verb('come, came, come,', 'прийти пришёл', 'person', adjuncts='to:public!'),
  _verb('return, returned, returned,', 'вернуться вернулся', 'person', adjuncts='from:public!'),
  _verb('laugh, laughed, laughed, laughing', 'смеяться смеялся', 'person', aspect='i', manners='loudly quietly'),
  _verb('cry, cried, cried, crying', 'плакать плакал', 'person', aspect='i', manners='loudly quietly', willed=False),
  _verb('disappear, disappeared, disappeared,', 'исчезнуть исчез', 'person animal held', willed=False),
  _verb('jump, jumped, jumped,', 'прыгнуть прыгнул', 'pet', adjuncts='upon!', manners='quickly'),
  _verb('fall, fell, fallen,', 'упасть упал', 'held', adjuncts='floor!', willed=False),
  # Verbs whose subjects are things.
  _verb('belong, belonged, belonged,', 'принадлежать принадлежал', 'solid inside', 'person', case=DAT, by='to ', aspect='s', willed=False),
  _verb('surprise, surprised, surprised,', 'удивить удивил', 'letter book story song gift', 'person', willed=False),
)
# fmt: on
