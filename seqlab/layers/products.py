"""Matrix products in the form that the device computes fast.

Every layer asks for its products here. In float32, and on accelerators, a product is a
plain einsum: accelerators sum products of bfloat16 in float32 by themselves, and a
result in bfloat16 halves what they write and send. XLA's compiler for CPUs has fast
kernels for bfloat16 too (from the library YNNPACK), but a program must ask for them in
their own form. Times in microseconds on two cores of an AMD EPYC (family 26) with
AVX-512 BF16, without AMX; x [R, K], W [K, N], and R, K, N = 1024, 512, 2048 and 4096,
128, 256:

| product | float32 | bfloat16, plain | bfloat16, in the kernels' form |
|---|---|---|---|
| x W | 4,530 and 620 | 5,450 and 1,400 | 2,680 and 770 |
| gradient of x | 4,510 and 810 | | 2,310 and 680 |
| gradient of W | 4,980 and 1,100 | 5,850 and 1,330 | 2,600 and 500 |

The result is float32. A processor's instruction multiplies pairs of bfloat16 and adds
the products to a float32, and the kernels do no more. For a product with a bfloat16
result XLA widens the operands and multiplies them as float32, so that only the cost of
widening is added. Asking for float32 and narrowing afterwards gives the same numbers,
since sums are float32 in any case.

The left operand is contracted along its last axes. The instruction needs pairs of
neighbours in memory, and the kernels bring only the right operand in that order. The
gradient of a weight sums over rows, xᵀ dy, the first axis of both, so x is
transposed first, in memory: a barrier keeps XLA from making the transposition part of
the product again. XLA chooses the kernel before it decides on layouts, and a transposed
matrix does not qualify at that moment. The axis of size one in `_wide` makes XLA insert
a reshape, which does. (Rows divided into blocks, two contracted axes, have the same
effect.)

Automatic differentiation would undo this: the transpose of a cast to bfloat16 is a cast
to float32, and a product of float32 and bfloat16 is computed as float32. The gradients
are therefore written out.
"""

import functools

import jax
import jax.numpy as jnp

from seqlab.layers.device import platform
from seqlab.types import Array


def product(equation: str, x: Array, y: Array, dtype: jnp.dtype | None = None) -> Array:
  """Returns an einsum of two arrays of one dtype.

  Args:
    equation: such as 'bld,dhk->blhk'. Every letter occurs in two or three of the terms.
    x: left operand. As in `jnp.einsum`, an axis that the result has too may have size 1
      where the other operand's is longer: it is broadcast.
    y: right operand; a weight, if there is one.
    dtype: dtype of the result, by default that of `x`. Sums are float32.
  """
  dtype = jnp.dtype(dtype or x.dtype)
  if _is_narrow(x, y):
    return _narrow(*_without_broadcast_axes(equation, x, y), dtype)
  return jnp.einsum(equation, x, y, preferred_element_type=dtype)


def matmul(x: Array, weight: Array) -> Array:
  """Returns the product over the last axis of x: [..., D], [D, F] -> [..., F].

  A weight [D] gives [...].
  """
  rows, out = 'abc'[: x.ndim - 1], 'f'[: weight.ndim - 1]
  return product(f'{rows}d,d{out}->{rows}{out}', x, weight)


def dense_product(x: Array, kernel: Array, dimensions: object, **options) -> Array:
  """Replaces `jax.lax.dot_general` in `nn.Dense`, whose kernels are always [D, F]."""
  del dimensions, options
  return matmul(x, kernel)


def stored(x: Array) -> Array:
  """Returns `x` as an array that a TPU computes once and keeps in memory.

  Its compiler otherwise makes the computation of an operand a part of the product that
  reads it, and repeats it for every tile of the result: a weight that is a slice of all
  layers' float32 weights is then read and cast again and again, and a product with the
  optimiser's update in it has room for small tiles only. In a Transformer-big on a v5p
  the products of the feed-forward layers took 1.3 to 1.7 ms instead of 0.9 to 1.0
  (by the compiler's estimate). Other compilers call kernels whose operands are in
  memory.
  """
  return jax.lax.optimization_barrier(x) if platform() == 'tpu' else x


def add_bias(x: Array, bias: Array) -> Array:
  """Returns x + b: [..., D], [D] float32 -> [..., D].

  The gradient of b is a sum over all rows, in the dtype of x. A TPU's vector unit widens
  and rounds every addend of bfloat16; its matrix unit adds them in float32, as a product
  with ones. Four sums over 16,352 rows of 1,024 take 0.09 instead of 0.50 ms on a v5p
  (by the compiler's estimate).
  """
  return _add_bias(x, bias) if platform() == 'tpu' else x + bias.astype(x.dtype)


@jax.custom_vjp
def _add_bias(x: Array, bias: Array) -> Array:
  return x + bias.astype(x.dtype)


def _add_bias_forward(x: Array, bias: Array):
  return _add_bias(x, bias), bias


def _add_bias_backward(bias: Array, d: Array):
  # One row of ones would become a sum again.
  ones = jnp.ones((8, *d.shape[:-1]), d.dtype)
  sums = jnp.tensordot(ones, d, d.ndim - 1, preferred_element_type=bias.dtype)
  return d, sums[0]


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def weight_gradient(
  equation: str, x: Array, d_y: Array, dtype: jnp.dtype | None = None
) -> Array:
  """Returns the gradient of the weight of a product.

  Args:
    equation: equation of the product y = x W, such as 'bld,dhk->blhk'. The letters that
      x shares with y are rows, over which the gradient is summed.
    x: left operand of the product.
    d_y: gradient of the result, of the dtype of x.
    dtype: dtype of the gradient, by default that of x.
  """
  dtype = jnp.dtype(dtype or x.dtype)
  left, weight, out = _terms(equation)
  gradient = f'{left},{out}->{weight}'
  if _is_narrow(x, d_y):
    return _wide(gradient, x, d_y).astype(dtype)
  return jnp.einsum(gradient, x, d_y, preferred_element_type=dtype)


def _is_narrow(x: Array, y: Array) -> bool:
  """Returns whether this is a product of bfloat16 on a CPU."""
  narrow = x.dtype == y.dtype == jnp.bfloat16
  return narrow and platform() == 'cpu'


def _without_broadcast_axes(
  equation: str, x: Array, y: Array
) -> tuple[str, Array, Array]:
  """Returns an equal product whose operands lack the axes that are broadcast.

  The gradient of an operand is summed over all axes that it lacks.
  """
  left, right, out = _terms(equation)
  sizes: dict[str, int] = {}
  for letter, size in zip(left + right, x.shape + y.shape, strict=True):
    sizes[letter] = max(size, sizes.get(letter, 1))

  def squeeze(term: str, array: Array) -> tuple[str, Array]:
    broadcast = [
      axis
      for axis, (letter, size) in enumerate(zip(term, array.shape, strict=True))
      if letter in out and size == 1 < sizes[letter]
    ]
    kept = [letter for axis, letter in enumerate(term) if axis not in broadcast]
    return ''.join(kept), jnp.squeeze(array, broadcast)

  (left, x), (right, y) = squeeze(left, x), squeeze(right, y)
  return f'{left},{right}->{out}', x, y


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _narrow(equation: str, x: Array, y: Array, dtype: jnp.dtype) -> Array:
  return _wide(equation, x, y).astype(dtype)


def _forward(equation: str, x: Array, y: Array, dtype: jnp.dtype):
  return _narrow(equation, x, y, dtype), (x, y)


def _backward(equation: str, dtype: jnp.dtype, operands: tuple, d_out: Array):
  del dtype
  x, y = operands
  left, right, out = _terms(equation)
  d_out = d_out.astype(x.dtype)  # scores and logits are float32
  d_x = _wide(f'{out},{right}->{left}', d_out, y).astype(x.dtype)
  d_y = _wide(f'{left},{out}->{right}', x, d_out).astype(y.dtype)
  return d_x, d_y


_narrow.defvjp(_forward, _backward)


def _wide(equation: str, x: Array, y: Array) -> Array:
  """Returns an einsum of bfloat16 arrays in float32, by the fast kernels of a CPU."""
  left, right, out = _terms(equation)
  if out[-1] in left and out[-1] not in right:
    # XLA would turn the transpose of a product into the product of transposes.
    (left, x), (right, y) = (right, y), (left, x)
  summed = [letter for letter in left if letter in right and letter not in out]
  if not _ends_with(left, summed):
    order = [letter for letter in left if letter not in summed] + summed
    x = jax.lax.transpose(x, [left.index(letter) for letter in order])
    # '1' is an axis of size one, the first of those that are contracted.
    left, right = ''.join(order).replace(summed[0], f'1{summed[0]}'), f'1{right}'
    x, y = jnp.expand_dims(x, left.index('1')), y[None]
    x, summed = jax.lax.optimization_barrier(x), ['1', *summed]
  batch = [letter for letter in left if letter in right and letter in out]
  axes = [
    [term.index(i) for i in names]
    for names in (summed, batch)
    for term in (left, right)
  ]
  result = jax.lax.dot_general(
    x, y, (tuple(axes[:2]), tuple(axes[2:])), preferred_element_type=jnp.float32
  )
  rest = [letter for term in (left, right) for letter in term if letter not in summed]
  letters = batch + [letter for letter in rest if letter not in batch]
  return jax.lax.transpose(result, [letters.index(letter) for letter in out])


def _ends_with(term: str, letters: list[str]) -> bool:
  return set(term[len(term) - len(letters) :]) == set(letters)


def _terms(equation: str) -> tuple[str, str, str]:
  """Returns the letters of the left operand, the right one and the result."""
  operands, _, out = equation.partition('->')
  left, _, right = operands.partition(',')
  return left, right, out
