"""The overview of a step at the start of a run is that of its compiled program."""

import jax
import pytest

from seqlab.io.console import amount
from seqlab.tasks.translation import Translation
from seqlab.train.engines import make_engine
from seqlab.train.overview import overview


@pytest.fixture
def rows(tiny, tmp_path):
  """(mesh, options) -> name -> text, and a new state."""

  def make(mesh, **options):
    vocabulary = tiny['vocabulary'] | {'size': 16}
    config = tiny | {'mesh': mesh, 'vocabulary': vocabulary} | options
    task = Translation.from_config(config, tmp_path / 'vocabulary')
    engine = make_engine(config, task, steps=10)
    compiled = [engine.compile(task.batches('train').shapes[0])]
    lines = overview(engine, compiled).splitlines()[1:]
    return dict(line.strip().split('  ', 1) for line in lines), engine.init(0)

  return make


def test_it_lists_parameters_memory_sharding_and_collectives(rows):
  overview, state = rows({'data': 2, 'fsdp': 4})
  overview = {name: text.strip() for name, text in overview.items()}
  device = jax.devices()[0]

  def held(tree):
    shards = [s for x in jax.tree.leaves(tree) for s in x.addressable_shards]
    return amount(sum(s.data.nbytes for s in shards if s.device == device))

  size = sum(x.size for x in jax.tree.leaves(state.params))
  assert overview['parameters'].startswith(f'{size:,} in ')
  assert overview['devices'] == '8: data=2, fsdp=4, tensor=1'
  assert overview['parameters per device'] == held(state.params)
  assert overview['optimiser per device'] == held(state.opt_state)
  assert 'fsdp cuts' in overview['sharding']
  assert 'reduce-scatter over fsdp' in overview['collectives per step']
  assert 'all-reduce over data' in overview['collectives per step']
  assert not overview['activations per device'].startswith('0 ')


@pytest.mark.slow
def test_pmap_has_all_parameters_everywhere(rows):
  overview, _ = rows({'data': 8}, parallel='pmap')
  assert 'pmap' in overview['sharding']
  assert 'all-reduce' in overview['collectives per step']


@pytest.mark.parametrize(
  ('size', 'text'),
  [(0, '0 B'), (999, '999 B'), (12_340, '12.3 kB'), (2e12, '2,000 GB')],
)
def test_amounts_are_readable(size, text):
  assert amount(size) == text
