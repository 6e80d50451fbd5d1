"""The least time of kernels written in Mosaic, for which a TPU's compiler has no estimate.

A kernel, such as those of `jax.experimental.pallas`, is a custom call. With the call the
program keeps a function in MLIR, which runs once at every step of a grid: it is read here.
A step takes 0.35 us for its transfers and its control, and then as long as the matrix
units or the vector units need, whichever is longer. Of a conditional all branches are
counted. What the units lose by waiting for one another is not known.

A matrix unit holds a square of numbers and multiplies a row with it in one cycle. A
product whose summed axis or columns are shorter fills a part of it: heads of 64 fill half
of a unit of 128 x 128, and a quarter of one of 256 x 256.
"""

import base64
import dataclasses
import functools
import math
import re

from jaxlib.mlir import ir
from jaxlib.mosaic.python import tpu

from seqlab.compile.chips import Chip

_STEP = 0.35e-6  # seconds
_BODY = re.compile(
  r'custom_call_target="tpu_custom_call".*"custom_call_config":\{"body":"([^"]*)"'
)
_LANES, _SUBLANES = 128, 8  # of a vector register
_SLOTS = 4  # operations on such registers in a cycle
_SLOW = frozenset(
  ('exp', 'exp2', 'log', 'log1p', 'tanh', 'rsqrt', 'sin', 'cos', 'powf')
)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """What a kernel does.

  Attributes:
    steps: number of steps of its grid.
    shared: whether the cores of a chip divide the grid among them.
    products: rows, length of the summed axis, and columns of the matrix products in a
      step.
    cycles: cycles of the vector units in a step.
  """

  steps: int
  shared: bool
  products: tuple[tuple[int, int, int], ...]
  cycles: float

  @property
  def flops(self) -> float:
    """Operations of the matrix products."""
    return 2.0 * self.steps * sum(map(math.prod, self.products))

  def seconds(self, chip: Chip) -> float:
    """Returns the time on a chip, at least."""
    size = chip.unit
    units = chip.flops / (2 * size**2 * chip.clock * chip.cores)
    cycles = sum(
      rows * math.ceil(summed / size) * math.ceil(columns / size) / units
      for rows, summed, columns in self.products
    )
    steps = self.steps / (chip.cores if self.shared else 1)
    return steps * (_STEP + max(cycles, self.cycles) / chip.clock)


def is_kernel(rest: str) -> bool:
  """Returns whether the text after an instruction's operands is that of a kernel."""
  return 'custom_call_target="tpu_custom_call"' in rest


@functools.cache
def read_kernel(rest: str) -> Kernel:
  """Reads the kernel in the text after an instruction's operands.

  Raises:
    ValueError: the text has no kernel.
  """
  body = _BODY.search(rest)
  if not body:
    raise ValueError(f'this instruction has no body of a kernel: {rest[:200]}')
  with ir.Context() as context:
    context.allow_unregistered_dialects = True
    tpu.register_dialect(context)
    module = ir.Module.parse(base64.b64decode(body[1]))
    # The other functions are those that say which block a step reads.
    (function,) = (x for x in module.body if 'iteration_bounds' in x.attributes)
    grid = ir.DenseI64ArrayAttr(function.attributes['iteration_bounds'])
    semantics = str(function.attributes['dimension_semantics'])
    products: list[tuple[int, int, int]] = []
    cycles = _visit(function, 1, products)
  return Kernel(math.prod(grid), 'parallel' in semantics, tuple(products), cycles)


def _visit(around: ir.Operation, times: int, products: list) -> float:
  """Returns the vector cycles of the operations within one, and collects products."""
  cycles = 0.0
  for region in around.regions:
    for one in (x.operation for block in region for x in block):
      dialect, _, name = one.name.removeprefix('stable_mosaic.').partition('.')
      runs = times * (_trips(one) if (dialect, name) == ('scf', 'for') else 1)
      cycles += _visit(one, runs, products)
      if (dialect, name) == ('tpu', 'matmul'):
        products += [_product(one)] * times
      elif name == 'multi_reduction':
        cycles += times * _registers(one.operands[0]) / _SLOTS
      elif dialect in ('arith', 'math') and name != 'constant':
        slots = 1 if name in _SLOW else _SLOTS
        cycles += times * _registers(one.results[0]) / slots
  return cycles


def _trips(loop: ir.Operation) -> int:
  """Returns the iterations of a loop, 1 if they are not constant."""
  bounds = [x.owner.attributes for x in loop.operands[:3] if isinstance(x, ir.OpResult)]
  if len(bounds) < 3 or not all('value' in x for x in bounds):
    return 1
  first, last, step = (ir.IntegerAttr(x['value']).value for x in bounds)
  return len(range(first, last, step))


def _product(one: ir.Operation) -> tuple[int, int, int]:
  left, right = (ir.VectorType(x.type).shape for x in list(one.operands)[:2])
  summed = re.search(r'<\[([0-9, ]*)\]', str(one.attributes['dimension_numbers']))
  length = math.prod(left[int(axis)] for axis in summed[1].split(','))
  return math.prod(left) // length, length, math.prod(right) // length


def _registers(value: ir.Value) -> float:
  """Returns the vector registers that a value takes; 0 if it is not a vector."""
  if not isinstance(value.type, ir.VectorType):
    return 0.0
  *rows, columns = ir.VectorType(value.type).shape or [1]
  return math.ceil(math.prod(rows) / _SUBLANES) * math.ceil(columns / _LANES)
