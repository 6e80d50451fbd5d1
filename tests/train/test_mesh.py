from types import SimpleNamespace

from flax import linen as nn
import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from seqlab.layers.exchange import share_of
from seqlab.train.mesh import (
  AXES,
  batch_sharding,
  make_mesh,
  replicated,
  rows_divisor,
  rows_share,
  shard_over_data,
  state_shardings,
)
from seqlab.train.optimizers import make_optimizer

pytestmark = pytest.mark.skipif(
  jax.device_count() != 8, reason='needs the 8 pretended devices of conftest.py'
)


@pytest.mark.parametrize(
  ('sizes', 'expected'),
  [
    ({}, (8, 1, 1)),
    ({'fsdp': 2}, (4, 2, 1)),
    ({'data': 1, 'fsdp': -1}, (1, 8, 1)),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, (2, 2, 2)),
    ({'data': 2, 'tensor': -1}, (2, 1, 4)),
    ({'devices': 2}, (2, 1, 1)),
    ({'data': 1, 'tensor': -1, 'devices': 4}, (1, 1, 4)),
  ],
)
def test_a_mesh_has_the_requested_sizes(sizes, expected):
  mesh = make_mesh(**sizes)
  assert mesh.axis_names == AXES
  assert mesh.devices.shape == expected
  assert len(set(mesh.devices.flat)) == np.prod(expected)


@pytest.mark.parametrize(
  'sizes',
  [
    {'data': 3, 'fsdp': 1, 'tensor': 1},
    {'data': 4, 'fsdp': 4, 'tensor': 1},
    {'data': -1, 'fsdp': 3, 'tensor': 1},
    {'data': -1, 'fsdp': 16, 'tensor': 1},
    {'data': -1, 'fsdp': -1, 'tensor': 8},
    {'data': -1, 'fsdp': -1, 'tensor': -1},
    {'data': -1, 'fsdp': -2, 'tensor': 1},
    {'data': -1, 'fsdp': 0, 'tensor': 1},
    {'data': -2, 'fsdp': -4, 'tensor': 1},
  ],
)
def test_sizes_that_do_not_fit_are_named(sizes):
  data, fsdp, tensor = sizes.values()
  message = rf'\(data={data}, fsdp={fsdp}, tensor={tensor}\) does not fit 8 devices'
  with pytest.raises(ValueError, match=message):
    make_mesh(**sizes)


def test_more_devices_than_exist_are_refused():
  with pytest.raises(ValueError, match=r'mesh.devices is 9; .* at most 8'):
    make_mesh(devices=9)


def pieces(x):
  """Returns device number -> the part of the array on this device."""
  return {s.device.id: np.asarray(s.data) for s in x.addressable_shards}


def test_rows_are_sharded_over_data_and_fsdp():
  mesh = make_mesh(2, 2, 2)
  rows = np.arange(24).reshape(8, 3)
  shards = pieces(jax.device_put(rows, batch_sharding(mesh)))
  assert rows_divisor(mesh) == 4
  for d in range(2):
    for f in range(2):
      for t in range(2):  # tensor-parallel devices see the same rows
        first = 2 * (2 * d + f)
        shard = shards[mesh.devices[d, f, t].id]
        np.testing.assert_array_equal(shard, rows[first : first + 2])


def test_replicated_arrays_are_complete_on_every_device():
  x = np.arange(6.0).reshape(2, 3)
  shards = pieces(jax.device_put(x, replicated(make_mesh(2, 2, 2))))
  assert len(shards) == 8
  for shard in shards.values():
    np.testing.assert_array_equal(shard, x)


def _mesh(shape, processes):
  """Returns a mesh whose devices belong to the given processes, in its order."""
  devices = np.array([SimpleNamespace(process_index=p) for p in processes])
  sizes = dict(zip(AXES, shape, strict=True))
  return SimpleNamespace(devices=devices.reshape(shape), shape=sizes)


@pytest.mark.parametrize(
  ('shape', 'processes', 'shares'),
  [
    ((2, 1, 1), [0, 1], [(0, 2), (1, 2)]),
    ((8, 1, 1), [0, 0, 1, 1, 2, 2, 3, 3], [(0, 4), (1, 4), (2, 4), (3, 4)]),
    ((2, 2, 2), [0, 0, 0, 0, 1, 1, 1, 1], [(0, 2), (1, 2)]),
    ((2, 2, 1), [1, 1, 0, 0], [(1, 2), (0, 2)]),  # TPUs are listed in another order
    # Devices that share a layer have the same rows, even in different processes.
    ((1, 1, 4), [0, 0, 1, 1], [(0, 1), (0, 1)]),
    ((1, 2, 2), [0, 1, 2, 3], [(0, 2), (0, 2), (1, 2), (1, 2)]),
  ],
)
def test_a_process_builds_the_rows_that_its_devices_hold(shape, processes, shares):
  mesh = _mesh(shape, processes)
  assert [rows_share(mesh, p) for p in range(len(shares))] == shares


@pytest.mark.parametrize(
  ('shape', 'processes', 'process', 'message'),
  [
    ((2, 1, 1), [0, 0], 1, 'has no device of process 1: set mesh.devices'),
    ((4, 1, 1), [0, 1, 0, 1], 1, 'of process 1 the parts 1, 3 of the 4 of a batch'),
    ((4, 1, 1), [0, 1, 1, 2], 1, 'the parts 1, 2 of the 4'),
    ((4, 1, 1), [0, 0, 0, 1], 0, 'the parts 0, 1, 2 of the 4'),
  ],
)
def test_rows_that_are_not_a_share_are_refused(shape, processes, process, message):
  with pytest.raises(ValueError, match=message):
    rows_share(_mesh(shape, processes), process)


class Model(nn.Module):
  """A kernel, a bias, and a parameter without logical axes."""

  shape: tuple[int, int] = (4, 6)

  @nn.compact
  def __call__(self):
    uniform = nn.initializers.uniform()
    for name, axes, shape in (
      ('kernel', ('embed', 'mlp'), self.shape),
      ('bias', ('mlp',), self.shape[1:]),
      ('stacked', ('layers', 'embed', 'heads', 'head_dim'), (3, 4, 2, 5)),
    ):
      self.param(name, nn.with_logical_partitioning(uniform, axes), shape)
    self.param('plain', uniform, (4, 4))


def create(seed, shape=(4, 6), tx=None):
  params = Model(shape).init(jax.random.key(seed))['params']
  return {'params': params, **({'opt': tx.init(params)} if tx else {})}


def specs(mesh, **options):
  shardings = state_shardings(lambda s: create(s, **options), mesh, 0)
  return jax.tree.map(lambda s: s.spec, shardings)


def test_parameters_are_sharded_along_their_logical_axes():
  params = specs(make_mesh(2, 2, 2))['params']
  assert params['kernel'] == PartitionSpec('fsdp', 'tensor')
  assert params['bias'] == PartitionSpec('tensor')
  assert params['stacked'] == PartitionSpec(None, 'fsdp', 'tensor', None)
  assert params['plain'] == PartitionSpec()


def test_the_share_of_an_update_is_along_any_axis_that_the_devices_divide():
  sharding = NamedSharding(mesh := make_mesh(data=8), PartitionSpec('fsdp', 'tensor'))
  params = jax.ShapeDtypeStruct((6, 16), np.float32, sharding=sharding)
  update = shard_over_data(params, ('embed', 'mlp'), mesh).spec
  assert share_of(update) == (1, ('data',))


def test_an_axis_that_the_mesh_does_not_divide_is_replicated():
  params = specs(make_mesh(2, 2, 2), shape=(4, 7))['params']
  assert params['kernel'] == PartitionSpec('fsdp', None)
  assert params['bias'] == PartitionSpec(None)


@pytest.mark.parametrize('kind', ['adam', 'sgd'])
def test_moments_have_the_sharding_of_their_parameters(kind):
  tx = make_optimizer(kind, lambda step, hyper: 1.0)
  state = specs(make_mesh(2, 2, 2), tx=tx)
  leaves, params = jax.tree.leaves(state['opt']), state['params']
  for name in ('kernel', 'bias', 'stacked', 'plain'):
    copies = {'adam': 2, 'sgd': 1}[kind]
    assert leaves.count(params[name]) >= copies


def test_a_state_is_created_sharded_and_equal_on_any_mesh():
  # Adafactor keeps factors of large kernels: fewer axes than the parameter has.
  tx = make_optimizer('adafactor', lambda step, hyper: 1.0)

  def make(seed):
    params = {'kernel': create(seed, (128, 130))['params']['kernel']}
    return {'params': params, 'opt': tx.init(params)}

  def start(mesh):
    shardings = state_shardings(make, mesh, 0)
    return jax.jit(lambda s: nn.unbox(make(s)), out_shardings=shardings)(0)

  one, eight = start(make_mesh(devices=1)), start(make_mesh(2, 2, 2))
  assert eight['params']['kernel'].addressable_shards[0].data.shape == (64, 65)
  factors = [x for x in jax.tree.leaves(eight['opt']) if x.shape in ((128,), (130,))]
  assert len(factors) == 2
  assert all(x.sharding.is_fully_replicated for x in factors)
  jax.tree.map(np.testing.assert_array_equal, one, eight)
  assert one['params']['kernel'].std() > 0
