"""Parses the text of a compiled program: its instructions, and how often each runs.

The text is XLA's HLO, https://openxla.org/xla/hlo_text_format, as returned by
`compiled.as_text()`. Costs are counted from the text, because XLA's `cost_analysis`
counts the body of a loop only once.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
import re

# Bytes per element; other types (tokens, opaque values) have no size.
_BYTES = {
  **dict.fromkeys(('pred', 's8', 'u8', 'f8e4m3fn', 'f8e5m2', 'f8e4m3'), 1),
  **dict.fromkeys(('s16', 'u16', 'f16', 'bf16'), 2),
  **dict.fromkeys(('s32', 'u32', 'f32'), 4),
  **dict.fromkeys(('s64', 'u64', 'f64', 'c64'), 8),
  'c128': 16,
}
_SHAPE = re.compile(r'\b([a-z]+\d*[a-z0-9]*)\[([0-9,]*)\]')
_NAME = re.compile(r'%([\w.\-]+)')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLS = re.compile(
  r'\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'\b(?:branch_computations|called_computations)=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array's element type and sizes."""

  dtype: str
  sizes: tuple[int, ...]

  @property
  def bytes(self) -> int:
    """Bytes of all its elements."""
    return math.prod(self.sizes) * _BYTES.get(self.dtype, 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of the program.

  Attributes:
    name: name of its result, which other instructions use.
    kind: 'dot', 'all-reduce', ...
    shapes: shapes of its result; several, if that is a tuple.
    operands: names of its operands.
    rest: text after the operands.
  """

  name: str
  kind: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  rest: str

  @property
  def bytes(self) -> int:
    """Bytes of its result."""
    return sum(shape.bytes for shape in self.shapes)

  @property
  def called(self) -> list[str]:
    """The computations that it calls."""
    called = _CALLS.findall(self.rest)
    for names in _BRANCHES.findall(self.rest):
      called += [name.strip().removeprefix('%') for name in names.split(',')]
    return [name for name in called if name]


class Module:
  """A compiled program.

  Attributes:
    computations: name -> instructions by name.
    entry: name of the first computation.
    devices: number of devices among which it is partitioned.
    endless: loops without a known trip count; their bodies are counted once.
  """

  def __init__(self, text: str):
    """Parses a program.

    Raises:
      ValueError: the text is not HLO.
    """
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.entry, self.endless = '', []
    inside: dict[str, Instruction] = {}
    for line in text.splitlines():
      if not line.startswith(' '):
        if head := _HEAD.match(line):
          inside = self.computations.setdefault(head[2], {})
          self.entry = head[2] if head[1] else self.entry
      elif ' = ' in line:
        instruction = _instruction(line)
        inside[instruction.name] = instruction
    if not self.entry:
      raise ValueError('this is not the text of a compiled program: it has no ENTRY')
    partitions = re.search(r'num_partitions=(\d+)', text[: text.find('\n')])
    self.devices = int(partitions[1]) if partitions else 1

  @functools.cached_property
  def runs(self) -> dict[str, int]:
    """How often each computation runs in one execution of the program."""
    runs = dict.fromkeys(self.computations, 0)
    # In the text a computation precedes those that call it.
    order = list(self.computations)
    runs[self.entry] = 1
    for name in reversed(order):
      for instruction in self.computations[name].values() if runs[name] else ():
        times = runs[name]
        if instruction.kind == 'while':
          trips = _TRIPS.search(instruction.rest)
          times *= int(trips[1]) if trips else 1
          if not trips:
            self.endless.append(instruction.name)
        for called in instruction.called:
          runs[called] = runs.get(called, 0) + times
    return runs

  def __iter__(self) -> Iterator[tuple[str, Instruction]]:
    """Yields every instruction that runs, with the name of its computation."""
    for name, instructions in self.computations.items():
      if self.runs[name]:
        for instruction in instructions.values():
          yield name, instruction

  def rounded(self, computation: str, name: str) -> bool:
    """Returns whether a value is bfloat16 that was only widened to float32.

    XLA's CPU compiler has no bfloat16 collectives. It widens their operands and narrows
    their results, while an accelerator sends half of the bytes.
    """
    inside = self.computations[computation]
    while one := inside.get(name):
      if one.kind == 'fusion':
        inside = self.computations[one.called[0]]
        name = next(reversed(inside))  # the root
        continue
      operand = inside.get(one.operands[0]) if one.operands else None
      if one.kind == 'convert' and operand:
        return operand.shapes[0].dtype == 'bf16'
      if one.kind not in ('bitcast', 'copy', 'transpose', 'reshape'):
        return False
      name = one.operands[0]
    return False

  @property
  def flops(self) -> int:
    """Operations of the matrix products of one device; all others are negligible."""
    return sum(
      runs * 2 * math.prod(sizes) * math.prod(left[axis] for axis in _summed(dot))
      for runs, dot, (sizes, left, _) in self._products()
    )

  @property
  def product_elements(self) -> int:
    """Number of elements that matrix products read and write, without any reuse."""
    return sum(
      runs * sum(map(math.prod, arrays)) for runs, _, arrays in self._products()
    )

  def _products(self) -> Iterator[tuple[int, Instruction, list[tuple[int, ...]]]]:
    """Yields runs, instruction and sizes of result, left and right of each product."""
    for name, instruction in self:
      if instruction.kind == 'dot':
        sides = (self.computations[name][x] for x in instruction.operands[:2])
        arrays = [x.shapes[0].sizes for x in (instruction, *sides)]
        yield self.runs[name], instruction, arrays


def _summed(dot: Instruction) -> list[int]:
  """Returns the axes of a product's left side that are summed over."""
  axes = re.search(r'lhs_contracting_dims=\{([0-9,]*)\}', dot.rest)
  return [int(axis) for axis in axes[1].split(',') if axis] if axes else []


def _instruction(line: str) -> Instruction:
  """Parses a line '  ROOT %name = type kind(operands), rest'."""
  left, _, right = line.strip().partition(' = ')
  end = _closing(right) if right.startswith('(') else right.find(' ')
  shape, right = right[:end], right[end:].lstrip()
  kind, _, right = right.partition('(')
  end = _closing('(' + right) - 1
  shapes = tuple(
    Shape(dtype, tuple(int(size) for size in sizes.split(',') if size))
    for dtype, sizes in _SHAPE.findall(shape)
  )
  name = left.removeprefix('ROOT ').removeprefix('%')
  operands = tuple(_NAME.findall(right[: end - 1]))
  return Instruction(name, kind, shapes, operands, right[end:])


def _closing(text: str) -> int:
  """Returns the position after the bracket that closes the first one."""
  depth = 0
  for match in re.finditer(r'[()]', text):
    depth += 1 if match[0] == '(' else -1
    if not depth:
      return match.end()
  raise ValueError(f'a bracket of the program is not closed: {text[:80]}')
