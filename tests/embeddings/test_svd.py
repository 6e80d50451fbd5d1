import functools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import svds

from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.sparse_product import Panels
from seqlab.embeddings.svd import (
  Operator,
  embed,
  finish,
  iterate,
  residual,
  start,
  truncated_svd,
)


def mesh_of(devices):
  if jax.device_count() < devices:
    pytest.skip('needs the 8 pretended devices of conftest.py')
  shape = (devices // 2, 2) if devices > 1 else (1, 1)
  chosen = jax.devices()[:devices]
  return jax.make_mesh(
    shape, ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2, devices=chosen
  )


@pytest.fixture(scope='module')
def matrix():
  """PPMI of words by Zipf's law that come in 12 topics: [300, 300]."""
  random = np.random.default_rng(0)
  topics = random.dirichlet(np.full(12, 0.1), 300)
  zipf = 1 / np.arange(1, 301)
  mean = 2e4 * np.outer(zipf, zipf) * (0.05 + topics @ topics.T)
  return pmi(sparse.csr_array(random.poisson(mean)))


@pytest.fixture(scope='module')
def expected(matrix):
  """U, S, V of the 20 largest, by ARPACK in float64."""
  U, S, Vt = svds(matrix.astype(np.float64), k=20)
  return U[:, ::-1], S[::-1], Vt[::-1].T


def run(matrix, devices=1, *, block=8, steps=12, seed=0, extra_steps=0):
  operator = Operator.create(matrix, mesh_of(devices))
  state = start(jax.random.key(seed), matrix.shape, block=block, steps=steps)
  step = jax.jit(iterate)
  for _ in range(steps + extra_steps):
    state = step(state, operator)
  return state, operator


def test_a_dense_matrix_has_the_factors_of_the_sparse_one(matrix):
  options = dict(D=8, mesh=mesh_of(1), block=8, steps=6)
  for dense, sparse_part in zip(
    truncated_svd(matrix.toarray(), **options),
    truncated_svd(matrix, **options),
    strict=True,
  ):
    np.testing.assert_allclose(dense, sparse_part, atol=1e-3)


def test_singular_values_and_vectors_are_arpacks(matrix, expected):
  factors = truncated_svd(matrix, 20, mesh_of(1), block=8, steps=12)
  for x, y in zip(factors[::2], expected[::2], strict=True):
    cosines = np.abs((x * y).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
  np.testing.assert_allclose(factors[1], expected[1], rtol=1e-4)


def test_left_and_right_vectors_are_orthonormal_and_match(matrix):
  U, S, V = truncated_svd(matrix, 20, mesh_of(1), block=8, steps=12)
  for x in (U, V):
    np.testing.assert_allclose(x.T @ x, np.eye(20), atol=1e-4)
  np.testing.assert_allclose(matrix @ V, U * S, atol=2e-3 * S[0])
  assert (np.diff(S) <= 0).all()


@pytest.mark.parametrize('shape', [(300, 300), (83, 61)])
def test_eight_devices_have_the_result_of_one(matrix, shape):
  part = matrix[: shape[0], : shape[1]]
  one = truncated_svd(part, 10, mesh_of(1), block=5, steps=10)
  eight = truncated_svd(part, 10, mesh_of(8), block=5, steps=10)
  for x, y in zip(one, eight, strict=True):
    assert x.shape == y.shape
    np.testing.assert_allclose(x, y, atol=1e-3 * np.abs(x).max())


def test_panels_have_about_the_same_number_of_nonzeros(matrix):
  panels = Panels.create(matrix, mesh_of(8))
  used = np.asarray(panels.starts)[:, -1]
  assert used.sum() == matrix.nnz
  assert panels.data.shape[1] == used.max() < 1.3 * used.mean()


@pytest.mark.parametrize('devices', [1, 8])
def test_the_product_is_scipys(matrix, devices):
  part, mesh = matrix[:, :83], mesh_of(devices)
  panels = Panels.create(part, mesh)
  dense = np.random.default_rng(1).standard_normal((83, 4)).astype(np.float32)
  product = np.asarray(jax.jit(lambda p, x: p @ x)(panels, dense))
  np.testing.assert_allclose(product, part @ dense, rtol=1e-4, atol=1e-4)


def test_the_basis_is_orthonormal_and_grows_with_every_step(matrix):
  operator, step = Operator.create(matrix, mesh_of(1)), jax.jit(iterate)
  state = start(jax.random.key(0), matrix.shape, block=20, steps=15)  # the whole space
  missed = [float(residual(state, operator))]
  for _ in range(15):
    state = step(state, operator)
    missed.append(float(residual(state, operator)))
  assert missed[0] == 1
  assert (np.diff(missed) < 0).all()
  assert missed[-1] == pytest.approx(0, abs=1e-5)
  flat = np.asarray(state.basis).swapaxes(0, 1).reshape(300, 300)
  np.testing.assert_allclose(flat.T @ flat, np.eye(300), atol=1e-5)


def test_a_full_basis_does_not_change(matrix):
  full, _ = run(matrix, steps=4)
  further, _ = run(matrix, steps=4, extra_steps=2)
  for x, y in zip(finish(full, 9), finish(further, 9), strict=True):
    np.testing.assert_array_equal(x, y)


def test_beyond_the_rank_there_are_zeros():
  random = np.random.default_rng(0)
  dense = random.standard_normal((50, 3)) @ random.standard_normal((3, 40))
  dense[9] = dense[:, 4] = 0
  exact = np.linalg.svd(dense, compute_uv=False)[:3]
  U, S, V = truncated_svd(sparse.csr_array(dense), 8, mesh_of(1), block=4, steps=9)
  np.testing.assert_allclose(S[:3], exact, rtol=1e-5)
  np.testing.assert_allclose(S[3:], 0, atol=1e-4)
  np.testing.assert_allclose(U * S @ V.T, dense, atol=1e-4 * S[0])


def test_a_matrix_of_zeros_gives_zeros():
  U, S, V = truncated_svd(sparse.csr_array((9, 9)), 2, mesh_of(1), block=2, steps=2)
  assert not S.any()
  assert np.isfinite(U).all()
  assert np.isfinite(V).all()


def test_the_seed_decides_the_result(matrix):
  few = functools.partial(truncated_svd, matrix, 9, mesh_of(1), block=4, steps=3)
  one, again, other = few(seed=1), few(seed=1), few(seed=2)
  for x, y in zip(one, again, strict=True):
    np.testing.assert_array_equal(x, y)
  assert np.abs(one[1] - other[1]).max() > 1e-3 * one[1][0]


def test_signs_do_not_depend_on_the_seed(matrix):
  U, _, _ = truncated_svd(matrix, 12, mesh_of(1), block=8, steps=12, seed=3)
  assert (U.max(axis=0) == np.abs(U).max(axis=0)).all()


def test_steps_are_made_for_two_and_a_half_times_the_dimension(matrix, expected):
  _, S, _ = truncated_svd(matrix, 20, mesh_of(1), block=8)
  np.testing.assert_allclose(S, expected[1], rtol=0.05)
  np.testing.assert_allclose(S[:7], expected[1][:7], rtol=1e-3)


def _blocks(kind):
  """Matrices that run out of new directions before the basis is full: [100, 100]."""
  random = np.random.default_rng(0)
  return {
    'rank 20': random.normal(size=(100, 20)) @ random.normal(size=(20, 100)),
    'rank 1': np.outer(np.arange(100.0), np.ones(100)),
    'one value': np.eye(100),
    'ten times one value': np.kron(np.eye(10), np.ones((10, 10))),
    'empty rows': np.diag(np.r_[np.arange(30.0, 0, -1), np.zeros(70)]),
    'nothing': np.zeros((100, 100)),
  }[kind]


@pytest.mark.parametrize(
  'kind',
  ['rank 20', 'rank 1', 'one value', 'ten times one value', 'empty rows', 'nothing'],
)
def test_a_basis_larger_than_the_rank_stays_right(kind):
  dense = _blocks(kind)
  state, operator = run(sparse.csr_array(dense), block=8, steps=12)
  basis = np.asarray(state.basis).swapaxes(0, 1).reshape(100, 96)
  np.testing.assert_allclose(basis.T @ basis, np.eye(96), atol=1e-5)
  values = np.linalg.svd(dense, compute_uv=False)
  singular = jax.jit(finish, static_argnames='D')(state, D=50)[1]
  np.testing.assert_allclose(
    singular, values[:50], rtol=1e-4, atol=1e-4 * (1 + values[0])
  )
  if values[0]:
    assert -1e-5 < residual(state, operator) < 0.05


@pytest.mark.parametrize(('size', 'D'), [(50, 48), (50, 50), (7, 7)])
def test_nearly_all_singular_values_can_be_computed(size, D):
  dense = np.random.default_rng(0).normal(size=(size, size))
  _, singular, _ = truncated_svd(sparse.csr_array(dense), D, mesh_of(1))
  np.testing.assert_allclose(
    singular, np.linalg.svd(dense, compute_uv=False)[:D], rtol=1e-3, atol=1e-4
  )


def test_more_singular_values_than_the_matrix_has_are_refused(matrix):
  with pytest.raises(ValueError, match=r'\(40, 300\) has 40 singular values, not 41'):
    truncated_svd(matrix[:40], 41, mesh_of(1))


def test_too_large_a_basis_and_too_many_vectors_are_refused(matrix):
  message = r'7 blocks of 8 are 56 vectors, and the matrix is 50 x 300'
  with pytest.raises(ValueError, match=message):
    start(jax.random.key(0), (50, 300), block=8, steps=7)
  state = start(jax.random.key(0), (50, 300), block=8, steps=2)
  with pytest.raises(ValueError, match='17 vectors of a basis of 16'):
    finish(state, 17)


def test_embeddings_are_weighted_singular_vectors():
  random = np.random.default_rng(0)
  U, V = random.standard_normal((2, 7, 3))
  S = np.array([9.0, 4.0, 0.0])
  np.testing.assert_array_equal(embed(U, S, V, power=0), U)
  np.testing.assert_array_equal(embed(U, S, V, power=1), U * S)
  np.testing.assert_array_equal(embed(U, S, V), U * [3, 2, 0])
  np.testing.assert_array_equal(
    embed(U, S, V, output_vectors='contexts'), V * [3, 2, 0]
  )
  both = embed(*map(jnp.asarray, (U, S, V)), output_vectors='both')
  np.testing.assert_allclose(both, (U + V) * [3, 2, 0], rtol=1e-5)


def test_vectors_that_cannot_be_combined_are_refused():
  U, S, V = np.ones((4, 2)), np.ones(2), np.ones((5, 2))
  with pytest.raises(ValueError, match=r"unknown .*output_vectors 'rows'"):
    embed(U, S, V, output_vectors='rows')
  with pytest.raises(ValueError, match=r'words are \(4, 2\) and contexts \(5, 2\)'):
    embed(U, S, V, output_vectors='both')
