from collections import Counter
import unicodedata

import numpy as np
import pytest

from seqlab.text import plain
from seqlab.text.phrases import Phrases
from seqlab.text.plain import open_text
from seqlab.text.words import (
  WordCounts,
  count_words,
  keep_probability,
  spellings,
  tokenize,
  tokenize_lines,
)

TEXT = 'The cat saw the dog.\nA dog, a cat; the END\n\nеё Ёлка ёлка\n'


@pytest.fixture
def corpus(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_text(TEXT, 'utf-8')
  return open_text(path=path)


@pytest.fixture
def large(tmp_path, monkeypatch):
  """A corpus of about 60 chunks, and its counts."""
  monkeypatch.setattr(plain, '_CHUNK', 1 << 10)
  draw = np.random.default_rng(0).zipf(1.3, 12_000)
  letters = [''.join(chr(97 + int(d)) for d in str(n % 5_000)) for n in draw]
  lines = [' '.join(letters[i : i + 7]) for i in range(0, len(letters), 7)]
  path = tmp_path / 'large.txt'
  path.write_text('\n'.join(lines), 'utf-8')
  return open_text(path=path), Counter(letters)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ("Don't re-use 3D", 'don t re use d'),
    ('Ёлка, её ЙОД', 'ёлка её йод'),
    ('snake_case İstanbul', 'snake case istanbul'),
    ('за\u0301мок soft\u00adhyphen naïve', 'замок softhyphen naïve'),
    ('1984 — ½ x²', 'x'),
  ],
)
def test_words_are_runs_of_letters(text, words):
  assert tokenize(text) == words.split()


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('हिन्दी के शब्द', 'हिन्दी के शब्द'),  # Devanagari: vowel signs and viramas
    ('বাংলা ভাষা', 'বাংলা ভাষা'),
    ('தமிழ் மொழி', 'தமிழ் மொழி'),
    ('ക്\u200dഷ അവന്\u200d', 'ക്\u200dഷ അവന്'),  # joiners inside, not at the end
    ('ಕರ್\u200dನಾಟಕ', 'ಕರ್\u200dನಾಟಕ'),
    ('قُرْآنٌ كَرِيمٌ، مُحَمَّد', 'قُرْآنٌ كَرِيمٌ مُحَمَّد'),  # Arabic with vowels
    ('می\u200cخواهم بروم', 'می\u200cخواهم بروم'),  # Persian: a non-joiner
    ('שָׁלוֹם בֵּית־סֵפֶר', 'שָׁלוֹם בֵּית סֵפֶר'),  # pointed Hebrew; a hyphen
    ('ก้าวหน้า ที่นี่', 'ก้าวหน้า ที่นี่'),
    ('ភាសា\u200bខ្មែរ', 'ភាសា ខ្មែរ'),  # a zero-width space divides
    ('မြန်မာ ဘာသာ', 'မြန်မာ ဘာသာ'),
    ('བོད་ཡིག', 'བོད ཡིག'),  # Tibetan: syllables
    ('ᄒᆞᆫ글', 'ᄒᆞᆫ글'),  # old Hangul stays in jamo
    ('が゙く', 'が゙く'),
    ('𑀓𑀺 𑀓', '𑀓𑀺 𑀓'),  # Brahmi, beyond the first 65,536 characters
    ('ि हि ३ि', 'हि'),  # a mark without a letter is not a word
    ('auf\u200clage', 'auf lage'),  # a non-joiner divides words in Latin script
    ('葛\U000e0100城 ℹ\ufe0f ❤\ufe0f', '葛城 ℹ'),
    ('ᄀ\u0301ᅡ', '가'),  # jamo that compose after an accent is dropped
  ],
)
def test_marks_belong_to_their_letters(text, words):
  for form in ('NFC', 'NFD'):
    assert tokenize(unicodedata.normalize(form, text)) == [
      unicodedata.normalize('NFC', word) for word in words.split()
    ]


def test_ascii_text_has_the_same_words_with_and_without_other_letters():
  text = ''.join(map(chr, range(128))) * 2
  assert tokenize(f'{text} é') == [*tokenize(text), 'é']
  assert tokenize_lines(f'{text}\né') == [*tokenize_lines(text), '\n', 'é']


def test_a_letter_in_two_characters_is_the_same_as_in_one():
  text = 'ёлка йод café'
  assert tokenize(unicodedata.normalize('NFD', text)) == tokenize(text)


def test_words_are_sorted_by_frequency_and_then_alphabetically(corpus):
  words = count_words(corpus, min_count=2)
  assert words.words == ['the', 'a', 'cat', 'dog', 'ёлка']
  assert words.counts.tolist() == [3, 2, 2, 2, 2]
  assert words.counts.dtype == np.int64


def test_the_total_includes_words_outside_the_vocabulary(corpus):
  assert count_words(corpus, min_count=2).total == 14
  assert count_words(corpus, min_count=1).total == 14


def test_max_size_bounds_the_number_of_words(corpus):
  assert count_words(corpus, min_count=1, max_size=3).words == ['the', 'a', 'cat']


def test_counts_are_sums_over_all_chunks(large):
  corpus, expected = large
  words = count_words(corpus, min_count=1)
  assert dict(zip(words.words, words.counts.tolist(), strict=True)) == expected


def test_workers_change_nothing(large):
  corpus, _ = large
  alone = count_words(corpus, min_count=2, workers=0)
  assert count_words(corpus, min_count=2, workers=2).fingerprint == alone.fingerprint


def test_rare_words_are_dropped_with_a_warning_if_there_are_too_many(large):
  corpus, expected = large
  with pytest.warns(UserWarning, match=r'more than 300 .* too small by up to \d+;'):
    words = count_words(corpus, min_count=100, max_types=300, workers=0)
  assert words.total == expected.total()
  frequent = [word for word, n in expected.items() if n >= 300]
  assert set(frequent) <= set(words.words)
  for word, count in zip(words.words, words.counts, strict=True):
    assert expected[word] - 300 <= count <= expected[word]


def test_a_corpus_without_frequent_words_is_an_error(corpus):
  with pytest.raises(ValueError, match=r'no word .* 9 times or more, of 14 words'):
    count_words(corpus, min_count=9)


def test_phrases_are_counted_as_words(corpus):
  phrases = Phrases([{('a', 'dog'): 1.0, ('cat', 'the'): 1.0}])
  words = count_words(corpus, min_count=1, phrases=phrases)
  # 'a', 'cat' and 'the' lose one occurrence each; punctuation between the words of a
  # phrase does not matter.
  assert words.counts[words.index('a_dog')] == 1
  assert words.counts[words.index('a')] == 1
  assert words.counts[words.index('cat_the')] == 1
  assert words.total == 12


def test_an_unknown_word_is_an_error_with_the_nearest_spellings():
  words = WordCounts(['moscow', 'mosque', 'london'], [3, 2, 1], 6)
  assert words.index('mosque') == 1
  assert 'mosque' in words
  assert 'Moskow' not in words
  with pytest.raises(ValueError, match=r"'Moskow' is not among the 3 .*mean 'moscow'"):
    words.index('Moskow')


def test_without_similar_words_the_message_has_no_suggestion():
  with pytest.raises(ValueError, match=r'is not among the 1 words$'):
    WordCounts(['moscow'], [1], 1).index('xyz')


def test_encoding_leaves_out_unknown_words():
  ids = WordCounts(['a', 'b'], [2, 1], 3).encode(['b', 'x', 'a', 'b'])
  assert ids.tolist() == [1, 0, 1]
  assert ids.dtype == np.int32


@pytest.mark.parametrize('phrases', [None, Phrases([{('the', 'cat'): 2.5}])])
def test_saved_words_are_the_same_when_loaded(corpus, tmp_path, phrases):
  words = count_words(corpus, min_count=1, phrases=phrases)
  words.save(tmp_path)
  loaded = WordCounts.load(tmp_path)
  assert loaded.words == words.words
  assert loaded.fingerprint == words.fingerprint
  assert loaded.phrases is None or loaded.phrases.passes == phrases.passes


def test_the_file_has_one_word_and_count_per_line(corpus, tmp_path):
  count_words(corpus, min_count=3).save(tmp_path, 'mine')
  assert (tmp_path / 'mine.tsv').read_text('utf-8') == '<all>\t14\nthe\t3\n'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('<all>\t3\nthe\t3\ncat\n', 'line 3 of .*words.tsv is not a word, a tab'),
    ('the\t3\n', 'line 1 of .*words.tsv is not <all>'),
    ('', 'line 1 of .*words.tsv is not <all>'),
    ('<all>\t3\n\t3\n', 'line 2 of .*words.tsv is not a word, a tab'),
    ('<all>\t3\na\t2\na\t1\n', "words.tsv has the word 'a' twice"),
  ],
)
def test_a_wrong_file_of_words_is_an_error(tmp_path, text, message):
  (tmp_path / 'words.tsv').write_text(text, 'utf-8')
  with pytest.raises(ValueError, match=message):
    WordCounts.load(tmp_path)


def test_saved_words_may_have_characters_that_end_lines_elsewhere(tmp_path):
  words = WordCounts(['a\u2028b', 'c\x85', '\x0c'], [3, 2, 1], 6)
  words.save(tmp_path)
  assert WordCounts.load(tmp_path).words == words.words


@pytest.mark.parametrize('word', ['', 'a\tb', 'a\nb'])
def test_a_word_that_could_not_be_loaded_is_not_saved(tmp_path, word):
  with pytest.raises(ValueError, match='cannot be saved'):
    WordCounts([word], [1], 1).save(tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    *(('min_count', 0), ('min_count', 2.5), ('max_size', 0), ('max_types', -1)),
    *(('workers', -1), ('max_size', '9')),
  ],
)
def test_options_outside_their_domain_are_refused(corpus, name, value):
  with pytest.raises(ValueError, match=rf'^vocabulary\.{name} is {value!r}; it must'):
    count_words(corpus, **{name: value})


def test_spellings_go_from_the_given_one_to_lower_case():
  decomposed = unicodedata.normalize('NFD', 'Ёж')
  assert spellings(decomposed) == (decomposed, 'Ёж', 'ёж')
  assert spellings('cat') == ('cat',)


def test_the_fingerprint_depends_on_counts_and_phrases():
  words = [
    WordCounts(['a', 'b'], [2, 1], 3),
    WordCounts(['b', 'a'], [2, 1], 3),
    WordCounts(['a', 'b'], [2, 2], 4),
    WordCounts(['a', 'b'], [2, 1], 3, Phrases([{('a', 'b'): 1.0}])),
  ]
  assert len({w.fingerprint for w in words}) == 4


def test_frequent_words_are_kept_less_often_by_the_formulas():
  counts = np.array([900, 90, 10])
  levy = keep_probability(counts, 1_000, 0.01, 'levy')
  np.testing.assert_allclose(levy, [(1 / 90) ** 0.5, (1 / 9) ** 0.5, 1], rtol=1e-6)
  word2vec = keep_probability(counts, 1_000, 0.01)
  np.testing.assert_allclose(word2vec - levy, [1 / 90, 1 / 9, 0], rtol=1e-5)
  assert word2vec.dtype == np.float32


def test_no_threshold_keeps_all():
  assert keep_probability(np.array([5, 1]), 6, 0).tolist() == [1, 1]


@pytest.mark.parametrize('options', [(1e-3, 'mikolov'), (-1e-3, 'levy')])
def test_unknown_subsampling_is_an_error(options):
  with pytest.raises(ValueError, match="may be 'word2vec' or 'levy'"):
    keep_probability(np.array([1]), 1, *options)
