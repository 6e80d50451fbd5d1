"""The compiled training step of one experiment, on the devices at hand."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqlab.config import call, check_keys
from seqlab.tasks.interface import CustomUpdate, Task, has
from seqlab.train.mesh import (
  RULES,
  batch_sharding,
  logical_axes,
  make_mesh,
  replicated,
  rows_divisor,
  rows_share,
  state_shardings,
)
from seqlab.train.optimizers import keeps_average, make_optimizer, make_schedule
from seqlab.train.state import TrainState
from seqlab.train.step import make_own_step, make_train_step
from seqlab.types import Batch, PyTree, Sums


class CompileCounter:
  """Counts what is compiled for the devices in this process, from now on."""

  _total = 0

  def __init__(self):
    if not CompileCounter._total:  # the listener stays for the process's life
      CompileCounter._total = 1
      jax.monitoring.register_event_duration_secs_listener(CompileCounter._listen)
    self._before = CompileCounter._total

  @staticmethod
  def _listen(event: str, duration: float, **kwargs) -> None:
    del duration, kwargs
    CompileCounter._total += event == '/jax/core/compile/backend_compile_duration'

  @property
  def count(self) -> int:
    """Compilations since this counter was made; 0 is what a run should have."""
    return CompileCounter._total - self._before


class Program:
  """Creates the state, compiles the step for every shape, and runs it.

  With `parallel='jit'` arrays are global and sharded over the mesh; the compiler
  puts the communication in. With `parallel='pmap'` every device holds the whole
  state and its own rows, gradients are summed by name, and each device drops
  units of its own: with dropout the losses are not those of another number of
  devices, as they are under jit.

  Attributes:
    mesh: of all devices.
    share: (i, n), this process builds the i-th of n equal shares of a batch's rows.
    hyper: the traced hyperparameters, on the devices.
    abstract: shapes, dtypes and shardings of the state, for restoring it.
    shardings: of the state.
    update: (state, batch, hyper) -> (state, sums), not compiled: what a step does.
  """

  def __init__(self, config: Mapping, task: Task, steps: int):
    """`steps` is the length of the run, for schedules that end with it."""
    self.parallel = config.get('parallel', 'jit')
    if self.parallel not in ('jit', 'pmap'):
      raise ValueError(f"parallel is {self.parallel!r}; it may be 'jit' or 'pmap'")
    self.mesh = call(make_mesh, config.get('mesh', {}), 'mesh')
    if self.parallel == 'pmap' and self.mesh.shape['data'] != self.mesh.size:
      raise ValueError("parallel='pmap' replicates: set mesh.fsdp=1 and mesh.tensor=1")
    if self.parallel == 'pmap' and jax.process_count() > 1:
      raise ValueError("parallel='pmap' is for one process: set parallel='jit'")
    self.share = rows_share(self.mesh, jax.process_index())
    check_keys(
      config['hyper'],
      ('peak', 'weight_decay', *task.hyper),
      needed=('peak',),
      where='hyper.',
    )
    self._ema = config.get('ema', 0.0)
    self._accumulate = config.get('accumulate', 1)
    width = config.get('model', {}).get('width')
    schedule = make_schedule(config['schedule'], steps=steps, width=width)
    self._averages = keeps_average(config)
    axes = logical_axes(task.init)
    tx = make_optimizer(config.get('optimizer', {}), schedule, axes)
    if has(task, CustomUpdate):
      self._check_own(config)
      tx = optax.identity()
      train_step = make_own_step(task, schedule)
    else:
      train_step = make_train_step(
        task,
        tx,
        accumulate=self._accumulate,
        ema=self._ema,
        axis_name='data' if self.parallel == 'pmap' else None,
      )

    def update(state, batch, hyper, *constants):
      after, sums = train_step(state, batch, hyper, *constants)
      rate = schedule(state.step, hyper)
      return after, {**sums, 'learning_rate': (rate, jnp.ones(()))}

    def step(state, batch, hyper, *constants):
      with self._named_axes():
        return update(state, batch, hyper, *constants)

    def create(seed):
      variables = dict(task.init(jax.random.key(seed)))
      params = variables.pop('params')
      return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        params=params,
        collections=variables,
        opt_state=tx.init(nn.unbox(params)),  # optax knows no boxes
        # A copy: donated buffers may not appear twice in the state.
        ema=jax.tree.map(jnp.copy, params) if self._averages else None,
      )

    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    shardings = state_shardings(create, self.mesh, seed)
    self._start = jax.jit(lambda s: nn.unbox(create(s)), out_shardings=shardings)
    self.update, self.shardings = update, shardings
    self.abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      nn.unbox(jax.eval_shape(create, seed)),
      shardings,
    )
    self._rows, self._everywhere = batch_sharding(self.mesh), replicated(self.mesh)
    hyper = {k: np.float32(v) for k, v in config['hyper'].items() if v is not None}
    self._constants = ()
    if has(task, CustomUpdate):
      self._constants = (task.constants(self.mesh),)
    self._compiled: dict[tuple, Callable] = {}
    self._local = [d for d in self.mesh.devices.flat if d in jax.local_devices()]
    if self.parallel == 'jit':
      self.hyper = jax.device_put(hyper, self._everywhere)
      self._step = jax.jit(
        step,
        in_shardings=(
          *(shardings, self._rows, self._everywhere),
          *(jax.tree.map(lambda x: x.sharding, x) for x in self._constants),
        ),
        out_shardings=(shardings, self._everywhere),
        donate_argnums=0,
      )
    else:
      self.hyper = hyper
      self._step = jax.pmap(
        step,
        axis_name='data',
        in_axes=(0, 0, None),
        donate_argnums=0,
        devices=self._local,
      )

  @contextlib.contextmanager
  def _named_axes(self) -> Iterator[None]:
    """Lets what is traced say on which devices it wants an array."""
    if self.parallel == 'pmap':
      yield
      return
    mesh = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
    with mesh, nn.logical_axis_rules(RULES):
      yield

  def _check_own(self, config: Mapping) -> None:
    """Raises ValueError for what a task with an update of its own has no use for."""
    unused = {
      'optimizer': config.get('optimizer'),
      'accumulate': self._accumulate != 1,
      'ema': self._ema,
      'parallel': self.parallel != 'jit',
      'hyper.weight_decay': config['hyper'].get('weight_decay'),
    }
    for key, value in unused.items():
      if value:
        raise ValueError(
          f'{config["task"]} updates its parameters itself: leave {key} out'
        )

  def start(self, seed: int) -> TrainState:
    """A fresh state, sharded as it will stay."""
    return self.spread(self._start(np.uint32(seed)))

  def spread(self, state: TrainState) -> TrainState:
    """A global state as the step wants it: under pmap, a copy for every device."""
    if self.parallel == 'jit':
      return state
    n = len(self._local)
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), state)
    return jax.pmap(lambda x: x, devices=self._local)(copies)

  def gather(self, state: TrainState) -> TrainState:
    """The step's state as a global one, to save or to evaluate."""
    if self.parallel == 'jit':
      return state
    return jax.device_put(jax.tree.map(lambda x: x[0], state), self.shardings)

  def put(self, batch: Batch) -> PyTree:
    """This process's `share` of a batch's rows -> the batch, on the devices."""
    n = self.share[1]
    if self.parallel == 'jit':
      return {
        name: jax.make_array_from_process_local_data(
          self._rows, x, (n * len(x), *x.shape[1:])
        )
        for name, x in batch.items()
      }
    n = len(self._local)
    return {k: x.reshape(n, -1, *x.shape[1:]) for k, x in batch.items()}

  def check(self, shapes: Iterable[Batch]) -> None:
    """Raises ValueError if some batch cannot be shared out evenly."""
    need = rows_divisor(self.mesh) * self._accumulate
    for batch in filter(None, shapes):
      name, first = next(iter(batch.items()))
      if len(first) % need:
        raise ValueError(
          f'a batch whose {name} has the shape {first.shape} cannot be cut into {need} '
          f'equal parts ({rows_divisor(self.mesh)} devices x {self._accumulate} '
          f'micro-batches): set batching.{"lanes" if "count" in batch else "rows_multiple"}'
          f'={need} or a multiple'
        )

  def compile(self, state: TrainState, batch: Batch) -> jax.stages.Compiled:
    """Compiles the step ahead for batches of this shape; `batch` has all rows."""
    if self.parallel == 'jit':
      shape, lowered = shape_of(batch), self.lower(batch)
    else:
      put = self.put(batch)
      shape, lowered = shape_of(put), self._step.lower(state, put, self.hyper)
    self._compiled[shape] = lowered.compile()
    return self._compiled[shape]

  def lower(self, batch: Batch) -> jax.stages.Lowered:
    """The step for batches of this shape, from shapes alone: nothing is put anywhere.

    Under jit only.
    """

    def shape(x: Batch | jax.Array, sharding: jax.sharding.Sharding):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    rows = {name: shape(x, self._rows) for name, x in batch.items()}
    rest = jax.tree.map(lambda x: shape(x, x.sharding), (self.hyper, *self._constants))
    return self._step.lower(self.abstract, rows, *rest)

  def step(self, state: TrainState, batch: PyTree) -> tuple[TrainState, Sums]:
    """One update. The state given is used up; `batch` is from `put`."""
    run = self._compiled.get(shape_of(batch), self._step)
    return run(state, batch, self.hyper, *self._constants)

  def fetch(self, sums: Sums) -> dict[str, float]:
    """Waits for a step's sums and divides them by their weights."""
    sums = jax.device_get(sums)
    if self.parallel == 'pmap':  # every device has the same ones
      sums = jax.tree.map(lambda x: x[0], sums)
    return {k: float(s) / max(float(w), 1e-9) for k, (s, w) in sums.items()}


def shape_of(batch: PyTree) -> tuple:
  """What a step is compiled for."""
  return tuple((name, x.shape) for name, x in sorted(batch.items()))
