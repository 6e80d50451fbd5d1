"""What an experiment would take of more devices than there are: `seqlab plan`.

The step is lowered and compiled for a mesh of pretended CPU devices, from shapes alone:
what it computes and sends is read from the program, and what that takes on a chip is
worked out from data sheets.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from pathlib import Path
import tempfile
import time

import jax

from seqlab.chips import CHIPS, Chip, named
from seqlab.config import with_defaults
from seqlab.domains import Count, checked
from seqlab.io.console import console
from seqlab.tasks import task_of
from seqlab.tasks.interface import Estimator, Task, has
from seqlab.train.checks import check_experiment
from seqlab.train.collectives import Collective, collectives, summary
from seqlab.train.engines import make_engine
from seqlab.train.hlo import Module
from seqlab.train.overview import (
  amount,
  count,
  named_sizes,
  shard_bytes,
  sharding,
  temporary_bytes,
)
from seqlab.train.roofline import ASSUMPTIONS, estimate
from seqlab.types import Batch


@dataclasses.dataclass(frozen=True)
class Planned:
  """A step compiled for so many devices.

  Attributes:
    mesh: sizes of its axes.
    batch: name -> shape, of all devices.
    parameters: how many.
    cut: which axes cut them, in words.
    flops: of one device: those of matrix products.
    moved: bytes one device reads and writes in memory, at least.
    state: bytes of parameters, optimiser and other state on one device.
    temporary: bytes of activations, gradients and all else a step needs for a while.
    collectives: what is sent.
    seconds: that compiling took.
  """

  mesh: Mapping[str, int]
  batch: Mapping[str, tuple[int, ...]]
  parameters: int
  cut: str
  flops: float
  moved: float
  state: int
  temporary: int
  collectives: list[Collective]
  seconds: float

  @property
  def devices(self) -> int:
    """Of the mesh."""
    return math.prod(self.mesh.values())


@checked
def plan(config: Mapping, devices: Sequence[Count], chips: Sequence[str] = ()) -> None:
  """Prints what the experiment's step takes on so many devices, for each number.

  Args:
    config: a resolved experiment.
    devices: numbers of devices; of the mesh, one axis may be -1, for what is left.
    chips: names in `seqlab.chips.CHIPS`; all if empty.

  Raises:
    ValueError: an unknown chip, or a mesh or batch that does not fit the devices.
    RuntimeError: JAX already runs on fewer devices.
  """
  chosen = {name: named(name) for name in chips} or CHIPS
  check_experiment(config)
  pretend(max(devices))
  out = console()
  with tempfile.TemporaryDirectory() as folder:
    task = _task(config, Path(folder))
    if has(task, Estimator):
      out.print(_describe_estimator(config['task'], task))
      return
    found = []
    for n in devices:
      found.append(compiled(config, task, n))
      out.print(describe(found[-1]))
  out.print(_table(found, chosen))
  out.print(ASSUMPTIONS)


def _describe_estimator(name: str, task: Estimator) -> str:
  """Returns the sizes of an estimator's data; there is no training step to compile."""
  report = getattr(task, 'report', {}).items()
  sizes = ''.join(f'\n  {key}: {value:,.4g}' for key, value in report)
  return (
    f'{name} is fitted in steps of its own, by one process, on all of its devices: there '
    f'is no training step to plan{sizes}'
  )


def pretend(devices: int) -> None:
  """Has JAX run on that many CPU devices that are none, whatever there is.

  Raises:
    RuntimeError: it runs already, on fewer.
  """
  try:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', devices)
  except RuntimeError:  # it runs; there may be enough
    pass
  if jax.device_count() < devices:
    raise RuntimeError(
      f'JAX runs on {jax.device_count()} devices already, and {devices} are to be '
      f'planned for: start a process for it'
    )


def _task(config: Mapping, folder: Path) -> Task:
  """The experiment's task, without its data where these are not needed."""
  kind = task_of(config)
  if task := kind.from_shapes(config):
    return task
  try:
    return kind.from_config(config, folder)
  except OSError as error:
    raise OSError(
      f"{error}. The shapes of this experiment's batches depend on its data; with "
      f"batching.kind='packed', batching.max_length and a vocabulary of subwords it is "
      f'planned without'
    ) from error


def compiled(config: Mapping, task: Task, devices: int) -> Planned:
  """The step, for the largest batch there is; see `plan` for what it raises."""
  config = dict(with_defaults(config))
  config['mesh'] = {**config['mesh'], 'devices': devices}
  width = 4  # bytes of an operand of matrix products
  if getattr(getattr(task, 'model', None), 'dtype', None) in ('auto', 'bfloat16'):
    task.model = task.model.clone(dtype='bfloat16')  # as 'auto' is on all the chips
    width = 2
  steps = config['steps'] if isinstance(config['steps'], int) else 100_000
  engine = make_engine(config, task, steps)
  shapes = task.batches('train').shapes
  engine.definition.check(shapes)
  batch = max(shapes, key=_cells)
  started = time.monotonic()
  step = engine.compile(batch)
  seconds = time.monotonic() - started
  module = Module(step.as_text())
  state = engine.definition.abstract
  return Planned(
    mesh=dict(engine.definition.mesh.shape),
    batch={name: x.shape for name, x in batch.items()},
    parameters=count(state.params),
    cut=sharding(state.params, engine.definition.mesh),
    flops=module.flops,
    # Operands and results of products, and the state read and written once.
    moved=width * module.product_elements + 2 * shard_bytes(state),
    state=shard_bytes(state),
    temporary=temporary_bytes(step),
    collectives=collectives(module),
    seconds=seconds,
  )


def _cells(batch: Batch) -> int:
  return sum(x.size for x in batch.values())


def describe(one: Planned) -> str:
  """A mesh in a few lines: shapes, memory, and every kind of collective."""
  shapes = ', '.join(f'{k} {" x ".join(map(str, v))}' for k, v in one.batch.items())
  lines = [
    f'{one.devices} devices ({named_sizes(one.mesh)}), compiled in {one.seconds:.0f} s',
    f'  batch: {shapes}',
    f'  {one.parameters:,} parameters; {one.cut}',
    f'  a device: {one.flops / 1e9:,.1f} GFLOP of matrix products, '
    f'{amount(one.state)} of state, {amount(one.temporary)} of activations, gradients '
    f'and the like',
  ]
  for (kind, axes), (runs, size) in summary(one.collectives, one.mesh).items():
    lines.append(f'  {runs} {kind} over {" x ".join(axes)}: {amount(size)} a step')
  return '\n'.join(lines)


def _table(found: Sequence[Planned], chips: Mapping[str, Chip]) -> str:
  """Expected times by chip and number of devices, and what becomes of each device."""
  head = ('chip', 'devices', 'mesh', 'memory', 'alone', 'sending', 'of it waiting')
  rows = [(*head, 'step', 'at best', 'speed-up', 'efficiency')]
  for name, chip in chips.items():
    first = None
    for one in found:
      e = estimate(chip, one.flops, one.moved, one.collectives)
      first = first or (one.devices, e.step, _work(one))
      # Of the same work: a batch that grew with the devices took more.
      faster = first[1] / e.step * _work(one) / first[2]
      rows.append(
        (
          name,
          str(one.devices),
          'x'.join(str(size) for size in one.mesh.values()),
          f'{(one.state + one.temporary) / chip.memory:.0%}',
          *map(_time, (e.alone, e.sending, e.latency, e.step, e.at_best)),
          f'{faster:.2f}',
          f'{faster * first[0] / one.devices:.0%}',
        )
      )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(text.rjust(width) for text, width in zip(row, widths, strict=True))
    for row in rows
  )


def _work(one: Planned) -> int:
  return sum(shape[0] * shape[1] for shape in one.batch.values() if len(shape) > 1) or 1


def _time(seconds: float) -> str:
  return f'{seconds * 1e3:.3g} ms' if seconds else '-'
