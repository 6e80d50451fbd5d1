import itertools
import os
from pathlib import Path
import re

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from seqlab.text.corpora import open_corpus
from seqlab.text.lines import read_lines
from seqlab.text.vocabulary import (
  VOCABULARIES,
  Vocabularies,
  build_vocabularies,
  described,
  load_vocabulary,
  planned_sizes,
  save_vocabulary,
  train_vocabulary,
)
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK


def sentences(*slots):
  """All sentences with one word of each slot."""
  return [' '.join(words) + '.' for words in itertools.product(*map(str.split, slots))]


GERMAN = [
  'Größe, Straße, Füße: „süß“ ist nicht „groß“ – sagte er für 3,50 €.',
  'Ein kleines Mädchen klettert in ein Spielhaus aus Holz.',
  *sentences(
    'Männer Kinder Übende Nachbarn',
    'bringen fällen hören zeichnen',
    'Bücher Bäume Lärm Straßenbahnen',
    'überall hier gestern',
  ),
]
RUSSIAN = [
  'Ёжик идёт в тумане и несёт другу малиновое варенье.',
  'Учительница объяснила ученикам, что щука — это рыба, а не птица.',
  *sentences(
    'брат сестра собака девушка',
    'читает видит ищет приносит',
    'новую красную большую',
    'книгу рыбу птицу фотографию',
  ),
]
TEXT = {'de': GERMAN, 'ru': RUSSIAN}
SIZE = 60  # so little text has enough pieces for any kind
KINDS = tuple(VOCABULARIES)
PIECES = ('bpe', 'unigram')
MERGES = Path(__file__).parents[1] / 'fixtures' / 'merges.txt'
OPTIONS = {
  'word': {'size': 1_000},
  'merges': {'codes': str(MERGES)},
  'char': {},
  'byte': {},
  'symbols': {'separator': ' '},
  'parts': {'parts': ['char']},
}
EXACT = ('char', 'byte', 'symbols', 'parts')  # kinds that keep every space


class Parallel:
  """The part of a corpus that vocabularies need."""

  sides = {'source': 'de', 'target': 'ru'}  # noqa: RUF012

  def read(self, split):
    assert split == 'train'
    return GERMAN, RUSSIAN


def learn(lines, kind, **options):
  return train_vocabulary(
    lines, kind=kind, **{**OPTIONS.get(kind, {'size': SIZE}), **options}
  )


def sequences(encoded):
  flat, offsets = encoded
  return [flat[a:b] for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize('language', TEXT)
@pytest.mark.parametrize('kind', KINDS)
def test_text_to_ids_and_back(kind, language):
  vocabulary = learn(TEXT[language], kind)
  encoded = vocabulary.encode(TEXT[language])
  assert vocabulary.decode(sequences(encoded)) == TEXT[language]


@pytest.mark.parametrize('kind', PIECES)
def test_text_that_was_not_learnt_is_decoded_too(kind):
  vocabulary = learn(RUSSIAN, kind)
  new = ['красная книга', 'большое варенье ищет собаку']
  assert vocabulary.decode(sequences(vocabulary.encode(new))) == new


@pytest.mark.parametrize('kind', PIECES)
def test_text_is_not_normalised(kind):
  lines = ['¾ ™ ﬁ Ａ', *GERMAN]
  vocabulary = learn(lines, kind)
  assert vocabulary.decode(sequences(vocabulary.encode(lines[:1]))) == lines[:1]


@pytest.mark.parametrize('kind', KINDS)
def test_ids_and_offsets(kind):
  vocabulary = learn(GERMAN, kind)
  flat, offsets = vocabulary.encode([*GERMAN[:2], '', GERMAN[2]])
  assert (flat.dtype, offsets.dtype) == (np.int32, np.int64)
  assert offsets[0] == 0
  assert offsets[-1] == len(flat)
  assert offsets[2] == offsets[3]  # the empty line
  assert flat.min() > EOS  # no special one, none unknown
  assert flat.max() < vocabulary.size


@pytest.mark.parametrize('kind', KINDS)
def test_encodes_no_lines(kind):
  flat, offsets = learn(GERMAN, kind).encode([])
  assert (flat.tolist(), offsets.tolist()) == ([], [0])


@pytest.mark.parametrize('kind', KINDS)
def test_special_ids_come_first(kind):
  vocabulary = learn(GERMAN, kind)
  pieces = vocabulary.pieces()
  assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
  assert tuple(pieces[:4]) == SPECIALS
  assert len(pieces) == len({*pieces}) == vocabulary.size


@pytest.mark.parametrize('kind', PIECES)
def test_size_is_the_requested_one(kind):
  assert learn(GERMAN, kind, size=55).size == 55


@pytest.mark.parametrize('kind', KINDS)
def test_special_names_in_the_text_are_not_special_ids(kind):
  vocabulary = learn([*GERMAN, '<pad> <s> </s>'], kind)
  flat, _ = vocabulary.encode(['<pad> <s> </s>'])
  assert not {PAD, BOS, EOS} & {*flat.tolist()}


@pytest.mark.parametrize('kind', KINDS)
def test_decoding_stops_at_the_end_and_drops_padding(kind):
  vocabulary = learn(GERMAN, kind)
  ids = vocabulary.encode(GERMAN[:1])[0].tolist()
  rows = [[BOS, *ids, EOS, *ids, EOS], [PAD, *ids, PAD, PAD], [EOS, *ids], []]
  assert vocabulary.decode(rows) == [GERMAN[0], GERMAN[0], '', '']


@pytest.mark.parametrize('kind', KINDS)
def test_decodes_rows_of_an_array(kind):
  vocabulary = learn(GERMAN, kind)
  ids = vocabulary.encode(GERMAN[:1])[0]
  rows = np.stack([np.append(ids, EOS), np.append(ids, PAD)]).astype(np.uint16)
  assert vocabulary.decode(rows) == [GERMAN[0]] * 2


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_text_gives_the_same_vocabulary(kind):
  first, second = learn(GERMAN, kind), learn(iter(GERMAN), kind)
  assert first.fingerprint == second.fingerprint
  assert first.pieces() == second.pieces()


@pytest.mark.parametrize('kind', [k for k in KINDS if k != 'byte'])
def test_other_text_gives_another_fingerprint(kind):
  assert learn(GERMAN, kind).fingerprint != learn(RUSSIAN, kind).fingerprint


@pytest.mark.parametrize('kind', KINDS)
def test_saved_and_loaded_is_the_same(kind, tmp_path):
  vocabulary = learn(RUSSIAN, kind)
  save_vocabulary(vocabulary, tmp_path / 'new', 'source')
  loaded = load_vocabulary(tmp_path / 'new', 'source')
  assert type(loaded) is type(vocabulary)
  assert loaded.size == vocabulary.size
  assert loaded.fingerprint == vocabulary.fingerprint
  assert loaded.encode(RUSSIAN)[0].tolist() == vocabulary.encode(RUSSIAN)[0].tolist()


def test_saved_without_words_loads(tmp_path):
  save_vocabulary(learn([], 'word'), tmp_path, 'v')
  assert load_vocabulary(tmp_path, 'v').size == 4


def test_loading_a_missing_vocabulary(tmp_path):
  with pytest.raises(FileNotFoundError):
    load_vocabulary(tmp_path, 'source')


# Text that SentencePiece would lose.

FINGERPRINT = '3ae8c3fae51c8fcdd232375f723bec8d4e5f5ba7ef6a8682c456dc2852e9021e'
ODD = {
  'mark of a space': 'pieces are ▁the ▁dog',
  'mark of unknowns': 'bar ▅ chart Ω',
  'names of special ids': 'an <s> and </s>, <unk> or <pad>',
  'name of a byte': 'the byte <0x41>',
  'tab': 'a\tb',
  'controls': 'a\x01\x1b\x1f\x7fb',
}


@pytest.mark.parametrize('sampling', [0.0, 0.3])
@pytest.mark.parametrize('fallback', [False, True])
@pytest.mark.parametrize('kind', PIECES)
@pytest.mark.parametrize('line', ODD.values(), ids=ODD)
def test_unusual_text_is_learnt_and_decoded(line, kind, fallback, sampling):
  size = 75 + 256 * fallback
  lines = [line, *GERMAN]
  vocabulary = train_vocabulary(lines, kind=kind, size=size, byte_fallback=fallback)
  flat, _ = vocabulary.encode([line], sampling=sampling)
  assert UNK not in flat
  assert vocabulary.decode([flat]) == [line]


@pytest.mark.parametrize('kind', PIECES)
def test_the_mark_of_a_space_that_was_not_learnt_is_not_a_space(kind):
  flat, _ = learn(GERMAN, kind).encode(['Männer▁hören'])
  assert UNK in flat
  fallback = learn(GERMAN, kind, byte_fallback=True, size=320)
  for sampling in (0.0, 0.2):
    flat, _ = fallback.encode(['Männer▁hören ▁'], sampling=sampling)
    assert fallback.decode([flat]) == ['Männer▁hören ▁']


def test_ordinary_text_gives_the_model_of_earlier_versions():
  """Existing runs depend on these ids."""
  assert learn(GERMAN, 'bpe').fingerprint == FINGERPRINT


def test_lines_of_more_than_a_mebibyte_are_learnt():
  text = 'ab ' * (1 << 19)
  vocabulary = train_vocabulary([f'{text}Ω', 'ab'], size=12)
  assert UNK not in vocabulary.encode(['Ω'])[0]


@pytest.mark.parametrize('kind', KINDS)
def test_nul_is_a_replacement_character(kind):
  vocabulary = learn([*GERMAN, 'a\0b'], kind)
  flat, _ = vocabulary.encode(['a\0b'])
  assert UNK not in flat
  assert vocabulary.decode([flat]) == ['a\ufffdb']


@pytest.mark.parametrize('kind', PIECES)
def test_outputs_are_one_line_whatever_was_learnt(kind):
  line = 'a\rb\u2028c\x85d\x0ce'
  vocabulary = learn([line, *GERMAN], kind)
  flat, _ = vocabulary.encode([line])
  assert UNK not in flat
  assert vocabulary.decode([flat]) == ['a b c d e']
  assert not set(b''.join(vocabulary.surfaces())) & set(b'\0\n\r\x0b\x0c\x1c\x1d\x1e')


def test_no_piece_of_bytes_ends_a_line():
  vocabulary = learn(GERMAN, 'bpe', byte_fallback=True, size=400)
  place = {piece: i for i, piece in enumerate(vocabulary.pieces())}
  ids = [place[f'<0x{byte:02X}>'] for byte in range(256)]
  (text,) = vocabulary.decode([ids])
  assert len(text.splitlines()) == 1
  spelt = [[place[f'<0x{b:02X}>'] for b in c.encode()] for c in '\n\u2028\x85']
  assert vocabulary.decode([[ids[65], *x, ids[66]] for x in spelt]) == ['A B'] * 3


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 0}, 'size is 0; it must be at least 1'),
    ({'kind': 'word', 'min_count': 0}, 'min_count is 0; it must be at least 1'),
    ({'character_coverage': 0}, 'character_coverage is 0; it must be more than 0'),
    ({'character_coverage': 1.5}, r'character_coverage is 1\.5; .*at most 1'),
    ({'byte_fallback': 'no'}, "byte_fallback is 'no'; it must be true or false"),
  ],
)
def test_options_outside_their_domains(options, message):
  with pytest.raises(ValueError, match=message):
    train_vocabulary(GERMAN, **options)


@pytest.mark.parametrize('content', [b'', b'[]', b'{"sha', b'\xff', b'{"kind": "x"}'])
@pytest.mark.parametrize('name', ['vocabularies.json', 'shared.json'])
def test_a_damaged_description_is_named(name, content, tmp_path):
  build_vocabularies(Parallel(), size=140).save(tmp_path)
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=rf'{name} is damaged: .*Bring'):
    Vocabularies.load(tmp_path)


@pytest.mark.parametrize('kind', [k for k in KINDS if k != 'byte'])
def test_damaged_pieces_are_named(kind, tmp_path):
  save_vocabulary(learn(GERMAN, kind), tmp_path, 'v')
  (path,) = [
    x for x in tmp_path.glob('v.*') if x.suffix != '.json' and '.0.' not in x.name
  ]
  for content in (b'\xff', *([b'', path.read_bytes()[:9]] * (kind != 'word'))):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'{path.name} is damaged: '):
      load_vocabulary(tmp_path, 'v')


def test_three_sizes_are_refused():
  with pytest.raises(ValueError, match=r'vocabulary\.size has 3 numbers'):
    build_vocabularies(Parallel(), size=(60, 60, 60), shared=False)


# Unknown words and characters.


def test_words_that_are_not_kept_are_unknown():
  vocabulary = learn(['a a a b b c'], 'word', size=6)
  assert vocabulary.pieces()[4:] == ['a', 'b']
  assert vocabulary.encode(['c a d'])[0].tolist() == [UNK, 4, UNK]


def test_rare_words_are_unknown():
  assert learn(['a a a b b c'], 'word', min_count=2).pieces()[4:] == ['a', 'b']


def test_characters_that_are_not_covered_are_unknown():
  vocabulary = learn(GERMAN, 'bpe')
  assert UNK in vocabulary.encode(['Щ'])[0]


def test_byte_fallback_knows_every_character():
  vocabulary = learn(GERMAN, 'bpe', byte_fallback=True, size=400)
  flat, _ = vocabulary.encode(['Щука 魚'])
  assert UNK not in flat
  assert vocabulary.decode([flat]) == ['Щука 魚']


# Kinds that keep every space.

LINE = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\n\t'))
HARD = [
  *(' a  b ', '   ', 'a\u0301 \u0301a', 'क्षि', '👩\u200d👩 😀', '</s>', '<pad></s>'),
  *('▁ U+2581', '\\</s>', '\ufeffa', ';', 'a;;b;', 'a\u00a0b', '\u1100\u1161'),
]
SEPARATED = {**OPTIONS, 'features': {'separator': ';'}}


def kept(line):
  """Returns a line as every kind writes it, with no break and no NUL."""
  line = line.replace('\0', '\ufffd')
  return re.sub('[\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]', ' ', line)


@pytest.mark.parametrize('kind', [*EXACT, 'features'])
@given(lines=st.lists(LINE, max_size=5))
@example(lines=HARD)
@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
def test_text_is_kept_exactly(kind, lines):
  name = 'symbols' if kind == 'features' else kind
  vocabulary = train_vocabulary(lines, kind=name, **SEPARATED[kind])
  flat, offsets = vocabulary.encode(lines)
  assert not {PAD, UNK, BOS, EOS} & {*flat.tolist()}
  ids = [flat[a:b] for a, b in itertools.pairwise(offsets)]
  assert vocabulary.decode(ids) == [kept(line) for line in lines]
  pieces = vocabulary.pieces()
  assert len(pieces) == len({*pieces}) == vocabulary.size
  if kind != 'parts':
    surfaces, separator = vocabulary.surfaces(), vocabulary.separator.encode()
    written = [
      b''.join(surfaces[i] for i in row).removeprefix(separator) for row in ids
    ]
    # Bytes may spell a line break together, which is a space in the text.
    assert [kept(x.decode()) for x in written] == [kept(line) for line in lines]


def test_symbols_are_divided_by_white_space_or_by_a_separator():
  assert learn([' a  b'], 'symbols', separator=None).pieces()[4:] == ['a', 'b']
  assert learn(['a b;c'], 'symbols', separator=';').pieces()[4:] == ['a b', 'c']
  with pytest.raises(ValueError, match=r'separator.*at least one character'):
    learn(['a'], 'symbols', separator='')


def test_pieces_have_visible_names():
  assert learn([' \t▁a\u0301'], 'char').pieces()[4:] == [
    *('U+0009', '▁', 'a', '\u0301', 'U+2581')
  ]
  names = learn([], 'byte').pieces()
  assert [names[4 + byte] for byte in b'a \t'] == ['a', '▁', '<0x09>']
  assert names[-1] == '<0xFF>'


def test_rare_characters_are_unknown():
  assert learn(['aab'], 'char', min_count=2).pieces()[4:] == ['a']
  assert learn(['aabbc'], 'char', size=6).pieces()[4:] == ['a', 'b']
  with pytest.raises(ValueError, match='size=4 has no room'):
    learn(['a'], 'char', size=4)


# Merges that another program has learnt.


def test_merges_are_applied_in_their_order():
  vocabulary = learn(['hören bringen en'], 'merges')
  assert vocabulary.pieces()[4:] == [
    *('en', 'b@@', 'g@@', 'h@@', 'in@@', 'r@@', 'ren', 'ö@@')
  ]
  with pytest.raises(ValueError, match=r'no pieces to sample|are not sampled'):
    vocabulary.encode(['hören'], sampling=0.1)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a b\n', "does not begin with '#version: 0.2'"),
    ('', r"vocabulary\.codes: .* does not begin with '#version: 0.2'"),
    ('#version: 0.2\nab\n', 'line 2'),
  ],
)
def test_a_file_of_merges_of_another_format_is_refused(text, message, tmp_path):
  (tmp_path / 'codes').write_text(text)
  with pytest.raises(ValueError, match=message):
    train_vocabulary([], kind='merges', codes=str(tmp_path / 'codes'))
  with pytest.raises(FileNotFoundError, match=r'vocabulary\.codes: there is no file'):
    train_vocabulary([], kind='merges', codes=str(tmp_path / 'code'))


def test_the_first_of_two_equal_merges_counts(tmp_path):
  merges = ['a b', 'b c</w>', 'a b']
  (tmp_path / 'codes').write_text('\n'.join(['#version: 0.2', *merges, '']))
  vocabulary = train_vocabulary(['abc'], kind='merges', codes=str(tmp_path / 'codes'))
  assert vocabulary.pieces()[4:] == ['ab@@', 'c']


@pytest.mark.skipif(
  'SEQLAB_DATA' not in os.environ, reason='needs real data: set SEQLAB_DATA'
)
def test_published_merges_give_the_published_segments():
  corpus = open_corpus(kind='multi30k-wu2021', source='en', target='de')
  both = build_vocabularies(
    corpus, kind='merges', codes='multi30k-wu2021/en-de', split='val'
  )
  folder = Path(os.environ['SEQLAB_DATA'], 'multi30k-wu2021', 'en-de')
  for lines, language in zip(corpus.read('val'), ('en', 'de'), strict=True):
    pieces = both.source.pieces()
    segments = [
      [pieces[i] for i in row] for row in sequences(both.source.encode(lines))
    ]
    expected = [x.split() for x in read_lines(folder / f'valid.{language}.gz')]
    assert segments == expected


# Sides and parts with rules of their own.

LEMMAS = ['gehen\tV;3;SG', 'laufen\tV;PST']
FORMS = ['geht', 'lief']
FEATURES = {'kind': 'symbols', 'separator': ';', 'ordered': False}


class Inflection(Parallel):
  """A corpus whose columns have rules: a lemma as characters, and features."""

  rules = {'source': [None, FEATURES]}  # noqa: RUF012

  def read(self, split):
    return LEMMAS, FORMS


class OneColumn(Inflection):
  """A corpus whose source has no part but its features."""

  rules = {'source': [FEATURES]}  # noqa: RUF012


def test_parts_of_a_source_have_their_own_rules(tmp_path):
  both = build_vocabularies(Inflection(), kind='char')
  source, target = both.source, both.target
  assert source.unordered == 5
  assert source.pieces()[: target.size] == target.pieces()  # shared characters
  assert source.pieces()[target.size :] == [*('1:V', '1:3', '1:PST', '1:SG', '1:<unk>')]
  assert source.decode(sequences(source.encode(LEMMAS))) == LEMMAS
  assert source.problem('gehen').startswith('has 1 parts, and 2 are needed')
  with pytest.raises(ValueError, match='2 are needed'):
    source.encode(['gehen'])
  options = described({'kind': 'char'}, Inflection())
  both.save(tmp_path, options)
  for given_options in (options, None):
    loaded = Vocabularies.load(tmp_path, given_options)
    assert loaded.source.fingerprint == source.fingerprint
    assert loaded.source.unordered == 5
  with pytest.raises(ValueError, match='was made with'):
    Vocabularies.load(tmp_path, {'kind': 'char'})


def test_an_unknown_part_of_a_line_stays_in_its_part():
  source = build_vocabularies(Inflection(), kind='char').source
  line = ['gehxn\tV;FUT']
  encoded = source.encode(line)
  assert source.decode(sequences(encoded)) == ['geh<unk>n\tV;<unk>']
  # A model must see which of them has no order.
  assert encoded[0][3] == UNK
  assert encoded[0][-1] == source.size - 1
  assert len(source.pieces()) == len(source.surfaces()) == source.size


def test_each_side_may_have_its_kind(tmp_path):
  options = {'source': 'char', 'target': {'kind': 'symbols'}}
  both = build_vocabularies(Parallel(), **options)
  assert [type(v).__name__ for v in both.sides.values()] == ['Characters', 'Symbols']
  both.save(tmp_path, options)
  loaded = Vocabularies.load(tmp_path, options)
  assert loaded.target.fingerprint == both.target.fingerprint
  both = build_vocabularies(Parallel(), source='char', target='char')
  assert both.source is both.target
  both = build_vocabularies(Parallel(), source='char', target='char', shared=False)
  assert both.source.size < both.target.size or both.target.size < both.source.size


@pytest.mark.parametrize(
  ('corpus', 'options', 'message'),
  [
    (Parallel, {'text': 'char'}, 'text has no effect: the sides .* source and target'),
    (Parallel, {'source': 'char', 'target': 'char', 'kind': 'bpe'}, 'kind has no eff'),
    (Parallel, {'source': 'letter'}, "unknown source 'letter'"),
    (Parallel, {'source': {'kind': 'char', 'siz': 3}}, 'unknown key source.siz; did'),
    (Parallel, {'source': {'kind': 'parts', 'parts': []}}, 'must be a list of vocab'),
    (Inflection, {'source': {'kind': 'parts', 'parts': ['char']}}, 'source is divided'),
    (Parallel, FEATURES, r'^vocabulary\.ordered=False has no effect'),
    (Parallel, {'source': FEATURES}, r'^vocabulary\.source\.ordered=False has no eff'),
    (OneColumn, {'kind': 'char'}, r'^corpus\.columns\.source\.ordered=False has no'),
  ],
)
def test_rules_that_do_not_fit_are_refused(corpus, options, message):
  with pytest.raises(ValueError, match=message):
    build_vocabularies(corpus(), **options)


def test_unordered_parts_come_last():
  rule = [FEATURES, 'char']
  with pytest.raises(ValueError, match='ordered=False must come after'):
    train_vocabulary(['a\tb'], kind='parts', parts=rule)


# Sampling.


@pytest.mark.parametrize('kind', PIECES)
def test_sampling_depends_on_the_seed_alone(kind):
  vocabulary = learn(RUSSIAN, kind)
  draws = [
    vocabulary.encode(RUSSIAN, sampling=0.3, seed=s)[0].tolist() for s in (1, 2, 1)
  ]
  assert draws[0] == draws[2]
  assert draws[0] != draws[1]


@pytest.mark.parametrize('kind', PIECES)
def test_sampled_pieces_spell_the_same_text(kind):
  vocabulary = learn(RUSSIAN, kind)
  encoded = vocabulary.encode(RUSSIAN, sampling=0.3, seed=5)
  assert len(encoded[0]) != len(vocabulary.encode(RUSSIAN)[0])
  assert vocabulary.decode(sequences(encoded)) == RUSSIAN


@pytest.mark.parametrize('kind', PIECES)
def test_sampling_does_not_change_encoding_without_it(kind):
  vocabulary = learn(RUSSIAN, kind)
  before = vocabulary.encode(RUSSIAN)[0].tolist()
  vocabulary.encode(RUSSIAN, sampling=0.5, seed=1)
  assert vocabulary.encode(RUSSIAN)[0].tolist() == before


@pytest.mark.parametrize('kind', EXACT)
def test_listed_tokens_cannot_be_sampled(kind):
  with pytest.raises(
    ValueError, match=r'no pieces to sample: set batching\.sampling=0'
  ):
    learn(RUSSIAN, kind).encode(RUSSIAN, sampling=0.1)


def test_words_cannot_be_sampled():
  with pytest.raises(
    ValueError, match=r"no pieces to sample: set vocabulary\.kind='bpe'"
  ):
    learn(RUSSIAN, 'word').encode(RUSSIAN, sampling=0.1)


# Errors of training.


@pytest.mark.parametrize('kind', PIECES)
def test_a_size_that_is_too_large_is_refused_with_the_largest(kind):
  with pytest.raises(ValueError, match=r'at most \d+: set vocabulary\.size=') as raised:
    learn(GERMAN, kind, size=5_000)
  largest = int(re.search(r'at most (\d+)', str(raised.value))[1])
  assert learn(GERMAN, kind, size=largest).size == largest


@pytest.mark.parametrize('kind', PIECES)
def test_a_size_that_is_too_small_is_refused_with_the_smallest(kind):
  with pytest.raises(ValueError, match=r'vocabulary\.size=20 is too small') as raised:
    learn(GERMAN, kind, size=20)
  smallest = int(re.search(r'20 vs (\d+)', str(raised.value))[1])
  assert learn(GERMAN, kind, size=smallest).size == smallest
  with pytest.raises(ValueError, match=r'too small'):
    learn(GERMAN, kind, size=smallest - 1)


def test_unknown_kind():
  with pytest.raises(
    ValueError,
    match=r"unknown vocabulary 'chars'; did you mean 'char'\? \(known: 'bpe', 'un",
  ):
    train_vocabulary(GERMAN, kind='chars')


def test_an_option_of_another_kind_is_unknown():
  with pytest.raises(ValueError, match=r'unknown key vocabulary\.min_count'):
    train_vocabulary(GERMAN, kind='bpe', min_count=2)


# A kind that a user defines.


class Letters:
  """A vocabulary that a user defines, with one id per letter."""

  def __init__(self, letters):
    self.letters, self.size = letters, 4 + len(letters)
    self.fingerprint = ''.join(letters)

  @classmethod
  def train(cls, lines, *, case: bool = True):
    text = ''.join(lines)
    return cls(sorted({*(text if case else text.lower())}))

  @classmethod
  def load(cls, directory, name):
    return cls([*(directory / f'{name}.letters').read_text('utf-8')])

  def save(self, directory, name):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f'{name}.letters').write_text(''.join(self.letters), 'utf-8')


LETTERS = {'kind': f'{__name__}:Letters', 'case': False}


def test_a_users_kind_is_named_by_its_path(tmp_path):
  both = build_vocabularies(Parallel(), **LETTERS)
  both.save(tmp_path, LETTERS)
  loaded = Vocabularies.load(tmp_path, LETTERS)
  assert type(loaded.source) is Letters
  assert loaded.shared
  assert loaded.source.fingerprint == both.source.fingerprint
  with pytest.raises(
    ValueError, match=r"unknown key vocabulary\.cas; did you mean 'case'"
  ):
    build_vocabularies(Parallel(), kind=LETTERS['kind'], cas=False)
  with pytest.raises(ValueError, match=r'unknown key vocabulary\.size'):
    build_vocabularies(Parallel(), size=5, **LETTERS)


def test_a_folder_alone_names_no_code(tmp_path):
  build_vocabularies(Parallel(), **LETTERS).save(tmp_path, LETTERS)
  for options in (None, {'kind': 'bpe'}):
    description = tmp_path / 'vocabularies.json'
    description.write_text(
      description.read_text('utf-8').replace('"kind"', '"was"'), 'utf-8'
    )
    with pytest.raises(ValueError, match=r'its kind is|was made with'):
      Vocabularies.load(tmp_path, options)


def test_a_class_that_is_not_a_vocabulary_is_refused():
  with pytest.raises(ValueError, match=r"'json:dumps' has no method `train`"):
    train_vocabulary(GERMAN, kind='json:dumps')


def test_sizes_are_planned_without_text():
  assert planned_sizes({'size': 100}) == (100, 100)
  assert planned_sizes({'kind': 'unigram', 'size': (90, 80), 'shared': False}) == (
    90,
    80,
  )
  assert planned_sizes({}) == (8_000, 8_000)
  assert planned_sizes({'kind': 'word', 'size': 100}) is None
  assert planned_sizes({'source': 'byte', 'target': {'size': 70}}) == (260, 70)
  assert planned_sizes({'source': 'byte', 'target': 'char'}) is None
  assert planned_sizes({'text': 'byte'}, ('text',)) == (260,)


def test_text_of_one_side_has_one_vocabulary(tmp_path):
  class Text(Parallel):
    sides = {'text': 'de'}  # noqa: RUF012

    def read(self, split):
      return (GERMAN,)

  only = build_vocabularies(Text(), size=60)
  only.save(tmp_path, {'size': 60})
  loaded = Vocabularies.load(tmp_path, {'size': 60})
  assert [*loaded.sides] == ['text']
  assert loaded.text.fingerprint == only.text.fingerprint == FINGERPRINT


# Both languages.


@pytest.mark.parametrize('kind', KINDS)
def test_shared_vocabulary_has_pieces_of_both_languages(kind):
  options = OPTIONS.get(kind, {'size': 120})
  both = build_vocabularies(Parallel(), kind=kind, **options, shared=True)
  assert both.shared
  assert both.source is both.target
  for lines in (GERMAN, RUSSIAN):
    assert both.source.decode(sequences(both.source.encode(lines))) == lines


@pytest.mark.parametrize('kind', KINDS)
def test_each_separate_vocabulary_has_pieces_of_one_language(kind):
  options = OPTIONS.get(kind, {'size': [60, 55]})
  both = build_vocabularies(Parallel(), kind=kind, **options, shared=False)
  assert not both.shared
  if kind != 'byte':
    assert UNK in both.source.encode(RUSSIAN)[0]
    assert UNK in both.target.encode(GERMAN)[0]
  if kind in PIECES:
    assert (both.source.size, both.target.size) == (60, 55)


def test_shared_vocabulary_has_one_size():
  with pytest.raises(
    ValueError, match=r'size is \(100, 110\); one vocabulary has one size'
  ):
    build_vocabularies(Parallel(), size=(100, 110), shared=True)


@pytest.mark.parametrize('shared', [True, False])
def test_both_are_saved_and_loaded(shared, tmp_path):
  both = build_vocabularies(Parallel(), size=140, shared=shared)
  both.save(tmp_path)
  loaded = Vocabularies.load(tmp_path)
  assert loaded.shared == shared
  assert loaded.source.fingerprint == both.source.fingerprint
  assert loaded.target.fingerprint == both.target.fingerprint


def test_both_do_not_load_before_they_are_complete(tmp_path):
  build_vocabularies(Parallel(), size=140).save(tmp_path)
  (tmp_path / 'vocabularies.json').unlink()
  with pytest.raises(FileNotFoundError):
    Vocabularies.load(tmp_path)
