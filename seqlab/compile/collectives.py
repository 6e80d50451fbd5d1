"""The communication between devices in a compiled step, parsed from the program."""

from collections.abc import Iterable, Mapping
import dataclasses
import re

import numpy as np

from seqlab.compile.hlo import Instruction, Module

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective operation, of all devices at once.

  Attributes:
    kind: one of `KINDS`.
    bytes: size of the complete array of a group: the result of an all-gather, the
      operand of a reduce-scatter, and either of an all-reduce. It is the sum over all
      arrays that were combined into the operation.
    arrays: number of combined arrays.
    groups: [groups, n] int, the devices of each group, as numbers along the mesh.
    runs: number of runs per step.
    place: name of its computation, such as the body of a loop over layers.
    name: name of its instruction.
  """

  kind: str
  bytes: int
  arrays: int
  groups: np.ndarray
  runs: int
  place: str = ''
  name: str = ''

  def axes(self, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the axes of the mesh along which a group extends.

    Args:
      mesh: axis -> size, in the order of the mesh.
    """
    places = np.unravel_index(self.groups[0], tuple(mesh.values()))
    pairs = zip(mesh, places, strict=True)
    return tuple(name for name, place in pairs if len(set(place.tolist())) > 1)


# On a TPU an asynchronous collective may be a chain of fusions. The first one starts it,
# further ones compute something else and continue it, and the last one waits for it.
ASYNC_START, ASYNC_DONE = 'async-collective-start', 'async-collective-done'


def continues(fusion: Instruction) -> bool:
  """Returns whether a fusion continues or ends a collective of another one."""
  inside = any(name.startswith('async_collective_fusion') for name in fusion.called)
  return inside or fusion.name.startswith(ASYNC_DONE)


def collectives(module: Module) -> list[Collective]:
  """Returns the collectives of a program between different devices."""
  result = []
  continued = {
    name
    for instructions in module.computations.values()
    for fusion in instructions.values()
    if fusion.kind == 'fusion' and continues(fusion)
    for name in fusion.called
  }
  for place, instruction in module:
    kind = instruction.kind.removesuffix('-start')
    if kind not in KINDS or place in continued:
      continue  # '-done' belongs to a '-start'
    if place.startswith('all-reduce-scatter'):  # of which a TPU computes the share only
      kind = 'reduce-scatter'
    groups = _groups(instruction, module.devices)
    if groups.shape[1] > 1:
      n = groups.shape[1]
      size = _bytes(instruction, n) - _widened(module, place, instruction, n)
      arrays = max(1, len(instruction.operands))
      if kind == 'all-to-all':  # as a tuple it has one operand per device
        arrays = 1
      runs = module.runs[place]
      result.append(
        Collective(kind, size, arrays, groups, runs, place, instruction.name)
      )
  return result


def summary(
  operations: Iterable[Collective], mesh: Mapping[str, int]
) -> dict[tuple[str, tuple[str, ...]], tuple[int, int]]:
  """Returns (kind, axes of the mesh) -> operations and bytes per step."""
  total: dict[tuple[str, tuple[str, ...]], tuple[int, int]] = {}
  for one in operations:
    key = one.kind, one.axes(mesh)
    count, size = total.get(key, (0, 0))
    total[key] = count + one.runs, size + one.runs * one.bytes
  return dict(sorted(total.items(), key=lambda item: -item[1][1]))


def _bytes(instruction: Instruction, n: int) -> int:
  """Returns the size of the complete array; see `Collective`."""
  size = instruction.bytes
  if instruction.kind == 'reduce-scatter':
    return size * n
  if instruction.kind == 'all-gather-start':  # (operand, result)
    return size * n // (n + 1)
  if instruction.kind == 'collective-permute-start':  # (in, out, and two counters)
    return instruction.shapes[0].bytes
  return size


def _widened(module: Module, place: str, instruction: Instruction, n: int) -> int:
  """Returns the bytes that the CPU compiler adds; see `Module.rounded`."""
  wide = [module.rounded(place, name) for name in instruction.operands]
  if len(wide) == 1:
    return _bytes(instruction, n) // 2 if wide[0] else 0
  pairs = zip(wide, instruction.shapes, strict=False)  # a combined one: array by array
  return sum(shape.bytes // 2 for widened, shape in pairs if widened)


_MESH = re.compile(
  r'replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^)]*(?:\([^)]*\))?)\))? \{([^}]*)\}'
)
_IOTA = re.compile(r'replica_groups=(\[[0-9,]+\]<=\[[0-9,]+\](?:T\([0-9,]+\))?)')
_LISTS = re.compile(r'replica_groups=\{((?:\{[0-9,]*\},?)*)\}')
_PAIRS = re.compile(r'source_target_pairs=\{((?:\{[0-9,]*\},?)*)\}')


def _groups(instruction: Instruction, devices: int) -> np.ndarray:
  """Parses the groups of devices in any of HLO's notations."""
  rest = instruction.rest
  if pairs := _PAIRS.search(rest):
    parsed = [_numbers(x) for x in re.findall(r'\{([^}]*)\}', pairs[1])]
    return np.array([pair for pair in parsed if pair[0] != pair[1]] or [[0]])
  if mesh := _MESH.search(rest):
    return _of_mesh(*mesh.groups())
  if iota := _IOTA.search(rest):
    return _of_iota(iota[1])
  if (lists := _LISTS.search(rest)) and lists[1]:
    return np.array([_numbers(x) for x in re.findall(r'\{([^}]*)\}', lists[1])])
  return np.arange(devices)[None]  # without groups, all devices


def _of_iota(text: str) -> np.ndarray:
  """Parses '[4,2]<=[2,2,2]T(1,0,2)': a range, reshaped, transposed, reshaped."""
  shape, _, source = text.partition('<=')
  return _iota(source).reshape(_numbers(shape))


def _iota(text: str) -> np.ndarray:
  """Parses '[4,2]T(1,0)': a range, reshaped and transposed."""
  sizes, _, order = text.partition('T')
  array = np.arange(np.prod(_numbers(sizes))).reshape(_numbers(sizes))
  return array.transpose(_numbers(order)) if order else array


def _of_mesh(sizes: str, ids: str | None, axes: str) -> np.ndarray:
  """Parses `'a'=2,'b'=4` and `'b'`, or `'b':(1)2`, the two outermost of four parts."""
  names = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
  if ids is None:
    devices = np.arange(np.prod(list(names.values())))
  else:
    devices = _iota(ids) if ids.startswith('[') else np.array(_numbers(ids))
  # An axis with a named part is divided into [before, the part, after].
  named: dict[str, list[tuple[int, int]]] = {}
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
    whole = (1, names[name])
    named.setdefault(name, []).append((int(before), int(size)) if size else whole)
  shape, inside = [], []
  for name, size in names.items():
    at = 1
    for before, part in sorted(named.get(name, [])):
      shape += [before // at, part]
      inside.append(len(shape) - 1)
      at = before * part
    shape.append(size // at)
  outside = [axis for axis in range(len(shape)) if axis not in inside]
  n = int(np.prod([shape[axis] for axis in inside]))
  return devices.reshape(shape).transpose(outside + inside).reshape(-1, n)


def _numbers(text: str) -> list[int]:
  return [int(number) for number in re.findall(r'\d+', text)]
