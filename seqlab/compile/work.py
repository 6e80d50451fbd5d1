"""Operations and memory traffic of single instructions of a compiled program."""

from collections.abc import Iterator, Mapping
import dataclasses
import math
import re

import numpy as np

from seqlab.compile import mosaic
from seqlab.compile.hlo import Instruction, Module

# Instructions that compute nothing: names of values, and marks in the program.
FREE = frozenset(
  (
    *('parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'domain'),
    *('after-all', 'partition-id', 'replica-id', 'opt-barrier'),
  )
)
_CUBLAS = 'custom_call_target="__cublas$'
_WINDOW = re.compile(r'window=\{([^}]*)\}')
_LABELS = re.compile(r'dim_labels=(\w+)_(\w+)->(\w+)')


def flops(module: Module, computation: str, instruction: Instruction) -> float:
  """Returns the operations of the matrix products in one run of an instruction.

  All other operations are negligible. A loop's body is not part of the instruction.
  """
  inside = module.computations[computation]
  if instruction.kind == 'fusion':
    fused = instruction.called[0]
    return sum(flops(module, fused, x) for x in module.computations[fused].values())
  if instruction.kind == 'dot':
    return _dot(instruction.rest, instruction, inside)
  if instruction.kind == 'convolution':
    return _convolution(instruction, inside)
  if instruction.kind == 'custom-call' and _CUBLAS in instruction.rest:
    return _dot(instruction.rest, instruction, inside)
  if mosaic.is_kernel(instruction.rest):
    return mosaic.read_kernel(instruction.rest).flops
  return 0.0


def _dot(rest: str, dot: Instruction, inside: Mapping[str, Instruction]) -> float:
  left = inside[dot.operands[0]].shapes[0].sizes
  summed = re.search(
    r'lhs_contracting_dim(?:s=\{|ensions":\[)([0-9,"]*)', rest
  )  # of a product, and of a call of cuBLAS
  axes = re.findall(r'\d+', summed[1]) if summed else []
  return 2.0 * math.prod(dot.shapes[0].sizes) * math.prod(left[int(a)] for a in axes)


def _convolution(one: Instruction, inside: Mapping[str, Instruction]) -> float:
  """Returns the operations of a convolution, the form that TPUs give to products.

  The axes of a batched product are axes of a window. Most of the window then lies in
  the padding, which costs nothing.
  """
  labels = _LABELS.search(one.rest)
  left, right = (inside[x].shapes[0].sizes for x in one.operands[:2])
  size = dict(zip(labels[3], one.shapes[0].sizes, strict=True))
  kernel = dict(zip(labels[2], right, strict=True))
  image = dict(zip(labels[1], left, strict=True))
  window = _WINDOW.search(one.rest)
  options = dict(x.split('=') for x in window[1].split()) if window else {}
  pairs = 1
  for i, axis in enumerate(sorted(x for x in size if x.isdecimal())):
    pairs *= _valid_pairs(i, image[axis], kernel[axis], size[axis], options)
  # The kernel's input features are already those of one group.
  return 2.0 * size['b'] * size['f'] * kernel['i'] * pairs


def _valid_pairs(
  axis: int, image: int, kernel: int, result: int, options: Mapping[str, str]
) -> int:
  """Returns the pairs of a place in the result and in the kernel outside the padding."""

  def option(name: str, default: str) -> str:
    return options[name].split('x')[axis] if name in options else default

  stride, low = int(option('stride', '1')), int(option('pad', '0_0').split('_')[0])
  spread, wide = int(option('lhs_dilate', '1')), int(option('rhs_dilate', '1'))
  place = np.arange(result)[:, None] * stride + np.arange(kernel) * wide - low
  valid = (place % spread == 0) & (place >= 0) & (place <= (image - 1) * spread)
  return int(valid.sum())


def traffic(module: Module, computation: str, instruction: Instruction) -> float:
  """Returns the bytes that one run of an instruction reads and writes in main memory.

  A slice that is taken from or written into a larger array costs only its own bytes.
  """
  inside = module.computations[computation]
  if instruction.kind in FREE:
    return 0.0
  if instruction.kind == 'fusion':
    fused = module.computations[instruction.called[0]]
    return _fusion_traffic(instruction, inside, fused)
  operands = [inside[x] for x in instruction.operands if x in inside]
  if _CUBLAS in instruction.rest:  # its second result is memory that it may work in
    result = dataclasses.replace(instruction, shapes=instruction.shapes[:1])
    return float(_main_bytes(result) + sum(map(_main_bytes, operands)))
  if instruction.kind in ('dynamic-slice', 'slice', 'gather'):
    return 2.0 * _main_bytes(instruction)
  if instruction.kind == 'dynamic-update-slice':
    return 2.0 * _main_bytes(operands[1])
  if instruction.kind == 'scatter':  # reads updates and rows, and writes the rows
    return float(_main_bytes(operands[1]) + 3 * _main_bytes(operands[2]))
  return float(_main_bytes(instruction) + sum(map(_main_bytes, operands)))


def _main_bytes(instruction: Instruction) -> int:
  return sum(x.padded_bytes for x in instruction.shapes if x.in_main_memory)


def _fusion_traffic(
  fusion: Instruction,
  inside: Mapping[str, Instruction],
  fused: Mapping[str, Instruction],
) -> float:
  total = 0.0
  users: dict[str, list[Instruction]] = {}
  for one in fused.values():
    for name in one.operands:
      users.setdefault(name, []).append(one)
  for one in fused.values():
    if one.kind == 'parameter':
      operand = inside.get(fusion.operands[int(one.literal)])
      if operand is not None and _main_bytes(operand):
        total += min(_bytes_read(one, users, fused), _main_bytes(operand))
  for part, shape in zip(_results(fused), fusion.shapes, strict=False):
    if shape.in_main_memory:
      written = _written(part, fused)
      total += shape.padded_bytes if written is None else written.bytes
  return total


def _bytes_read(
  parameter: Instruction,
  users: Mapping[str, list[Instruction]],
  fused: Mapping[str, Instruction],
) -> float:
  """Returns the bytes that a fusion reads of one operand."""
  total = 0.0
  for user in users.get(parameter.name, ()):
    if user.kind == 'bitcast':
      total += _bytes_read(user, users, fused)
    elif user.kind in ('dynamic-slice', 'slice', 'gather'):
      total += user.bytes
    elif user.kind == 'dynamic-update-slice' and user.operands[0] == parameter.name:
      pass  # in place: nothing of the old array is read
    elif user.kind == 'scatter' and user.operands[0] == parameter.name:
      total += fused[user.operands[2]].bytes  # in place: the rows that are changed
    else:
      return math.inf
  return total


def _written(root: Instruction, fused: Mapping[str, Instruction]) -> Instruction | None:
  """Returns the update that a fusion writes in place; None if it writes all."""
  while root.kind in ('bitcast', 'convert') and root.operands[0] in fused:
    root = fused[root.operands[0]]
  if root.kind == 'scatter' and fused[root.operands[0]].kind == 'parameter':
    return fused[root.operands[2]]
  return fused[root.operands[1]] if root.kind == 'dynamic-update-slice' else None


def written_in_place(module: Module, one: Instruction) -> set[int]:
  """Returns the elements of a result that lie in memory of an operand."""
  if one.kind == 'dynamic-update-slice':
    return {0}
  if one.kind != 'fusion':
    return set()
  fused = module.computations[one.called[0]]
  parts = _results(fused)
  return {i for i, part in enumerate(parts) if _written(part, fused) is not None}


def _results(fused: Mapping[str, Instruction]) -> list[Instruction]:
  """Returns what a fusion computes, one instruction for each element of its result."""
  (root,) = (x for x in fused.values() if x.is_root)
  return [fused[x] for x in root.operands] if root.kind == 'tuple' else [root]


def operations(module: Module) -> Iterator[tuple[int, str, Instruction]]:
  """Yields runs, computation and instruction of all that takes time, in order."""
  for name, runs in module.scheduled.items():
    for one in module.computations[name].values():
      if one.kind not in FREE and one.kind not in ('while', 'conditional', 'call'):
        yield runs, name, one
