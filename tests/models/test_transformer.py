"""What must hold of any Transformer, whatever its weights."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.models.interface import Packing
from seqlab.models.transformer import Transformer
from seqlab.types import EOS, PAD

V = 40


class _Compiled:
  """A model whose `apply` is one program, not a program an operation."""

  def __init__(self, model):
    self.init, self._model = model.init, model
    self._apply = jax.jit(model.apply, static_argnames=('method', 'train'))

  def apply(self, *args, **kwargs):
    start = kwargs.get('method') == 'start'  # whose sizes are Python's
    return (self._model.apply if start else self._apply)(*args, **kwargs)


@functools.cache
def _model(**kwargs):
  options = dict(width=16, mlp_width=32, heads=2, layers=2, dtype='float32') | kwargs
  model = Transformer(options.pop('source_size', V), V, **options)
  ids = jnp.ones((1, 3), jnp.int32)
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(0), ids, ids))
  # Larger weights than at the start, so that a leak would show.
  return _Compiled(model), jax.tree.map(lambda x: x * 3, variables)


def _ids(rows, length, seed=0):
  return np.random.default_rng(seed).integers(4, V, (rows, length)).astype(np.int32)


def test_no_position_sees_the_words_after_it():
  model, variables = _model(tie='none')
  source, target = _ids(1, 5), _ids(1, 6)
  table = variables['params']['target_embedding']['table']

  def logits(table):  # as a function of what the target's words are made of
    params = variables['params'] | {'target_embedding': {'table': table}}
    return model.apply({'params': params}, source, target)[0]  # [T, V]

  jacobian = jax.jit(jax.jacrev(lambda t: logits(t).sum(axis=-1)))(table)  # [T, V, D]
  for i in range(6):
    later = [w for w in target[0, i:] if w not in target[0, :i]]
    assert float(jnp.abs(jacobian[i, np.array(later)]).max()) == 0.0
    if i:
      assert float(jnp.abs(jacobian[i, target[0, i - 1]]).max()) > 0.0


def test_padding_changes_no_logits():
  model, variables = _model()
  source, target = _ids(2, 5), _ids(2, 6)
  pad = functools.partial(np.pad, constant_values=PAD)
  more = pad(source, ((0, 0), (0, 3))), pad(target, ((0, 0), (0, 2)))
  plain = model.apply(variables, source, target)
  padded = model.apply(variables, *more)[:, :6]
  np.testing.assert_allclose(padded, plain, atol=1e-4)


@pytest.mark.parametrize('norm', ['pre', 'post'])
def test_cached_decoding_equals_uncached(norm):
  model, variables = _model(norm=norm)
  source, target = _ids(3, 5), _ids(3, 6)
  source[1, 3:] = PAD
  logits = model.apply(variables, source, target)
  memory = model.apply(variables, source, method='encode')
  cache = model.apply(variables, memory, 3, 8, method='start')
  step = functools.partial(model.apply, method='step')
  inputs = np.concatenate([np.full((3, 1), 2), target[:, :-1]], axis=1)
  for t in range(6):
    cache, found = step(variables, memory, cache, inputs[:, t])
    np.testing.assert_allclose(found, logits[:, t], atol=1e-4)


def test_hypotheses_share_the_memory_of_their_sentence():
  model, variables = _model()
  source = _ids(2, 5)
  token = _ids(1, 6)[0]
  memory = model.apply(variables, source, method='encode')
  cache = model.apply(variables, memory, 6, 4, method='start')
  _, shared = model.apply(variables, memory, cache, token, method='step')
  memory = model.apply(variables, np.repeat(source, 3, axis=0), method='encode')
  _, repeated = model.apply(variables, memory, cache, token, method='step')
  np.testing.assert_allclose(shared, repeated, atol=1e-4)


def test_packed_sentences_have_the_logits_they_have_alone():
  model, variables = _model()
  a, b = (_ids(1, 4, 1), _ids(1, 3, 2)), (_ids(1, 2, 3), _ids(1, 5, 4))
  source, target = (np.concatenate([x, y], axis=1) for x, y in zip(a, b, strict=True))

  def place(first, second):
    n, m = first.shape[1], second.shape[1]
    segment = np.array([[1] * n + [2] * m], np.int32)
    return segment, np.array([[*range(n), *range(m)]], np.int32)

  packing = Packing(*place(a[0], b[0]), *place(a[1], b[1]))
  packed = model.apply(variables, source, target, packing=packing)
  alone = [model.apply(variables, *pair) for pair in (a, b)]
  np.testing.assert_allclose(packed, jnp.concatenate(alone, axis=1), atol=1e-4)


def test_dropout_acts_in_training_only():
  model, variables = _model()
  source, target = _ids(1, 5), _ids(1, 6)
  hyper = {'dropout': 0.5, 'attention_dropout': 0.5, 'activation_dropout': 0.5}
  rngs = {'dropout': jax.random.key(1)}
  plain = model.apply(variables, source, target)
  idle = model.apply(variables, source, target, hyper=hyper)
  dropped = model.apply(variables, source, target, train=True, hyper=hyper, rngs=rngs)
  np.testing.assert_array_equal(idle, plain)
  assert float(jnp.abs(dropped - plain).max()) > 0.1


@pytest.mark.parametrize(('tie', 'tables'), [('all', 1), ('decoder', 2), ('none', 3)])
def test_tied_embeddings_are_one_table(tie, tables):
  _, variables = _model(tie=tie)
  assert sum('embedding' in name for name in variables['params']) == tables


def test_three_way_tying_needs_one_vocabulary():
  model = Transformer(V + 1, V, width=16, mlp_width=32, heads=2, layers=1)
  ids = jnp.ones((1, 3), jnp.int32)
  with pytest.raises(ValueError, match=r'vocabulary\.shared=True'):
    model.init(jax.random.key(0), ids, ids)


def test_remat_and_unrolling_change_no_gradients():
  source, target = _ids(2, 5), _ids(2, 6)

  def gradient(**kwargs):
    model, _ = _model(**kwargs)
    _, variables = _model()
    loss = jax.jit(jax.grad(lambda v: (model.apply(v, source, target) ** 2).mean()))
    return loss(variables)

  plain = gradient()
  for options in ({'remat': True}, {'unroll': 2}):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
      plain,
      gradient(**options),
    )


def test_bfloat16_keeps_float32_parameters_and_is_close():
  model, variables = _model(dtype='bfloat16')
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  source, target = _ids(1, 5), np.append(_ids(1, 5), [[EOS]], axis=1)
  exact, _ = _model()
  small = jax.tree.map(lambda x: x / 3, variables)
  found = model.apply(small, source, target).astype(jnp.float32)
  np.testing.assert_allclose(found, exact.apply(small, source, target), atol=0.1)


def test_every_parameter_has_logical_axes():
  model, _ = _model()
  ids = jnp.ones((1, 3), jnp.int32)
  boxed = jax.eval_shape(model.init, jax.random.key(0), ids, ids)
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    assert is_box(leaf)
    assert len(leaf.names) == leaf.value.ndim
