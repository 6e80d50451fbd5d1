from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from seqlab.config import call
from seqlab.text import plain
from seqlab.text.phrases import Phrases
from seqlab.text.plain import open_text
from seqlab.text.word2phrase import find_phrases

NEW_YORK = Phrases([{('new', 'york'): 9.0, ('york', 'city'): 8.0}])


def join(phrases, text):
  return ' '.join(phrases.join(text.split(' ')))


@pytest.mark.parametrize(
  ('text', 'joined'),
  [
    ('in new york city', 'in new_york city'),  # a word is in at most one phrase
    ('york city new york', 'york_city new_york'),
    ('new new york york city', 'new new_york york_city'),
    ('new', 'new'),
    ('new york', 'new_york'),
    ('', ''),
  ],
)
def test_words_are_joined_from_left_to_right(text, joined):
  assert join(NEW_YORK, text) == joined


def test_nothing_is_joined_across_lines():
  assert join(NEW_YORK, 'new \n york') == 'new \n york'


def test_a_second_pass_joins_phrases():
  twice = Phrases([*NEW_YORK.passes, {('new_york', 'city'): 5.0}])
  assert join(twice, 'in new york city') == 'in new_york_city'


def test_saved_phrases_are_the_same_when_loaded(tmp_path):
  twice = Phrases([*NEW_YORK.passes, {('new_york', 'city'): 1 / 3}])
  twice.save(tmp_path, 'phrases')
  loaded = Phrases.load(tmp_path, 'phrases')
  assert loaded.passes == twice.passes
  assert loaded.fingerprint == twice.fingerprint != NEW_YORK.fingerprint


def test_words_of_phrases_may_have_any_character_of_a_line(tmp_path):
  phrases = Phrases([{}, {('a\u2028', '\x85'): 1.0}])
  phrases.save(tmp_path, 'p')
  assert Phrases.load(tmp_path, 'p').passes == phrases.passes


@pytest.mark.parametrize('number', ['0', '-1', '999999999999'])
def test_an_invalid_pass_is_an_error(tmp_path, number):
  (tmp_path / 'mine.tsv').write_text(f'{number}\ta\tb\t2.0\n', 'utf-8')
  with pytest.raises(ValueError, match=r'line 1 of .*mine\.tsv is not pass, first'):
    Phrases.load(tmp_path, 'mine')


def test_a_wrong_line_is_an_error(tmp_path):
  (tmp_path / 'mine.tsv').write_text('1\ta\tb\t2.0\n1\ta b\t2.0\n', 'utf-8')
  with pytest.raises(ValueError, match=r'line 2 of .*mine\.tsv is not pass, first'):
    Phrases.load(tmp_path, 'mine')


@pytest.fixture
def corpus(tmp_path, monkeypatch):
  """About 10 chunks of random words; 'new york' is more frequent than by chance."""
  monkeypatch.setattr(plain, '_CHUNK', 1 << 11)
  random = np.random.default_rng(0)
  vocabulary = [*'abcdefghij', 'new york', 'new york city', 'new', *3 * ['city']]
  lines = [
    ' '.join(vocabulary[i] for i in random.integers(0, 16, random.integers(0, 14)))
    for _ in range(900)
  ]
  path = tmp_path / 'my.txt'
  path.write_text('\n'.join(lines), 'utf-8')
  return open_text(path=path), [line.split() for line in lines]


def test_scores_are_those_of_the_formula(corpus):
  text, lines = corpus
  words = Counter(word for line in lines for word in line)
  pairs = Counter(pair for line in lines for pair in pairwise(line))
  expected = {
    (a, b): (n - 5) / (words[a] * words[b]) * words.total()
    for (a, b), n in pairs.items()
  }
  [scores] = find_phrases(text, thresholds=[0.0], workers=0).passes
  positive = {pair: score for pair, score in expected.items() if score > 0}
  assert scores == pytest.approx(positive)
  [few] = find_phrases(text, thresholds=[1.6], workers=0).passes
  assert set(few) == {pair for pair, score in expected.items() if score > 1.6}
  assert set(few) == {('new', 'york'), ('york', 'city')}


def test_each_pass_joins_the_text_of_the_previous_one(corpus):
  text, _ = corpus
  first, second = find_phrases(text, thresholds=[4.0, 1.6], workers=0).passes
  assert set(first) == {('new', 'york')}
  assert set(second) == {('new_york', 'city')}


def test_rare_words_are_in_no_phrase(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_text('rare bird\n' * 4 + 'a b c\n' * 9, 'utf-8')
  [pairs] = find_phrases(open_text(path=path), thresholds=[0.0], workers=0).passes
  assert ('a', 'b') in pairs
  assert ('rare', 'bird') not in pairs


def test_workers_change_nothing(corpus):
  text, _ = corpus
  alone = find_phrases(text, thresholds=[1.6], workers=0)
  assert find_phrases(text, thresholds=[1.6], workers=2).passes == alone.passes


def test_rare_pairs_are_dropped_with_a_warning_if_there_are_too_many(corpus):
  text, _ = corpus
  with pytest.warns(UserWarning, match=r'more than 40 different pairs: .* too small'):
    [pairs] = find_phrases(text, thresholds=[1.6], max_pairs=40, workers=0).passes
  assert ('new', 'york') in pairs


@pytest.mark.parametrize(
  ('option', 'value', 'must'),
  [
    ('thresholds', '100', 'a list'),
    ('thresholds', ['a'], 'a list of which each is a number'),
    ('min_count', 0, 'at least 1'),
    ('max_pairs', 0, 'at least 1'),
    ('max_pairs', -5, 'at least 1'),
    ('workers', -1, 'at least 0'),
  ],
)
def test_an_option_outside_its_domain_is_refused(tmp_path, option, value, must):
  path = tmp_path / 'a.txt'
  path.write_text('new york new york', 'utf-8')
  text, options = open_text(path=path), {option: value}
  with pytest.raises(ValueError, match=rf'phrases\.{option} is .*; it must be {must}'):
    call(find_phrases, options, 'vocabulary.phrases', corpus=text)
