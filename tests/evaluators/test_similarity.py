"""Scores of vectors, compared with gensim's."""

import io
import os

from gensim.models import KeyedVectors
import numpy as np
import pytest
from rich.console import Console
import scipy.sparse

from seqlab.config import call, resolve
from seqlab.embeddings.vectors import SparseVectors, Vectors
from seqlab.evaluators.similarity import (
  ENGLISH,
  Evaluator,
  density,
  evaluate_vectors,
  table,
)
from seqlab.io.console import print_table
from seqlab.text.words import WordCounts
from seqlab.text.wordsets import Analogies, Pairs, open_wordset
from seqlab.train.compile_counter import CompileCounter
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))
KINDS, FORMS = 12, 4


@pytest.fixture(scope='module')
def words():
  """'w3.1' is form 1 of word 3; frequent words first."""
  names = [f'w{i}.{j}' for i in range(KINDS) for j in range(FORMS)]
  return [names[i] for i in np.random.default_rng(0).permutation(len(names))]


@pytest.fixture(scope='module')
def vectors(words):
  """A vector is the sum of one of its word, one of its form, and noise."""
  random = np.random.default_rng(1)
  kinds, forms = random.normal(size=(KINDS, 16)), random.normal(size=(FORMS, 16))
  at = np.array([word[1:].split('.') for word in words], int)
  noise = 0.7 * random.normal(size=(len(words), 16))
  return Vectors(words, kinds[at[:, 0]] + forms[at[:, 1]] + noise)


@pytest.fixture(scope='module')
def gensims(vectors):
  keyed = KeyedVectors(vectors.dimensions)
  keyed.add_vectors(vectors.words, vectors.matrix)
  return keyed


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Pairs of words, some of them unknown, and some pairs with the same score."""
  random = np.random.default_rng(2)
  path = tmp_path_factory.mktemp('sets') / 'mine.txt'
  at = random.integers(0, (KINDS + 2, FORMS, KINDS + 2, FORMS), (200, 4))
  lines = [
    f'w{i}.{j}\tW{k}.{m}\t{(i - k) ** 2 + j + m}\n' for i, j, k, m in at if i != k
  ]
  path.write_text(''.join(lines))
  return str(path)


@pytest.fixture(scope='module')
def questions(tmp_path_factory):
  """Analogies in two sections; some words are not known."""
  path = tmp_path_factory.mktemp('sets') / 'ask.txt'
  lines = [
    f'w{i}.{form} W{i}.{form + 1} w{k}.{form} w{k}.{form + 1}\n'
    for form in (0, 2)
    for i in range(KINDS + 1)
    for k in range(KINDS + 1)
    if i != k
  ]
  half = len(lines) // 2
  text = [': Kinds\n', *lines[:half], ': gram1-form\n', *lines[half:]]
  path.write_text(''.join(text))
  return str(path)


@pytest.mark.parametrize('zero', [False, True])
def test_pairs_score_as_in_gensim(vectors, gensims, pairs, zero):
  _, expected, unknown = gensims.evaluate_word_pairs(pairs, dummy4unknown=zero)
  result = evaluate_vectors(vectors, [pairs])[0].result
  score = result.all if zero else result.known
  assert score.value == pytest.approx(expected.statistic, abs=1e-6)
  assert 100 * (1 - result.coverage) == pytest.approx(unknown)
  assert 0 < unknown < 50


@pytest.mark.parametrize('restrict', [None, 30])
@pytest.mark.parametrize('zero', [False, True])
def test_analogies_score_as_in_gensim(vectors, gensims, questions, zero, restrict):
  expected, sections = gensims.evaluate_word_analogies(
    questions, restrict_vocab=restrict or 300_000, dummy4unknown=zero
  )
  score = evaluate_vectors(vectors, [questions], restrict=restrict)[0]
  results = [score.result, score.parts['semantic'], score.parts['syntactic']]
  values = [(x.all if zero else x.known).value for x in results]
  kinds, forms = (
    len(s['correct']) / (len(s['correct']) + len(s['incorrect'])) for s in sections[:2]
  )
  assert values == pytest.approx([expected, kinds, forms])
  assert 0.05 < expected < 0.9


def test_3cosmul_has_other_answers(vectors, questions):
  scores = [
    evaluate_vectors(vectors, [questions], method=method)[0]
    for method in ('add', 'mul')
  ]
  one, other = (score.arrays['answers'] for score in scores)
  assert 0.5 < (one == other).mean() < 1


def test_sparse_vectors_are_scored(words, pairs, questions):
  matrix = scipy.sparse.random_array(
    (len(words), 99), density=0.3, rng=0, dtype=np.float32
  )
  sets = [pairs, questions]
  scores = evaluate_vectors(SparseVectors(words, matrix.tocsr()), sets, samples=10)
  expected = evaluate_vectors(Vectors(words, matrix.toarray()), sets, samples=10)
  for one, other in zip(scores, expected, strict=True):
    np.testing.assert_allclose(one.result.known, other.result.known, atol=1e-3)


def test_the_score_is_computed_from_the_arrays(vectors, pairs):
  score = evaluate_vectors(vectors, [pairs])[0]
  rows, similarity = score.arrays['rows'], score.arrays['similarity']
  np.testing.assert_array_equal(np.isnan(similarity), (rows < 0).any(axis=1))
  first = np.flatnonzero(~np.isnan(similarity))[0]
  one, other = (vectors.words[row] for row in rows[first])
  assert similarity[first] == pytest.approx(vectors.similarity(one, other))
  assert len(score.arrays['scores']) == score.result.total


def test_the_table_has_both_conventions_and_the_sections(vectors, pairs, questions):
  scores = evaluate_vectors(vectors, [pairs, questions])
  console = Console(width=120)
  with console.capture() as capture:
    console.print(table(scores, 'ours'))
  text = capture.get()
  rho, right = scores[0].result, scores[1].parts['semantic']
  assert f'{rho.known.value:.3f} [{rho.known.low:.3f}, {rho.known.high:.3f}]' in text
  assert f'{right.all.value:.1%} [{100 * right.all.low:.1f}, ' in text
  assert ' 132 ' in text  # of the first section, 12 · 11 questions are of known words


def test_a_set_of_unknown_words_is_shown_without_a_score():
  nothing = Pairs('nothing', (('a', 'b'), ('c', 'd')), np.array([1.0, 2.0]))
  vectors = Vectors(['x', 'y'], np.eye(2))
  console = Console(width=100)
  with console.capture() as capture:
    console.print(table(evaluate_vectors(vectors, [nothing])))
  line = next(x for x in capture.get().split('\n') if 'nothing' in x)
  cells = [cell.strip() for cell in line.split('│')[1:-1]]
  assert cells == ['nothing', '-', '-', '0', '2', '0', '0']


@pytest.fixture
def cased():
  """Has 'Rome' in both spellings, 'Italy' as written, and 'Paris' in lower case."""
  words = ['Rome', 'rome', 'Italy', 'paris', 'France']
  return Vectors(words, np.random.default_rng(0).normal(size=(5, 4)))


def test_words_are_looked_up_as_given_and_then_in_lower_case(cased):
  pairs = Pairs(
    'p', (('Rome', 'Italy'), ('PARIS', 'rome'), ('x', 'Paris')), np.arange(3.0)
  )
  questions = Analogies('q', (('Rome', 'Italy', 'Paris', 'France'),), ('',))
  one, other = evaluate_vectors(cased, [pairs, questions])
  assert one.arrays['rows'].tolist() == [[0, 2], [3, 1], [-1, 3]]
  assert one.arrays['lowered'].tolist() == [[False] * 2, [True, False], [False, True]]
  assert one.arrays['similarity'][0] == pytest.approx(cased.similarity('Rome', 'Italy'))
  assert (one.result.covered, one.result.lowered) == (2, 1)
  assert (other.result.covered, other.result.lowered) == (1, 1)


def test_the_table_counts_known_words_by_spelling(cased):
  pairs = Pairs(
    'p', (('Rome', 'Italy'), ('PARIS', 'rome'), ('x', 'Paris')), np.arange(3.0)
  )
  coverage = table(evaluate_vectors(cased, [pairs]), 'a[/b]', 'a [note]')
  out = io.StringIO()
  print_table(coverage, out)
  rows = [line.split('│') for line in out.getvalue().splitlines()]
  (cells,) = (
    [x.strip() for x in row[1:-1]] for row in rows if row[0] == '' and len(row) > 2
  )
  assert cells[3:] == ['2', '3', '1', '1']
  assert 'as spelled' in out.getvalue()
  assert 'in lower case' in out.getvalue()
  assert 'a[/b]' in out.getvalue()
  assert 'a [note]' in out.getvalue()


def test_one_known_pair_has_no_correlation(cased):
  pairs = Pairs('p', (('Rome', 'Italy'), ('x', 'y')), np.array([1.0, 2.0]))
  (score,) = evaluate_vectors(cased, [pairs])
  assert np.isnan(score.result.known.value)
  assert score.result.covered == 1
  out = io.StringIO()
  print_table(table([score]), out)
  assert 'nan' not in out.getvalue()


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    *(('restrict', 0), ('restrict', -1), ('restrict', 1.5), ('method', 'sum')),
    *(('samples', 0), ('seed', -1)),
  ],
)
def test_options_outside_their_domain_are_refused(cased, name, value):
  with pytest.raises(ValueError, match=rf'^{name} is {value!r}; it must be'):
    evaluate_vectors(cased, [], **{name: value})


@pytest.mark.parametrize(('name', 'value'), [('words', 0), ('n', 0), ('n', -1)])
def test_options_of_density_outside_their_domain_are_refused(cased, name, value):
  with pytest.raises(ValueError, match=rf'^{name} is {value}; it must be at least 1'):
    density(cased, **{name: value})


class Task:
  """Words and vectors that 'train' by a factor."""

  def __init__(self, vectors):
    V = vectors.size
    self.words = WordCounts(vectors.words, np.arange(V, 0, -1), V * V)
    self._vectors = vectors

  def vectors(self, variables):
    return Vectors(self.words.words, self._vectors.matrix * variables['scale'])


def make(vectors, **options):
  kind = resolve('evaluators.similarity:Evaluator')
  return call(kind, options, 'evals', task=Task(vectors), sharding=ROWS)


def test_the_evaluator_yields_scores_and_coverage(vectors, pairs, questions):
  evaluator = make(vectors, sets=(pairs, questions), restrict=40, density=20)
  evaluator.compile({'scale': 1.0})
  metrics = dict(evaluator.run({'scale': 2.0}))
  score = evaluate_vectors(vectors, [pairs, questions], restrict=40)
  assert list(metrics) == [
    *('mine', 'mine_zero', 'mine_coverage'),
    *('ask', 'ask_semantic', 'ask_syntactic', 'ask_zero', 'ask_coverage'),
  ]
  assert metrics['mine'] == pytest.approx(score[0].result.known.value)
  assert metrics['mine_zero'] == pytest.approx(score[0].result.all.value)
  assert metrics['ask_syntactic'] == score[1].parts['syntactic'].known.value
  known, total = score[1].result.covered, score[1].result.total
  assert f'ask: {known:,} of {total:,} questions among 40 words' in evaluator.about
  assert (
    f'mine: {score[0].result.covered} of {score[0].result.total} pairs;'
    in evaluator.about
  )
  assert metrics['ask_coverage'] == known / total
  assert {'mine/similarity', 'ask/answers', 'density/rank'} <= set(evaluator.arrays)


def test_the_evaluator_shows_neighbours(vectors, pairs):
  evaluator = make(vectors, sets=(pairs,), show=('w1.1',), neighbours=2)
  list(evaluator.run({'scale': 1.0}))
  (one, p), (other, q) = vectors.neighbours('w1.1', 2)
  assert evaluator.samples == [f'w1.1: {one} {p:.2f}, {other} {q:.2f}']
  evaluator = make(vectors, sets=(pairs,))
  list(evaluator.run({'scale': 1.0}))
  assert evaluator.samples[0].startswith(f'{vectors.words[-1]}: ')


def test_nothing_is_compiled_after_compile(vectors, pairs, questions):
  evaluator = make(vectors, sets=(pairs, questions), density=17)
  before = CompileCounter()
  evaluator.compile({'scale': 1.0})
  assert before.count > 0
  after = CompileCounter()
  list(evaluator.run({'scale': 3.0}))
  assert after.count == 0


def test_a_set_of_unknown_words_yields_only_its_coverage(vectors, tmp_path):
  (tmp_path / 'far.txt').write_text('a b 1\nc d 2\n')
  evaluator = make(vectors, sets=(str(tmp_path / 'far.txt'),))
  assert dict(evaluator.run({'scale': 1.0})) == {'far_coverage': 0}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(sets='ws353'), "sets is 'ws353'; it must be a list"),
    (dict(sets=()), 'sets is '),
    (dict(method='sum'), "method is 'sum'"),
    (dict(show=('w1.9',)), "'w1.9' is not among the 48 words"),
    (dict(sets=('ws535',)), "did you mean 'ws353'"),
    (dict(restrict=0), r'restrict is 0'),
    (dict(neighbours=0), r'neighbours is 0'),
    (dict(density=-1), r'density is -1'),
  ],
)
def test_invalid_options_are_refused_before_training(vectors, pairs, options, message):
  with pytest.raises(ValueError, match=message):
    make(vectors, **{'sets': (pairs,), **options})


def test_the_density_of_one_word_is_refused():
  with pytest.raises(ValueError, match='there is 1 word: give it 2 or more'):
    density(Vectors(['alone'], np.ones((1, 3))))
  assert density(Vectors(['a', 'b'], np.ones((2, 3))))['rank'].tolist() == [1, 2]


def test_two_sets_of_the_same_name_are_refused(vectors, pairs):
  namesake = Pairs('mine', (('a', 'b'),), np.array([1.0]))
  with pytest.raises(ValueError, match=r"two sets have the name 'mine': .* and mine;"):
    make(vectors, sets=(pairs, namesake))


def test_density_is_computed_by_rank(vectors):
  crowded = vectors.matrix.copy()
  crowded[20:] += 50  # rare words point one way
  arrays = density(Vectors(vectors.words, crowded), words=30, n=5)
  assert arrays['rank'][[0, -1]].tolist() == [1, 48]
  np.testing.assert_array_equal(arrays['cosine'] > 0.95, arrays['rank'] > 20)


@pytest.mark.skipif(
  not os.environ.get('SEQLAB_DATA'),
  reason='real data: set SEQLAB_DATA to the folder that has it',
)
def test_all_english_sets_are_scored():
  sets = [open_wordset(name) for name in ENGLISH]
  words = sorted({word for wordset in sets for row in wordset.words for word in row})
  vectors = Vectors(words, np.random.default_rng(0).normal(size=(len(words), 8)))
  for score in evaluate_vectors(vectors, sets, restrict=2_000, samples=10):
    assert score.result.coverage == 1 or isinstance(score.set, Analogies)
    assert score.result.covered > 100
    assert abs(score.result.known.value) < 0.2


def test_the_interface_is_that_of_evaluators(vectors, pairs):
  evaluator = Evaluator(Task(vectors), ROWS, sets=(pairs,))
  assert evaluator.samples == []
  assert evaluator.arrays == {}
