"""The cache of decoding."""

import jax.numpy as jnp
import numpy as np

from seqlab.layers.cache import DecoderCache, KVCache


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
