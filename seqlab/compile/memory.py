"""Errors of devices without memory: what takes it, and what to set."""

from collections.abc import Iterator
import math

import jax

from seqlab.compile.buffers import largest_buffers
from seqlab.compile.hlo import Module
from seqlab.io.console import amount
from seqlab.programs import compiled_programs

_NUMBER = 4  # arrays that are named, of each kind


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
    largest = max(programs, key=_bytes)
    lines += ['the largest arrays of the largest program, on one device:']
    lines += [f'  {line}' for line in _arrays(largest)]
  return '\n'.join([*lines, advice])


def _bytes(program: jax.stages.Compiled) -> int:
  stats = program.memory_analysis()
  kinds = ('argument', 'temp', 'output')
  return sum(getattr(stats, f'{kind}_size_in_bytes', 0) or 0 for kind in kinds)


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
