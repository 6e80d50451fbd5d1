import gzip
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from seqlab.text.wordsets import ANALOGIES, PAIRS, Analogies, Pairs, open_wordset

needs_data = pytest.mark.skipif(
  not os.environ.get('SEQLAB_DATA'),
  reason='real data: set SEQLAB_DATA to the folder that has it',
)


@pytest.fixture
def write(tmp_path):
  """Writes a set to a file, and returns its path."""

  def write(text, name='mine.v2.txt'):
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)
    return path

  return write


@needs_data
@pytest.mark.parametrize(
  ('name', 'size', 'first', 'score'),
  [
    ('ws353', 353, ('love', 'sex'), 6.77),
    ('ws353-sim', 203, ('tiger', 'cat'), 7.35),
    ('ws353-rel', 252, ('computer', 'keyboard'), 7.62),
    ('men', 3000, ('sun', 'sunlight'), 50.0),
    ('simlex', 999, ('old', 'new'), 1.58),
    ('rw', 2034, ('squishing', 'squirt'), 5.88),
    ('mturk', 287, ('episcopal', 'russia'), 2.75),
    ('hj', 398, ('автомобиль', 'машина'), 0.958333),
  ],
)
def test_named_sets_have_all_their_pairs(name, size, first, score):
  pairs = open_wordset(name)
  assert (pairs.name, pairs.pairs[0], pairs.scores[0]) == (name, first, score)
  assert pairs.words.shape == (size, 2) == (len(pairs.scores), 2)
  assert all(w == w.strip() != '' for pair in pairs.pairs for w in pair)


@needs_data
def test_google_has_five_semantic_sections_and_nine_syntactic_ones():
  google = open_wordset('google')
  assert google.questions[0] == ('Athens', 'Greece', 'Baghdad', 'Iraq')
  assert len(set(google.sections)) == 14
  counts = {name: int(mask.sum()) for name, mask in google.parts.items()}
  assert counts == {'semantic': 8869, 'syntactic': 10675}


@needs_data
def test_msr_has_no_sections():
  msr = open_wordset('msr')
  assert msr.words.shape == (8000, 4)
  assert msr.questions[0] == ('good', 'better', 'rough', 'rougher')
  assert msr.parts == {}


def test_every_name_has_one_kind():
  assert not set(PAIRS) & set(ANALOGIES)


@pytest.mark.parametrize(
  'text',
  [
    'cat\tdog\t7.5\nа\tб\t-1\n',
    'cat dog 7.5\r\nа  б -1\r\n',
    'word1,word2,sim\ncat, dog,7.5\n\nа,б,-1',
    '# found in a drawer\ncat\tdog\t7.5\nа\tб\t-1',
  ],
)
def test_a_file_of_pairs_may_be_separated_by_tabs_commas_or_spaces(write, text):
  pairs = open_wordset(write(text))
  assert isinstance(pairs, Pairs)
  assert (pairs.name, pairs.pairs) == ('mine', (('cat', 'dog'), ('а', 'б')))
  np.testing.assert_array_equal(pairs.scores, [7.5, -1])


def test_words_of_pairs_may_have_spaces_between_tabs(write):
  assert open_wordset(write('New York\tcity\t3')).pairs == (('New York', 'city'),)


def test_words_keep_their_spelling(write):
  assert open_wordset(write('Мои\u0306 ÉTÉ 1\n')).pairs == (('Мои\u0306', 'ÉTÉ'),)


@pytest.mark.parametrize(
  'heading',
  [
    'word1,word2,sim',
    'Word 1\tWord 2\tHuman (mean)',
    '#word_1\tword_2\trating',
    'first second SimLex999',
    'left\tright\tscore',
    'Wort1,Wort2,Mean',
    'w1 w2 y',
  ],
)
def test_a_heading_is_not_a_pair(write, heading):
  pairs = open_wordset(write(f'{heading}\ncat,dog,7\n'.replace(',', '\t')))
  assert pairs.pairs == (('cat', 'dog'),)


@pytest.mark.parametrize(
  'score', ['x', '7,5', '7.5x', 'N/A', 'nan', '', '?', '7..5', 'O.5']
)
def test_a_first_pair_with_a_bad_score_is_not_taken_for_a_heading(write, score):
  message = r"line 1 of .* two words and a number; .* put '# ' before it"
  with pytest.raises(ValueError, match=message):
    open_wordset(write(f'tiger\tcat\t{score}\ncat\tdog\t7\n'))


def test_questions_of_a_file_have_their_sections(write):
  path = write(': Capitals\nRome Italy Paris France\n: gram1\na b c d\n', 'q.txt.gz')
  analogies = open_wordset(str(path))
  assert isinstance(analogies, Analogies)
  assert analogies.questions == (('Rome', 'Italy', 'Paris', 'France'), tuple('abcd'))
  assert analogies.sections == ('capitals', 'gram1')
  assert analogies.parts['semantic'].tolist() == [True, False]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a b 1\na 2\n', r"line 2 of .*mine\.v2\.txt is \['a', '2'\]; it should be two"),
    ('a b 1\na b x\n', r'line 2 .* two words and a number'),
    ('a b nan\n', 'line 1 .* two words and a number'),
    ('a,b,1\na,,1\n', r"line 2 .* \['a', '', '1'\]"),
    (': s\na b c d\n\na b c\n', 'line 4 of .* has 3 words.* a question has four'),
    ('', 'is empty'),
    (': s\n', 'is empty'),
    ('word1 word2 score\n', 'line 1 .* two words and a number'),
  ],
)
def test_wrong_lines_are_named(write, text, message):
  with pytest.raises(ValueError, match=message):
    open_wordset(write(text))


def test_an_unknown_name_is_refused_with_a_suggestion():
  with pytest.raises(ValueError, match=r"'ws535'; did you mean 'ws353'\?.*mturk"):
    open_wordset('ws535')


def test_a_missing_set_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match=r'men: there is no file .*SEQLAB_DATA/emb'
  ):
    open_wordset('men')
  monkeypatch.delenv('SEQLAB_DATA')
  with pytest.raises(FileNotFoundError, match=r'google: SEQLAB_DATA is not set'):
    open_wordset('google')


def test_sets_need_no_jax():
  code = 'import sys, seqlab.text.wordsets; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_the_name_of_a_set_takes_precedence_over_a_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  Path('men').write_text('a b 1')
  with pytest.raises(FileNotFoundError, match='word set men'):
    open_wordset('men')
