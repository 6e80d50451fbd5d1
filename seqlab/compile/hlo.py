"""Parses the text of a compiled program: its instructions, and how often each runs.

The text is XLA's HLO, https://openxla.org/xla/hlo_text_format, as returned by
`compiled.as_text()`. Costs are counted from the text, because XLA's `cost_analysis`
counts the body of a loop only once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
_SHAPE = re.compile(r'\b([a-z]+\d*[a-z0-9]*)\[([0-9,]*)\](?:\{([^}]*)\})?')
_NAME = re.compile(r'%([\w.\-]+)')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLS = re.compile(
  r'\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'\b(?:branch_computations|called_computations)=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r'stack_frame_id=(\d+)')
# Kernels' metadata is the only text that an instruction has in a line of its own.
_KERNEL_METADATA = re.compile(r'(kernel_metadata=\{)\n.*\n(?=\})')
_SOURCE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')


@dataclasses.dataclass(frozen=True)
class Shape:
  """An array's element type and sizes.

  Attributes:
    dtype: 'f32', 'bf16', ...
    sizes: size of each axis.
    layout: order of the axes in memory, tiles, and the memory that it lies in, as in
      '1,0:T(8,128)S(1)'; empty if the text does not say.
  """

  dtype: str
  sizes: tuple[int, ...]
  layout: str = ''

  @property
  def bytes(self) -> int:
    """Bytes of all its elements."""
    return math.prod(self.sizes) * _BYTES.get(self.dtype, 0)

  @property
  def in_main_memory(self) -> bool:
    """Whether it lies in the device's main memory, not in one on the chip."""
    return 'S(' not in self.layout

  @property
  def padded_bytes(self) -> int:
    """Bytes in memory: a TPU fills up the two axes that are adjacent to whole tiles."""
    order, _, tiles = self.layout.partition(':')
    tile = re.match(r'T\(([0-9,]+)\)', tiles)
    if not tile or not order:
      return self.bytes
    sizes = list(self.sizes)
    for axis, size in zip(order.split(','), reversed(tile[1].split(',')), strict=False):
      sizes[int(axis)] = -(-sizes[int(axis)] // int(size)) * int(size)
    return math.prod(sizes) * _BYTES.get(self.dtype, 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of the program.

  Attributes:
    name: name of its result, which other instructions use.
    kind: 'dot', 'all-reduce', ...
    shapes: shapes of its result; several, if that is a tuple.
    operands: names of its operands.
    rest: text after the operands.
    literal: text in place of the operands, as the number of a constant.
    is_root: whether it is the result of its computation.
  """

  name: str
  kind: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  rest: str
  literal: str = ''
  is_root: bool = False

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

  @property
  def op_name(self) -> str:
    """The path of the JAX function that it computes, through modules and loops."""
    match = _OP_NAME.search(self.rest)
    return match[1] if match else ''

  @property
  def index(self) -> int | None:
    """The element of a tuple that a 'get-tuple-element' takes."""
    match = re.search(r'\bindex=(\d+)', self.rest)
    return int(match[1]) if match else None


class Module:
  """A compiled program.

  Attributes:
    computations: name -> instructions by name.
    entry: name of the first computation.
    devices: number of devices among which it is partitioned.
    endless: loops without a known trip count.
  """

  def __init__(self, text: str, trips: int = 1):
    """Parses a program.

    Args:
      text: the program.
      trips: how often the body of a loop runs whose trip count is not written.

    Raises:
      ValueError: the text is not HLO.
    """
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.entry, self.endless, self._trips = '', [], trips
    inside: dict[str, Instruction] = {}
    text = _KERNEL_METADATA.sub(r'\1', text)
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
    # The tables of Python's stack frames, before the first computation.
    self._tables = text[: text.find('\n%')]
    partitions = re.search(r'num_partitions=(\d+)', text[: text.find('\n')])
    self.devices = int(partitions[1]) if partitions else 1

  @functools.cached_property
  def runs(self) -> dict[str, int]:
    """How often each computation runs in one execution of the program, at most.

    All branches of a conditional are counted, although one of them runs.
    """
    return self.count_runs(lambda instruction: instruction.called)

  @functools.cached_property
  def scheduled(self) -> dict[str, int]:
    """The same for computations whose instructions are executed one after another.

    Others are the inside of a fusion, or are applied to the elements of an array.
    """
    flow = ('while', 'conditional', 'call')
    runs = self.count_runs(lambda x: x.called if x.kind in flow else ())
    return {name: times for name, times in runs.items() if times}

  def count_runs(
    self, called: Callable[[Instruction], Iterable[str]]
  ) -> dict[str, int]:
    """Returns how often each computation runs in one execution of the program.

    Args:
      called: the computations that an instruction runs, once or as the body of a loop.
    """
    runs = dict.fromkeys(self.computations, 0)
    runs[self.entry] = 1
    # In the text a computation precedes those that call it.
    for name in reversed(self.computations):
      for instruction in self.computations[name].values() if runs[name] else ():
        times = runs[name]
        if instruction.kind == 'while':
          times *= self.trips(name, instruction)
        for inside in called(instruction):
          runs[inside] = runs.get(inside, 0) + times
    return runs

  def trips(self, computation: str, loop: Instruction) -> int:
    """Returns how often the body of a loop runs, at most.

    XLA writes the number where it has found it. Otherwise the condition of a loop is
    compared with a constant; a search that may end earlier has a further condition.
    """
    if known := _TRIPS.search(loop.rest):
      return int(known[1])
    name = re.search(r'condition=%?([\w.\-]+)', loop.rest)[1]
    condition = self.computations.get(name, {})
    for inside in [condition, *map(self._inside, condition.values())]:
      for compare in inside.values():
        if compare.kind != 'compare' or 'direction=LT' not in compare.rest:
          continue
        counter, bound = compare.operands
        limit = self._integer(inside, bound, condition)
        if limit is not None:
          return max(limit - self._start(computation, loop, inside, counter), 1)
    if loop.name not in self.endless:
      self.endless.append(loop.name)
    return self._trips

  def _inside(self, instruction: Instruction) -> dict[str, Instruction]:
    fused = instruction.kind == 'fusion'
    return self.computations[instruction.called[0]] if fused else {}

  def _integer(
    self,
    inside: Mapping[str, Instruction],
    name: str,
    outside: Mapping[str, Instruction],
  ) -> int | None:
    """Returns a constant integer, or one that a fusion in `outside` has as operand."""
    one = inside[name]
    if one.kind == 'parameter' and inside is not outside:
      fusions = [x for x in outside.values() if self._inside(x) is inside]
      one = outside[fusions[0].operands[int(one.literal)]]
    is_integer = one.kind == 'constant' and one.literal.lstrip('-').isdecimal()
    return int(one.literal) if is_integer else None

  def _start(
    self,
    computation: str,
    loop: Instruction,
    condition: Mapping[str, Instruction],
    counter: str,
  ) -> int:
    """Returns the counter's value before a loop; 0 if that is not written."""
    index = condition[counter].index
    around = self.computations[computation]
    start = around.get(loop.operands[0])
    if index is None or start is None or start.kind != 'tuple':
      return 0
    one = around[start.operands[index]]
    while one.kind in ('copy', 'bitcast') and one.operands[0] in around:
      one = around[one.operands[0]]
    return self._integer(around, one.name, around) or 0

  def source(self, instruction: Instruction) -> str:
    """Returns 'file:line' of the Python code behind an instruction, '' if unknown.

    It is the innermost line that is not of an installed package.
    """
    if written := _SOURCE.search(instruction.rest):
      return f'{written[1]}:{written[2]}'
    frame = _FRAME.search(instruction.rest)
    return self._frames.get(int(frame[1]), '') if frame else ''

  @functools.cached_property
  def _frames(self) -> dict[int, str]:
    """Number of a stack frame -> its 'file:line'; see `source`."""
    # FunctionNames come after FileNames and have the same form.
    files = self._tables.partition('FunctionNames')[0]
    names = {int(i): x for i, x in re.findall(r'^(\d+) "(.*)"$', files, re.M)}
    places = {
      int(i): f'{names[int(file)]}:{line}'
      for i, file, line in re.findall(
        r'^(\d+) \{file_name_id=(\d+) .*?\bline=(\d+)', self._tables, re.M
      )
    }
    parents = {
      int(i): (int(place), int(parent or 1) - 1)  # written as the number plus 1
      for i, place, parent in re.findall(
        r'^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?\}',
        self._tables,
        re.M,
      )
    }
    return {frame: self._own_line(frame, parents, places) for frame in parents}

  @staticmethod
  def _own_line(frame: int, parents: Mapping, places: Mapping[int, str]) -> str:
    innermost = places[parents[frame][0]]
    while frame in parents:
      place, frame = parents[frame]
      if 'site-packages' not in places[place]:
        return places[place]
    return innermost

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
    Shape(dtype, tuple(int(size) for size in sizes.split(',') if size), layout)
    for dtype, sizes, layout in _SHAPE.findall(shape)
  )
  name = left.removeprefix('ROOT ').removeprefix('%')
  operands = tuple(_NAME.findall(right[: end - 1]))
  literal = right[: end - 1] if not operands else ''
  is_root = left.startswith('ROOT ')
  return Instruction(name, kind, shapes, operands, right[end:], literal, is_root)


def _closing(text: str) -> int:
  """Returns the position after the bracket that closes the first one."""
  depth = 0
  for match in re.finditer(r'[()]', text):
    depth += 1 if match[0] == '(' else -1
    if not depth:
      return match.end()
  raise ValueError(f'a bracket of the program is not closed: {text[:80]}')
