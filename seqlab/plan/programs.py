"""Compiles the programs of an experiment for a mesh, from shapes alone.

The compiler is that of the chip, where it is installed. Otherwise it is XLA's compiler
for simulated CPU devices, as a stand-in: what a program computes and sends is nearly
the same, but its memory and its fusions are not.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import math
import time

from flax import linen as nn
import jax
import numpy as np

from seqlab.compile import work
from seqlab.compile.buffers import Buffer, largest_buffers
from seqlab.compile.collectives import Collective, collectives
from seqlab.compile.cost import Costs
from seqlab.compile.hlo import Module
from seqlab.compile.memory import ProgramMemory, explain_refusal
from seqlab.compile.topologies import Topology
from seqlab.config import with_defaults
from seqlab.layers.device import ACCELERATOR, instead_of
from seqlab.plan.evaluation import Reading, prepare_evaluation
from seqlab.tasks.interface import Task
from seqlab.train.engine import Engine
from seqlab.train.engines import make_engine
from seqlab.train.overview import count, shard_bytes, sharding
from seqlab.types import Batch, PyTree

STAND_IN = "XLA's CPU compiler, as a stand-in"
WHAT = ('train', 'evaluate')
_BUFFERS = 10  # number of the largest arrays that are described


@dataclasses.dataclass(frozen=True)
class Memory:
  """Memory of one device, in bytes.

  Attributes:
    parameters: parameters of the model.
    optimizer: state of the optimiser.
    other: moving averages, statistics, and the rows of a batch.
    temporary: activations, gradients and other arrays of one step.
    output: results that do not lie in the memory of an argument.
    code: the program itself.
  """

  parameters: int
  optimizer: int
  other: int
  temporary: int
  output: int
  code: int

  @property
  def total(self) -> int:
    """Bytes of everything."""
    return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class PlannedStep:
  """A program that was compiled for a mesh.

  Attributes:
    what: 'train' or 'evaluate'.
    compiler: name of the compiler.
    chip_name: the chip that it was compiled for; '' by the stand-in.
    mesh: name -> size of each axis of the mesh.
    batch: name -> shape, with the rows of all devices.
    parameters: number of parameters.
    sharding: description of the mesh axes that the parameters are sharded over.
    flops: floating-point operations of the matrix products of one device.
    model_flops: the same by the task's own count, without recomputation and attention's
      products; None if the task has no such count.
    memory_traffic: bytes that one device reads and writes in its memory, at least.
    memory: bytes of one device, by kind.
    buffers: the largest arrays.
    collectives: the messages between devices.
    costs: time of every instruction; None by the stand-in.
    seconds: time that compiling took.
    endless: loops whose number of runs is not written in the program.
    trips: number of runs that is assumed for them.
    reading: what a step of a search reads; None for a training step.
  """

  what: str
  compiler: str
  chip_name: str
  mesh: Mapping[str, int]
  batch: Mapping[str, tuple[int, ...]]
  parameters: int
  sharding: str
  flops: float
  model_flops: float | None
  memory_traffic: float
  memory: Memory
  buffers: list[Buffer]
  collectives: list[Collective]
  costs: Costs | None
  seconds: float
  endless: list[str]
  trips: int
  reading: Reading | None = None

  @property
  def devices(self) -> int:
    """Number of devices of the mesh."""
    return math.prod(self.mesh.values())

  @property
  def positions(self) -> int:
    """Positions of the batch, as a measure of the work in it."""
    return sum(math.prod(shape[:2]) for shape in self.batch.values())

  @property
  def state(self) -> int:
    """Bytes of parameters, optimiser and other arguments on one device."""
    return self.memory.parameters + self.memory.optimizer + self.memory.other

  @property
  def temporary(self) -> int:
    """Bytes of activations, gradients and other arrays of one step."""
    return self.memory.temporary

  @property
  def peak_share(self) -> float | None:
    """Share of the chip's peak that the estimated time is; None by the stand-in."""
    if self.costs is None:
      return None
    flops = self.model_flops or self.flops
    return flops / (self.costs.chip.flops * max(self.costs.seconds, 1e-12))


def plan_step(
  config: Mapping,
  task: Task,
  devices: int,
  topology: Topology | None = None,
  what: str = 'train',
) -> PlannedStep:
  """Compiles a program for its largest batch.

  Args:
    config: a resolved experiment.
    task: made from it.
    devices: number of devices.
    topology: devices to compile for; None takes simulated CPU devices.
    what: 'train' or 'evaluate'.

  Raises:
    DoesNotFitError: the compiler says that the program does not fit the chip.
    ValueError: the mesh or a batch does not fit the devices, or the experiment has no
      program of this kind.
  """
  config = dict(with_defaults(config))
  config['mesh'] = {**config['mesh'], 'devices': devices}
  if topology is None and getattr(getattr(task, 'model', None), 'dtype', '') == 'auto':
    # 'auto' means float32 on the simulated CPUs and bfloat16 on every chip.
    task.model = task.model.clone(dtype='bfloat16')
  # Any length would do, since only the learning rate depends on it.
  total = config['steps'] if isinstance(config['steps'], int) else 100_000
  engine = make_engine(config, task, total, topology and topology.devices)
  prepare = _train_program if what == 'train' else prepare_evaluation
  compile_program = prepare(config, task, engine)
  started = time.monotonic()
  traced_for = contextlib.nullcontext() if topology else instead_of(ACCELERATOR)
  try:
    with traced_for:
      program, batch, reading = compile_program()
  except jax.errors.JaxRuntimeError as error:
    raise explain_refusal(error) from None
  seconds = time.monotonic() - started
  trips = reading.steps if reading else 1
  module = Module(program.as_text(), trips)
  return _describe(
    module,
    program,
    engine,
    what=what,
    task=task,
    batch=batch,
    topology=topology,
    seconds=seconds,
    trips=trips,
    reading=reading,
  )


# Compiles a program; returns it, its arrays, and what a step of a search reads.
_Compile = Callable[[], tuple[jax.stages.Compiled, Batch, Reading | None]]


def _train_program(config: Mapping, task: Task, engine: Engine) -> _Compile:
  """Returns a function that compiles the step for the largest batch."""
  del config
  shapes = task.batches('train').shapes
  engine.definition.check(shapes)
  batch = max(shapes, key=_num_elements)
  return lambda: (engine.compile(batch), batch, None)


def _num_elements(batch: Batch) -> int:
  return sum(x.size for x in batch.values())


def _describe(
  module: Module,
  program: jax.stages.Compiled,
  engine: Engine,
  *,
  what: str,
  task: Task,
  batch: Batch,
  topology: Topology | None,
  seconds: float,
  trips: int,
  reading: Reading | None,
) -> PlannedStep:
  state = engine.definition.abstract
  done = work.operations(module)
  flops = sum(runs * work.flops(module, name, one) for runs, name, one in done)
  elements = 2 if topology is None and _is_bfloat16(task) else 4
  return PlannedStep(
    what=what,
    compiler=topology.compiler if topology else STAND_IN,
    chip_name=topology.name if topology else '',
    mesh=dict(engine.mesh.shape),
    batch={name: x.shape for name, x in batch.items()},
    parameters=count(state.params),
    sharding=sharding(state.params, engine.mesh),
    flops=flops,
    model_flops=_model_flops(task, batch, engine.mesh.size, what),
    # Operands and results of products, and the state, which is read and written once.
    memory_traffic=elements * module.product_elements + 2 * shard_bytes(state),
    memory=_memory(program, state, what),
    buffers=largest_buffers(module, _BUFFERS),
    collectives=collectives(module),
    costs=Costs(module, topology.chip) if topology else None,
    seconds=seconds,
    endless=module.endless,
    trips=trips,
    reading=reading,
  )


def _is_bfloat16(task: Task) -> bool:
  return getattr(getattr(task, 'model', None), 'dtype', None) == 'bfloat16'


def _model_flops(task: Task, batch: Batch, devices: int, what: str) -> float | None:
  """Returns the task's own count of operations per device, for a batch without padding.

  Only tasks with a model count by tokens; others count what is in the batch.
  """
  if what != 'train' or not isinstance(getattr(task, 'model', None), nn.Module):
    return None
  return task.flops({name: np.ones_like(x) for name, x in batch.items()}) / devices


def _memory(program: jax.stages.Compiled, state: PyTree, what: str) -> Memory:
  arguments, temporary, output, code = ProgramMemory.of(program)
  parameters = shard_bytes(state.params)
  optimizer = shard_bytes(state.opt_state) if what == 'train' else 0
  return Memory(
    parameters=parameters,
    optimizer=optimizer,
    other=max(arguments - parameters - optimizer, 0),
    temporary=temporary,
    output=output,
    code=code,
  )
