"""Shares of arrays, summed and gathered in the form of a TPU and in that of others."""

import contextlib

import jax
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from seqlab.layers.device import ACCELERATOR, instead_of
from seqlab.layers.exchange import gather_shares, share_of, sum_shares
from seqlab.train.mesh import make_mesh

SPECS = {
  'matrix': PartitionSpec(None, ('fsdp', 'data')),
  'stack': PartitionSpec(None, 'data', None),
  'vector': PartitionSpec(),
  'rows': PartitionSpec(None, 'data', None),  # whole tiles
  'columns': PartitionSpec(None, ('fsdp', 'data')),
}


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_shares_are_those_of_the_sum_and_make_up_the_whole(platform):
  random = np.random.default_rng(0)
  shapes = {'matrix': (3, 16), 'stack': (2, 8, 5), 'vector': (7,)}
  shapes |= {'rows': (2, 64, 3), 'columns': (3, 1_024)}
  # One array per device, in front.
  arrays = {k: random.normal(size=(8, *x)).astype('f') for k, x in shapes.items()}
  shares = {name: share_of(spec) for name, spec in SPECS.items()}
  assert shares['matrix'] == (1, ('fsdp', 'data'))
  assert shares['vector'] == (0, ())
  mesh = make_mesh(data=4, fsdp=2)
  dtypes = dict.fromkeys(shapes, np.dtype('f'))

  def exchange(own):
    sums = sum_shares({k: x[0] for k, x in own.items()}, shares, dtypes)
    return sums, gather_shares(sums, shares)

  run = jax.shard_map(
    exchange,
    mesh=mesh,
    in_specs=PartitionSpec(('data', 'fsdp')),
    out_specs=(SPECS, PartitionSpec()),
    check_vma=False,
  )
  traced_for = (
    instead_of(ACCELERATOR) if platform == 'tpu' else contextlib.nullcontext()
  )
  with traced_for:
    sums, whole = jax.jit(run)(arrays)
  for name, array in arrays.items():
    np.testing.assert_allclose(sums[name], array.sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(whole[name], sums[name])
