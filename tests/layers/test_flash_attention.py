"""The kernel for TPUs, interpreted on a CPU, beside attention without a kernel."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.attention import (
  MultiHeadAttention,
  causal_mask,
  local_mask,
  padding_mask,
  segment_mask,
)
from seqlab.layers.device import compiled_for
from seqlab.layers.flash_attention import Blocks, find_blocks, flash_attention
from seqlab.layers.softmax_attention import softmax_attention

H, K = 2, 4


def _packed(rows, length):
  """Returns numbers of packed sentences; the last row is padding after one token."""
  rng = np.random.default_rng(0)
  segment = 1 + (rng.random((rows, length)) < 0.1).cumsum(axis=1)
  segment[:, -3:] = 0
  segment[-1, 1:] = 0
  return jnp.asarray(segment)


def _masks(rows, length):
  segment, place = _packed(rows, length), jnp.arange(length)[None]
  causal = causal_mask(length)
  return {
    'none': None,
    'causal': causal,
    'padding': padding_mask(segment),
    'packed': segment_mask(segment, segment) & causal,
    'window': segment_mask(segment, segment) & local_mask(place, place, 3),
  }


def _value_and_gradients(attend, arrays, mask, seen):
  """Returns what `attend` computes for queries that see something, which others read."""
  probe = np.random.default_rng(1).normal(size=arrays[0].shape) * seen[..., None, None]

  def loss(arrays):
    y = attend(*arrays, mask)
    return (probe * y).sum(), y * seen[..., None, None]

  (_, y), gradients = jax.value_and_grad(loss, has_aux=True)(arrays)
  return y, *gradients


@pytest.mark.parametrize(
  ('rows', 'length', 'memory_length', 'name'),
  [
    *((8, 64, 64, name) for name in ('none', 'causal', 'padding', 'packed', 'window')),
    (1, 1024, 1024, 'packed'),  # rows of several blocks
    (4, 32, 96, 'padding'),  # as in cross-attention
  ],
)
def test_value_and_gradients_equal_those_without_the_kernel(
  rows, length, memory_length, name
):
  rng = np.random.default_rng(0)
  lengths = (length, memory_length, memory_length)
  arrays = tuple(
    jnp.asarray(rng.normal(size=(rows, n, H, K)), 'float32') for n in lengths
  )
  mask = _masks(rows, memory_length)[name]
  seen = np.ones((rows, length), bool)
  if mask is not None:
    full = jnp.broadcast_to(mask, (rows, 1, length, memory_length))
    seen = np.asarray(full.any(axis=-1)[:, 0])

  def without_kernel(query, key, value, mask):
    return softmax_attention(query, key, value, None, mask, None)

  def kernel(query, key, value, mask):
    return flash_attention(query, key, value, mask, interpret=True)

  got = _value_and_gradients(kernel, arrays, mask, seen)
  want = _value_and_gradients(without_kernel, arrays, mask, seen)
  for x, expected in zip(got, want, strict=True):
    np.testing.assert_allclose(x, expected, atol=2e-5)


def test_a_query_of_padding_gets_zeros_and_no_gradient():
  rng = np.random.default_rng(0)
  arrays = tuple(jnp.asarray(rng.normal(size=(2, 64, H, K)), 'float32') for _ in 'qkv')
  mask = segment_mask(_packed(2, 64), _packed(2, 64))

  def loss(arrays):
    y = flash_attention(*arrays, mask, interpret=True)
    return y[0, -1].sum() + y[1, 5].sum(), y

  (_, y), gradients = jax.value_and_grad(loss, has_aux=True)(arrays)
  assert np.isfinite(y).all()
  assert not np.any(y[0, -1])
  assert not any(np.any(x) for x in gradients)


def test_blocks_join_short_rows_and_divide_long_ones():
  assert find_blocks(384, 128, 128) == Blocks(4, 512, 512)
  assert find_blocks(6, 64, 128) == Blocks(2, 128, 256)
  assert find_blocks(2, 2048, 2048) == Blocks(1, 512, 512)
  assert find_blocks(3, 1280, 384) == Blocks(1, 256, 384)
  assert find_blocks(4, 100, 100) is None


def test_another_device_is_refused():
  x = jnp.ones((2, 128, 8))
  attention = MultiHeadAttention(8, 2, implementation='flash')

  def attend(attention, x):
    return attention(x, *attention.project(x))

  with pytest.raises(
    ValueError, match=r"'flash' is a kernel for a TPU.*set it to 'xla'"
  ):
    attention.init(jax.random.key(0), x, method=attend)


def test_each_device_attends_in_its_own_rows_and_heads():
  rng = np.random.default_rng(0)
  arrays = tuple(jnp.asarray(rng.normal(size=(4, 64, H, K)), 'float32') for _ in 'qkv')
  mask = _masks(4, 64)['packed']
  expected = flash_attention(*arrays, mask, interpret=True)
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((2, 2), ('data', 'tensor'), auto, devices=jax.devices()[:4])
  rules = (('batch', 'data'), ('heads', 'tensor'))
  with compiled_for(mesh), nn.logical_axis_rules(rules):
    attend = jax.jit(lambda *args: flash_attention(*args, interpret=True))
    text = attend.lower(*arrays, mask).as_text()
    sharding = jax.NamedSharding(mesh, jax.P('data', None, 'tensor'))
    found = attend(*jax.device_put(arrays, sharding), mask)
  assert 'manual_computation' in text
  np.testing.assert_allclose(found, expected, atol=1e-6)
