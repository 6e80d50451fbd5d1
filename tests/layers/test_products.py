"""Products in the form of a CPU's bfloat16 kernels, compared with plain ones."""

import re

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers import device, products
from seqlab.layers.linear import Linear
from seqlab.layers.products import dense_product, matmul, product, weight_gradient
from seqlab.models.transformer import Transformer

EQUATIONS = (
  *('bld,dhk->blhk', 'blhk,hkd->bld', 'bld,df->blf', 'btd,vd->btv'),  # weights
  *('blhk,bshk->bhls', 'bhls,bshk->blhk', 'btd,bsd->bts', 'bhts,bhsk->bthk'),
  *('blhk,rk->bhlr', 'bhlr,blsr->bhls', 'bhls,blsr->bhlr', 'bhlr,rk->blhk'),
  *('abd,d->ab', 'ad,df->af'),
)


def _operands(equation, dtype, sizes):
  random = np.random.default_rng(0)
  return [
    jnp.asarray(random.normal(size=[sizes[letter] for letter in term]), dtype)
    for term in re.split(',|->', equation)
  ]


def _sizes(equation, one=None):
  letters = sorted({*equation} - {*',->'})
  return {letter: 1 if letter == one else 3 + i for i, letter in enumerate(letters)}


def _with_gradients(function, equation):
  def run(x, y, d_out):
    out, pull = jax.vjp(lambda x, y: function(equation, x, y), x, y)
    return out, *pull(d_out)

  return run


@pytest.mark.parametrize('equation', EQUATIONS)
def test_bfloat16_products_and_gradients_are_those_of_float32(equation):
  ours = jax.jit(_with_gradients(product, equation))
  plain = jax.jit(_with_gradients(jnp.einsum, equation))
  # An axis of size one changes the form of the product, and the rows' number may be odd.
  for one in (None, equation[0], equation[1]):
    arrays = _operands(equation, jnp.bfloat16, _sizes(equation, one))
    results = ours(*arrays)
    expected = plain(*(x.astype(jnp.float32) for x in arrays))
    for result, want in zip(results, expected, strict=True):
      assert result.dtype == jnp.bfloat16
      np.testing.assert_allclose(result.astype(jnp.float32), want, rtol=2e-2, atol=0.1)


@pytest.mark.parametrize(
  ('equation', 'left', 'right'),
  [
    ('bhlr,lsr->bhls', '', 'l'),
    ('bhls,lsr->bhlr', '', 'l'),
    ('blk,blsk->bls', 'l', 'b'),
  ],
)
def test_an_axis_of_size_one_is_broadcast(equation, left, right):
  x, y, d_out = _operands(equation, jnp.bfloat16, _sizes(equation))
  terms = equation.replace('->', ',').split(',')
  for letter in left:
    x = x.take(jnp.array([0]), axis=terms[0].index(letter))
  for letter in right:
    y = y.take(jnp.array([0]), axis=terms[1].index(letter))
  arrays = x, y, d_out
  results = jax.jit(_with_gradients(product, equation))(*arrays)
  run = jax.jit(_with_gradients(jnp.einsum, equation))
  expected = run(*(a.astype(jnp.float32) for a in arrays))
  for result, want in zip(results, expected, strict=True):
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(jnp.float32), want, rtol=2e-2, atol=0.1)


@pytest.mark.parametrize('equation', ['bld,dhk->blhk', 'blhk,bshk->bhls'])
def test_float32_products_and_gradients_are_the_plain_ones(equation):
  arrays = _operands(equation, jnp.float32, _sizes(equation))
  results = jax.jit(_with_gradients(product, equation))(*arrays)
  expected = jax.jit(_with_gradients(jnp.einsum, equation))(*arrays)
  for result, want in zip(results, expected, strict=True):
    np.testing.assert_array_equal(result, want)


def test_products_of_a_population_are_those_of_its_members():
  run = _with_gradients(product, 'bld,df->blf')
  arrays = _operands('bld,df->blf', jnp.bfloat16, _sizes('bld,df->blf'))
  members = [[x, -2 * x] for x in arrays]
  together = jax.jit(jax.vmap(run))(*map(jnp.stack, members))
  for i, member in enumerate(zip(*members, strict=True)):
    for result, want in zip(together, jax.jit(run)(*member), strict=True):
      result, want = (np.asarray(x, np.float32) for x in (result[i], want))
      np.testing.assert_allclose(result, want, rtol=1e-2)


def test_a_gradient_of_a_weight_may_be_float32():
  x, _, d_y = _operands('bld,df->blf', jnp.bfloat16, _sizes('bld,df->blf'))
  result = weight_gradient('bld,df->blf', x, d_y, jnp.float32)
  want = jnp.einsum('bld,blf->df', *(a.astype(jnp.float32) for a in (x, d_y)))
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(result, want, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_a_bias_is_summed_in_float32():
  options = dict(kernel_init=jax.nn.initializers.ones, use_bias=True)
  axes, rows = ('embed', 'mlp'), 1001  # which bfloat16 cannot represent
  layer = Linear('bld,df->blf', (2, 3), axes, **options, dtype=jnp.bfloat16)
  x = jnp.ones((1, rows, 2))
  variables = nn.unbox(layer.init(jax.random.key(0), x))
  gradient = jax.grad(lambda v: layer.apply(v, x).astype(jnp.float32).sum())(variables)
  np.testing.assert_array_equal(gradient['params']['bias'], rows)


def test_dense_products_take_any_number_of_rows():
  kernel = jnp.ones((4, 5))
  for rows in ((), (2,), (2, 3)):
    x = jnp.ones((*rows, 4))
    np.testing.assert_array_equal(dense_product(x, kernel, None), x @ kernel)
    np.testing.assert_array_equal(matmul(x, kernel[:, 0]), x @ kernel[:, 0])


def _step_of_a_transformer():
  model = Transformer(
    11, 11, 8, 16, heads=2, layers=2, positions='shaw', dtype='bfloat16'
  )
  ids = jnp.ones((2, 6), jnp.int32)
  variables = model.init(jax.random.key(0), ids, ids)
  return jax.jit(jax.grad(lambda v: model.apply(v, ids, ids).sum())), variables


def test_no_product_of_a_bfloat16_model_has_a_bfloat16_result_on_a_cpu():
  step, variables = _step_of_a_transformer()
  text = step.lower(variables).as_text()
  results = re.findall(r'dot_general.*-> tensor<[^>]*x(\w+)>', text)
  assert len(results) > 20
  assert {*results} == {'f32'}


def test_an_accelerator_gets_bfloat16_results():
  step, variables = _step_of_a_transformer()
  with device.instead_of(device.ACCELERATOR):
    text = step.lower(variables).as_text()
  assert re.search(r'dot_general.*-> tensor<[^>]*xbf16>', text)
  assert products.platform() == 'cpu'


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_gradient_of_a_bias_is_the_sum_over_rows(dtype):
  x = jax.random.normal(jax.random.key(0), (3, 5, 4)).astype(dtype)
  bias = jax.random.normal(jax.random.key(1), (4,))

  def loss(x, bias):
    return (products.add_bias(x, bias).astype(jnp.float32) ** 2).sum()

  step = jax.value_and_grad(loss, argnums=(0, 1))
  expected = step(x, bias)
  with device.instead_of(device.ACCELERATOR):
    actual = step(x, bias)
  rtol = 1e-6 if dtype == 'float32' else 0.02  # the sum is rounded once
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=rtol)
