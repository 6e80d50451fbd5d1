import numpy as np
import pytest
from scipy import sparse

from seqlab.embeddings import ppmi
from seqlab.embeddings.ppmi import pmi


def counts(seed=0, shape=(30, 23), density=0.4):
  """Counts in eighths, with a word and a context that were never seen."""
  random = np.random.default_rng(seed)
  dense = random.integers(1, 400, shape) / 8 * (random.random(shape) < density)
  dense[5] = dense[:, 7] = 0
  return dense


def written_out(dense, smoothing=1.0, shift=1.0):
  """[V, C] of log(#(w, c) |D| / (#(w) #(c))) - log k, one by one."""
  total = dense.sum()
  smooth = dense.sum(axis=0) ** smoothing
  values = np.full(dense.shape, -np.inf)
  for w, c in np.argwhere(dense):
    p_word, p_context = dense[w].sum() / total, smooth[c] / smooth.sum()
    values[w, c] = np.log(dense[w, c] / total / (p_word * p_context)) - np.log(shift)
  return values


@pytest.mark.parametrize('smoothing', [1.0, 0.75])
@pytest.mark.parametrize('shift', [1.0, 5.0])
def test_ppmi_is_its_formula(smoothing, shift):
  dense = counts()
  values = pmi(sparse.csr_array(dense), smoothing=smoothing, shift=shift)
  expected = np.maximum(written_out(dense, smoothing, shift), 0)
  np.testing.assert_allclose(values.toarray(), expected, rtol=1e-5, atol=1e-6)
  assert 0 < values.nnz == np.count_nonzero(expected) < np.count_nonzero(dense)
  assert values.dtype == np.float32
  assert values.has_canonical_format


def test_without_smoothing_it_is_symmetric_in_words_and_contexts():
  matrix = sparse.csr_array(counts())
  one, other = (pmi(m, smoothing=1.0, shift=2.0) for m in (matrix, matrix.T))
  np.testing.assert_allclose(one.toarray(), other.toarray().T, rtol=1e-5)


def test_pmi_keeps_negative_values_and_zeros():
  dense = counts()
  dense[:2] = dense[:, :2] = 0
  dense[0, 0] = dense[1, 1] = dense.sum() / 2  # P(w) = P(c) = P(w, c) = 1 / 4
  values = pmi(sparse.csr_array(dense), smoothing=1.0, shift=4.0, positive=False)
  expected = written_out(dense, 1.0, 4.0)
  assert values.nnz == np.count_nonzero(dense)
  seen = np.isfinite(expected)
  np.testing.assert_allclose(values.toarray()[seen], expected[seen], atol=1e-5)
  assert values.min() < 0
  assert values[0, 0] == pytest.approx(0, abs=1e-6)


def test_blocks_do_not_change_the_result(monkeypatch):
  matrix = sparse.csr_array(counts())
  whole = pmi(matrix)
  for size in (1, 7, 60):
    monkeypatch.setattr(ppmi, '_BLOCK', size)
    parts = pmi(matrix)
    np.testing.assert_allclose(parts.toarray(), whole.toarray(), rtol=1e-6)
    assert parts.nnz == whole.nnz


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int32, np.uint16])
def test_counts_of_any_type_are_not_changed(dtype):
  dense = np.floor(counts()).astype(dtype)
  matrix = sparse.csr_array(dense)
  values = pmi(matrix)
  np.testing.assert_array_equal(matrix.toarray(), dense)
  assert matrix.dtype == dtype
  expected = np.maximum(written_out(dense.astype(float), 0.75), 0)
  np.testing.assert_allclose(values.toarray(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('positive', [True, False])
def test_stored_counts_of_zero_are_not_pairs(positive):
  dense = counts()
  matrix = sparse.csr_array(dense)
  bare = pmi(matrix, positive=positive)
  stored = sparse.csr_array(np.ones_like(dense))
  stored.data[:] = dense.ravel()
  values = pmi(stored, positive=positive)
  assert values.nnz == bare.nnz
  np.testing.assert_allclose(values.toarray(), bare.toarray())


def test_invalid_counts_are_refused():
  with pytest.raises(ValueError, match='there are no counts'):
    pmi(sparse.csr_array((4, 4)))
  with pytest.raises(ValueError, match=r'a count in rows 0 to 1 is -2\.0'):
    pmi(sparse.csr_array(np.array([[1.0, 0.0], [0.0, -2.0]])))
  with pytest.raises(ValueError, match='smoothing is 0; it must be more than 0'):
    pmi(sparse.csr_array(np.eye(2)), smoothing=0)
  with pytest.raises(ValueError, match='shift is -1; it must be more than 0'):
    pmi(sparse.csr_array(np.eye(2)), shift=-1)
