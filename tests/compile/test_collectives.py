"""A compiled step sends as little as its sharding needs: counted in the program itself.

Bytes are those of the whole arrays, whatever a ring sends of them.
"""

import math

import jax
import pytest

from seqlab.compile.collectives import collectives
from seqlab.compile.hlo import Module
from seqlab.tasks.translation import Translation
from seqlab.train.engines import make_engine

LAYERS, WIDTH, MLP, HEADS = 2, 32, 64, 4
# A step sums a few numbers besides gradients: words, loss, padding, norms over shards.
SCALARS = 4 * 100


@pytest.fixture(scope='module')
def step(tiny, tmp_path_factory):
  """(mesh) -> the collectives of a compiled step, the program, rows x positions."""
  folder = tmp_path_factory.mktemp('collectives') / 'vocabulary'
  done = {}

  def run(**mesh):
    if (key := repr(mesh)) not in done:
      config = tiny | {
        'mesh': mesh,
        'batching': tiny['batching'] | {'tokens': 640},
        'vocabulary': tiny['vocabulary'] | {'size': 16},  # divides by the devices
        'model': tiny['model']
        | {'width': WIDTH, 'mlp_width': MLP, 'heads': HEADS, 'layers': LAYERS},
      }
      task = Translation.from_config(config, folder)
      engine = make_engine(config, task, steps=10)
      (batch,) = task.batches('train').shapes
      compiled = engine.compile(batch)
      operations = collectives(Module(compiled.as_text()))
      done[key] = (
        operations,
        engine.definition,
        batch['target'].size // (8 // mesh.get('tensor', 1)),
      )
    return done[key]

  return run


def _bytes(operations, mesh, kind, *axes):
  chosen = [x for x in operations if x.kind == kind and x.axes(mesh) == axes]
  return sum(x.bytes * x.runs for x in chosen)


def _matrices(program):
  """Returns the bytes of parameters sharded over 'embed', of all, and of the table."""
  shapes = jax.tree.leaves(program.abstract.params)
  table = program.abstract.params['target_embedding']['table']
  cut = sum(4 * x.size for x in shapes if 'fsdp' in x.sharding.spec)
  return cut, sum(4 * x.size for x in shapes), 4 * table.size


def test_data_sums_each_gradient_once_and_sends_nothing_else(step):
  operations, program, _ = step(data=8)
  everything = _matrices(program)[1]
  assert {x.kind for x in operations} == {'all-reduce'}
  sent = sum(x.bytes * x.runs for x in operations)
  assert everything <= sent <= everything + SCALARS


def test_fsdp_gathers_twice_and_scatters_once(step):
  operations, program, _ = step(data=1, fsdp=8)
  cut, everything, table = _matrices(program)
  mesh = dict(program.mesh.shape)
  assert cut > 0.9 * everything  # all parameters but vectors
  # A layer's weights forwards and backwards; the table once for its three uses.
  assert _bytes(operations, mesh, 'all-gather', 'fsdp') == 2 * (cut - table) + table
  assert _bytes(operations, mesh, 'reduce-scatter', 'fsdp') == cut
  rest = _bytes(operations, mesh, 'all-reduce', 'fsdp')
  assert everything - cut <= rest <= everything - cut + SCALARS
  assert {x.kind for x in operations} == {'all-gather', 'reduce-scatter', 'all-reduce'}


def test_fsdp_sends_each_matrix_of_a_layer_separately(step):
  # Accelerators' compilers combine neighbouring collectives; the CPU's does not.
  operations, _, _ = step(data=1, fsdp=8)
  count = {
    kind: sum(x.runs * x.arrays for x in operations if x.kind == kind)
    for kind in ('all-gather', 'reduce-scatter')
  }
  layer = (4 + 2) + (4 + 4 + 2)  # matrices of a layer of the encoder, of the decoder
  assert count == {
    'all-gather': 2 * LAYERS * layer + 1,
    'reduce-scatter': LAYERS * layer + 1,
  }


@pytest.mark.slow
def test_three_axes_have_the_collectives_of_each(step):
  operations, program, positions = step(data=2, fsdp=2, tensor=2)
  mesh = dict(program.mesh.shape)
  parts = [
    (4 * math.prod(x.sharding.shard_shape(x.shape)), x.sharding.spec)
    for x in jax.tree.leaves(program.abstract.params)
  ]
  shard = sum(size for size, spec in parts if 'fsdp' in spec)
  table = program.abstract.params['target_embedding']['table']
  table = 4 * math.prod(table.sharding.shard_shape(table.shape))
  assert _bytes(operations, mesh, 'all-gather', 'fsdp') == 2 * (
    2 * (shard - table) + table
  )
  assert _bytes(operations, mesh, 'reduce-scatter', 'fsdp') == 2 * shard
  assert _bytes(operations, mesh, 'all-reduce', 'data') <= shard + SCALARS

  # Shoeybi et al., "Megatron-LM", 2019, section 3: forwards, each sublayer sums its
  # output over the tensor axis; backwards, the gradient of its input. That of queries,
  # keys and values is summed for each of them, and so is the memory's.
  activations = 4 * positions * WIDTH
  layers = [
    x
    for x in operations
    if x.axes(mesh) == ('tensor',) and x.runs == LAYERS and x.bytes >= activations
  ]
  forwards, backwards = 2 + 3, (3 + 1) + (3 + 3 + 1)
  assert sum(x.arrays for x in layers) == forwards + backwards
  assert all(x.kind == 'all-reduce' for x in layers)


@pytest.mark.slow
def test_one_device_sends_nothing(step):
  assert not step(data=1, devices=1)[0]
