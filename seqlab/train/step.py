"""One update, as a pure function. Nothing here knows what is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from seqlab.layers.products import stored
from seqlab.tasks.interface import CARRY, Task
from seqlab.train.hyper_schedules import HyperSchedules
from seqlab.train.optimizers import Schedule, evaluated
from seqlab.train.paths import Frozen
from seqlab.train.row_shards import RowShards, UpdateShares
from seqlab.train.state import TrainState
from seqlab.types import Array, Batch, Hyper, PyTree, Sums, Variables


def step_rng(state: TrainState) -> Array:
  """Returns the random key of the update that a state is about to get.

  It depends on seed and step alone, so that a resumed run draws what it would have
  drawn without the interruption.
  """
  return jax.random.fold_in(jax.random.key(state.seed), state.step)


@dataclasses.dataclass(frozen=True)
class CustomStep:
  """The update of a task that defines a method `update`; see `Task`.

  Attributes:
    task: the task, whose `update` is called.
    schedule: the learning rate.
  """

  task: Task
  schedule: Schedule

  def __call__(
    self, state: TrainState, batch: Batch, hyper: Hyper, constants: PyTree
  ) -> tuple[TrainState, Sums]:
    """Computes one update; `constants` is the result of the task's `constants`."""
    learning_rate = self.schedule(state.step, hyper)
    params, sums = self.task.update(
      state.params, batch, step_rng(state), learning_rate, constants
    )
    return state.replace(step=state.step + 1, params=params), sums


@dataclasses.dataclass(frozen=True)
class GradientStep:
  """The update of a task that has a loss, by the gradient of its trained parameters.

  The gradient is that of the global batch's summed loss. It is divided once by the
  loss's global weight, whatever the devices and micro-batches: a mean of means would
  weight a token by the number of tokens that share its device.

  Attributes:
    task: gives `loss`.
    tx: an optimiser whose `update` takes `hyper=`.
    accumulate: micro-batches that a batch is cut into, one after another; must divide
      the rows of every batch (of every device's part, under pmap).
    ema: decay of the moving average of the parameters; 0 keeps none.
    axis_name: the axis of devices that gradients are summed over, where the step is
      mapped over devices; None where arrays are global.
    frozen: the parameters that are not trained.
    row_shards: divides the rows of a batch among devices that compute them by themselves;
      None leaves all communication to the compiler and the layers.
    update_shares: divides the update among devices that have the same parameters; None
      where each updates all that it has.
    hyper_schedules: the hyperparameters that rise during training.
  """

  task: Task
  tx: optax.GradientTransformationExtraArgs
  accumulate: int = 1
  ema: float = 0.0
  axis_name: str | None = None
  frozen: Frozen = dataclasses.field(default_factory=Frozen)
  row_shards: RowShards | None = None
  update_shares: UpdateShares | None = None
  hyper_schedules: HyperSchedules = dataclasses.field(default_factory=HyperSchedules)

  def __call__(
    self, state: TrainState, batch: Batch, hyper: Hyper
  ) -> tuple[TrainState, Sums]:
    """Computes one update; compile it with shardings, or map it over `axis_name`."""
    rng = step_rng(state)
    hyper = self.hyper_schedules.at(state.step, hyper)
    if self.axis_name:  # else all devices would drop the same units of their rows
      rng = jax.random.fold_in(rng, jax.lax.axis_index(self.axis_name))
    compute = self._accumulated
    if self.row_shards:
      compute = self.row_shards(compute)
    grads, sums, collections = compute(state, batch, rng, hyper)
    if self.axis_name:
      grads, sums = jax.lax.psum((grads, sums), self.axis_name)
      collections = self._merged(collections)

    grads = jax.tree.map(stored, grads)
    # 1 is for a batch without a single token, whose gradient is 0.
    weight = jnp.maximum(sums['loss'][1], 1.0)
    grads = jax.tree.map(lambda g: g / weight, grads)
    trained, frozen = self.frozen.split(state.params)
    if self.update_shares:
      grads, trained = map(self.update_shares.divide, (grads, trained))
    updates, opt_state = self.tx.update(grads, state.opt_state, trained, hyper=hyper)
    trained = optax.apply_updates(trained, updates)
    if self.update_shares:
      trained = self.update_shares.gather(trained)
    average = self._averaged(state, trained, opt_state)
    one = jnp.ones(())
    sums |= {
      'grad_norm': (optax.tree.norm(grads), one),
      # Parameters are finite if this is: a run that diverges is found by one number.
      'update_norm': (optax.tree.norm(updates), one),
    }
    state = state.replace(
      step=state.step + 1,
      params=self.frozen.merge(trained, frozen),
      collections=collections,
      opt_state=opt_state,
      ema=average,
    )
    return state, sums

  def _merged(self, collections: Variables) -> Variables:
    """Returns the collections of all devices: their mean, or each device's own rows."""

    def merge_rows(x: Array) -> Array:  # [B, ...], of which this device changed a share
      shares = x.reshape(jax.lax.axis_size(self.axis_name), -1, *x.shape[1:])
      own = shares[jax.lax.axis_index(self.axis_name)]
      return jax.lax.all_gather(own, self.axis_name, tiled=True)

    carried = {k: x for k, x in collections.items() if k == CARRY}
    others = {k: x for k, x in collections.items() if k != CARRY}
    return {
      **jax.lax.pmean(others, self.axis_name),
      **jax.tree.map(merge_rows, carried),
    }

  def _gradients(
    self, state: TrainState, batch: Batch, rng: Array, hyper: Hyper
  ) -> tuple[PyTree, Sums, Variables]:
    """Returns the gradient of the summed loss, sums to report, and new collections."""
    trained, frozen = self.frozen.split(state.params)

    def loss(trained: PyTree):
      params = self.frozen.merge(trained, frozen)
      variables = {'params': params, **state.collections}
      result = self.task.loss(variables, batch, rng, hyper)
      return result.value, result

    grads, result = jax.grad(loss, has_aux=True)(trained)
    return grads, result.totals(), {**state.collections, **result.collections}

  def _accumulated(
    self, state: TrainState, batch: Batch, rng: Array, hyper: Hyper
  ) -> tuple[PyTree, Sums, Variables]:
    """Sums the same over micro-batches, one of which is in memory at a time."""
    n = self.accumulate
    if n == 1:
      return self._gradients(state, batch, rng, hyper)
    # Part i takes rows i, i + n, ...: every device has a share of each part, where
    # parts of consecutive rows would lie on one device and idle the others.
    parts = jax.tree.map(
      lambda x: jnp.moveaxis(x.reshape(-1, n, *x.shape[1:]), 1, 0), batch
    )

    def body(carry, part):
      total, collections = carry
      batch, i = part
      now = state.replace(collections=collections)
      *new, collections = self._gradients(now, batch, jax.random.fold_in(rng, i), hyper)
      return (jax.tree.map(jnp.add, total, tuple(new)), collections), None

    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(lambda: self._gradients(state, first, rng, hyper)[:2])
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (total, collections), _ = jax.lax.scan(
      body, (zeros, state.collections), (parts, jnp.arange(n))
    )
    return *total, collections

  def _averaged(
    self, state: TrainState, trained: PyTree, opt_state: PyTree
  ) -> PyTree | None:
    """Returns the parameters to evaluate with; None if they are the state's own.

    Args:
      state: the state before the update.
      trained: the trained parameters after it.
      opt_state: state of the optimiser after it.
    """
    final = evaluated(opt_state, trained)
    if not self.ema and final is None:
      return state.ema
    latest = trained if final is None else final
    average, frozen = self.frozen.split(state.ema)
    if self.ema:
      latest = optax.incremental_update(latest, average, 1 - self.ema)
    return self.frozen.merge(latest, frozen)
