"""What TPUs send to each other: the least that the sharding needs, overlapped.

All is read from the programs of the chip's own compiler; see `test_experiments.py`.
"""

import os
from pathlib import Path
import re

import jax
import pytest

from seqlab.compile.collectives import ASYNC_DONE, ASYNC_START, collectives
from seqlab.compile.hlo import Module
from seqlab.compile.topologies import make_topology
from seqlab.experiment import load_experiment
from seqlab.plan.experiment import open_task
from seqlab.tasks.interface import traced_init
from seqlab.train.engines import make_engine
from seqlab.train.mesh import used_dtypes

CHIP = 'v5p'  # its links form a torus of three dimensions
pytestmark = pytest.mark.skipif(
  not os.environ.get('SEQLAB_CHIP', '').startswith('v'),
  reason='set SEQLAB_CHIP, or run make test-tpu',
)
EXPERIMENT = (
  Path(__file__).parent.parent.parent / 'experiments/wmt14/transformer_big.py'
)
SCALARS = 4 * 100  # a step sums a few numbers besides gradients
MODEL = dict(kind='transformer', width=512, mlp_width=2_048, heads=8, layers=2)


@pytest.fixture(scope='module', autouse=True)
def _optimized():
  # The rest of the suite compiles without optimisations, for the CPU.
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)
  jax.config.update('jax_enable_compilation_cache', True)


class Program:
  """The step of a small Transformer."""

  def __init__(self, folder, devices, *, smoke=False, **changes):
    config = load_experiment(f'{EXPERIMENT}:smoke' if smoke else str(EXPERIMENT))
    rows, model = 8 * devices, MODEL | {'dtype': 'bfloat16'}
    packed = dict(kind='packed', tokens=128 * rows, max_length=128, rows_multiple=rows)
    vocabulary = dict(kind='bpe', size=4_096, shared=True)
    if not smoke:
      changes = dict(batching=packed, model=model, vocabulary=vocabulary) | changes
    config.update(changes)
    self.task = open_task(config, folder)
    topology = make_topology(CHIP, devices)
    self.engine = make_engine(config, self.task, 100, topology.devices)
    shapes = self.task.batches('train').shapes
    self.text = self.engine.compile(
      max(shapes, key=lambda x: x['source'].size)
    ).as_text()
    self.module = Module(self.text)
    self.collectives = collectives(self.module)

  def bytes(self, kind, group=None):
    """Returns the bytes that are sent, among groups of so many devices."""
    found = [x for x in self.collectives if x.kind == kind]
    return sum(
      x.bytes * x.runs for x in found if group is None or x.groups.shape[1] == group
    )

  def gradient_bytes(self, sharded=False):
    """Returns the bytes of all gradients, in the dtypes that weights are used in.

    Args:
      sharded: whether to count those of sharded parameters only.
    """
    params = jax.tree.leaves(self.engine.abstract.params)
    boxed = jax.eval_shape(traced_init(self.task), jax.random.key(0))['params']
    dtypes = jax.tree.leaves(used_dtypes(boxed))
    return sum(
      x.size * d.itemsize
      for x, d in zip(params, dtypes, strict=True)
      if 'fsdp' in x.sharding.spec or not sharded
    )

  def computations_beside(self):
    """Returns the number of fusions between the start and the end of each gather."""
    entry = self.module.computations[self.module.entry]  # as scheduled
    names = list(entry)
    spans = [
      names[names.index(name) : names.index(name.replace(ASYNC_START, ASYNC_DONE))]
      for name in names
      if name.startswith(ASYNC_START)
    ]
    messages = (ASYNC_START, ASYNC_DONE)
    return [
      sum(entry[x].kind == 'fusion' and not x.startswith(messages) for x in span)
      for span in spans
    ]


def test_gradients_of_micro_batches_are_summed_once(tmp_path):
  step = Program(tmp_path, 8, accumulate=4)
  assert {(x.kind, x.runs) for x in step.collectives} == {('all-reduce', 1)}
  assert len(step.collectives) <= 6  # the compiler combines arrays
  whole = sum(4 * x.size for x in jax.tree.leaves(step.engine.abstract.params))
  assert whole <= step.bytes('all-reduce') <= whole + SCALARS


def test_a_recurrent_model_sends_nothing_in_its_loops(tmp_path):
  step = Program(
    tmp_path,
    8,
    smoke=True,
    model=dict(kind='recurrent', width=256, attention='additive'),
    batching=dict(kind='buckets', tokens=1_024, shapes=1, rows_multiple=8),
    mesh=dict(data=1, fsdp=8),
  )
  assert step.collectives
  assert {x.runs for x in step.collectives} == {1}


def test_layers_are_gathered_beside_computation_and_scattered(tmp_path):
  wide = dict(kind='transformer', width=1_024, mlp_width=4_096, heads=16, layers=1)
  step = Program(tmp_path, 8, model=wide, mesh=dict(data=1, fsdp=8))
  # Each gather is started, continued by a fusion with a product, and ended.
  assert len(re.findall(r'%async-collective-start[.\d]* =', step.text)) > 8
  assert len(re.findall(r'calls=%async_collective_fusion', step.text)) > 8
  # Sums of some arrays are still complete: their shares are no tiles in the layout that
  # the compiler chooses for the product.
  assert step.bytes('reduce-scatter') > step.bytes('all-reduce')


@pytest.mark.slow
def test_256_chips_send_each_gradient_once(tmp_path):
  step = Program(tmp_path, 256)
  assert {(x.kind, x.runs) for x in step.collectives} == {('all-reduce', 1)}
  assert len(step.collectives) <= 6
  sent = step.bytes('all-reduce')
  assert step.gradient_bytes() <= sent <= step.gradient_bytes() + SCALARS


@pytest.mark.slow
def test_256_chips_gather_beside_computation_and_send_shares(tmp_path):
  step = Program(tmp_path, 256, mesh=dict(data=32, fsdp=8))
  assert {x.runs for x in step.collectives} == {1}
  sharded, table = step.gradient_bytes(sharded=True), 4 * 4_096 * MODEL['width']
  # In two phases: pairs of devices, and then four pairs, which get whole weights. Those of a
  # layer are gathered forwards and backwards, the table once.
  assert step.bytes('all-gather', group=4) == 2 * (sharded - table) + table
  # Groups along the data axis sum no more than their shares.
  assert step.bytes('all-reduce', group=32) == sharded // 8
  vectors = step.gradient_bytes() - sharded
  assert vectors <= step.bytes('all-reduce', group=256) <= vectors + SCALARS
  beside = step.computations_beside()
  assert len(beside) > 50
  assert min(beside) > 0
