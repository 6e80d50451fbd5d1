"""Readers of tables, the columns of a corpus, and splits that are cut from 'train'."""

import json

import pytest

from seqlab.text.corpora import open_corpus, split_of
from seqlab.text.tables import READERS
from seqlab.text.vocabulary import build_vocabularies

# The same three examples in each format, and its options.
FORMATS = {
  'tab': ('a b\tx\tone\n\nc\ty\ttwo\n', {}),
  'csv': ('s;t,u;k\na b;x;one\n"c";y;two\n', {'delimiter': ';'}),
  'jsonl': (
    '{"s": "a b", "t,u": "x", "k": "one"}\n\n{"s":"c","t,u":"y","k":"two"}',
    {},
  ),
  'scan': ('IN: a b OUT: x\n\nIN: c OUT: y\n', {}),
}
NAMED = {'source': 's', 'target': 't,u', 'category': 'k'}
NUMBERED = {'source': 0, 'target': 1, 'category': 2}


@pytest.fixture
def table(tmp_path):
  """Opens a corpus whose split 'train' is one table, from its text."""

  def table(text, *more, **options):
    paths = []
    for number, part in enumerate((text, *more)):
      paths.append(tmp_path / f'table{number}')
      paths[-1].write_text(part, 'utf-8')
    return open_corpus(
      source='s', target='t', files={'train': [str(path) for path in paths]}, **options
    )

  return table


@pytest.mark.parametrize('kind', READERS)
def test_each_format_has_the_same_examples(kind, table):
  text, options = FORMATS[kind]
  reader = {'kind': kind, **options}
  columns = {'jsonl': NAMED, 'csv': NAMED, 'tab': NUMBERED, 'scan': None}[kind]
  corpus = table(text, reader=reader, columns=columns, empty='skip')
  assert corpus.read('train') == (['a b', 'c'], ['x', 'y'])
  assert corpus.references('train') == [('x',), ('y',)]
  assert corpus.categories('train') == (None if kind == 'scan' else ['one', 'two'])


def test_columns_are_chosen_by_number_or_by_name(table):
  corpus = table('a\tb\tc\n', columns={'source': 2, 'target': 0})
  assert corpus.read('train') == (['c'], ['a'])
  reader = {'kind': 'tab', 'header': True}
  corpus = table('a\tb\n', columns={'target': 1, 'source': 0})
  assert corpus.read('train') == (['a'], ['b'])
  corpus = table('x\ty\na\tb\n', reader=reader, columns={'source': 'y', 'target': 0})
  assert corpus.read('train') == (['b'], ['a'])
  corpus = table('x,y\n', reader={'kind': 'csv', 'header': False})
  assert corpus.read('train') == (['x'], ['y'])


def test_tables_of_a_split_are_joined(table):
  corpus = table('a\tb\n', 'c\td\n', columns={'source': 0, 'target': 1})
  assert corpus.read('train') == (['a', 'c'], ['b', 'd'])


def test_spaces_are_kept_in_every_column(table):
  corpus = table('  a  b \t x \n')
  assert corpus.read('train') == (['  a  b '], [' x '])


FEATURES = {'column': 2, 'kind': 'symbols', 'separator': ';'}
PARTS = {'source': [{'column': 0, 'kind': 'char'}, FEATURES], 'target': 1}


def test_columns_of_a_source_have_vocabularies_of_their_own(table):
  corpus = table('gehen\tgeht\tV;3\n', columns=PARTS)
  assert corpus.read('train') == (['gehen\tV;3'], ['geht'])
  both = build_vocabularies(corpus, kind='char')
  assert both.source.pieces()[4:] == [*'eghnt', '1:3', '1:V']
  assert both.target.pieces()[4:] == [*'eghnt']
  other = table('gehen\tgeht\tV;3\n', columns={'source': [0, 2], 'target': 1})
  assert other.rules == {'source': [None, None]}
  assert other.fingerprint('train') != corpus.fingerprint('train')


@pytest.mark.parametrize(
  ('text', 'options', 'message'),
  [
    # Columns.
    ('a\tb\n', {'columns': {'source': 0, 'target': 2}}, r'line 1 of table0 has 2 col'),
    ('a\tb\n', {'columns': {'source': 'x', 'target': 1}}, "source='x' is a name, and"),
    ('a\tb\nc\n', {}, r'line 2 of table0 has no tab; write source, tab, target'),
    ('a\tb\n', {'columns': {'source': 0}}, r'sets no corpus\.columns\.target'),
    ('a\tb\n', {'columns': {'sorce': 0, 'target': 1}}, r'corpus\.columns\.sorce; did'),
    ('a\tb\n', {'columns': 0}, r'corpus\.columns is 0; it must be a section'),
    ('a\tb\n', {'columns': {'source': -1, 'target': 1}}, 'number of a column, from 0'),
    (
      'a\tb\n',
      {'columns': {'source': [0, 0], 'target': 1}},
      'source names a column tw',
    ),
    ('a\tb\n', {'columns': {'source': [], 'target': 1}}, 'source is empty; name a col'),
    (
      'a\tb\n',
      {'columns': {'source': {'kind': 'char'}, 'target': 1}},
      'it has no column: add column=0',
    ),
    (
      'a\tb\n',
      {'columns': {'source': {'column': 0, 'separator': ';'}, 'target': 1}},
      'source has no kind of vocabulary',
    ),
    (
      'a\tb\n',
      {'columns': {'source': 0, 'target': 1, 'category': [0, 1]}},
      r'category is \[0, 1\]; a category is one column without a vocabulary',
    ),
    (
      'a\tb\n',
      {'columns': NUMBERED | {'category': {'column': 1, 'kind': 'char'}}},
      'a category is one column without a vocabulary',
    ),
    # Readers.
    (
      'a\tb\n',
      {'reader': 'tabs'},
      r"unknown corpus\.reader 'tabs'; did you mean 'tab'",
    ),
    ('a,b\n', {'reader': {'kind': 'csv', 'delimiter': ', '}}, 'must be one character'),
    (
      'a;b\n',
      {'reader': {'kind': 'csv', 'header': False}},
      r"no ',': .*perhaps to ';'",
    ),
    (
      's,t\na,b\nc\n',
      {'reader': 'csv'},
      'line 3 of table0 has 1 columns, and the first',
    ),
    ('s,s\na,b\n', {'reader': 'csv'}, "line 1 of table0 names two columns 's'"),
    ('s,t\na,"b\n', {'reader': 'csv'}, r'line 2 of table0 is not CSV \(unexpected end'),
    (
      's,t\na,"b\nc"\n',
      {'reader': 'csv'},
      'line 2 .* has a line break inside its targ',
    ),
    ('{"s": "a"\n', {'reader': 'jsonl'}, r'line 1 of table0 is not JSON \('),
    ('["a", "b"]\n', {'reader': 'jsonl'}, 'line 1 of table0 is not an object of JSON'),
    ('{"s": "a", "s": "b"}\n', {'reader': 'jsonl'}, "line 1 .* two columns 's'"),
    (
      '{"s": "a", "t": 3}\n',
      {'reader': 'jsonl', 'columns': {'source': 's', 'target': 't'}},
      'has 3 as its target, which is not a text',
    ),
    (
      '{"s": "a"}\n',
      {'reader': 'jsonl', 'columns': {'source': 's', 'target': 't'}},
      r"has 1 columns \(it has: s\), and not the one of corpus\.columns\.target='t'",
    ),
    (
      json.dumps({'s': 'a', 't': '\ud800'}),
      {'reader': 'jsonl', 'columns': {'source': 's', 'target': 't'}},
      'half a character',
    ),
    ('IN: a\n', {'reader': 'scan'}, "line 1 of table0 is not of the form 'IN: ... OUT"),
    (
      'IN: a OUT:\n',
      {'reader': 'scan'},
      r'line 1 of table0 \(t\) is empty: remove the',
    ),
    # Examples.
    (
      'a\t\n',
      {},
      r'line 1 of table0 \(t\) is empty: remove the pair or set corpus\.em',
    ),
    (
      'a\tb\tV\nc\td\t \n',
      {'columns': PARTS},
      r'line 2 of table0 \(s\) has an empty part: remove the pair or set',
    ),
    ('\n', {'empty': 'skip'}, "^table0 has no lines for split 'train'"),
    (
      'a\tb\nc\td\na\tb\n',
      {'duplicates': 'error'},
      'line 3 .* repeats line 1 of table0',
    ),
  ],
)
def test_a_table_that_does_not_fit_is_refused(text, options, message, table):
  with pytest.raises(ValueError, match=message):
    table(text, **options).read('train')


def test_a_tab_inside_a_part_is_refused(table):
  text = json.dumps({'s': 'a\tb', 'k': 'V', 't': 'c'})
  columns = {'source': ['s', 'k'], 'target': 't'}
  with pytest.raises(ValueError, match='line 1 of table0 has a tab inside its source'):
    table(text, reader='jsonl', columns=columns).read('train')


def test_an_example_with_an_empty_part_is_left_out(table):
  corpus = table('a\tb\tV\nc\td\t\n', columns=PARTS, empty='skip')
  assert corpus.read('train') == (['a\tV'], ['b'])
  assert corpus.skipped('train') == 1


def test_options_of_a_columns_vocabulary_are_named_by_their_column(table):
  source = {'column': 0, 'kind': 'symbols', 'sep': ';'}
  corpus = table('a\tb\n', columns={'source': source, 'target': 1})
  with pytest.raises(ValueError, match=r'corpus\.columns\.source\.sep'):
    build_vocabularies(corpus, kind='char')


def test_a_cut_without_lines_says_so(table):
  corpus = table('w1\ta\nw0\tb\n', cut={'dev': 1e-6})
  problem = r"corpus\.cut gives split 'dev' none of the 2 lines of table0: raise corp"
  with pytest.raises(ValueError, match=problem):
    corpus.read('dev')


def test_duplicates_are_left_out(table):
  corpus = table('a\tb\nc\td\na\tb\n', duplicates='drop')
  assert corpus.read('train') == (['a', 'c'], ['b', 'd'])
  assert len(table('a\tb\nc\td\na\tb\n').read('train')[0]) == 3


WORDS = ''.join(f'w{i % 700}\tp{i}\n' for i in range(1_000))


def test_splits_are_cut_by_their_sources(table):
  cut = {'valid': 0.1, 'test': 0.2}
  corpus = table(WORDS, cut=cut, group=True)
  assert corpus.splits == ('train', 'valid', 'test')
  sources = {split: corpus.read(split)[0] for split in corpus.splits}
  for split, words in sources.items():
    assert {split_of(word, cut) for word in words} == {split}
  assert not {*sources['train']} & {*sources['valid']} | {*sources['test']} & {
    *sources['valid']
  }
  assert len({x for words in sources.values() for x in words}) == 700
  assert 30 < len(sources['valid']) < 110
  # The rule is stated in the documentation, so it must not change.
  words = ['w0', 'w1', 'w2', 'w10']
  assert [split_of(x, cut) for x in words] == ['train', 'train', 'valid', 'test']


def test_spellings_of_a_source_are_in_one_split(table):
  text = WORDS + ''.join(f' W{i}  \tp\n' for i in range(700))
  corpus = table(text, cut={'valid': 0.3}, normalize='lower')
  train, valid = ({x.strip() for x in corpus.read(s)[0]} for s in ('train', 'valid'))
  assert not train & valid


def test_evaluation_has_each_source_once_with_all_of_its_references(table):
  corpus = table(WORDS, cut={'valid': 0.5}, group=True)
  sources, targets = corpus.read('valid')
  references = corpus.references('valid')
  assert len(sources) == len({*sources}) == len(targets) == len(references)
  for source, target, several in zip(sources, targets, references, strict=True):
    number = int(source[1:])
    expected = (f'p{number}', *([f'p{number + 700}'] if number < 300 else []))
    assert several == expected
    assert target == several[0]
  train = corpus.read('train')[0]
  assert len(train) > len({*train})  # training keeps all pairs
  assert corpus.references('train') == [(x,) for x in corpus.read('train')[1]]


def test_options_decide_the_fingerprint(table):
  options = [
    *({}, {'cut': {'valid': 0.1}}, {'group': True}, {'duplicates': 'drop'}),
    *({'columns': {'source': 1, 'target': 0}}, {'cut': {'valid': 0.2}}),
  ]
  digests = [table(WORDS, **each).fingerprint('train') for each in options]
  assert len({*digests}) == len(digests)
  assert table(WORDS, columns=None).fingerprint('train') == digests[0]


@pytest.mark.parametrize(
  ('cut', 'message'),
  [
    ({'train': 0.1}, r'cut\.train: the corpus has a split of this name already'),
    ({'valid': 0.6, 'test': 0.4}, 'must have a sum of less than 1'),
    ({'valid': 5}, r'cut\.valid is 5; it must be more than 0 and less than 1'),
  ],
)
def test_shares_that_do_not_fit_are_refused(cut, message, table):
  with pytest.raises(ValueError, match=message):
    table(WORDS, cut=cut)
