"""Predicts what a training step would take on more devices than there are.

The step is lowered and compiled for a mesh of simulated CPU devices, from shapes alone.
What it computes and sends is read from the compiled program, and how long that takes on
a chip is estimated from data sheets.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
from pathlib import Path
import tempfile
import time

import jax

from seqlab.compile.chips import CHIPS, Chip, find_chip
from seqlab.compile.collectives import Collective, collectives, summary
from seqlab.compile.hlo import Module
from seqlab.compile.roofline import ASSUMPTIONS, Estimate, estimate
from seqlab.config import with_defaults
from seqlab.domains import Count, checked
from seqlab.io.console import console
from seqlab.tasks import task_of
from seqlab.tasks.interface import Estimator, Task, Translates, has
from seqlab.train.checks import check_experiment
from seqlab.train.engines import make_engine
from seqlab.train.overview import (
  amount,
  count,
  named_sizes,
  shard_bytes,
  sharding,
  temporary_bytes,
)
from seqlab.types import Batch


@dataclasses.dataclass(frozen=True)
class PlannedStep:
  """A training step that was compiled for a mesh.

  Attributes:
    mesh: name -> size of each axis of the mesh.
    batch: name -> shape, with the rows of all devices.
    parameters: number of parameters.
    sharding: description of the mesh axes that the parameters are sharded over.
    flops: floating-point operations of the matrix products of one device.
    memory_traffic: bytes that one device reads and writes in its memory, at least.
    state: bytes of parameters, optimiser and other state on one device.
    temporary: bytes of activations, gradients and other arrays of one step.
    collectives: the messages between devices.
    seconds: time that compiling took.
  """

  mesh: Mapping[str, int]
  batch: Mapping[str, tuple[int, ...]]
  parameters: int
  sharding: str
  flops: float
  memory_traffic: float
  state: int
  temporary: int
  collectives: list[Collective]
  seconds: float

  @property
  def devices(self) -> int:
    """Number of devices of the mesh."""
    return math.prod(self.mesh.values())

  @property
  def positions(self) -> int:
    """Positions of the batch, as a measure of the work in it."""
    return sum(math.prod(shape[:2]) for shape in self.batch.values())


@checked
def plan_experiment(
  config: Mapping, devices: Sequence[Count], chips: Sequence[str] = ()
) -> None:
  """Prints what an experiment's step takes, for each number of devices.

  Args:
    config: a resolved experiment.
    devices: numbers of devices; one axis of the experiment's mesh may be -1, which then
      takes what the others leave.
    chips: names in `seqlab.compile.chips.CHIPS`; all of them if empty.

  Raises:
    ValueError: a chip is unknown, or the mesh or a batch does not fit the devices.
    OSError: the batch shapes depend on data that cannot be read.
    RuntimeError: JAX already runs on fewer devices.
  """
  chosen = {name: find_chip(name) for name in chips} or CHIPS
  check_experiment(config)
  simulate_devices(max(devices))
  out = console()
  steps = []
  with tempfile.TemporaryDirectory() as folder:
    # Printing is outside, since it may fail as well, as in `seqlab plan | head`.
    with _explain_missing_data(config):
      task = _make_task(config, Path(folder))
      if not has(task, Estimator):
        task.batches('train').shapes  # noqa: B018  # reads what they depend on
    if has(task, Estimator):
      out.print(_describe_estimator(config['task'], task))
      return
    for n in devices:
      steps.append(plan_step(config, task, n))
      out.print(describe(steps[-1]))
  out.print(_table(steps, chosen))
  out.print(ASSUMPTIONS)


def _describe_estimator(name: str, task: Estimator) -> str:
  """Returns the sizes of an estimator's data; there is no training step to compile."""
  report = getattr(task, 'report', {}).items()
  sizes = ''.join(f'\n  {key}: {value:,.4g}' for key, value in report)
  return (
    f'{name} is fitted in its own steps, by one process, on all of its devices: there '
    f'is no training step to plan{sizes}'
  )


def simulate_devices(devices: int) -> None:
  """Has JAX run on simulated CPU devices, whatever hardware there is.

  Raises:
    RuntimeError: JAX runs already, on fewer.
  """
  try:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', devices)
  except RuntimeError:  # JAX runs already, perhaps on enough devices
    pass
  if jax.device_count() < devices:
    raise RuntimeError(
      f'JAX runs on {jax.device_count()} devices already, and {devices} are to be '
      f'planned for: start a process for it'
    )


def _make_task(config: Mapping, folder: Path) -> Task:
  """Makes the task without its data, or with them if its shapes depend on them."""
  kind = task_of(config)
  return kind.from_shapes(config) or kind.from_config(config, folder)


@contextlib.contextmanager
def _explain_missing_data(config: Mapping) -> Iterator[None]:
  """Adds to an OSError why a plan needs data at all."""
  try:
    yield
  except OSError as error:
    kind = task_of(config)
    remedy = f'{kind.__name__}.from_shapes would have to give them without'
    if has(kind, Translates):
      remedy = (
        "with batching.kind='packed', batching.max_length and a vocabulary of subwords "
        'it is planned without'
      )
    raise OSError(
      f"{error}. The shapes of this experiment's batches depend on its data; {remedy}"
    ) from error


def plan_step(config: Mapping, task: Task, devices: int) -> PlannedStep:
  """Compiles the step for the largest batch; see `plan_experiment` for its errors."""
  config = dict(with_defaults(config))
  config['mesh'] = {**config['mesh'], 'devices': devices}
  operand_bytes = 4
  if getattr(getattr(task, 'model', None), 'dtype', None) in ('auto', 'bfloat16'):
    # 'auto' means float32 on the simulated CPUs and bfloat16 on every chip.
    task.model = task.model.clone(dtype='bfloat16')
    operand_bytes = 2
  # Any length would do, since only the learning rate depends on it.
  total = config['steps'] if isinstance(config['steps'], int) else 100_000
  engine = make_engine(config, task, total)
  shapes = task.batches('train').shapes
  engine.definition.check(shapes)
  batch = max(shapes, key=_num_elements)
  started = time.monotonic()
  step = engine.compile(batch)
  seconds = time.monotonic() - started
  module = Module(step.as_text())
  state = engine.definition.abstract
  return PlannedStep(
    mesh=dict(engine.definition.mesh.shape),
    batch={name: x.shape for name, x in batch.items()},
    parameters=count(state.params),
    sharding=sharding(state.params, engine.definition.mesh),
    flops=module.flops,
    # Operands and results of products, and the state, which is read and written once.
    memory_traffic=operand_bytes * module.product_elements + 2 * shard_bytes(state),
    state=shard_bytes(state),
    temporary=temporary_bytes(step),
    collectives=collectives(module),
    seconds=seconds,
  )


def _num_elements(batch: Batch) -> int:
  return sum(x.size for x in batch.values())


def describe(step: PlannedStep) -> str:
  """Describes a step in a few lines: shapes, memory, and every kind of collective."""
  shapes = ', '.join(f'{k} {" x ".join(map(str, v))}' for k, v in step.batch.items())
  lines = [
    f'{step.devices} devices ({named_sizes(step.mesh)}), '
    f'compiled in {step.seconds:.0f} s',
    f'  batch: {shapes}',
    f'  {step.parameters:,} parameters; {step.sharding}',
    f'  per device: {step.flops / 1e9:,.1f} GFLOP of matrix products, '
    f'{amount(step.state)} of state, {amount(step.temporary)} of activations, gradients '
    f'and the like',
  ]
  for (kind, axes), (runs, size) in summary(step.collectives, step.mesh).items():
    lines.append(f'  {runs} {kind} over {" x ".join(axes)}: {amount(size)} per step')
  return '\n'.join(lines)


def _table(steps: Sequence[PlannedStep], chips: Mapping[str, Chip]) -> str:
  """Formats the expected times and speed-ups, by chip and number of devices."""
  head = ('chip', 'devices', 'mesh', 'memory', 'alone', 'sending', 'of it waiting')
  rows = [(*head, 'step', 'at best', 'speed-up', 'efficiency')]
  for name, chip in chips.items():
    rows += [(name, *cells) for cells in _cells_of_chip(steps, chip)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(text.rjust(width) for text, width in zip(row, widths, strict=True))
    for row in rows
  )


def _cells_of_chip(
  steps: Sequence[PlannedStep], chip: Chip
) -> Iterator[tuple[str, ...]]:
  base = steps[0]
  base_seconds = _estimate(base, chip).step
  for step in steps:
    e = _estimate(step, chip)
    # Per position, since a batch that grew with the devices has more work in it.
    speed_up = base_seconds / e.step * step.positions / base.positions
    yield (
      str(step.devices),
      'x'.join(str(size) for size in step.mesh.values()),
      f'{(step.state + step.temporary) / chip.memory:.0%}',
      *map(_time, (e.alone, e.sending, e.latency, e.step, e.at_best)),
      f'{speed_up:.2f}',
      f'{speed_up * base.devices / step.devices:.0%}',
    )


def _estimate(step: PlannedStep, chip: Chip) -> Estimate:
  return estimate(chip, step.flops, step.memory_traffic, step.collectives)


def _time(seconds: float) -> str:
  return f'{seconds * 1e3:.3g} ms' if seconds else '-'
