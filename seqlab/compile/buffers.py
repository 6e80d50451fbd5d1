"""The largest arrays that a compiled program makes in the memory of a device."""

from collections.abc import Iterator, Mapping
import dataclasses

from seqlab.compile import work
from seqlab.compile.hlo import Instruction, Module

# Instructions whose result is memory of an operand, or a part of it.
_SHARED = work.FREE | {'while', 'conditional', 'call', 'copy-done', 'async-done'}


@dataclasses.dataclass(frozen=True)
class Buffer:
  """An array in the main memory of a device.

  Attributes:
    name: name of the instruction that makes it.
    array: element type and sizes, as in 'bf16[6,256,128,4096]'.
    bytes: its size with the padding of tiles.
    layer: path of the JAX function that fills it, through modules and loops.
    source: 'file:line' of the code, '' if unknown.
    count: number of arrays that differ in their name only.
  """

  name: str
  array: str
  bytes: int
  layer: str
  source: str
  count: int = 1


def largest_buffers(module: Module, number: int) -> list[Buffer]:
  """Returns the largest arrays, the largest one first.

  The arguments of the program are not among them. Not all of them exist at the same
  time: XLA gives the memory of one to others once it is not needed.
  """
  alike: dict[tuple, list[Buffer]] = {}
  for item in sorted(_buffers(module), key=lambda x: -x[2]):
    one = _describe(module, *item)
    key = one.array, one.layer, one.source
    if key not in alike and len(alike) == number:
      break
    alike.setdefault(key, []).append(one)
  return [dataclasses.replace(x[0], count=len(x)) for x in alike.values()]


def _buffers(module: Module) -> Iterator[tuple[str, Instruction, int, int]]:
  """Yields computation, instruction, bytes and the element's number, if in a tuple."""
  for name in module.scheduled:
    for one in module.computations[name].values():
      if one.kind in _SHARED or one.kind.endswith('-done'):
        continue
      elements = set(range(len(one.shapes))) - work.written_in_place(module, one)
      if one.kind.endswith(
        '-start'
      ):  # (operand, result, ...) or (result, operand, ...)
        elements &= {0} if one.kind == 'copy-start' else {1}
      for i in elements:
        shape = one.shapes[i]
        if shape.in_main_memory and shape.padded_bytes:
          yield name, one, shape.padded_bytes, i


def _describe(
  module: Module, computation: str, one: Instruction, size: int, element: int
) -> Buffer:
  named = named_by(module, computation, one, element)
  shape = one.shapes[element]
  sizes = ','.join(map(str, shape.sizes))
  array = f'{shape.dtype}[{sizes}]'
  return Buffer(one.name, array, size, named.op_name, module.source(named))


def named_by(
  module: Module, computation: str, one: Instruction, element: int = 0
) -> Instruction:
  """Returns the instruction whose layer and line tell what an instruction is for.

  It is the instruction itself if it has a layer, and else the one that fills its
  result.
  """
  if '/' in one.op_name:
    return one
  return _filler(module, computation, one, element) or one


def _filler(
  module: Module, computation: str, one: Instruction, element: int
) -> Instruction | None:
  """Returns the instruction that writes into an array which a loop carries.

  A loop over layers stacks its results in an array that is cleared before. The
  instruction that clears it has no name, and the one that fills it does.
  """
  inside = module.computations[computation]
  names = {one.name} if len(one.shapes) == 1 else set()
  for user in inside.values():  # in order, so that users come later
    if (user.operands == (one.name,) and user.index == element) or (
      user.kind in ('bitcast', 'copy') and names & set(user.operands)
    ):
      names.add(user.name)
    elif user.kind == 'tuple':
      for index, operand in enumerate(user.operands):
        loops = (x for x in inside.values() if x.operands == (user.name,))
        if operand in names and (filler := _in_loop(module, loops, index)):
          return filler
  return None


def _in_loop(
  module: Module, loops: Iterator[Instruction], index: int
) -> Instruction | None:
  for loop in loops:
    for name in loop.called if loop.kind == 'while' else ():
      body = module.computations[name]
      taken = {
        x.name
        for x in body.values()
        if x.kind == 'get-tuple-element' and x.index == index
      }
      for user in body.values():
        if '/' in user.op_name and taken & set(user.operands):
          return _writer(module, body, user)
  return None


def _writer(
  module: Module, body: Mapping[str, Instruction], user: Instruction
) -> Instruction:
  """Returns what computes the values that are written into an array.

  The writing itself is that of the loop, whatever its layer.
  """
  if not user.op_name.endswith('dynamic_update_slice'):
    return user
  fused = module.computations[user.called[0]] if user.kind == 'fusion' else {}
  inside = [x for x in fused.values() if x.kind not in work.FREE]
  outside = [body[x] for x in user.operands if x in body and x != user.name]
  for one in [*reversed(inside), *outside]:
    if '/' in one.op_name and 'dynamic_update' not in one.op_name:
      return one
  return user
