import pytest

from seqlab.text.bilingual import (
  associated_words,
  read_lexicon,
  split_lexicon,
  write_lexicon,
)


def test_words_that_are_each_others_best_are_associated():
  sources = ['Das Haus', 'das Haus brennt', 'ein Haus', 'das Licht', 'ein Licht']
  targets = ['the house', 'the house burns', 'a house', 'the light', 'a light']
  pairs = associated_words(sources, targets, min_count=2, min_dice=0.9)
  expected = [('das', 'the'), ('haus', 'house'), ('ein', 'a'), ('licht', 'light')]
  assert pairs == expected
  # brennt and burns occur together once, with Dice's coefficient 1.
  pairs = associated_words(sources, targets, min_count=1, min_dice=0.9)
  assert pairs == [*expected, ('brennt', 'burns')]


def test_equal_associations_are_left_out():
  assert associated_words(['a b', 'a b'], ['x', 'x'], min_count=1) == []


def test_a_coefficient_is_dices():
  # a is in 3 sentences and x in 2, in 2 of them together: 4 / 5.
  lines = ['a', 'a', 'a'], ['x', 'x', 'y z']
  assert associated_words(*lines, min_count=1, min_dice=0.8) == [('a', 'x')]
  assert associated_words(*lines, min_count=1, min_dice=0.81) == []


def test_a_lexicon_is_divided_by_source_words():
  pairs = [(f'w{i // 2}', f't{i}') for i in range(20)]
  train, test = split_lexicon(pairs, test=3, seed=1)
  assert len(test) == 6
  assert sorted(train + test) == sorted(pairs)
  assert not {word for word, _ in train} & {word for word, _ in test}
  with pytest.raises(ValueError, match=r'10 of 10 source words are for evaluation'):
    split_lexicon(pairs, test=10)


def test_a_lexicon_is_read_as_it_was_written(tmp_path):
  pairs = [('New York', 'Нью-Йорк'), ('a', 'b'), ('a', 'c')]
  write_lexicon(tmp_path / 'l.tsv', pairs)
  assert read_lexicon(tmp_path / 'l.tsv') == pairs
  (tmp_path / 'muse.txt').write_text('a b\n\na c\na b\n')
  assert read_lexicon(tmp_path / 'muse.txt') == [('a', 'b'), ('a', 'c')]


@pytest.mark.parametrize('text', ['a\n', 'a\tb\tc\n', '\ta\n', 'a b c\n'])
def test_a_line_without_two_words_is_refused(tmp_path, text):
  (tmp_path / 'l.tsv').write_text(f'x\ty\n{text}')
  with pytest.raises(ValueError, match=r'line 2 of .* should be a word, a tab and'):
    read_lexicon(tmp_path / 'l.tsv')
