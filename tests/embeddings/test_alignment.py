import numpy as np
import pytest
import scipy.linalg

from seqlab.embeddings import alignment
from seqlab.embeddings.alignment import normalized, procrustes, translations


@pytest.fixture
def random():
  return np.random.default_rng(0)


def _unit(x):
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_the_map_is_scipys(random):
  x, y = random.normal(size=(2, 40, 7))
  expected, _ = scipy.linalg.orthogonal_procrustes(x, y)
  W = procrustes(x, y)
  np.testing.assert_allclose(W, expected, atol=1e-10)
  np.testing.assert_allclose(W @ W.T, np.eye(7), atol=1e-12)


def test_a_rotation_is_recovered(random):
  x = random.normal(size=(30, 5))
  rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
  np.testing.assert_allclose(procrustes(x, x @ rotation), rotation, atol=1e-10)


def test_vectors_have_length_one_and_a_mean_near_zero(random):
  matrix = random.normal(2.0, 1.0, (50, 6))
  matrix[3] = 0
  plain = normalized(matrix, centre=False)
  lengths = np.linalg.norm(plain, axis=1)
  np.testing.assert_allclose(np.delete(lengths, 3), 1, rtol=1e-6)
  assert lengths[3] == 0
  centred = normalized(matrix)
  expected = plain - plain.mean(axis=0)
  np.testing.assert_allclose(centred, _unit(expected), atol=1e-6)


@pytest.mark.parametrize('cells', [40, 1 << 20])
def test_translations_are_those_of_the_definitions(random, monkeypatch, cells):
  monkeypatch.setattr(alignment, '_CELLS', cells)
  source, target = (_unit(random.normal(size=(n, 4))) for n in (14, 23))
  words = np.array([3, 0, 13])
  cosines = source @ target.T
  order = np.argsort(-cosines[words], axis=1)[:, :5]
  best = translations(source, target, words, 5, retrieval='nn')
  np.testing.assert_array_equal(best, order)
  r_source = np.sort(cosines, axis=1)[:, -10:].mean(axis=1)
  r_target = np.sort(cosines, axis=0)[-10:].mean(axis=0)
  csls = 2 * cosines - r_source[:, None] - r_target
  best = translations(source, target, words, 5)
  np.testing.assert_array_equal(best, np.argsort(-csls[words], axis=1)[:, :5])


def test_an_unknown_retrieval_is_refused():
  with pytest.raises(ValueError, match=r"retrieval is 'cls'; it may be 'nn' or 'csls'"):
    translations(np.eye(2), np.eye(2), [0], 1, retrieval='cls')
