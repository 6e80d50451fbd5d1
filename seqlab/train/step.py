"""One update, as a pure function. Nothing here knows what is trained."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from seqlab.tasks.interface import Task
from seqlab.train.optimizers import Schedule, evaluated
from seqlab.train.state import TrainState
from seqlab.types import Batch, Hyper, PyTree, Sums

TrainStep = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Sums]]


def make_own_step(
  task: Task, schedule: Schedule
) -> Callable[..., tuple[TrainState, Sums]]:
  """Builds the update of a task that has its own; see `Task`.

  It takes, after a step's usual arguments, what the task's `constants` gave.
  """

  def train_step(
    state: TrainState, batch: Batch, hyper: Hyper, constants: PyTree
  ) -> tuple[TrainState, Sums]:
    rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
    rate = schedule(state.step, hyper)
    params, sums = task.update(state.params, batch, rng, rate, constants)
    return state.replace(step=state.step + 1, params=params), sums

  return train_step


def make_train_step(
  task: Task,
  tx: optax.GradientTransformationExtraArgs,
  *,
  accumulate: int = 1,
  ema: float = 0.0,
  axis_name: str | None = None,
) -> TrainStep:
  """Builds the update; jit it with shardings, or pmap it with an axis name.

  The gradient is that of the global batch's summed loss, divided once by the
  global number of target words, whatever the devices and micro-batches.

  Args:
    task: gives `loss`.
    tx: an optimiser whose `update` takes `hyper=`.
    accumulate: micro-batches a batch is cut into, one after another; must
      divide the rows of every batch (of every device's part, under pmap).
    ema: decay of the moving average of the parameters; 0 keeps none.
    axis_name: the pmapped axis, where there is one.
  """

  def gradients(state: TrainState, batch: Batch, rng, hyper: Hyper):
    def loss(params: PyTree):
      variables = {'params': params, **state.collections}
      found = task.loss(variables, batch, rng, hyper)
      return found.value, found

    grads, found = jax.grad(loss, has_aux=True)(state.params)
    return grads, found.totals(), {**state.collections, **found.collections}

  def over_parts(state: TrainState, batch: Batch, rng, hyper: Hyper):
    if accumulate == 1:
      return gradients(state, batch, rng, hyper)
    # Part i takes rows i, i + n, ...: each device keeps a share of every part.
    parts = jax.tree.map(
      lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch
    )

    def body(carry, part):
      total, collections = carry
      batch, i = part
      now = state.replace(collections=collections)
      grads, sums, collections = gradients(
        now, batch, jax.random.fold_in(rng, i), hyper
      )
      return (jax.tree.map(jnp.add, total, (grads, sums)), collections), None

    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(lambda: gradients(state, first, rng, hyper)[:2])
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (total, collections), _ = jax.lax.scan(
      body, (zeros, state.collections), (parts, jnp.arange(accumulate))
    )
    return *total, collections

  def train_step(
    state: TrainState, batch: Batch, hyper: Hyper
  ) -> tuple[TrainState, Sums]:
    rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
    if axis_name:
      rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
    grads, sums, collections = over_parts(state, batch, rng, hyper)
    if axis_name:
      grads, sums = jax.lax.psum((grads, sums), axis_name)
      collections = jax.lax.pmean(collections, axis_name)

    words = jnp.maximum(sums['loss'][1], 1.0)
    grads = jax.tree.map(lambda g: g / words, grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params, hyper=hyper)
    params = optax.apply_updates(state.params, updates)
    # What the optimiser evaluates with, if that is not what it trains.
    final = evaluated(opt_state, params)
    average = state.ema if final is None else final
    if ema:
      latest = params if final is None else final
      average = optax.incremental_update(latest, state.ema, 1 - ema)
    one = jnp.ones(())
    sums |= {
      'grad_norm': (optax.tree.norm(grads), one),
      'update_norm': (optax.tree.norm(updates), one),  # finite, so are the parameters
    }
    state = state.replace(
      step=state.step + 1,
      params=params,
      collections=collections,
      opt_state=opt_state,
      ema=average,
    )
    return state, sums

  return train_step
