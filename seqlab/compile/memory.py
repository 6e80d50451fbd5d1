"""Errors of devices without memory: what takes it, and what to set."""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

import jax

from seqlab.compile.buffers import largest_buffers
from seqlab.compile.hlo import Module
from seqlab.io.console import amount
from seqlab.programs import compiled_programs

_NUMBER = 4  # arrays that are named, of each kind
# Sizes in the messages of the compilers.
_NEEDED = re.compile(
  r'(?:Used |HLO temporaries \()([0-9.]+\w*)(?: of |\) exceeds available HBM \()([0-9.]+\w*)'
)


class DoesNotFitError(ValueError):
  """A program needs more memory than the chip has, by its compiler's own message.

  Attributes:
    needed: bytes that it needs; None if the message does not say.
  """

  def __init__(self, message: str, needed: float | None = None):
    """Takes the text for the user, and the number of bytes."""
    super().__init__(message)
    self.needed = needed


def explain_refusal(error: Exception) -> Exception:
  """Returns the error of a program that does not fit; any other error as it is."""
  text = str(error)
  if 'RESOURCE_EXHAUSTED' not in text and 'memory' not in text:
    return error
  match = _NEEDED.search(text)
  needed = f'it needs {match[1]} of {match[2]}' if match else text.splitlines()[0][:200]
  return DoesNotFitError(
    f"the program does not fit the chip's memory: {needed}. Set "
    f"model.remat='products' or 'full', lower "
    f'batching.tokens (--fit finds the largest), or shard the parameters (mesh.fsdp)',
    _parse_bytes(match[1]) if match else None,
  )


def _parse_bytes(text: str) -> float:
  """Parses a size such as '22.00G'."""
  number, unit = re.fullmatch(r'([0-9.]+)([KMGT]?)\w*', text).groups()
  return float(number) * 1024 ** ' KMGT'.index(unit or ' ')


def is_out_of_memory(error: BaseException) -> bool:
  """Returns whether an error means that a device has no memory left.

  Orbax has errors of the same status for full disks.
  """
  text = str(error)
  return (
    isinstance(error, jax.errors.JaxRuntimeError)
    and 'RESOURCE_EXHAUSTED' in text
    and 'memory' in text.lower()
  )


def explain_out_of_memory(error: BaseException, advice: str) -> str:
  """Returns the message of such an error, with the largest arrays.

  Args:
    error: its first line has the size that was asked for.
    advice: what to set.
  """
  reason = str(error).splitlines()[0].removeprefix('RESOURCE_EXHAUSTED: ')
  lines = [f'the device has no memory for this: {reason}']
  programs = compiled_programs()
  if programs:
    largest = max(programs, key=program_bytes)
    lines += ['the largest arrays of the largest program, on one device:']
    lines += [f'  {line}' for line in _arrays(largest)]
  return '\n'.join([*lines, advice])


class ProgramMemory(NamedTuple):
  """Bytes that a program takes on one device while it runs.

  Attributes:
    arguments: arguments.
    temporary: arrays that it makes and frees.
    output: results that do not lie in the memory of an argument.
    code: the program itself.
  """

  arguments: int
  temporary: int
  output: int
  code: int

  @classmethod
  def of(cls, program: jax.stages.Compiled) -> 'ProgramMemory':
    """Takes what the compiler says; 0 for what it does not."""
    stats = program.memory_analysis()

    def size(kind: str) -> int:
      return getattr(stats, f'{kind}_size_in_bytes', 0) or 0

    output = max(size('output') - size('alias'), 0)
    return cls(size('argument'), size('temp'), output, size('generated_code'))


def program_bytes(program: jax.stages.Compiled) -> int:
  """Returns the bytes that a program takes on one device while it runs."""
  return sum(ProgramMemory.of(program))


def _arrays(program: jax.stages.Compiled) -> Iterator[str]:
  """Yields one line per array: first arguments, then what the program makes."""
  for size, name, array in sorted(_arguments(program), reverse=True)[:_NUMBER]:
    yield f'{amount(size, "TB"):>8}  {array}, the argument {name}'
  for one in largest_buffers(Module(program.as_text()), _NUMBER):
    count = f' x {one.count}' if one.count > 1 else ''
    place = f' ({one.source})' if one.source else ''
    yield f'{amount(one.bytes, "TB"):>8}{count}  {one.array}, of {one.layer or one.name}{place}'


def _arguments(program: jax.stages.Compiled) -> Iterator[tuple[int, str, str]]:
  """Yields bytes on one device, path and type of each argument."""
  arguments, _ = program.args_info
  shardings = jax.tree.leaves(program.input_shardings[0])
  leaves = jax.tree_util.tree_leaves_with_path(arguments)
  if len(shardings) != len(leaves):  # some arguments are not used
    shardings = [None] * len(leaves)
  for (path, x), sharding in zip(leaves, shardings, strict=True):
    shape = sharding.shard_shape(x.shape) if sharding else x.shape
    sizes = ','.join(map(str, shape))
    number, *inside = path
    name = jax.tree_util.keystr(inside, simple=True, separator='/')
    name = name or f'number {number.idx + 1}'
    yield math.prod(shape) * x.dtype.itemsize, name, f'{x.dtype}[{sizes}]'
