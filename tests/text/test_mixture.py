"""Mixtures of corpora: text, tags, references and weights."""

import numpy as np
import pytest

from seqlab.text.corpora import open_corpus
from seqlab.text.vocabulary import build_vocabularies


@pytest.fixture
def section(tmp_path):
  """Returns the section of a corpus with the examples <name>0, <name>1, ..."""

  def section(name, sizes=(3, 2), **options):
    files = {}
    for split, size in zip(('train', 'valid'), sizes, strict=False):
      path = tmp_path / f'{name}.{split}'
      lines = ''.join(f'{name}{i}\t{i}\n' for i in range(size))
      path.write_text(lines, 'utf-8')
      files[split] = str(path)
    return {'files': files, 'source': name, 'target': 'n', **options}

  return section


@pytest.fixture
def mixture(section):
  def mixture(**options):
    corpora = {'a': section('a'), 'b': section('b', (6, 1))}
    return open_corpus(kind='mixture', **{'corpora': corpora, **options})

  return mixture


def test_a_split_has_the_examples_of_all_corpora(mixture):
  corpus = mixture()
  assert corpus.sides == {'source': 'a+b', 'target': 'n'}
  assert corpus.splits == ('train', 'valid')
  assert corpus.read('valid') == (['a0', 'a1', 'b0'], ['0', '1', '0'])
  assert corpus.references('valid') == [('0',), ('1',), ('0',)]
  assert corpus.categories('valid') == ['a', 'a', 'b']
  assert corpus.repeats('train') is None
  assert len(corpus.files('valid')) == 2


def test_tags_are_symbols_of_their_own(mixture):
  corpus = mixture(tags=True)
  assert corpus.read('valid')[0] == ['a0\ta', 'a1\ta', 'b0\tb']
  assert corpus.fingerprint('valid') != mixture().fingerprint('valid')
  source = build_vocabularies(corpus, kind='char').source
  assert source.pieces()[-3:] == ['1:b', '1:a', '1:<unk>']
  assert source.unordered == 3


def test_parts_of_sources_are_followed_by_the_tag(mixture, section):
  columns = {'source': [{'column': 0, 'kind': 'char'}, 1], 'target': 1}
  corpora = {name: section(name, columns=columns) for name in 'ab'}
  corpus = mixture(corpora=corpora, tags=True)
  assert corpus.read('valid')[0][0] == 'a0\t0\ta'
  assert len(corpus.rules['source']) == 3


def test_a_tab_in_an_undivided_source_is_named(mixture, tmp_path):
  sides = tmp_path / 'source', tmp_path / 'target'
  for path in sides:
    path.write_text('x\na\tb\n', 'utf-8')
  files = {'train': list(map(str, sides))}
  corpora = {'own': {'files': files, 'source': 's', 'target': 't'}}
  with pytest.raises(ValueError, match=r"corpora\.own: the source 'a\\tb', line 2 of"):
    mixture(corpora=corpora, tags=True).read('train')


def test_weights_are_shares_of_an_epoch(mixture):
  repeats = mixture(weights={'a': 1, 'b': 2}).repeats('train')
  np.testing.assert_allclose(repeats, [1] * 3 + [1] * 6)
  repeats = mixture(weights={'a': 3, 'b': 1}).repeats('train')
  np.testing.assert_allclose(repeats.sum(), 9)
  np.testing.assert_allclose(repeats[:3].sum(), 9 * 3 / 4)


def test_a_split_that_only_one_corpus_has_is_left_out(mixture, section):
  corpora = {'a': section('a'), 'b': section('b', (2,))}
  assert mixture(corpora=corpora).splits == ('train',)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'weights': {'a': 1}}, r'sets no corpus\.weights\.b'),
    ({'weights': {'a': 1, 'b': 1, 'c': 1}}, r'unknown key corpus\.weights\.c'),
    ({'weights': {'a': 1, 'b': 0}}, r'weights\.b is 0; it must be more than 0'),
    ({'corpora': {}}, r'corpus\.corpora must be a section'),
    ({'corpora': {'a': {'kind': 'nothing'}}}, "unknown corpus 'nothing'"),
    ({'corpora': {'a': 'multi30k'}}, r"corpora\.a is 'multi30k'; it must be a section"),
    ({'corpora': {'a b': {}}}, r"name 'a b': a name has no white space"),
  ],
)
def test_options_that_do_not_fit_are_refused(options, message, mixture):
  with pytest.raises(ValueError, match=message):
    mixture(**options)


def test_corpora_with_other_sides_or_columns_are_refused(mixture, section):
  columns = {'source': {'column': 0, 'kind': 'char'}, 'target': 1}
  corpora = {'a': section('a'), 'b': section('b', columns=columns)}
  with pytest.raises(ValueError, match='a and b have different sides, or columns'):
    mixture(corpora=corpora)
