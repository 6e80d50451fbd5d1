"""Optimisers and schedules whose numbers are traced.

Learning rate and weight decay come from `hyper` at every step, so a sweep over
them compiles nothing; optax does the rest.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqlab.domains import Count, OneOf, Probability, Range, Rate, checked
from seqlab.types import Array, Hyper

Schedule = Callable[[Array, Hyper], Array]  # step (from 0), hyper -> learning rate
SCHEDULES = ('rsqrt', 'noam', 'cosine', 'linear', 'constant')
OPTIMIZERS = ('adam', 'adamw', 'adafactor', 'sgd')


@checked
def make_schedule(
  kind: Annotated[str, OneOf(SCHEDULES)] = 'rsqrt',
  warmup: Annotated[int, Range(0)] = 0,
  *,
  steps: int,
  width: Count | None = None,
  floor: Probability = 0.0,
) -> Schedule:
  """The learning rate as a function of the step and of `hyper['peak']`.

  All kinds rise linearly over `warmup` updates to the peak; then
  'constant' stays, 'linear' and 'cosine' fall to `floor` times the peak at the
  last step, and 'rsqrt' falls as 1/√step. 'noam' is rsqrt as Vaswani et al. 2017
  write it (section 5.3): peak · D^-0.5 · min(s^-0.5, s · warmup^-1.5), where
  `hyper['peak']` is a factor that the paper has at 1.

  Args:
    kind: 'rsqrt', 'noam', 'cosine', 'linear' or 'constant'.
    warmup: updates; 0 starts at the peak.
    steps: updates of the whole run.
    width: D, the model's width, for 'noam'.
    floor: as a share of the peak.
  """
  if kind == 'noam' and (not width or not warmup):
    raise ValueError("schedule.kind='noam' needs schedule.warmup > 0 and model.width")
  start = max(warmup, 1)

  def schedule(step: Array, hyper: Hyper) -> Array:
    s = jnp.asarray(step, jnp.float32) + 1.0  # the first update has number 1
    done = jnp.clip((s - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    if kind == 'noam':
      return hyper['peak'] * width**-0.5 * jnp.minimum(s**-0.5, s * warmup**-1.5)
    if kind == 'rsqrt':
      after = jnp.sqrt(start / jnp.maximum(s, start))
    elif kind == 'cosine':
      after = floor + (1 - floor) * 0.5 * (1 + jnp.cos(jnp.pi * done))
    elif kind == 'linear':
      after = 1 - (1 - floor) * done
    else:
      after = jnp.ones(())
    rise = s / warmup if warmup else 1.0
    return hyper['peak'] * jnp.minimum(rise, after)

  return schedule


_VECTORS = (jax.tree_util.DictKey('scale'), jax.tree_util.DictKey('bias'))


class _Count(NamedTuple):
  count: Array  # [] int32, updates so far


def _scale_and_decay(schedule: Schedule) -> optax.GradientTransformationExtraArgs:
  """-lr (update + weight_decay · params), both numbers from `hyper`.

  Weight decay is decoupled (Loshchilov and Hutter 2019,
  https://arxiv.org/abs/1711.05101) and spares vectors: norms' gains and biases,
  also where `nn.scan` has stacked those of all layers into a matrix.
  """

  def init(params):
    del params
    return _Count(jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, hyper, **extra):
    del extra
    rate = schedule(state.count, hyper)
    decay = hyper.get('weight_decay', 0.0)

    def scale(path: tuple, u: Array, p: Array) -> Array:
      spared = p.ndim < 2 or path[-1] in _VECTORS
      return -rate * u if spared else -rate * (u + decay * p)

    scaled = jax.tree_util.tree_map_with_path(scale, updates, params)
    return scaled, _Count(state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def make_optimizer(
  schedule: Schedule,
  kind: Annotated[str, OneOf(OPTIMIZERS)] = 'adam',
  *,
  clip: Annotated[float, Range(0)] | None = None,
  b1: Rate = 0.9,
  b2: Rate = 0.98,
  eps: Annotated[float, Range(0)] = 1e-9,
  momentum: Rate = 0.9,
) -> optax.GradientTransformationExtraArgs:
  """An optax optimiser whose `update` takes `hyper=`.

  Args:
    schedule: from `make_schedule`.
    kind: 'adam' (or 'adamw', the same: decay is always decoupled), 'adafactor'
      (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235) or 'sgd'.
    clip: largest global norm of the gradient; None or 0 for no clipping.
    b1: Adam's decay of the first moment.
    b2: Adam's decay of the second; the default is Vaswani et al.'s.
    eps: Adam's ε.
    momentum: SGD's; 0 for none.
  """
  if kind in ('adam', 'adamw'):
    core = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  elif kind == 'adafactor':
    core = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
  else:  # 'sgd'
    core = optax.trace(momentum, nesterov=True) if momentum else optax.identity()
  clipping = optax.clip_by_global_norm(clip) if clip else optax.identity()
  return optax.chain(clipping, core, _scale_and_decay(schedule))
