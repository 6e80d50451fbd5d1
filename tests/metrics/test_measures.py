"""Measures of lines have the scores of the tools that define them."""

import itertools

import jax
import jiwer
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
import sacrebleu

from seqlab.metrics.corpus import measure_texts
from seqlab.metrics.measures import MEASURES, make_measures
from seqlab.tasks.references import writable
from seqlab.text.vocabulary import train_vocabulary

WORDS = ['aː', 'p', 'к', 'ae', '👩', 'b', 'e\u0301', 'x,', '.', 'Σ']


@pytest.fixture(scope='module')
def pairs():
  """Outputs and references of up to nine words, some of them equal."""
  rng = np.random.default_rng(0)

  def one():
    return ' '.join(rng.choice(WORDS, rng.integers(1, 9)))

  references = [one() for _ in range(1_000)]
  outputs = [x if rng.random() < 0.2 else one() for x in references]
  outputs[0] = ''
  return outputs, references


def _score(name, outputs, *references, **options):
  (measure,) = make_measures([name], **options)
  rows = measure_texts(outputs, [*zip(*references, strict=True)], measure)
  assert rows.shape == (len(outputs), measure.columns)
  return float(jax.jit(measure.score)(rows.sum(axis=0))), measure.describe(
    len(references)
  )


def _oracle(name, outputs, references):
  """Returns the score of the tool that defines a measure, and its signature or ''."""
  if name in ('exact', 'word_errors'):
    right = np.mean([x == y for x, y in zip(outputs, references, strict=True)])
    return right if name == 'exact' else 1 - right, ''
  if name in ('cer', 'wer'):
    return getattr(jiwer, name)(references, outputs), ''
  if name == 'per':
    pairs = [(x.split(), y.split()) for x, y in zip(outputs, references, strict=True)]
    edits = sum(Levenshtein.distance(*pair) for pair in pairs)
    return edits / sum(len(y) for _, y in pairs), ''
  if name == 'symbol_accuracy':
    pairs = [(x.split(), y.split()) for x, y in zip(outputs, references, strict=True)]
    right = sum(x == y for pair in pairs for x, y in zip(*pair, strict=False))
    return right / sum(len(y) for _, y in pairs), ''
  metric = {
    'bleu': sacrebleu.BLEU(),
    'chrf': sacrebleu.CHRF(),
    'chrf++': sacrebleu.CHRF(word_order=2),
    'ter': sacrebleu.TER(),
  }[name]
  score = metric.corpus_score(outputs, [references]).score
  return score, str(metric.get_signature())


@pytest.mark.parametrize('name', MEASURES)
def test_scores_are_those_of_the_oracle(name, pairs):
  expected, signature = _oracle(name, *pairs)
  score, description = _score(name, *pairs)
  assert score == pytest.approx(expected, rel=1e-5)
  assert signature in description


def test_the_rate_of_words_does_not_depend_on_other_measures():
  pair = ['a b c d', 'x'], ['a b c e', 'x']
  for measure in make_measures(['per', 'wer', 'word_errors']):
    rows = measure_texts(pair[0], [(x,) for x in pair[1]], measure)
    expected = 1 / 2 if measure.name == 'word_errors' else jiwer.wer(*reversed(pair))
    assert measure.score(rows.sum(axis=0)) == pytest.approx(expected)


@pytest.mark.parametrize('kind', ['word', 'symbols', 'bpe', 'char', 'byte'])
def test_what_a_vocabulary_writes_of_a_reference_is_right(kind):
  references = ['a  b \tc\u00a0d ', 'd c  b a\u2028 a', '\u00a0a\0b']
  options = {'size': 17} if kind == 'bpe' else {}
  vocabulary = train_vocabulary(references * 9, kind=kind, **options)
  flat, offsets = vocabulary.encode(references)
  outputs = vocabulary.decode([flat[a:b] for a, b in itertools.pairwise(offsets)])
  texts = [texts for (texts,) in writable(vocabulary, [(x,) for x in references])]
  assert texts == outputs
  assert _score('exact', outputs, texts)[0] == 1
  for name in ('cer', 'per', 'wer', 'word_errors'):
    assert _score(name, outputs, texts)[0] == 0
  assert _score('symbol_accuracy', outputs, texts)[0] == 1


def test_references_with_one_normal_form_are_one():
  vocabulary = train_vocabulary(['a b'], kind='symbols')
  assert writable(vocabulary, [('a  b', 'a b', 'b')]) == [('a b', 'b')]


def test_white_space_inside_of_a_text_counts_where_the_vocabulary_keeps_it():
  characters = train_vocabulary(['a b'], kind='char')
  assert writable(characters, [('a  b',)]) == [('a  b',)]
  assert _score('exact', [' a b\u3000'], ['a b'])[0] == 1
  assert _score('exact', ['a  b'], ['a b'])[0] == 0
  assert _score('cer', ['a  b'], ['a b'])[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize('texts', [('a\u2028b', 'a b'), ('a\0b', 'a\ufffdb')])
def test_characters_that_end_a_line_are_those_of_decoded_text(texts):
  assert _score('exact', [texts[0]], [texts[1]])[0] == 1


def test_symbols_may_have_a_separator_of_their_own():
  assert _score('per', ['a b;c'], ['a b;d'], separator=';')[0] == 0.5
  assert _score('per', ['abc d'], ['abcde'], separator='')[0] == pytest.approx(2 / 5)
  name = 'symbol_accuracy'
  assert _score(name, ['a b;c;e'], ['a b;d'], separator=';')[0] == 0.5
  assert _score(name, ['abe'], ['abcde'], separator='')[0] == pytest.approx(2 / 5)


def test_the_best_of_several_references_counts():
  outputs, one, two = ['a b', 'x y'], ['a c', 'x z w'], ['a b', 'x y z']
  assert _score('exact', outputs, one, two)[0] == 0.5
  assert _score('word_errors', outputs, one, two)[0] == 0.5
  assert _score('per', outputs, one, two)[0] == pytest.approx(1 / 5)
  # 'a b' is right. 'x y' has one of three symbols of one, and two of three of the other.
  assert _score('symbol_accuracy', outputs, one, two)[0] == pytest.approx(4 / 5)
  for name, metric in (
    ('chrf', sacrebleu.CHRF()),
    ('ter', sacrebleu.TER()),
    ('bleu', sacrebleu.BLEU()),
  ):
    expected = metric.corpus_score(outputs, [one, two]).score
    score, description = _score(name, outputs, one, two)
    assert score == pytest.approx(expected, rel=1e-5)
    assert str(metric.get_signature()) in description


def test_ter_with_many_numbers_of_references_fits_into_32_bits():
  """The least common multiple of their numbers is 720,720, and there are 3,150 words."""
  words = [f'w{i}' for i in range(450)]
  outputs = [' '.join(words[:-10])] * 7
  references = [(' '.join(words),) * n for n in (16, 15, 14, 13, 11, 9, 7)]
  (measure,) = make_measures(['ter'])
  rows = measure_texts(outputs, references, measure)
  assert measure.score(rows.sum(axis=0)) == pytest.approx(100 * 10 / 450, rel=1e-5)
  assert measure.score(rows.sum(axis=0).astype(np.int32)) == pytest.approx(
    100 * 10 / 450, rel=1e-5
  )


@pytest.mark.parametrize(
  ('names', 'options', 'message'),
  [
    ([], {}, 'should be one or more of exact'),
    (['cer', 'cer'], {}, 'each once'),
    (['cerr'], {}, r"measures has 'cerr', which is not one of exact, cer"),
    (['per'], {'separator': '; '}, 'should be a single character'),
    (['bleu'], {'tokenizer': 'zh'}, "tokenizer='zh' cannot be computed"),
  ],
)
def test_wrong_options_are_named(names, options, message):
  with pytest.raises(ValueError, match=message):
    make_measures(names, **options)
