"""A run is bound to the text and the vocabularies that it started with."""

import pytest

from seqlab.text.corpora import open_corpus
from seqlab.text.inputs import NAME, Inputs
from seqlab.text.vocabulary import Vocabularies, train_vocabulary


def words(*lines):
  vocabulary = train_vocabulary(lines, kind='word')
  return Vocabularies(vocabulary, vocabulary)


WORDS = words('one two', 'eins zwei')


@pytest.fixture
def corpus(tmp_path):
  """Opens a corpus with these texts of its two splits."""

  def opened(train='one\ntwo\n', valid='one\n', **options):
    files = {}
    for split, text in (('train', train), ('valid', valid)):
      path = tmp_path / f'{split}.en'
      path.write_text(text)
      files[split] = (str(path), str(path))
    return open_corpus(source='en', target='de', files=files, **options)

  return opened


@pytest.fixture
def begun(corpus, tmp_path):
  """The record of a run that learnt from the training split."""
  inputs = Inputs(tmp_path)
  inputs.check(corpus(), ['train'], WORDS)
  return inputs


def test_the_same_text_is_accepted_again(begun, corpus, tmp_path):
  before = (tmp_path / NAME).stat().st_mtime_ns
  begun.check(corpus(), ['train'], WORDS)
  assert (tmp_path / NAME).stat().st_mtime_ns == before


def test_other_text_is_refused_with_its_file(begun, corpus):
  message = r"split 'train' .* started with \(changed: .*train\.en\): .*--force"
  with pytest.raises(ValueError, match=message):
    begun.check(corpus(train='one\nzebra\n'), ['train'], WORDS)


def test_other_options_are_refused(begun, corpus):
  with pytest.raises(ValueError, match='read by other options'):
    begun.check(corpus(normalize='lower'), ['train'], WORDS)


def test_a_new_split_is_recorded(begun, corpus):
  begun.check(corpus(), ['train', 'valid'], WORDS)
  with pytest.raises(ValueError, match="split 'valid'"):
    begun.check(corpus(valid='two\n'), ['train', 'valid'], WORDS)


def test_nothing_is_recorded_of_a_run_that_is_refused(begun, corpus):
  with pytest.raises(ValueError, match="split 'train'"):
    begun.check(corpus(train='x\n', valid='x\n'), ['valid', 'train'], WORDS)
  begun.check(corpus(), ['train', 'valid'], WORDS)


def test_a_forgotten_split_is_recorded_again(begun, corpus):
  begun.forget()
  begun.check(corpus(train='x\n'), ['train'], WORDS)
  with pytest.raises(ValueError, match="split 'train'"):
    begun.check(corpus(), ['train'], WORDS)


def test_another_vocabulary_is_refused(begun):
  begun.check_vocabularies(WORDS)
  with pytest.raises(ValueError, match=r'the source vocabulary in .*Restore its files'):
    begun.check_vocabularies(words('one two', 'eins drei'))


def test_a_run_without_a_record_is_not_refused(tmp_path):
  Inputs(tmp_path).check_vocabularies(WORDS)


@pytest.mark.parametrize('content', ['', '[]', '{"text"'])
def test_a_damaged_record_is_named(content, begun, corpus, tmp_path):
  (tmp_path / NAME).write_text(content)
  with pytest.raises(ValueError, match=r'inputs\.json is damaged: delete it'):
    begun.check(corpus(), ['train'], WORDS)
