"""Time of a recurrent layer and of a self-attention layer by the length of a row."""

from collections.abc import Callable
from pathlib import Path
import platform

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.bench.measure import Row, Subject, best_in_turns, timed
from seqlab.layers.attention import MultiHeadAttention, causal_mask, local_mask
from seqlab.layers.recurrent import GRU
from seqlab.types import Array

LENGTHS = (16, 64, 256, 1024)
_POSITIONS = 4096  # per call, so that the number of rows falls as they get longer
_TRIES = 5


class _Recurrent(nn.Module):
  width: int

  def setup(self) -> None:
    self.cell = GRU(self.width)

  def __call__(self, x: Array) -> Array:
    gates = self.cell.project(jnp.swapaxes(x, 0, 1))  # G of [L, B, D]
    return self.cell.run(self.cell.start(len(x)), gates)[1]


class _Attention(nn.Module):
  width: int
  window: int | None = None

  def setup(self) -> None:
    self.attention = MultiHeadAttention(self.width, heads=4)

  def __call__(self, x: Array) -> Array:
    mask, place = causal_mask(x.shape[1]), jnp.arange(x.shape[1])
    if self.window is not None:
      mask &= local_mask(place, place, self.window)
    return self.attention(x, *self.attention.project(x), mask=mask)


def measure_layers(
  subject: Subject, D: int = 256, lengths: tuple[int, ...] = LENGTHS
) -> list[Row]:
  """Returns the milliseconds of a layer, forward and backward, by length.

  Every call has as many positions. A window only masks scores that are computed anyway,
  so that it saves no time here. Its complexity per layer, O(n w D) instead of O(n² D), in
  Vaswani et al. 2017, table 1, needs a kernel that leaves them out.
  """
  del subject
  layers = {
    'GRU': _Recurrent(D),
    'self-attention': _Attention(D),
    'self-attention, window 2': _Attention(D, 2),
  }
  rows = []
  for length in lengths:
    x = jax.random.normal(jax.random.key(0), (max(_POSITIONS // length, 1), length, D))
    measures = [_clock(layer, x) for layer in layers.values()]
    seconds = best_in_turns(*measures, tries=_TRIES)
    for name, value in zip(layers, seconds, strict=True):
      note = (
        f'{name}, D = {D}, {len(x)} x {length}, forward and backward; best of {_TRIES}; '
        f'{processor()}'
      )
      rows.append(Row(f'layer, {length} positions', 1000 * value, 'ms', note))
  return rows


def _clock(layer: nn.Module, x: Array) -> Callable[[], float]:
  """Returns a function that returns the seconds of one gradient; compiles it first."""
  variables = nn.unbox(layer.init(jax.random.key(1), x))

  @jax.jit
  def gradient(variables, x):
    return jax.grad(
      lambda variables, x: (layer.apply(variables, x).astype(jnp.float32) ** 2).sum(),
      argnums=(0, 1),
    )(variables, x)

  def call() -> None:
    jax.block_until_ready(gradient(variables, x))

  call()
  return lambda: timed(call)[0]


def processor() -> str:
  """Returns the name of the accelerator, or of the processor if there is none."""
  device = jax.devices()[0]
  if device.platform != 'cpu':
    return device.device_kind
  info = Path('/proc/cpuinfo')
  lines = info.read_text('utf-8').splitlines() if info.is_file() else []
  names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
  return names[0].strip() if names else platform.processor() or platform.machine()
