"""Optimisers and schedules whose numbers are traced.

Learning rate and weight decay come from `hyper` at every step, so a sweep over them
compiles nothing; optax does the rest. Both are pieces: short names of `SCHEDULES` and
`OPTIMIZERS`, or paths such as 'optax:lion' and 'optax:warmup_cosine_decay_schedule'.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import inspect
import re
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from seqlab import domains
from seqlab.config import call, check_keys
from seqlab.domains import Check, Count, Positive, Probability, Range, Rate
from seqlab.pieces import Specification, find, make, parameters
from seqlab.train.mesh import path_keys
from seqlab.types import Array, Hyper, PyTree

Schedule = Callable[[Array, Hyper], Array]  # step (from 0), hyper -> learning rate
Warmup = Annotated[int, Range(0, 2**31 - 1)]  # as steps, counted in int32


def make_schedule(
  specification: Specification, *, steps: int, width: int | None = None
) -> Schedule:
  """Builds the learning rate as a function of the step and of `hyper['peak']`.

  Args:
    specification: a piece of `SCHEDULES`, or a path to one. A schedule of optax, which
      takes the step alone, gives factors of `hyper['peak']`.
    steps: updates of the whole run.
    width: D, the model's width, for 'noam'.

  Raises:
    ValueError: as `pieces.make`.
  """
  specification = with_kind(specification, 'rsqrt')
  built = make(specification, SCHEDULES, 'schedule', steps=steps, width=width)
  if len(inspect.signature(built).parameters) > 1:
    return built
  return lambda step, hyper: hyper['peak'] * built(step)


def with_kind(specification: Specification, default: str) -> Specification:
  """Returns a specification that names a kind, the default one if it names none."""
  if isinstance(specification, Mapping) and 'kind' not in specification:
    return {'kind': default, **specification}
  return specification


def _rising(warmup: int, after: Callable[[Array], Array]) -> Schedule:
  """Returns a linear rise over `warmup` updates, then `after` times the peak."""

  def schedule(step: Array, hyper: Hyper) -> Array:
    s = jnp.asarray(step, jnp.float32) + 1.0  # the first update has number 1
    rise = s / warmup if warmup else 1.0
    return hyper['peak'] * jnp.minimum(rise, after(s))

  return schedule


def _done(s: Array, warmup: int, steps: int) -> Array:
  """Returns the share of the updates after the warm-up that are made, 0 to 1."""
  return jnp.clip((s - warmup) / max(steps - warmup, 1), 0.0, 1.0)


def rsqrt(warmup: Warmup = 0, floor: Probability = 0.0) -> Schedule:
  """Falls as 1/√step after the warm-up.

  Args:
    warmup: updates; 0 starts at the peak.
    floor: not used, so that kinds can be swept with the other options in place.
  """
  del floor
  start = max(warmup, 1)
  return _rising(warmup, lambda s: jnp.sqrt(start / jnp.maximum(s, start)))


def noam(
  warmup: Warmup = 0,
  floor: Probability = 0.0,
  width: Count | None = None,
) -> Schedule:
  """Returns peak · D^-0.5 · min(s^-0.5, s · warmup^-1.5).

  Vaswani et al. 2017, section 5.3, where the peak is 1. The shape is that of `rsqrt`.

  Args:
    warmup: updates.
    floor: not used, as for `rsqrt`.
    width: D, the model's width.

  Raises:
    ValueError: there is no warm-up, or the model has no width.
  """
  del floor
  if not width or not warmup:
    raise ValueError("schedule.kind='noam' needs schedule.warmup > 0 and model.width")

  def schedule(step: Array, hyper: Hyper) -> Array:
    s = jnp.asarray(step, jnp.float32) + 1.0
    return hyper['peak'] * width**-0.5 * jnp.minimum(s**-0.5, s * warmup**-1.5)

  return schedule


def cosine(warmup: Warmup = 0, floor: Probability = 0.0, *, steps: int) -> Schedule:
  """Falls as half a cosine to `floor` times the peak at the last step."""

  def after(s: Array) -> Array:
    done = _done(s, warmup, steps)
    return floor + (1 - floor) * 0.5 * (1 + jnp.cos(jnp.pi * done))

  return _rising(warmup, after)


def linear(warmup: Warmup = 0, floor: Probability = 0.0, *, steps: int) -> Schedule:
  """Falls linearly to `floor` times the peak at the last step."""
  return _rising(warmup, lambda s: 1 - (1 - floor) * _done(s, warmup, steps))


def constant(warmup: Warmup = 0, floor: Probability = 0.0) -> Schedule:
  """Stays at the peak. `floor` is not used, as for `rsqrt`."""
  del floor
  return _rising(warmup, lambda s: jnp.ones(()))


def wsd(
  warmup: Warmup = 0,
  floor: Probability = 0.0,
  decay: Probability = 0.2,
  shape: Literal['sqrt', 'linear'] = 'sqrt',
  *,
  steps: int,
) -> Schedule:
  """Rises, stays at the peak, and falls at the end (warm-up, stable, decay).

  Hu et al., "MiniCPM", 2024, section 4, https://arxiv.org/abs/2404.06395; with the
  decay 1 - √x of Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
  Training Durations", 2024, section 3, https://arxiv.org/abs/2405.18392.

  Args:
    warmup: updates; 0 starts at the peak.
    floor: the last learning rate as a share of the peak.
    decay: share of the run's updates in which the learning rate falls.
    shape: 'sqrt' or 'linear': the learning rate falls as 1 - √x or 1 - x, where x goes
      from 0 to 1 during the fall.
    steps: updates of the whole run.
  """
  fall_start = steps * (1 - decay)

  def after(s: Array) -> Array:
    x = jnp.clip((s - fall_start) / max(steps - fall_start, 1e-9), 0.0, 1.0)
    fallen = jnp.sqrt(x) if shape == 'sqrt' else x
    return 1 - (1 - floor) * fallen

  return _rising(warmup, after)


SCHEDULES = {
  'rsqrt': rsqrt,
  'noam': noam,
  'cosine': cosine,
  'linear': linear,
  'constant': constant,
  'wsd': wsd,
}

_VECTORS = (jax.tree_util.DictKey('scale'), jax.tree_util.DictKey('bias'))


def _has_no_decay(path: tuple, p: Array) -> bool:
  """Returns whether a parameter has no weight decay: gains of norms, and biases.

  They are vectors, also where `nn.scan` has stacked those of all layers into a matrix.
  """
  return p.ndim < 2 or path[-1] in _VECTORS


@dataclasses.dataclass(frozen=True)
class Group:
  """Parameters with their own learning rate and weight decay, or frozen ones.

  Attributes:
    match: regular expression that is searched in a parameter's path, such as
      'encoder/self_attention/query/kernel'. The first group that matches counts.
    rate: factor of the learning rate.
    decay: factor of `hyper.weight_decay`.
    frozen: whether the parameters stay as they are.
  """

  match: Annotated[str, Check(lambda text: _check_pattern(text))]
  rate: Annotated[float, Range(0)] = 1.0
  decay: Annotated[float, Range(0)] = 1.0
  frozen: bool = False


def _check_pattern(text: Any) -> None:
  if not isinstance(text, str):
    raise ValueError('a text')
  try:
    re.compile(text)
  except re.error as error:
    raise ValueError(f'a regular expression ({error})') from None


class _Count(NamedTuple):
  count: Array  # [] int32, updates so far


def _scale_and_decay(
  schedule: Schedule, groups: Sequence[Group]
) -> optax.GradientTransformationExtraArgs:
  """-lr (update + weight_decay · params), both numbers from `hyper`.

  Weight decay is decoupled (Loshchilov and Hutter 2019,
  https://arxiv.org/abs/1711.05101) and is not applied to vectors, see `_has_no_decay`.
  """

  def init(params):
    del params
    return _Count(jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, hyper, **extra):
    del extra
    rate = schedule(state.count, hyper)
    decay = hyper.get('weight_decay', 0.0)

    def scale(path: tuple, u: Array, p: Array) -> Array:
      group = _group_of(path, groups)
      group_decay = decay if group is None else decay * group.decay
      return -rate * u if _has_no_decay(path, p) else -rate * (u + group_decay * p)

    scaled = jax.tree_util.tree_map_with_path(scale, updates, params)
    return scaled, _Count(state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


def _group_of(path: tuple, groups: Sequence[Group]) -> Group | None:
  name = '/'.join(path_keys(path))
  return next((group for group in groups if re.search(group.match, name)), None)


def _by_group(groups: Sequence[Group]) -> optax.GradientTransformation:
  """Scales the updates of each group; those of a frozen one are 0."""

  def update(updates, params=None):
    unused = {group.match for group in groups}

    def scale(path: tuple, u: Array) -> Array:
      group = _group_of(path, groups)
      if group is None:
        return u
      unused.discard(group.match)
      return jnp.zeros_like(u) if group.frozen else group.rate * u

    scaled = jax.tree_util.tree_map_with_path(scale, updates)
    if unused:
      raise ValueError(
        f'optimizer.groups: no parameter has {sorted(unused)[0]!r} in its path, or an '
        f'earlier group has them all'
      )
    return scaled

  return optax.stateless(update)


def adam(
  b1: Rate = 0.9, b2: Rate = 0.98, eps: Annotated[float, Range(0)] = 1e-9
) -> optax.GradientTransformation:
  """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980); decay is decoupled.

  Args:
    b1: decay of the first moment.
    b2: decay of the second; the default is Vaswani et al.'s.
    eps: ε.
  """
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def adafactor() -> optax.GradientTransformation:
  """Adafactor (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235)."""
  return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


def sgd(momentum: Rate = 0.9) -> optax.GradientTransformation:
  """Stochastic gradient descent with Nesterov's momentum; 0 for none."""
  return optax.trace(momentum, nesterov=True) if momentum else optax.identity()


def lion(b1: Rate = 0.9, b2: Rate = 0.99) -> optax.GradientTransformation:
  """Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675)."""
  return optax.scale_by_lion(b1=b1, b2=b2)


def muon(
  learning_rate: float,
  axes: PyTree,
  beta: Rate = 0.95,
  ns_steps: Count = 5,
  weight_decay: Annotated[float, Range(0)] = 0.0,
  adam_b1: Rate = 0.9,
  adam_b2: Rate = 0.98,
  adam_factor: Annotated[float, Positive] = 1.0,
  consistent_rms: Annotated[float, Positive] | None = 0.2,
) -> optax.GradientTransformation:
  """Muon for the matrices inside the layers, Adam for all else.

  Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
  https://kellerjordan.github.io/posts/muon. Which axes make a matrix is read from the
  logical axes: the model's width on one side and heads, units or gates on the other;
  layers that are stacked are separate matrices. Embeddings, the output table, norms,
  biases and tables of positions are updated by Adam, as they recommend.

  Args:
    learning_rate: learning rate of both transforms.
    axes: names of the parameters' logical axes, a tree of tuples.
    beta: momentum.
    ns_steps: Newton-Schulz iterations.
    weight_decay: weight decay of the matrices.
    adam_b1: Adam's decay of the first moment.
    adam_b2: Adam's decay of the second.
    adam_factor: Adam's learning rate as a multiple of `learning_rate`.
    consistent_rms: root mean square of a matrix's update (Liu et al., "Muon is Scalable
      for LLM Training", 2025, https://arxiv.org/abs/2502.16982: 0.2, so that rates of
      Adam can be used); None scales by the shape, as Jordan et al. do.
  """
  numbers = jax.tree.map(_matrix_axes, axes, is_leaf=_is_axes)
  return contrib.muon(
    learning_rate,
    ns_steps=ns_steps,
    beta=beta,
    weight_decay=weight_decay,
    adam_b1=adam_b1,
    adam_b2=adam_b2,
    adam_learning_rate=adam_factor * learning_rate,
    muon_weight_dimension_numbers=numbers,
    consistent_rms=consistent_rms,
  )


def _is_axes(x: Any) -> bool:
  return isinstance(x, tuple)


def _matrix_axes(axes: tuple[str | None, ...]) -> contrib.MuonDimensionNumbers | None:
  """Returns the sides of a weight matrix; None outside of hidden layers."""
  names = [a for a in axes if a != 'layers']
  if names.count('embed') != 1 or len(names) < 2 or {'vocab', None} & {*names}:
    return None
  width = axes.index('embed')
  others = [i for i, a in enumerate(axes) if a not in ('embed', 'layers')]
  if names[0] == 'embed':
    return contrib.MuonDimensionNumbers((width,), tuple(others))
  return contrib.MuonDimensionNumbers(tuple(others), (width,))


def schedule_free(
  learning_rate: float,
  b1: Annotated[float, Range(0, 1, exclude_low=True, exclude_high=True)] = 0.9,
  b2: Rate = 0.98,
  eps: Annotated[float, Range(0)] = 1e-9,
  weight_decay: Annotated[float, Range(0)] = 0.0,
) -> optax.GradientTransformation:
  """Schedule-free Adam (Defazio et al. 2024, https://arxiv.org/abs/2405.15682).

  Evaluation uses its averaged parameters. Take schedule.kind='constant' with a warm-up.
  """
  options = dict(b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
  return contrib.schedule_free_adamw(learning_rate, **options)


OPTIMIZERS = {
  'adam': adam,
  'adamw': adam,
  'adafactor': adafactor,
  'sgd': sgd,
  'lion': lion,
  'muon': muon,
  'schedule_free': schedule_free,
}
# Options of every optimiser, besides those of its kind.
COMMON = {
  'kind': str,
  'clip': Annotated[float, Range(0)] | None,
  'groups': Sequence[Mapping],
}
CONTEXT = ('learning_rate', 'axes')  # set by the trainer, not by an experiment


def make_optimizer(
  specification: Specification,
  schedule: Schedule,
  axes: PyTree = None,
) -> optax.GradientTransformationExtraArgs:
  """Builds an optax optimiser whose `update` takes `hyper=`.

  A piece that has the parameter `learning_rate` is a whole optimiser: the schedule's
  rate is injected into it at every step, and `hyper.weight_decay` is too, if it has
  that parameter. Any other piece gives a direction, which the rate and decoupled weight
  decay are applied to.

  Args:
    specification: a piece of `OPTIMIZERS`, or a path to one. It may also have `clip`,
      the largest global norm of the gradient (None or 0 for no clipping), and `groups`,
      a list of sections for `Group`.
    schedule: schedule from `make_schedule`.
    axes: names of the parameters' logical axes, a tree of tuples, for 'muon'.

  Raises:
    ValueError: as `pieces.make`.
  """
  builder, options = find(with_kind(specification, 'adam'), OPTIMIZERS, 'optimizer')
  common = {name: options.pop(name) for name in COMMON if name in options}
  domains.check(COMMON, common, 'optimizer.')
  groups = [
    call(Group, group, f'optimizer.groups.{i}')
    for i, group in enumerate(common.get('groups', ()))
  ]
  clip = common.get('clip')
  parts = [optax.clip_by_global_norm(clip) if clip else optax.identity()]
  if 'learning_rate' in parameters(builder):
    if any(group.decay != 1 for group in groups):
      raise ValueError('optimizer.groups: this optimiser has one weight decay for all')
    parts.append(_injected(builder, options, schedule, axes))
  else:
    parts.append(call(builder, options, 'optimizer'))
    parts.append(_scale_and_decay(schedule, groups))
  if not groups:
    return optax.chain(*parts)
  return _without_average(optax.chain(*parts, _by_group(groups)))


def _without_average(
  tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
  """Refuses groups for an optimiser whose own iterates they would not reach."""

  def init(params: PyTree) -> PyTree:
    state = tx.init(params)
    if has_average(state):
      raise ValueError(
        'optimizer.groups: this optimiser averages parameters of its own, which groups '
        'do not change: leave groups out, or choose another optimizer.kind'
      )
    return state

  return optax.GradientTransformationExtraArgs(init, tx.update)


def check_hyper(
  specification: Specification, schedule: Schedule, hyper: Mapping[str, float | None]
) -> None:
  """Checks that schedule and optimiser get the hyperparameters that they read.

  Args:
    specification: see `make_optimizer`.
    schedule: schedule from `make_schedule`.
    hyper: name -> value; None for those that are not set.

  Raises:
    ValueError: the learning rate depends on one that is not set, or a weight decay
      would have no effect.
  """
  # Shapes, since an array would start JAX, and `seqlab plan` simulates devices first.
  number = jax.ShapeDtypeStruct((), jnp.float32)
  given = {name: number for name, x in hyper.items() if x is not None}
  try:
    jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32), given)
  except KeyError as error:
    raise ValueError(
      f'hyper.{error.args[0]} is not set; the learning rate is computed from it'
    ) from None
  builder, options = find(with_kind(specification, 'adam'), OPTIMIZERS, 'optimizer')
  known, decay = parameters(builder), hyper.get('weight_decay')
  if 'learning_rate' not in known:
    return
  if decay and 'weight_decay' not in known:
    raise ValueError(
      f'hyper.weight_decay is {decay}, and this optimiser has none; leave it out'
    )
  if decay is not None and options.get('weight_decay') is not None:
    raise ValueError(
      f'hyper.weight_decay={decay} replaces optimizer.weight_decay='
      f'{options["weight_decay"]}: leave optimizer.weight_decay out, or set '
      f'hyper.weight_decay=None'
    )


def _injected(
  builder: Callable, options: Mapping[str, Any], schedule: Schedule, axes: PyTree
) -> optax.GradientTransformationExtraArgs:
  """Returns an optimiser whose learning rate and weight decay are set at each step."""
  known = parameters(builder)
  traced = [name for name in ('learning_rate', 'weight_decay') if name in known]
  context = {'axes': axes} if 'axes' in known else {}
  for mask in ('mask', 'weight_decay_mask'):  # unless the experiment sets a mask
    if mask in known and mask not in options:
      context[mask] = _decayed
  open_names = [name for name in known if name not in CONTEXT]
  check_keys(options, open_names, where='optimizer.')
  domains.check(builder, options, 'optimizer.')
  given = {**options, **context, 'learning_rate': 0.0}  # `update` sets it at each step
  # Bound here, because a TypeError inside the builder would be a bug and not an error of
  # the experiment.
  try:
    inspect.signature(builder).bind(**given)
  except TypeError as error:
    raise ValueError(f'optimizer: {error}') from None
  # All other options stay Python values: a builder may branch on them.
  static = [name for name in known if name not in traced]
  inner = optax.inject_hyperparams(builder, static_args=static)(**given)

  def update(updates, state, params=None, *, hyper, **extra):
    del extra
    numbers = {**state.hyperparams, 'learning_rate': schedule(state.count, hyper)}
    if 'weight_decay' in hyper and 'weight_decay' in known:
      numbers['weight_decay'] = jnp.asarray(hyper['weight_decay'], jnp.float32)
    return inner.update(updates, state._replace(hyperparams=numbers), params)

  return optax.GradientTransformationExtraArgs(inner.init, update)


def _decayed(params: PyTree) -> PyTree:
  """Returns a mask of the parameters that weight decay applies to."""
  return jax.tree_util.tree_map_with_path(
    lambda path, p: not _has_no_decay(path, p), params
  )


def keeps_average(config: Mapping[str, Any], params: PyTree, axes: PyTree) -> bool:
  """Returns whether a run evaluates with other parameters than it trains.

  Args:
    config: a resolved experiment.
    params: shapes of the parameters.
    axes: names of their logical axes, see `make_optimizer`.
  """
  if config.get('ema'):
    return True
  tx = make_optimizer(config.get('optimizer', {}), constant(), axes)
  return has_average(jax.eval_shape(tx.init, params))


def has_average(opt_state: PyTree) -> bool:
  """Returns whether an optimiser evaluates with other parameters than it trains."""
  return bool(_averages(opt_state))


def _averages(opt_state: PyTree) -> list[contrib.ScheduleFreeState]:
  free = contrib.ScheduleFreeState
  leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, free))
  return [x for x in leaves if isinstance(x, free)]


def evaluated(opt_state: PyTree, params: PyTree) -> PyTree | None:
  """Returns the parameters that an optimiser evaluates with; None for the same ones."""
  states = _averages(opt_state)
  return contrib.schedule_free_eval_params(states[0], params) if states else None
