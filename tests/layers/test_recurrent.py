"""Cells compared with their equations, and stacks with single sentences."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.layers.device import ACCELERATOR, instead_of
from seqlab.layers.recurrent import CELLS, Encoder

D, B, L = 4, 3, 5


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _normalize(x, gain):
  x = x.reshape(len(x), *gain.shape)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return (x * gain).reshape(len(x), -1)


def _reference(kind, p, x, h, c):
  """One step in float64; p holds the cell's parameters."""
  a, u = x @ p['inputs']['kernel'], h @ p['recurrent']
  if 'input_gain' in p:
    a, u = _normalize(a, p['input_gain']), _normalize(u, p['state_gain'])
  a = a + p['bias']
  if kind == 'rnn':
    return np.tanh(a + u), c
  if kind == 'gru':
    (ar, az, an), (ur, uz, un) = np.split(a, 3, 1), np.split(u, 3, 1)
    r, z = _sigmoid(ar + ur), _sigmoid(az + uz)
    return (1 - z) * np.tanh(an + r * un) + z * h, c
  if kind == 'stack_rnn':
    return _stack_reference(p, a + u, c)
  i, f, g, o = np.split(a + u, 4, 1)
  c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
  read = _normalize(c, p['cell_gain']) if 'cell_gain' in p else c
  return _sigmoid(o) * np.tanh(read), c


def _stack_reference(p, gate, stacks):
  """One step of each row, whose stack is a list of elements."""
  states, after = [], []
  for row, flat in zip(gate, stacks, strict=True):
    stack = [*flat.reshape(-1, len(p['stack_read']))]
    h = np.tanh(row + stack[0] @ p['stack_read'])
    written = h @ p['stack_write'] + p['stack_write_bias']
    push, pop, keep = np.exp(written[:3]) / np.exp(written[:3]).sum()
    with_value, without_top = [written[3:], *stack], [*stack[1:], 0 * stack[0]]
    zipped = zip(with_value, without_top, stack, strict=False)
    after.append(np.ravel([push * a + pop * b + keep * c for a, b, c in zipped]))
    states.append(h)
  return np.array(states), np.array(after)


OPTIONS = {'stack_rnn': dict(depth=3, element=2)}


def _cell(kind, layer_norm=False):
  cell = CELLS[kind](D, layer_norm, **OPTIONS.get(kind, {}))
  x = jax.random.normal(jax.random.key(0), (L, B, 2))
  run = lambda m, x: m.run(m.start(B), m.project(x))  # noqa: E731
  variables = nn.unbox(cell.init(jax.random.key(1), x, method=run))
  noise = iter(jax.random.split(jax.random.key(2), 9))
  variables = jax.tree.map(  # gains and biases other than one and zero
    lambda w: w + 0.3 * jax.random.normal(next(noise), w.shape), variables
  )
  return cell, variables, x


@pytest.mark.parametrize('layer_norm', [False, True])
@pytest.mark.parametrize('kind', CELLS)
def test_a_cell_equals_its_equations(kind, layer_norm):
  cell, variables, x = _cell(kind, layer_norm)
  run = lambda m, x: m.run(m.start(B), m.project(x))  # noqa: E731
  carry, out = cell.apply(variables, x, method=run)
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), variables['params'])
  start = cell.apply(variables, B, method='start')
  h, c = start[0], start[-1]
  assert h.sum() == c.sum() == 0
  for t in range(L):
    h, c = _reference(kind, p, np.asarray(x[t], np.float64), h, c)
    np.testing.assert_allclose(out[t], h, atol=1e-5)
  np.testing.assert_allclose(carry[0], h, atol=1e-5)
  if cell.states > 1:
    np.testing.assert_allclose(carry[1], c, atol=1e-5)


def test_the_forget_bias_of_a_new_lstm_is_its_option():
  cell = CELLS['lstm'](D, forget_bias=2.5)
  variables = nn.unbox(cell.init(jax.random.key(0), jnp.ones((1, 2)), method='project'))
  forget = variables['params']['bias'].reshape(4, D)[1]
  np.testing.assert_array_equal(forget, np.full(D, 2.5))


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('kind', CELLS)
def test_gradients_equal_those_of_a_loop(kind, reverse):
  """The backward pass is hand-written; that of a loop of single steps is derived."""
  cell, variables, x = _cell(kind, layer_norm=True)
  mask = np.arange(L)[:, None] < np.array([[5, 2, 4]])
  weights = jax.random.normal(jax.random.key(3), (L, B, D))

  def scanned(m, x, start):
    carry, out = m.run(start, m.project(x), mask, reverse=reverse)
    return (weights * out).sum() + sum((c**2).sum() for c in carry)

  def looped(m, x, start):
    carry, total, gates = start, 0.0, m.project(x)
    for t in range(L)[:: -1 if reverse else 1]:
      new = m(carry, tuple(gate[t] for gate in gates))
      present = mask[t][:, None]
      carry = tuple(jnp.where(present, a, b) for a, b in zip(new, carry, strict=True))
      total += (weights[t] * carry[0]).sum()
    return total + sum((c**2).sum() for c in carry)

  keys = jax.random.split(jax.random.key(4), cell.states)
  start = tuple(
    jax.random.normal(key, x.shape)
    for key, x in zip(keys, cell.apply(variables, B, method='start'), strict=True)
  )

  def gradients(f):
    loss = lambda v, x, s: cell.apply(v, x, s, method=f)  # noqa: E731
    return jax.jit(jax.grad(loss, (0, 1, 2)))(variables, x, start)

  expected, kept = gradients(looped), gradients(scanned)
  with instead_of(ACCELERATOR):
    computed_again = gradients(scanned)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, kept, expected)
  jax.tree.map(close, computed_again, expected)


@pytest.mark.parametrize('bidirectional', [False, True])
def test_padding_does_not_change_a_sentence(bidirectional):
  """Each sentence has the states and last carries that it has without padding."""
  encoder = Encoder(CELLS['lstm'], D, layers=2, bidirectional=bidirectional)
  x = jax.random.normal(jax.random.key(0), (B, L, D))
  lengths = np.array([5, 2, 4])
  mask = np.arange(L) < lengths[:, None]
  identity = lambda x: x  # noqa: E731
  variables = encoder.init(jax.random.key(1), x, mask, identity)
  run = jax.jit(functools.partial(encoder.apply, drop=identity))
  states, carries = run(variables, x, mask)
  for b, n in enumerate(lengths):
    alone, last = run(variables, x[b : b + 1, :n], mask[b : b + 1, :n])
    np.testing.assert_allclose(states[b, :n], alone[0], atol=1e-6)
    jax.tree.map(
      lambda a, b, i=b: np.testing.assert_allclose(a[i], b[0], atol=1e-6), carries, last
    )


def test_the_backward_direction_reads_from_the_end():
  encoder = Encoder(CELLS['gru'], D, layers=1, bidirectional=True)
  x = jax.random.normal(jax.random.key(0), (1, L, D))
  mask, identity = np.ones((1, L), bool), lambda x: x
  variables = encoder.init(jax.random.key(1), x, mask, identity)
  states = lambda x: encoder.apply(variables, x, mask, identity)[0][0]  # noqa: E731
  changed = x.at[0, -1].add(1.0)  # the last word
  moved = np.abs(states(changed) - states(x)).max(axis=0)  # [D], of all positions
  assert (np.abs(states(changed) - states(x))[0] > 0).tolist() == [False] * 2 + [
    True
  ] * 2
  assert (moved > 0).all()


def test_two_directions_cannot_join_their_stacks():
  encoder = Encoder(CELLS['stack_rnn'], 4, layers=1, bidirectional=True)
  with pytest.raises(ValueError, match=r'a StackRNN: set model\.bidirectional=False'):
    encoder.init(jax.random.key(0), jnp.ones((1, 2, 4)), np.ones((1, 2), bool), None)


def test_two_directions_need_an_even_width():
  encoder = Encoder(CELLS['rnn'], 3, layers=1, bidirectional=True)
  with pytest.raises(ValueError, match=r'even width, and model\.width is 3'):
    encoder.init(jax.random.key(0), jnp.ones((1, 2, 3)), np.ones((1, 2), bool), None)
