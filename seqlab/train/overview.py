"""A table of the memory and time of a step, printed at the beginning of a run."""

from collections.abc import Mapping, Sequence
import math

import jax
from jax.sharding import Mesh

from seqlab.compile.collectives import collectives, summary
from seqlab.compile.hlo import Module
from seqlab.compile.memory import ProgramMemory
from seqlab.io.console import amount
from seqlab.train.engine import Engine
from seqlab.types import PyTree


def overview(engine: Engine, compiled: Sequence[jax.stages.Compiled]) -> str:
  """Describes parameters, bytes per device, sharding and collectives, one per line.

  Args:
    engine: takes the steps; of a population, those of all members.
    compiled: its step, for every shape of batches; described is the one with the most
      temporary arrays.
  """
  state, mesh = engine.abstract, engine.mesh
  largest = max(compiled, key=lambda program: ProgramMemory.of(program).temporary)
  activations = amount(ProgramMemory.of(largest).temporary)
  rest = [x for x in (state.collections, state.ema) if x]
  trained, frozen = engine.definition.frozen.split(state.params)
  rows = {
    'parameters': f'{count(trained):,} in {len(jax.tree.leaves(trained))} arrays'
    f'{f", and {count(frozen):,} that are frozen" if frozen else ""}',
    'devices': f'{mesh.size}: {named_sizes(mesh.shape)}',
    'sharding': f'{engine.name}: {sharding(state.params, mesh)}',
    'parameters per device': amount(shard_bytes(state.params)),
    'optimiser per device': amount(shard_bytes(state.opt_state)),
    'activations per device': f'{activations}, with gradients and all '
    'else that a step needs temporarily',
    'collectives per step': sent(largest, mesh.shape),
  }
  if rest:
    rows['other state per device'] = amount(shard_bytes(rest))
  width = max(map(len, rows))
  lines = [f'  {name:<{width}}  {text}' for name, text in rows.items()]
  return '\n'.join(['the step:', *lines])


def sharding(params: PyTree, mesh: Mesh) -> str:
  """Describes which axes of a mesh cut how many of the parameters.

  Args:
    params: arrays or their shapes, with shardings.
    mesh: that the shardings are of.
  """
  leaves = jax.tree.leaves(params)
  texts = []
  for axis, size in mesh.shape.items():
    cut = [x for x in leaves if axis in jax.tree.leaves(tuple(x.sharding.spec))]
    if size > 1 and cut:
      share = sum(x.size for x in cut) / count(leaves)
      texts.append(f'{axis} cuts {len(cut)} arrays ({share:.0%} of the parameters)')
  return '; '.join(texts) or 'every device has all parameters'


def sent(compiled: jax.stages.Compiled, mesh: Mapping[str, int]) -> str:
  """Describes the collectives of a step by kind and axes, with the arrays' bytes.

  Args:
    compiled: the step.
    mesh: size of each axis of the mesh.
  """
  if math.prod(mesh.values()) == 1:
    return 'none'  # and reading the text of a large program takes seconds
  by_kind = summary(collectives(Module(compiled.as_text())), mesh)
  return '; '.join(
    f'{runs} {kind} over {" x ".join(axes)} ({amount(size)})'
    for (kind, axes), (runs, size) in by_kind.items()
  )


def shard_bytes(tree: PyTree) -> int:
  """Returns the bytes that one device holds of arrays that have shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def count(tree: PyTree) -> int:
  """Returns the number of elements in all arrays."""
  return sum(x.size for x in jax.tree.leaves(tree))


def named_sizes(mesh: Mapping[str, int]) -> str:
  """Formats the sizes of a mesh: 'data=8, fsdp=1, tensor=1'."""
  return ', '.join(f'{name}={size}' for name, size in mesh.items())
