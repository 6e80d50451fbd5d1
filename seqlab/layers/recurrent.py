"""Recurrent cells, and their application to a sequence.

The contribution of the inputs to the gates is one matrix product over all positions
before the scan; that of the state is one small product per step. The backward pass
collects the gradients of the gates and computes the gradient of the recurrent weights
as one product over all positions at its end, while automatic differentiation would add
a matrix of weights at every step. Each gate is a separate array and not a block of one,
because XLA's CPU code is five times as fast for a whole array as for a slice.
"""

from collections.abc import Mapping
import functools
from typing import Any, ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.domains import Count
from seqlab.layers.device import platform
from seqlab.layers.products import (
  add_bias,
  dense_product,
  matmul,
  weight_gradient,
)
from seqlab.types import Array

Carry = tuple[Array, ...]  # each [B, D] or, of a stack, wider; the first is the output
Gates = tuple[Array, ...]  # G arrays, each [..., D]


def _blocks(n: int, init: nn.initializers.Initializer):
  """Initialises the square matrices of n gates independently: [D, n D]."""

  def make(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    each = (shape[0], shape[1] // n)
    return jnp.concatenate([init(k, each, dtype) for k in jax.random.split(key, n)], 1)

  return make


class Cell(nn.Module):
  """Base class of cells: the weights, and the loop over positions.

  Attributes:
    width: D.
    layer_norm: normalise what input and state give to each gate, and a memory cell
      before it is read (Ba et al., "Layer Normalization", 2016, section 3.1,
      https://arxiv.org/abs/1607.06450).
    dtype: dtype of the matrix products. Parameters stay float32.
  """

  width: int
  layer_norm: bool = False
  dtype: jnp.dtype = jnp.float32

  gates: ClassVar[int]  # G, blocks of D units that a step computes
  states: ClassVar[int] = 1  # arrays in the carry
  normalized_states: ClassVar[int] = 0  # of them, those with a gain of `layer_norm`
  joins: ClassVar[bool] = True  # whether the carries of two directions make a wider one

  def setup(self) -> None:
    """Makes the weights: W [inputs, G D], U [D, G D], b [G D], and gains."""
    D, G = self.width, self.gates
    logical = nn.with_logical_partitioning
    glorot, orthogonal = nn.initializers.xavier_uniform(), nn.initializers.orthogonal()
    self.inputs = nn.Dense(
      G * D,
      use_bias=False,
      dtype=self.dtype,
      dot_general=dense_product,
      kernel_init=logical(_blocks(G, glorot), ('embed', 'gates')),
    )
    self.recurrent = self.param(
      'recurrent', logical(_blocks(G, orthogonal), ('embed', 'gates')), (D, G * D)
    )
    self.bias = self.param('bias', logical(self.bias_init, ('gates',)), (G * D,))
    rows = {'input_gain': G, 'state_gain': G, 'cell_gain': self.normalized_states}
    ones = logical(nn.initializers.ones, (None, 'embed'))
    self.gains = {
      name: self.param(name, ones, (n, D))
      for name, n in rows.items()
      if self.layer_norm and n
    }

  @staticmethod
  def bias_init(key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
    """Returns zeros."""
    del key
    return jnp.zeros(shape, dtype)

  @property
  def extra(self) -> dict[str, Array]:
    """Small parameters that `update` reads."""
    return dict(self.gains)

  @staticmethod
  def update(extra: Mapping[str, Array], carry: Carry, x: Gates, h: Gates) -> Carry:
    """Computes the next carry from the gates: the cell's equations.

    Args:
      extra: see `extra`.
      carry: carry before the step.
      x: G of [B, D], W x + b.
      h: G of [B, D], U h.
    """
    raise NotImplementedError

  def start(self, rows: int) -> Carry:
    """Returns the state before the first token: zeros."""
    return (jnp.zeros((rows, self.width), self.dtype),) * self.states

  def project(self, x: Array) -> Gates:
    """Returns the inputs' contribution to the gates: [..., inputs] -> G of [..., D]."""
    gates = split(self.inputs(x), self.gates)
    if self.layer_norm:
      gates = normalized(gates, self.gains['input_gain'])
    return tuple(map(add_bias, gates, split(self.bias, self.gates)))

  @property
  def kernels(self) -> Gates:
    """U of each gate, [D, D]."""
    return split(self.recurrent.astype(self.dtype), self.gates)

  def __call__(self, carry: Carry, gates: Gates) -> Carry:
    """Takes one step: the carry and projected inputs, G of [B, D] -> the next carry."""
    h = tuple(matmul(carry[0], kernel) for kernel in self.kernels)
    return self.update(self.extra, carry, gates, h)

  def run(
    self,
    carry: Carry,
    gates: Gates,
    mask: Array | None = None,
    *,
    reverse: bool = False,
  ) -> tuple[Carry, Array]:
    """All steps.

    Args:
      carry: carry before the first step.
      gates: G of [L, B, D], projected inputs, position first.
      mask: [L, B] bool; where it is False the state stays as it was. Read from the
        end, padding comes first and leaves the state at its start, so that each
        sentence is read from its own end.
      reverse: go from the last position to the first.

    Returns:
      The carry after the last step, and outputs [L, B, D].
    """
    if mask is None:
      mask = jnp.ones(gates[0].shape[:2], bool)
    update = type(self).update
    return _scan(update, reverse, self.kernels, self.extra, carry, gates, mask)


class RNN(Cell):
  """h' = tanh(W x + U h + b), Elman, "Finding Structure in Time", 1990."""

  gates: ClassVar[int] = 1

  @staticmethod
  def update(extra: Mapping[str, Array], carry: Carry, x: Gates, h: Gates) -> Carry:
    """See `Cell.update`."""
    del carry
    return (jnp.tanh(x[0] + _norm(h, extra)[0]),)


class GRU(Cell):
  """Cho et al. 2014, section 2.3, https://arxiv.org/abs/1406.1078.

  r, z = σ(W x + U h + b);  n = tanh(W x + b + r ⊙ U h);  h' = (1 - z) ⊙ n + z ⊙ h.
  The reset gate acts on U h, as in cuDNN and PyTorch, and not on h: all products
  with the state are then one.
  """

  gates: ClassVar[int] = 3

  @staticmethod
  def update(extra: Mapping[str, Array], carry: Carry, x: Gates, h: Gates) -> Carry:
    """See `Cell.update`."""
    (xr, xz, xn), (hr, hz, hn) = x, _norm(h, extra)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    n = jnp.tanh(xn + r * hn)
    return (n + z * (carry[0] - n),)


class LSTM(Cell):
  """Hochreiter and Schmidhuber 1997, with a forget gate (Gers et al. 2000).

  i, f, o = σ(W x + U h + b);  g = tanh(W x + U h + b);
  c' = f ⊙ c + i ⊙ g;  h' = o ⊙ tanh(c'). The forget gate's bias starts at one
  (Jozefowicz et al. 2015, http://proceedings.mlr.press/v37/jozefowicz15.pdf), so
  that a fresh cell remembers.

  Attributes:
    forget_bias: initial value of the forget gate's bias.
  """

  forget_bias: float = 1.0

  gates: ClassVar[int] = 4
  states: ClassVar[int] = 2
  normalized_states: ClassVar[int] = 1

  def bias_init(self, key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
    """Returns zeros, except for the forget gate, which is the second block."""
    del key
    D = shape[0] // 4
    return jnp.zeros(shape, dtype).at[D : 2 * D].set(self.forget_bias)

  @staticmethod
  def update(extra: Mapping[str, Array], carry: Carry, x: Gates, h: Gates) -> Carry:
    """See `Cell.update`."""
    i, f, g, o = add(x, _norm(h, extra))
    c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    read = normalized((c,), extra['cell_gain'])[0] if 'cell_gain' in extra else c
    return jax.nn.sigmoid(o) * jnp.tanh(read), c


class StackRNN(Cell):
  """An RNN with a stack of vectors, Joulin and Mikolov 2015, section 3.2.

  https://arxiv.org/abs/1503.01007. The cell reads the top of the stack, s_1:

  h' = tanh(W x + U h + V s_1 + b);  (a, p, k) = softmax(A h' + c);  v = D h' + d;
  s_i' = a s_{i-1} + p s_{i+1} + k s_i, with s_0 = v: push, pop and keep.

  The value v is linear in the state, as in Delétang et al. 2023,
  https://arxiv.org/abs/2207.02098; Joulin and Mikolov have a sigmoid. What is pushed below
  the last element is lost, and zeros come up from there. No parameter depends on the depth.

  Attributes:
    depth: number of elements of the stack.
    element: number of units of an element.
  """

  depth: Count = 128
  element: Count = 8

  gates: ClassVar[int] = 1
  states: ClassVar[int] = 2
  joins: ClassVar[bool] = False

  def setup(self) -> None:
    """Makes the weights of the stack too: V [E, D], and (A, D) [D, 3 + E]."""
    super().setup()
    logical, glorot = nn.with_logical_partitioning, nn.initializers.xavier_uniform()
    D, E = self.width, self.element
    zeros = logical(nn.initializers.zeros, (None,))
    self.stack = {
      'read': self.param('stack_read', logical(glorot, (None, 'embed')), (E, D)),
      'write': self.param('stack_write', logical(glorot, ('embed', None)), (D, 3 + E)),
      'write_bias': self.param('stack_write_bias', zeros, (3 + E,)),
    }

  @property
  def extra(self) -> dict[str, Array]:
    """Gains, and the weights of the stack."""
    return {**self.gains, **self.stack}

  def start(self, rows: int) -> Carry:
    """Returns zeros [B, D] and an empty stack [B, depth E], the top first."""
    stack = jnp.zeros((rows, self.depth * self.element), self.dtype)
    return jnp.zeros((rows, self.width), self.dtype), stack

  @staticmethod
  def update(extra: Mapping[str, Array], carry: Carry, x: Gates, h: Gates) -> Carry:
    """See `Cell.update`."""
    dtype = carry[1].dtype
    read, write, bias = (
      extra[k].astype(dtype) for k in ('read', 'write', 'write_bias')
    )
    old = carry[1].reshape(len(carry[1]), -1, len(read))  # [B, depth, E]
    state = jnp.tanh(x[0] + _norm(h, extra)[0] + old[:, 0] @ read)
    written = state @ write + bias  # [B, 3 + E]
    actions = jax.nn.softmax(written[:, :3].astype(jnp.float32)).astype(dtype)
    push, pop, keep = (actions[:, i, None, None] for i in range(3))
    pushed = jnp.concatenate([written[:, None, 3:], old[:, :-1]], axis=1)
    popped = jnp.concatenate([old[:, 1:], jnp.zeros_like(old[:, :1])], axis=1)
    return state, (push * pushed + pop * popped + keep * old).reshape(carry[1].shape)


CELLS = {'rnn': RNN, 'gru': GRU, 'lstm': LSTM, 'stack_rnn': StackRNN}


def split(x: Array, gates: int) -> Gates:
  """Splits the gates: [..., G D] -> G of [..., D]."""
  # Without the barrier XLA fuses the slices into their consumers, which then read a
  # strided part of the whole array; see the head of this file for the cost.
  return jax.lax.optimization_barrier(tuple(jnp.split(x, gates, axis=-1)))


def add(x: Gates, y: Gates) -> Gates:
  """Returns the sum, gate by gate."""
  return tuple(a + b for a, b in zip(x, y, strict=True))


def normalized(gates: Gates, gain: Array) -> Gates:
  """Normalises each gate separately, as a layer norm: G of [..., D], gain [G, D]."""

  def one(gate: Array, gain: Array) -> Array:
    x = gate.astype(jnp.float32)
    x -= x.mean(axis=-1, keepdims=True)
    x *= jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    return (x * gain).astype(gate.dtype)

  return tuple(map(one, gates, gain))


def _norm(h: Gates, extra: Mapping[str, Array]) -> Gates:
  return normalized(h, extra['state_gain']) if 'state_gain' in extra else h


def _where(mask: Array, new: Carry, old: Carry) -> Carry:
  return tuple(jnp.where(mask[:, None], a, b) for a, b in zip(new, old, strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(update, reverse, kernels, extra, carry, gates, mask):
  """See `Cell.run`. Without gradients only the outputs are kept."""

  def step(carry, at):
    x, m = at
    h = tuple(matmul(carry[0], kernel) for kernel in kernels)
    carry = _where(m, update(extra, carry, x, h), carry)
    return carry, carry[0]

  return jax.lax.scan(step, carry, (gates, mask), reverse=reverse)


def _forward(update, reverse, kernels, extra, carry, gates, mask):
  # Writing U h of every step into arrays, which are cleared before, takes an accelerator
  # longer than computing it again for all steps in one product. A CPU keeps it.
  keeps = platform() == 'cpu'

  def step(carry, at):
    x, m = at
    h = tuple(matmul(carry[0], kernel) for kernel in kernels)
    new = _where(m, update(extra, carry, x, h), carry)
    return new, (new[0], carry, h if keeps else None)

  last, (out, before, h) = jax.lax.scan(step, carry, (gates, mask), reverse=reverse)
  return (last, out), (kernels, extra, before, gates, h, mask)


def _backward(update, reverse, residuals, cotangents):
  kernels, extra, before, gates, h, mask = residuals
  d_last, d_out = cotangents
  if h is None:
    h = tuple(matmul(before[0], kernel) for kernel in kernels)

  def step(state, at):
    d_carry, d_extra = state
    d_y, carry, x, h, m = at
    d_new = (d_carry[0] + d_y, *d_carry[1:])
    zeros = tuple(map(jnp.zeros_like, d_new))
    _, pull = jax.vjp(update, extra, carry, x, h)
    d_step, d_before, d_x, d_h = pull(_where(m, d_new, zeros))
    passed = _where(m, zeros, d_new)  # where the state stayed as it was
    d_before = jax.tree.map(jnp.add, d_before, passed)
    back = sum(matmul(d, kernel.T) for d, kernel in zip(d_h, kernels, strict=True))
    d_before = (d_before[0] + back, *d_before[1:])
    return (d_before, jax.tree.map(jnp.add, d_extra, d_step)), (d_x, d_h)

  start = d_last, jax.tree.map(jnp.zeros_like, extra)
  (d_carry, d_extra), (d_gates, d_h) = jax.lax.scan(
    step, start, (d_out, before, gates, h, mask), reverse=not reverse
  )
  d_kernels = tuple(weight_gradient('lbd,de->lbe', before[0], d) for d in d_h)
  return d_kernels, d_extra, d_carry, d_gates, None


_scan.defvjp(_forward, _backward)


class Encoder(nn.Module):
  """A stack of recurrent layers over a source, in one direction or in both.

  With both, each direction has half of the units (as in OpenNMT), so that the
  states' width is D either way. From the second layer on, a layer's input may be added
  to its output (Wu et al. 2016, section 3.1, https://arxiv.org/abs/1609.08144).

  Attributes:
    make_cell: width -> cell.
    width: D.
    layers: number of layers.
    bidirectional: whether there is a direction that reads from the end.
    residual: whether a layer's input is added to its output, but for the first layer.
  """

  make_cell: Any
  width: int
  layers: int
  bidirectional: bool
  residual: bool = True

  def setup(self) -> None:
    """Makes the cells."""
    D, directions = self.width, 1 + self.bidirectional
    if D % directions:
      raise ValueError(f'two directions need an even width, and model.width is {D}')
    self.cells = [
      [self.make_cell(D // directions) for _ in range(directions)]
      for _ in range(self.layers)
    ]
    if self.bidirectional and not self.cells[0][0].joins:
      raise ValueError(
        f'the stacks of two directions cannot be joined, and model.cell is a '
        f'{type(self.cells[0][0]).__name__}: set model.bidirectional=False'
      )

  def __call__(
    self, x: Array, mask: Array, drop: Any
  ) -> tuple[Array, tuple[Carry, ...]]:
    """Reads the source.

    Args:
      x: [B, S, D] embedded words.
      mask: [B, S] bool, True for words.
      drop: applied to the input of every layer but the first.

    Returns:
      States [B, S, D], and for each layer the carry at the last word of each
      sentence (backwards: at its first).
    """
    x, mask = jnp.swapaxes(x, 0, 1), mask.T  # [S, B, D], [S, B]
    carries = []
    for i, cells in enumerate(self.cells):
      inputs = drop(x) if i else x
      ends, outs = zip(
        *(
          cell.run(
            cell.start(x.shape[1]), cell.project(inputs), mask, reverse=bool(direction)
          )
          for direction, cell in enumerate(cells)
        ),
        strict=True,
      )
      out = jnp.concatenate(outs, axis=-1)  # [S, B, D]
      x = x + out if i and self.residual else out
      carries.append(
        tuple(jnp.concatenate(part, -1) for part in zip(*ends, strict=True))
      )
    return jnp.swapaxes(x, 0, 1), tuple(carries)
