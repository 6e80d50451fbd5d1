"""What a run takes of its devices, as a table for its beginning."""

from collections.abc import Mapping, Sequence
import math

import jax

from seqlab.train.collectives import collectives, summary
from seqlab.train.hlo import Module
from seqlab.train.program import Program
from seqlab.types import PyTree


def overview(program: Program, compiled: Sequence[jax.stages.Compiled]) -> str:
  """Parameters, bytes a device, sharding and collectives, a line each.

  Args:
    program: what trains.
    compiled: its step, for every shape of a batch; the one with the most temporary
      arrays is told of.
  """
  state = program.abstract
  largest = max(compiled, key=temporary_bytes)
  rest = [x for x in (state.collections, state.ema) if x]
  rows = {
    'parameters': f'{count(state.params):,} in {len(jax.tree.leaves(state.params))} '
    'arrays',
    'devices': f'{program.mesh.size}: {named_sizes(program.mesh.shape)}',
    'sharding': sharding(program),
    'parameters, a device': amount(shard_bytes(state.params)),
    'optimiser, a device': amount(shard_bytes(state.opt_state)),
    'activations, a device': f'{amount(temporary_bytes(largest))}, gradients and all '
    'else that a step needs for a while counted',
    'collectives, a step': sent(largest, program.mesh.shape),
  }
  if rest:
    rows['other state, a device'] = amount(shard_bytes(rest))
  width = max(map(len, rows))
  lines = [f'  {name:<{width}}  {text}' for name, text in rows.items()]
  return '\n'.join(['the step:', *lines])


def sharding(program: Program) -> str:
  """Which axes of the mesh cut how many of the parameters."""
  if program.parallel == 'pmap':
    return 'every device has all parameters (pmap)'
  leaves = jax.tree.leaves(program.abstract.params)
  found = []
  for axis, size in program.mesh.shape.items():
    cut = [x for x in leaves if axis in jax.tree.leaves(tuple(x.sharding.spec))]
    if size > 1 and cut:
      share = sum(x.size for x in cut) / count(leaves)
      found.append(f'{axis} cuts {len(cut)} arrays ({share:.0%} of the parameters)')
  return '; '.join(found) or 'every device has all parameters'


def sent(compiled: jax.stages.Compiled, mesh: Mapping[str, int]) -> str:
  """Collectives of a step by kind and axes, with the bytes of the whole arrays."""
  if math.prod(mesh.values()) == 1:
    return 'none'  # not worth reading the program for
  found = summary(collectives(Module(compiled.as_text())), mesh)
  return '; '.join(
    f'{runs} {kind} over {" x ".join(axes)} ({amount(size)})'
    for (kind, axes), (runs, size) in found.items()
  )


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
  """What a step needs of a device besides its arguments; 0 if XLA does not say."""
  stats = compiled.memory_analysis()
  return getattr(stats, 'temp_size_in_bytes', 0) or 0


def shard_bytes(tree: PyTree) -> int:
  """What one device holds of arrays that know their shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def count(tree: PyTree) -> int:
  """Numbers in all arrays."""
  return sum(x.size for x in jax.tree.leaves(tree))


def named_sizes(mesh: Mapping[str, int]) -> str:
  """'data=8, fsdp=1, tensor=1'."""
  return ', '.join(f'{name}={size}' for name, size in mesh.items())


def amount(size: float) -> str:
  """Bytes for people: '12.3 MB'."""
  for unit in ('B', 'kB', 'MB', 'GB'):
    if size < 1000 or unit == 'GB':
      return f'{size:.3g} {unit}' if size < 1000 else f'{size:,.0f} {unit}'
    size /= 1000
  raise AssertionError
