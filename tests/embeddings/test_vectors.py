"""Neighbours and analogies, compared with gensim's and with their formulas."""

import gensim.models
import numpy as np
import pytest
import scipy.sparse

from seqlab.embeddings.vectors import SparseVectors, Vectors, load_vectors

V, D = 60, 8
WORDS = [f'w{i}' for i in range(V)]


@pytest.fixture(scope='module')
def matrix():
  return np.random.default_rng(0).normal(size=(V, D)).astype(np.float32) * 3


@pytest.fixture(scope='module')
def ours(matrix):
  return Vectors(WORDS, matrix)


@pytest.fixture(scope='module')
def gensims(matrix):
  vectors = gensim.models.KeyedVectors(D)
  vectors.add_vectors(WORDS, matrix)
  return vectors


@pytest.fixture(scope='module')
def ppmi():
  """Rows as those of PPMI are: sparse, and nowhere negative."""
  matrix = scipy.sparse.random_array((V, 200), density=0.2, rng=1, dtype=np.float32)
  return matrix.tocsr()


def assert_ranked(ranked, expected, **tolerance):
  assert [word for word, _ in ranked] == [word for word, _ in expected]
  scores = ([score for _, score in x] for x in (ranked, expected))
  np.testing.assert_allclose(*scores, **tolerance or {'atol': 1e-5})


@pytest.mark.parametrize('restrict', [None, 20])
def test_neighbours_are_gensims(ours, gensims, restrict):
  for word in ('w0', 'w33', 'w59'):
    expected = gensims.most_similar(word, topn=7, restrict_vocab=restrict)
    assert_ranked(ours.neighbours(word, 7, restrict=restrict), expected)


@pytest.mark.parametrize('restrict', [None, 20])
def test_3cosadd_is_gensims(ours, gensims, restrict):
  for a, b, c in (('w0', 'w1', 'w2'), ('w50', 'w3', 'w41')):
    expected = gensims.most_similar([b, c], [a], topn=9, restrict_vocab=restrict)
    assert_ranked(ours.analogy(a, b, c, 9, restrict=restrict), expected)


@pytest.mark.filterwarnings('ignore:Call to deprecated `init_sims`:DeprecationWarning')
def test_3cosmul_is_gensims(ours, gensims):
  for a, b, c in (('w0', 'w1', 'w2'), ('w50', 'w3', 'w41')):
    expected = gensims.most_similar_cosmul([b, c], [a], topn=9)
    ranked = ours.analogy(a, b, c, 9, method='mul', epsilon=1e-6)
    assert_ranked(ranked, expected, rtol=1e-4)


def test_similarity_is_gensims(ours, gensims):
  assert ours.similarity('w3', 'w5') == pytest.approx(gensims.similarity('w3', 'w5'))
  assert ours.similarity('w3', 'w3') == pytest.approx(1)


def unit(matrix):
  dense = matrix.toarray() if scipy.sparse.issparse(matrix) else matrix
  return dense / np.linalg.norm(dense, axis=1, keepdims=True)


def written_out(unit, question, method, *, shift, epsilon=1e-3, restrict=V):
  """Scores of all words [V]."""
  a, b, c = unit[question] @ unit.T
  if method == 'mul':
    a, b, c = ((1 + x) / 2 if shift else x for x in (a, b, c))
    scores = b * c / (a + epsilon)
  else:
    scores = b - a + c
  scores[question], scores[restrict:] = -np.inf, -np.inf
  return scores


@pytest.mark.parametrize('block', [1 << 24, 2345])
@pytest.mark.parametrize('method', ['add', 'mul'])
@pytest.mark.parametrize('kind', ['dense', 'sparse'])
def test_answers_equal_the_definition_for_any_block_size(
  ours, ppmi, kind, method, block
):
  vectors = ours if kind == 'dense' else SparseVectors(WORDS, ppmi)
  # More than a batch, and not a multiple of it.
  questions = np.random.default_rng(2).permuted(np.tile(np.arange(V), (150, 1)), axis=1)
  questions, restrict = questions[:, :3], 47
  options = dict(method=method, restrict=restrict)
  rows, scores = vectors.answers(questions, 3, block=block, **options)
  for question, row, score in zip(questions, rows, scores, strict=True):
    expected = written_out(
      unit(vectors.matrix), question, method, shift=kind == 'dense', restrict=restrict
    )
    np.testing.assert_array_equal(row, np.argsort(-expected)[:3])
    np.testing.assert_allclose(score, expected[row], rtol=1e-3, atol=1e-5)
  best, _ = vectors.answers(questions, block=block, **options)
  np.testing.assert_array_equal(best[:, 0], rows[:, 0])


@pytest.mark.parametrize('block', [1 << 24, 700])
def test_sparse_vectors_have_the_answers_of_the_same_dense_ones(ppmi, block):
  sparse, dense = SparseVectors(WORDS, ppmi), Vectors(WORDS, ppmi.toarray())
  for answers, expected in zip(
    sparse.nearest(np.arange(V), 4, block=block),
    dense.nearest(np.arange(V), 4),
    strict=True,
  ):
    np.testing.assert_allclose(answers, expected, atol=1e-5)
  pairs = np.random.default_rng(0).integers(0, V, (2_000, 2))
  np.testing.assert_allclose(sparse.cosines(pairs), dense.cosines(pairs), atol=1e-5)
  assert_ranked(sparse.analogy('w1', 'w2', 'w3'), dense.analogy('w1', 'w2', 'w3'))


def test_no_more_cosines_are_held_than_a_block(ppmi, monkeypatch):
  seen = []
  block = SparseVectors._block

  def spy(self, asked, first, width):
    cosines = block(self, asked, first, width)
    seen.append(cosines.size + 2 * len(asked) * width)  # and a batch of scores, twice
    return cosines

  monkeypatch.setattr(SparseVectors, '_block', spy)
  SparseVectors(WORDS, ppmi).nearest(np.arange(30), 2, block=1_000)
  assert len(seen) == 6
  assert max(seen) <= 1_000


def test_pmi_with_negative_numbers_is_shifted_for_3cosmul(ppmi):
  signed = ppmi.copy()
  signed.data[::2] *= -1
  sparse, dense = SparseVectors(WORDS, signed), Vectors(WORDS, signed.toarray())
  ranked = sparse.analogy('w1', 'w2', 'w3', method='mul')
  assert_ranked(ranked, dense.analogy('w1', 'w2', 'w3', method='mul'))


def test_repeated_entries_of_a_sparse_matrix_are_summed(ppmi):
  twice = scipy.sparse.coo_array(ppmi)
  parts = [np.concatenate([x, x]) for x in twice.coords]
  data = np.concatenate([twice.data * 0.25, twice.data * 0.75])
  order = np.argsort(parts[0], kind='stable')
  offsets = np.concatenate([[0], np.cumsum(np.bincount(parts[0], minlength=V))])
  split = scipy.sparse.csr_array((data[order], parts[1][order], offsets), ppmi.shape)
  expected = SparseVectors(WORDS, ppmi).neighbours('w7')
  assert_ranked(SparseVectors(WORDS, split).neighbours('w7'), expected)


@pytest.mark.parametrize('kind', [Vectors, SparseVectors])
def test_a_zero_vector_has_no_neighbours(kind, ppmi):
  rows = ppmi.toarray()
  rows[[3, 9]] = 0
  vectors = kind(WORDS, rows if kind is Vectors else scipy.sparse.csr_array(rows))
  pairs = np.array([[3, 3], [3, 9], [3, 5]])
  np.testing.assert_array_equal(vectors.cosines(pairs), [0, 0, 0])
  assert all(score == 0 for _, score in vectors.neighbours('w3'))
  assert np.isfinite([score for _, score in vectors.analogy('w3', 'w9', 'w3')]).all()


def test_lengths_of_vectors_do_not_matter_even_if_large(matrix, ours):
  scale = 10.0 ** np.random.default_rng(0).integers(-18, 18, (V, 1))
  assert_ranked(Vectors(WORDS, matrix * scale).neighbours('w2'), ours.neighbours('w2'))


def test_with_too_few_words_the_remaining_answers_are_empty(ours):
  rows, scores = ours.nearest(np.array([1, 8]), 5, restrict=4)
  assert (rows[0, 3:] == -1).all()
  assert np.isneginf(scores[0, 3:]).all()
  assert sorted(rows[1]) == [-1, 0, 1, 2, 3]
  assert len(ours.neighbours('w1', 5, restrict=4)) == 3


def test_of_equal_words_the_first_is_nearest(matrix):
  duplicates = Vectors(WORDS, np.tile(matrix[:2], (V // 2, 1)))
  for block in (1 << 24, 40, 1):
    rows, _ = duplicates.nearest(np.array([4]), 3, block=block)
    assert rows.tolist() == [[0, 2, 6]]


def test_no_questions_have_no_answers(ours):
  rows, scores = ours.answers(np.zeros((0, 3)), 2)
  assert rows.shape == scores.shape == (0, 2)


def test_an_unknown_word_is_refused_with_the_nearest_spelling():
  vectors = Vectors(['king', 'kings', 'queen'], np.eye(3))
  assert 'king' in vectors
  assert 'kign' not in vectors
  message = r"'Kingz' is not among the 3 words that have vectors; did you mean 'king"
  for ask in (
    vectors.index,
    vectors.neighbours,
    lambda w: vectors.analogy('king', w, w),
  ):
    with pytest.raises(ValueError, match=message):
      ask('Kingz')
  assert vectors.rows(np.array([['queen', 'x']])).tolist() == [[2, -1]]


@pytest.mark.parametrize(
  ('words', 'shape', 'message'),
  [
    (['a'], (2, 3), r'1 words and a matrix of shape \(2, 3\)'),
    (['a', 'b'], (2,), r'2 words and a matrix of shape \(2,\)'),
    (['a', 'b', 'a'], (3, 2), r"'a' occurs twice"),
  ],
)
def test_the_numbers_of_words_and_rows_must_agree(words, shape, message):
  with pytest.raises(ValueError, match=message):
    Vectors(words, np.ones(shape))


def test_vectors_without_dimensions_are_refused():
  with pytest.raises(ValueError, match='vectors of dimension 0 have no direction'):
    Vectors(['a', 'b'], np.ones((2, 0)))


def test_more_neighbours_than_words_are_all_other_words(ours):
  assert len(ours.neighbours('w0', 1 << 40)) == V - 1
  assert len(ours.analogy('w0', 'w1', 'w2', 1 << 40)) == V - 3


def test_normalisation_equals_its_formula(ours, matrix):
  length = np.sqrt((matrix.astype(np.float64) ** 2).sum(axis=1))
  expected = matrix * (1 / length).astype(np.float32)[:, None]
  np.testing.assert_array_equal(np.asarray(ours._unit), expected)


def test_questions_that_cannot_be_answered_are_refused(ours):
  with pytest.raises(ValueError, match="method is 'near'; it may be 'add' or 'mul'"):
    ours.answers(np.zeros((1, 3)), method='near')
  for n, restrict in ((0, None), (1, 0)):
    with pytest.raises(ValueError, match='both should be 1 or more'):
      ours.answers(np.zeros((1, 3)), n, restrict=restrict)


def test_vectors_are_saved_and_loaded_by_kind(tmp_path, ours, ppmi):
  ours.save(tmp_path / 'dense.bin')
  SparseVectors(WORDS, ppmi).save(tmp_path / 'sparse.npz')
  loaded = Vectors.load(tmp_path / 'dense.bin')
  assert (loaded.words, loaded.size, loaded.dimensions) == (WORDS, V, D)
  np.testing.assert_array_equal(loaded.matrix, ours.matrix)
  assert isinstance(load_vectors(tmp_path / 'sparse.npz'), SparseVectors)
  with pytest.raises(ValueError, match='holds SparseVectors, where Vectors were'):
    Vectors.load(tmp_path / 'sparse.npz')
