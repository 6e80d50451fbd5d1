"""What a compiled step sends between devices, read from the program itself."""

from collections.abc import Iterable, Mapping
import dataclasses
import re

import numpy as np

from seqlab.train.hlo import Instruction, Module

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
    bytes: of the whole array that a group has together: what an all-gather gives,
      what a reduce-scatter takes, and either of an all-reduce. Several arrays that
      were combined into one operation are summed.
    arrays: how many those are.
    groups: [groups, n] int, the devices that exchange, as numbers along the mesh.
    runs: how often it runs in a step.
    place: the computation that it is in, such as the body of a loop over layers.
  """

  kind: str
  bytes: int
  arrays: int
  groups: np.ndarray
  runs: int
  place: str = ''

  def axes(self, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The axes of the mesh that lie in a group; `mesh` has their sizes, in order."""
    places = np.unravel_index(self.groups[0], tuple(mesh.values()))
    pairs = zip(mesh, places, strict=True)
    return tuple(name for name, place in pairs if len(set(place.tolist())) > 1)


def collectives(module: Module) -> list[Collective]:
  """The collectives of a program; those of one device with itself are none."""
  found = []
  for place, instruction in module:
    kind = instruction.kind.removesuffix('-start')
    if kind not in KINDS:
      continue  # '-done' gives what '-start' sent
    groups = _groups(instruction, module.devices)
    if groups.shape[1] > 1:
      n = groups.shape[1]
      size = _bytes(instruction, n) - _widened(module, place, instruction, n)
      arrays = max(1, len(instruction.operands))
      if kind == 'all-to-all':  # as a tuple it has an operand for every device
        arrays = 1
      runs = module.runs[place]
      found.append(Collective(kind, size, arrays, groups, runs, place))
  return found


def summary(
  found: Iterable[Collective], mesh: Mapping[str, int]
) -> dict[tuple[str, tuple[str, ...]], tuple[int, int]]:
  """(kind, axes of the mesh) -> operations in a step, bytes in a step."""
  total: dict[tuple[str, tuple[str, ...]], tuple[int, int]] = {}
  for one in found:
    key = one.kind, one.axes(mesh)
    operations, size = total.get(key, (0, 0))
    total[key] = operations + one.runs, size + one.runs * one.bytes
  return dict(sorted(total.items(), key=lambda item: -item[1][1]))


def _bytes(instruction: Instruction, n: int) -> int:
  """Of the whole array; see `Collective`."""
  size = instruction.bytes
  if instruction.kind == 'reduce-scatter':
    return size * n
  if instruction.kind == 'all-gather-start':  # (what each has, what all get)
    return size * n // (n + 1)
  if instruction.kind == 'collective-permute-start':  # (in, out, and two counters)
    return instruction.shapes[0].bytes
  return size


def _widened(module: Module, place: str, instruction: Instruction, n: int) -> int:
  """Bytes that the CPU's compiler adds; see `Module.rounded`."""
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
  """The groups of devices, in any of the ways that HLO writes them."""
  rest = instruction.rest
  if pairs := _PAIRS.search(rest):
    found = [_numbers(x) for x in re.findall(r'\{([^}]*)\}', pairs[1])]
    return np.array([pair for pair in found if pair[0] != pair[1]] or [[0]])
  if mesh := _MESH.search(rest):
    return _of_mesh(*mesh.groups())
  if iota := _IOTA.search(rest):
    return _of_iota(iota[1])
  if (lists := _LISTS.search(rest)) and lists[1]:
    return np.array([_numbers(x) for x in re.findall(r'\{([^}]*)\}', lists[1])])
  return np.arange(devices)[None]  # none are named: all


def _of_iota(text: str) -> np.ndarray:
  """'[4,2]<=[2,2,2]T(1,0,2)': numbers in order, reshaped, transposed, reshaped."""
  shape, _, source = text.partition('<=')
  return _iota(source).reshape(_numbers(shape))


def _iota(text: str) -> np.ndarray:
  """'[4,2]T(1,0)': numbers in order, reshaped and transposed."""
  sizes, _, order = text.partition('T')
  array = np.arange(np.prod(_numbers(sizes))).reshape(_numbers(sizes))
  return array.transpose(_numbers(order)) if order else array


def _of_mesh(sizes: str, ids: str | None, axes: str) -> np.ndarray:
  """`'a'=2,'b'=4` and `'b'`, or `'b':(1)2`, the two outermost parts of four."""
  names = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", sizes)}
  if ids is None:
    devices = np.arange(np.prod(list(names.values())))
  else:
    devices = _iota(ids) if ids.startswith('[') else np.array(_numbers(ids))
  # An axis of which a part is named is cut: [before, the part, after].
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
