"""Running text keeps its blank lines, and is divided by characters."""

import os

import pytest

from seqlab.text.corpora import open_corpus
from seqlab.text.running import RunningText


@pytest.fixture
def text(tmp_path):
  path = tmp_path / 'text.txt'
  path.write_text('one\n\n  two \nthree\n' * 5, 'utf-8')
  return path


def test_lines_are_those_of_the_file(text):
  corpus = open_corpus(kind='running', files={'train': text, 'dev': [text, text]})
  assert corpus.read('train') == (['one', '', '  two ', 'three'] * 5,)
  assert corpus.read('dev') == (['one', '', '  two ', 'three'] * 10,)
  assert (corpus.splits, corpus.sides) == (('train', 'dev'), {'text': 'und'})
  assert corpus.inputs() == [text] * 3
  assert corpus.fingerprint('train') != corpus.fingerprint('dev')
  with pytest.raises(ValueError, match=r"no split 'devv'; did you mean 'dev'"):
    corpus.read('devv')


def test_shares_divide_the_characters(text):
  corpus = RunningText(files=str(text), valid=0.3)
  assert corpus.splits == ('train', 'valid')
  train, valid = ('\n'.join(*corpus.read(split)) for split in corpus.splits)
  whole = text.read_text('utf-8')
  assert train + valid + '\n' == whole
  assert len(train) == int(0.7 * len(whole))
  assert corpus.fingerprint('train') != corpus.fingerprint('valid')
  three = RunningText(files=str(text), valid=0.1, test=0.2)
  assert three.splits == ('train', 'valid', 'test')
  assert '\n'.join(*three.read('train')) == train
  assert whole.endswith('\n'.join(*three.read('test')) + '\n')


def test_mistakes_are_refused(text, tmp_path):
  with pytest.raises(ValueError, match='divide one text'):
    RunningText(files={'train': str(text)}, valid=0.1)
  with pytest.raises(ValueError, match='nothing to train on'):
    RunningText(files=str(text), valid=0.5, test=0.5)
  with pytest.raises(ValueError, match=r'corpus\.files is 5; give names of files'):
    RunningText(files=5)
  with pytest.raises(ValueError, match=r'corpus\.files\.train is 5; give names of'):
    RunningText(files={'train': 5})
  with pytest.raises(ValueError, match=r'corpus\.valid'):
    RunningText(files=str(text), valid=1.5)
  with pytest.raises(FileNotFoundError, match=r'corpus\.files\.train'):
    RunningText(files='nowhere.txt').read('train')
  (tmp_path / 'blank').write_text('\n \n', 'utf-8')
  with pytest.raises(ValueError, match='blank'):
    RunningText(files=str(tmp_path / 'blank')).read('train')


@pytest.mark.skipif('SEQLAB_DATA' not in os.environ, reason='needs real data')
def test_tiny_shakespeare_is_divided_as_in_nanogpt():
  corpus = open_corpus(name='tinyshakespeare')
  train, valid = ('\n'.join(*corpus.read(split)) for split in corpus.splits)
  assert (len(train), len(valid) + 1) == (1_003_854, 111_540)
  assert train.startswith('First Citizen:\nBefore we proceed')
  assert len({*train} | {*valid}) == 65
