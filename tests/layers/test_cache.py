"""The cache of decoding."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice
import numpy as np

from seqlab.layers.cache import DecoderCache, KVCache
from seqlab.layers.device import instead_of


def _empty(B=1, M=2, L=3):
  return DecoderCache.empty(B, M, L, layers=1, heads=1, head_dim=1, dtype=jnp.float32)


def _keys(*values):  # [1, M, 1, 1]
  return jnp.array(values, jnp.float32)[None, :, None, None]


def test_positions_are_written_one_after_another():
  cache = _empty().layers[0]
  for i in range(2):
    cache = cache.write(_keys(10 * i + 1, 10 * i + 2), -_keys(i, i), jnp.array(i))
  np.testing.assert_array_equal(cache.key[0, 0, 0], [1, 2, 11, 12, 0, 0])
  np.testing.assert_array_equal(cache.value[0, 0, :, 0], [0, 0, -1, -1, 0, 0])


def test_a_memory_has_an_entry_for_each_position():
  key = jnp.arange(24.0).reshape(2, 3, 2, 2)  # [B, S, H, K]
  cache = KVCache.of(key, 2 * key)
  np.testing.assert_array_equal(cache.key[1, 0, :, 2], key[1, 2, 0])
  np.testing.assert_array_equal(cache.value[1, 0, 2], 2 * key[1, 2, 0])


def test_a_hypothesis_sees_its_own_past_after_it_was_continued_from_another():
  cache = _empty()
  for parent in ([[1, 0]], [[0, 0]]):  # swapped, then the first continued twice
    cache = cache.after(cache.layers).reorder(jnp.array(parent))
  # At position 0 the first was the second hypothesis, at position 1 itself.
  past = [[1, 0, 0], [1, 0, 1]]
  np.testing.assert_array_equal(cache.origin[0], past)
  seen = np.array(cache.mask())[0, 0].reshape(2, 3, 2)  # [M, L, M]
  np.testing.assert_array_equal(seen, np.eye(2)[np.array(past)])


def test_later_positions_are_hidden():
  cache = _empty(M=1).after([])
  np.testing.assert_array_equal(cache.mask()[0, 0, 0], [True, True, False])
  window = jnp.array([False, True, True])[None, None, None]
  np.testing.assert_array_equal(cache.mask(window)[0, 0, 0], [False, True, False])


def test_a_resized_cache_keeps_what_is_written():
  cache = _empty()
  layer = cache.layers[0].write(_keys(1, 2), _keys(3, 4), jnp.array(0))
  cache = cache.after([layer]).reorder(jnp.array([[1, 1]]))
  longer = cache.resized(5)
  assert longer.layers[0].key.shape == (1, 1, 1, 10)
  np.testing.assert_array_equal(longer.layers[0].value[0, 0, :2, 0], [3, 4])
  np.testing.assert_array_equal(longer.origin[0], [[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
  for leaf, other in zip(
    jax.tree.leaves(longer.resized(3)), jax.tree.leaves(cache), strict=True
  ):
    np.testing.assert_array_equal(leaf, other)


def test_on_a_gpu_the_entries_are_whole_multiples_of_eight():
  with instead_of(AbstractDevice('NVIDIA H100', None, 'gpu')):
    assert _empty(M=5).resized(3).layers[0].key.shape[3] == 40
    assert _empty(M=2).resized(3).layers[0].key.shape[3] == 8
