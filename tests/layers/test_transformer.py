"""A layer of self-attention with a cache, as a model without an encoder uses it."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.attention import causal_mask
from seqlab.layers.cache import DecoderCache
from seqlab.layers.positions.interface import PositionTerms
from seqlab.layers.transformer import EncoderLayer, TrainingInputs


@pytest.mark.parametrize('norm', ['pre', 'post', 'deep'])
def test_cached_steps_equal_all_positions_at_once(norm):
  layer = EncoderLayer(8, 16, 2, _Norm, norm=norm, alpha=1.5)
  x = jax.random.normal(jax.random.key(0), (3, 5, 8))
  rest = (causal_mask(5), PositionTerms(), TrainingInputs())
  variables = nn.unbox(layer.init(jax.random.key(1), x, *rest))
  whole, _ = layer.apply(variables, x, *rest)
  cache = DecoderCache.empty(3, 1, 5, layers=1, heads=2, head_dim=4, dtype=jnp.float32)
  for i in range(5):
    place = (cache.position, cache.mask(), PositionTerms())
    args = (x[:, i : i + 1], cache.layers[0], *place)
    out, past = layer.apply(variables, *args, method='step')
    cache = cache.after([past])
    np.testing.assert_allclose(out[:, 0], whole[:, i], rtol=1e-5, atol=1e-5)
  assert (cache.length == 5).all()


class _Norm(nn.LayerNorm):
  def __call__(self, x, mask=None):
    return super().__call__(x)
