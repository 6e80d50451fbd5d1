"""The formulas of positions: sinusoidal, rotary, ALiBi's slopes, T5's buckets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.positions import sinusoidal as sines
from seqlab.layers.positions.alibi import alibi_slopes
from seqlab.layers.positions.rotary import rotate, rotation
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.layers.positions.t5 import t5_buckets


def test_first_frequency_is_one_radian_per_position():
  x = sinusoidal(jnp.arange(5), 8)
  np.testing.assert_allclose(x[:, 0], np.sin(np.arange(5)), atol=1e-6)
  np.testing.assert_allclose(x[:, 4], np.cos(np.arange(5)), atol=1e-6)


def test_longest_wavelength_is_the_base():
  x = sinusoidal(jnp.array([3]), 8, base=100.0)
  np.testing.assert_allclose(x[0, 3], np.sin(3 / 100), atol=1e-6)


def test_dot_product_depends_on_the_distance_only():
  x = np.asarray(sinusoidal(jnp.arange(40), 32))
  np.testing.assert_allclose(x[3] @ x[10], x[23] @ x[30], atol=1e-4)


@pytest.mark.parametrize('k', [1, 5, -3])
def test_one_rotation_takes_every_position_to_that_k_places_on(k):
  M = np.asarray(sines.rotation(k, 32, base=100.0))
  p = np.asarray(sinusoidal(jnp.arange(64), 32, base=100.0))
  first = max(0, -k)
  from_, to = p[first : 60 + min(0, k)], p[first + k : 60 + max(k, 0)]
  n = min(len(from_), len(to))
  np.testing.assert_allclose(from_[:n] @ M.T, to[:n], atol=2e-5)
  np.testing.assert_allclose(M @ M.T, np.eye(32), atol=1e-6)


def test_odd_width_is_refused():
  with pytest.raises(ValueError, match='even width'):
    sinusoidal(jnp.arange(3), 7)


def _vectors(seed):
  """One vector at each of five positions, [1, 5, 2, 8]."""
  return jnp.repeat(jax.random.normal(jax.random.key(seed), (1, 1, 2, 8)), 5, axis=1)


def test_rotary_scores_depend_on_the_distance_only():
  query, key = _vectors(0), _vectors(1)

  def scores(first):  # of every pair of positions, [2, 5, 5]
    turn = rotation(first + jnp.arange(5)[None], 8)
    return jnp.einsum('blhk,bshk->hls', rotate(query, turn), rotate(key, turn))

  unshifted = scores(0)
  np.testing.assert_allclose(scores(70), unshifted, atol=1e-4)
  for h in range(2):
    for distance in range(-4, 5):
      diagonal = np.diagonal(unshifted[h], distance)
      np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
  assert float(jnp.abs(unshifted[:, 0, 0] - unshifted[:, 0, 3]).min()) > 1e-3


def test_rotation_keeps_norms():
  x = jax.random.normal(jax.random.key(2), (2, 5, 2, 8))
  turned = rotate(x, rotation(jnp.arange(5)[None], 8))
  np.testing.assert_allclose(
    jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
  )


def test_rotation_turns_pairs_by_the_papers_angles():
  x = jnp.zeros((1, 1, 1, 8)).at[..., 1].set(1.0)  # the second of four pairs
  turned = rotate(x, rotation(jnp.array([[3]]), 8))[0, 0, 0]
  angle = 3 * 10_000 ** (-2 / 8)
  np.testing.assert_allclose(turned[1], math.cos(angle), atol=1e-6)
  np.testing.assert_allclose(turned[5], math.sin(angle), atol=1e-6)


def test_heads_of_an_odd_width_cannot_be_rotated():
  with pytest.raises(ValueError, match=r'a head has 5: change model\.heads'):
    rotation(jnp.arange(3)[None], 5)


def test_slopes_of_eight_heads_are_the_papers():
  np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])


def test_slopes_of_twelve_heads_add_every_second_slope_of_sixteen():
  expected = [2.0**-i for i in range(1, 9)] + [2.0 ** -(i + 0.5) for i in range(4)]
  np.testing.assert_allclose(alibi_slopes(12), expected)


def _t5_bucket(distance, bidirectional, buckets, max_distance):
  """Returns the bucket as the authors' code does, for one distance."""
  first, n = 0, -distance
  if bidirectional:
    buckets //= 2
    if n < 0:
      first, n = buckets, -n
  else:
    n = max(n, 0)
  exact = buckets // 2
  if n < exact:
    return first + n
  octaves = math.log2(n / exact) / math.log2(max_distance / exact)
  return first + min(exact + int(octaves * (buckets - exact)), buckets - 1)


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize('sizes', [(32, 128), (8, 20)])
def test_t5_buckets_equal_a_scalar_reference(bidirectional, sizes):
  distance = np.arange(-300, 301)
  options = dict(buckets=sizes[0], max_distance=sizes[1])
  buckets = t5_buckets(distance, bidirectional=bidirectional, **options)
  expected = [_t5_bucket(int(d), bidirectional, *sizes) for d in distance]
  np.testing.assert_array_equal(buckets, expected)
