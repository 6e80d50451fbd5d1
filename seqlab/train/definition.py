"""The program that an engine compiles: how a state is created and updated."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqlab.config import call, check_keys
from seqlab.layers.device import compiled_for
from seqlab.tasks.interface import CustomUpdate, Task, has, method_of, traced_init
from seqlab.train.fingerprint import program_fingerprint
from seqlab.train.hyper_schedules import HyperSchedules
from seqlab.train.init import Init
from seqlab.train.mesh import (
  like_parameters,
  logical_axes,
  make_mesh,
  rows_divisor,
  rows_share,
  shard_over_data,
  state_shardings,
  used_dtypes,
)
from seqlab.train.optimizers import (
  check_hyper,
  has_average,
  make_optimizer,
  make_schedule,
)
from seqlab.train.paths import Frozen
from seqlab.train.row_shards import RowShards, UpdateShares, splits_rows
from seqlab.train.state import TrainState
from seqlab.train.step import CustomStep, GradientStep
from seqlab.types import Array, Batch, Hyper, PyTree, Sums, Variables


class Definition:
  """How the state of one experiment is created and updated on one mesh; not compiled.

  Attributes:
    mesh: all devices that the experiment uses.
    rows_share: (i, n): this process builds the i-th of n equal shares of each batch.
    hyper: name -> value of the traced hyperparameters.
    constants: arrays that every step reads, as arguments: none, or one tree of them.
    shardings: sharding of each array of a member's state, outside of the steps.
    abstract: shapes, dtypes and shardings of that state, for restoring it.
    fingerprint: digest of what the update computes with; see `seqlab.programs`.
    frozen: the parameters that are not trained.
  """

  def __init__(
    self,
    config: Mapping,
    task: Task,
    steps: int,
    *,
    axis_name: str | None = None,
    by_mesh: bool = False,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Builds schedule, optimiser and update of an experiment.

    Args:
      config: a resolved experiment.
      task: made from it.
      steps: updates of the whole run, for schedules that end with it.
      axis_name: the mapped axis that gradients are summed over, where a step runs once
        per device; None where the arrays are global.
      by_mesh: whether the step is compiled for global arrays on the whole mesh. Then
        devices may compute their own rows of a batch by themselves (`train.row_shards`),
        and keep a share of the optimiser's state (`mesh.shard_optimizer`).
      devices: devices for the mesh; those of a topology can be compiled for only.

    Raises:
      ValueError: an option is wrong, or the mesh does not fit the devices.
    """
    self.mesh = call(make_mesh, config.get('mesh', {}), 'mesh', available=devices)
    self.frozen = Frozen(Init.of(config).frozen)
    self.fingerprint = program_fingerprint(
      config, task, 'update', steps, axis_name or '', *self.frozen.patterns
    )
    self.rows_share = rows_share(self.mesh, jax.process_index())
    self._accumulate = config.get('accumulate', 1)
    self._task, self._ema = task, config.get('ema', 0.0)
    self.hyper = _checked_hyper(config, task)
    self._schedule = make_schedule(
      config['schedule'], steps=steps, width=config.get('model', {}).get('width')
    )
    if has(task, CustomUpdate):
      _check_custom_update_options(config)
      self._tx = optax.identity()  # the task changes its parameters itself
      self._take_step = CustomStep(task, self._schedule)
      self.constants = (method_of(task, CustomUpdate, 'constants')(self.mesh),)
    else:
      check_hyper(config.get('optimizer', {}), self._schedule, self.hyper)
      axes = logical_axes(traced_init(task))
      self.frozen.check(axes)
      axes, _ = self.frozen.split(axes)
      self._tx = make_optimizer(config.get('optimizer', {}), self._schedule, axes)
      self._take_step = GradientStep(
        task,
        self._tx,
        self._accumulate,
        self._ema,
        axis_name,
        frozen=self.frozen,
        hyper_schedules=HyperSchedules.of(config),
      )
      self.constants = ()
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    self.shardings = state_shardings(self._create, self.mesh, seed)
    self.abstract = self._abstract()
    shard_optimizer = config.get('mesh', {}).get('shard_optimizer', False)
    if shard_optimizer and not by_mesh:
      raise ValueError(
        'mesh.shard_optimizer=True divides the state of one run among its devices: set '
        "parallel='jit', and train members of a population one by one"
      )
    if by_mesh and isinstance(self._take_step, GradientStep):
      self._divide(axes, shard_optimizer=shard_optimizer)
    self._init = jax.jit(
      lambda seed: nn.unbox(self._create(seed)), out_shardings=self.shardings
    )

  def _abstract(self) -> TrainState:
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      nn.unbox(jax.eval_shape(self._create, seed)),
      self.shardings,
    )

  def _divide(self, axes: PyTree, *, shard_optimizer: bool) -> None:
    """Lets devices divide the work on a batch, and that of the update.

    Args:
      axes: names of the logical axes of the trained parameters.
      shard_optimizer: whether to divide the update and the optimiser's state.
    """
    state, divided = self.abstract, {}
    params, _ = self.frozen.split(state.params)
    of_params, _ = self.frozen.split(self.shardings.params)
    of_gradients = of_params
    if shard_optimizer:
      of_gradients = shard_over_data(params, axes, self.mesh)
      opt_state = like_parameters(state.opt_state, params, of_gradients)
      self.shardings = self.shardings.replace(opt_state=opt_state)
      self.abstract = self._abstract()
    all_params, gradients = _specs(self.shardings.params), _specs(of_gradients)
    if shard_optimizer:
      divided['update_shares'] = UpdateShares(self.mesh, _specs(of_params), gradients)
    if splits_rows(
      self._task, self.mesh, self.hyper, state.collections, self._accumulate
    ):
      dtypes = self._sent_dtypes()
      divided['row_shards'] = RowShards(self.mesh, all_params, gradients, dtypes)
    self._take_step = dataclasses.replace(self._take_step, **divided)

  def _sent_dtypes(self) -> PyTree:
    """Returns the dtype in which devices send each gradient of a trained parameter.

    The sum over micro-batches is float32, and is sent as it is.
    """
    if self._accumulate > 1:
      params, _ = self.frozen.split(self.abstract.params)
      return jax.tree.map(lambda x: x.dtype, params)
    with compiled_for(self.mesh):  # 'auto' depends on the device
      boxed = jax.eval_shape(traced_init(self._task), jax.random.key(0))
    return used_dtypes(self.frozen.split(boxed['params'])[0])

  def _create(self, seed: Array) -> TrainState:
    """Returns a fresh state, whose parameters are boxed with their logical axes."""
    return self._begin(seed, traced_init(self._task)(jax.random.key(seed)))

  def _begin(self, seed: Array, variables: Variables) -> TrainState:
    """Returns the state of a run that begins with these variables."""
    variables = dict(variables)
    params = variables.pop('params')
    # Transforms that are masked or partitioned by path fail on boxes.
    opt_state = self._tx.init(self.frozen.split(nn.unbox(params))[0])
    averages = self._ema or has_average(opt_state)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      seed=jnp.asarray(seed, jnp.uint32),
      params=params,
      collections=variables,
      opt_state=opt_state,
      # A copy, since a buffer that is donated may not appear twice in the state.
      ema=jax.tree.map(jnp.copy, params) if averages else None,
    )

  def init(self, seed: int) -> TrainState:
    """Returns a fresh state, sharded as checkpoints are restored."""
    return self._init(np.uint32(seed))

  def begin(self, seed: int, variables: Variables) -> TrainState:
    """Returns the state of a run that begins with other variables than fresh ones.

    Args:
      seed: the run's seed.
      variables: variables with the shapes and shardings of `abstract`.
    """
    begin = jax.jit(self._begin, out_shardings=self.shardings)
    return begin(np.uint32(seed), variables)

  def update(
    self, state: TrainState, batch: Batch, hyper: Hyper, *constants: PyTree
  ) -> tuple[TrainState, Sums]:
    """Computes one update of one member; a pure function, to be compiled."""
    after, sums = self._take_step(state, batch, hyper, *constants)
    learning_rate = self._schedule(state.step, hyper)
    return after, {**sums, 'learning_rate': (learning_rate, jnp.ones(()))}

  def check(self, shapes: Iterable[Batch]) -> None:
    """Raises ValueError if a batch cannot be divided evenly among the devices."""
    need = rows_divisor(self.mesh) * self._accumulate
    for batch in filter(None, shapes):
      name, first = next(iter(batch.items()))
      if len(first) % need:
        option = 'streams' if 'count' in batch else 'rows_multiple'
        raise ValueError(
          f'a batch whose {name} has the shape {first.shape} cannot be cut into {need} '
          f'equal parts ({rows_divisor(self.mesh)} devices x {self._accumulate} '
          f'micro-batches): set batching.{option}={need} or a multiple (batching.rows, '
          "with batching.kind='drawn')"
        )


def _specs(shardings: PyTree) -> PyTree:
  return jax.tree.map(lambda sharding: sharding.spec, shardings)


def _checked_hyper(config: Mapping, task: Task) -> dict[str, float | None]:
  known = ('peak', 'weight_decay', *task.hyper)
  check_keys(config['hyper'], known, where='hyper.')
  return dict(config['hyper'])


def _check_custom_update_options(config: Mapping) -> None:
  """Raises ValueError for options that a task with its own update would not use."""
  unused = {
    'optimizer': config.get('optimizer'),
    'accumulate': config.get('accumulate', 1) != 1,
    'mesh.shard_optimizer': config.get('mesh', {}).get('shard_optimizer'),
    'ema': config.get('ema'),
    'parallel': config.get('parallel', 'jit') != 'jit',
    'hyper.weight_decay': config['hyper'].get('weight_decay'),
    'init.freeze': Init.of(config).frozen,
    'hyper_schedules': config.get('hyper_schedules'),
  }
  for key, value in unused.items():
    if value:
      raise ValueError(
        f'{config["task"]} updates its parameters itself: leave {key} out'
      )
