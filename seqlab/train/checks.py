"""Checks of a whole experiment, before data are read or anything is compiled."""

from collections.abc import Callable, Mapping, Sequence
import inspect
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.config import (
  Duration,
  call,
  check_keys,
  check_sections,
  suggest,
  with_defaults,
)
from seqlab.domains import Range, Signature
from seqlab.evaluators import EVALUATORS
from seqlab.evaluators.interface import CONTEXT, measured
from seqlab.pieces import (
  Options,
  Specification,
  find,
  names,
  options_of,
  parameters,
  piece_in,
  required,
)
from seqlab.programs import fingerprint_of
from seqlab.tasks import task_of
from seqlab.tasks.interface import ChecksOptions, Estimator, has, needs
from seqlab.train.fallback import Fallback
from seqlab.train.hyper_schedules import RISE_PIECE, HyperSchedules
from seqlab.train.init import Init, VectorsInit
from seqlab.train.mesh import make_mesh
from seqlab.train.optimizers import (
  COMMON,
  OPTIMIZERS,
  SCHEDULES,
  check_hyper,
  make_optimizer,
  make_schedule,
  with_kind,
)
from seqlab.train.sinks import check_sinks
from seqlab.types import Variables

# Sections that every experiment may have, and the signatures of their options.
_SIGNATURES: dict[str, Sequence[Signature]] = {
  'mesh': (options_of(make_mesh, ('available',)),),
  'fallback': (Fallback,),
  'init': (Init,),
}
# Sections inside of others that name no piece.
_INNER_SIGNATURES: dict[str, Sequence[Signature]] = {'init.vectors': (VectorsInit,)}
_HYPER = {
  'peak': Annotated[float, Range(0)],
  'weight_decay': Annotated[float, Range(0)] | None,
}


def check_experiment(config: Mapping[str, Any]) -> None:
  """Checks every option of a resolved experiment by the signature that takes it.

  A sweep checks all its trials before the first one starts, and training checks its
  experiment before it reads any data.

  Args:
    config: a resolved experiment.

  Raises:
    ValueError: a key is unknown or missing, or a value is outside its domain.
  """
  config = with_defaults(config)
  task = task_of(config)
  check_sections(config, task.sections)
  check_sinks(config)
  config = {'init': {}, 'hyper_schedules': {}, **config}
  config |= {n: _as_section(config[n]) for n in ('schedule', 'optimizer')}
  for name, signatures in _signatures(config).items():
    # A user's own task need not declare the hyperparameters that it reads.
    closed = name != 'hyper' or has(task, ChecksOptions)
    check_section(name, config[name], signatures, closed=closed)
  if not isinstance(config['evals'], Mapping):
    raise ValueError(f'evals is {config["evals"]!r}; it must be a section')
  for name, options in config['evals'].items():
    check_evaluator(f'evals.{name}', options, task)
  if has(task, Estimator):
    _check_estimator(config)
  else:
    _check_training(config)


def _check_training(config: Mapping[str, Any]) -> None:
  """Checks the options that training by gradients or by updates needs."""
  if 'steps' not in config:
    raise ValueError('the experiment sets no steps')
  _check_optimizer(config)
  HyperSchedules.of(config)
  _check_best(config)
  Init.of(config)


def _check_estimator(config: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting of training, which an estimator does not read."""
  defaults = {'steps': None, 'init': {}, 'hyper_schedules': {}, **with_defaults({})}
  used = ('mesh', 'evals', 'seed', 'threads')
  values = {k: config.get(k) != x for k, x in defaults.items() if k not in used}
  values['profile'] = config.get('profile') is not None
  values |= {
    f'evals.{name}.every': isinstance(options, Mapping) and 'every' in options
    for name, options in config['evals'].items()
  }
  for key, is_set in values.items():
    if is_set:
      raise ValueError(
        f'{config["task"]} has no gradient: it is fitted step by step and '
        f'evaluated at the end. Leave out {key}'
      )


def annotation_of(config: Mapping[str, Any], key: str) -> Any:
  """Returns the annotation of an option that an experiment may leave out.

  Args:
    config: a resolved experiment.
    key: the option, such as 'model.normalization' or 'evals.valid.beam'.

  Raises:
    ValueError: nothing in the experiment takes such an option; suggests a similar one.
  """
  signature = _owner(with_defaults(config), key)
  return domains.annotations(signature).get(key.rpartition('.')[2], Any)


def default_of(config: Mapping[str, Any], key: str) -> Any:
  """Returns the default of an option that an experiment may leave out.

  Args:
    config: a resolved experiment.
    key: the option, such as 'model.positions'.

  Returns:
    The default; None if the option has no default.

  Raises:
    ValueError: as `annotation_of`.
  """
  signature = _owner(with_defaults(config), key)
  return _default(signature, key.rpartition('.')[2])


def _owner(config: Mapping[str, Any], key: str) -> Signature:
  """Returns the signature that takes an option."""
  section, _, name = key.rpartition('.')
  signatures = _signatures_of(config, section)
  for signature in signatures:
    if name in parameters(signature):
      return signature
  known = [name for signature in signatures for name in parameters(signature)]
  place = f' (known: {", ".join(known)})' if known else ''
  others = _kinds_with(config, section, name)
  place += f'; {section} has it with kind {" or ".join(others)}' if others else ''
  raise ValueError(f'unknown key {key}{suggest(name, known)}{place}')


def _kinds_with(config: Mapping[str, Any], section: str, option: str) -> list[str]:
  """Returns the kinds of a piece that have an option, for messages."""
  outer, _, name = section.rpartition('.')
  for signature in _signatures_of(config, outer) if outer else ():
    piece = piece_in(domains.annotations(signature).get(name))
    if piece is not None:
      builders = {kind: find(kind, piece.kinds, section)[0] for kind in piece.kinds}
      hidden = getattr(piece, 'context', ())
      return [k for k, x in builders.items() if option in (names(x, hidden) or ())]
  return []


def _signatures_of(config: Mapping[str, Any], section: str) -> Sequence[Signature]:
  """Returns the signatures of a section, of an evaluator, or of a piece inside one."""
  outer, _, option = section.rpartition('.')
  if section in _INNER_SIGNATURES:
    return _INNER_SIGNATURES[section]
  if outer == 'evals':
    return _evaluator_signatures(config['evals'], option)
  if not outer:
    return _signatures(config).get(section, ())
  for signature in _signatures_of(config, outer):
    if option in parameters(signature):
      piece = piece_in(domains.annotations(signature).get(option))
      default = _default(signature, option)
      specification = _get(config, outer).get(option, default)
      if piece is not None and specification is not None:
        builder, _ = find(specification, piece.kinds, section)
        return (options_of(builder, hidden=getattr(piece, 'context', ())),)
  return ()


def _evaluator_signatures(
  evals: Mapping[str, Any], evaluator: str
) -> Sequence[Signature]:
  if evaluator not in evals:
    raise ValueError(f'evals has no {evaluator!r} (known: {", ".join(evals)})')
  kind, _ = evaluator_of(f'evals.{evaluator}', evals[evaluator])
  return ({'every': Duration | None}, *_options_of_evaluator(kind))


def _options_of_evaluator(kind: Callable) -> Sequence[Signature]:
  """Returns the signatures of what an experiment can set; not of `CONTEXT`."""
  declared = getattr(kind, 'signatures', ())
  return Options(kind, CONTEXT), *(declared or [options_of(kind, CONTEXT)])


def _default(signature: Signature, name: str) -> Any:
  if isinstance(signature, Mapping):
    return getattr(signature, 'defaults', {}).get(name)
  parameter = inspect.signature(signature).parameters[name]
  return None if parameter.default is parameter.empty else parameter.default


def _get(config: Mapping[str, Any], section: str) -> Mapping[str, Any]:
  """Returns a section by its dotted key; empty if it is missing or a short name."""
  for part in section.split('.'):
    config = config.get(part, {})
    if not isinstance(config, Mapping):
      return {}
  return config


def _signatures(config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
  """Returns section -> signatures that take its options."""
  task = task_of(config)
  sections = {**_SIGNATURES, 'hyper': (_HYPER,)}
  schedule, _ = find(with_kind(config['schedule'], 'rsqrt'), SCHEDULES, 'schedule')
  optimizer, _ = find(with_kind(config['optimizer'], 'adam'), OPTIMIZERS, 'optimizer')
  sections['schedule'] = ({'kind': str}, options_of(schedule, ('steps', 'width')))
  sections['optimizer'] = (COMMON, optimizer)
  rises = dict.fromkeys(config['hyper'], Annotated[Specification, RISE_PIECE])
  sections['hyper_schedules'] = (rises,)
  if has(task, ChecksOptions):
    declared = dict(task.signatures(config))
    sections |= declared | {'hyper': (_HYPER, *declared.get('hyper', ()))}
  return sections


def check_section(
  where: str, options: Any, signatures: Sequence[Signature], *, closed: bool = True
) -> None:
  """Checks one section of an experiment.

  Args:
    where: name of the section, for messages.
    options: what the experiment has there.
    signatures: the functions, classes or annotations that share the options. If the
      last one takes any keyword, unknown options are left to it.
    closed: whether an option of none of these is an error.

  Raises:
    ValueError: it is not a section, an option is unknown, or a value is outside its
      domain.
  """
  if not isinstance(options, Mapping):
    raise ValueError(f'{where} is {options!r}; it must be a section, as in dict(...)')
  for signature in signatures:
    domains.check(signature, options, f'{where}.')
  if closed and signatures and names(signatures[-1]) is not None:
    known = [name for signature in signatures for name in parameters(signature)]
    check_keys(options, known, where=f'{where}.')


def evaluator_of(where: str, options: Any) -> tuple[Callable, dict[str, Any]]:
  """Returns the class of an evaluator, and its options without `every`.

  Args:
    where: its key in the experiment, for messages.
    options: a section with `kind` (or `type`, as experiments of the first edition say),
      a short name or a path.

  Raises:
    ValueError: it names no evaluator.
  """
  if isinstance(options, Mapping) and 'type' in options:
    options = {
      'kind': options['type'],
      **{k: v for k, v in options.items() if k != 'type'},
    }
  kind, options = find(options, EVALUATORS, where)
  return kind, {name: value for name, value in options.items() if name != 'every'}


def make_evaluators(evals: Mapping[str, Any], **context: Any) -> dict[str, Any]:
  """Makes the evaluators of an experiment.

  Args:
    evals: name -> the experiment's section for it.
    **context: `task`, `sharding` and, if it is known, the `fingerprint` of the
      experiment; see `evaluators.interface.CONTEXT`.

  Raises:
    ValueError: an option does not fit, or a class is not one of evaluators.
  """
  evaluators = {}
  for name, specification in evals.items():
    where = f'evals.{name}'
    kind, options = evaluator_of(where, specification)
    known = parameters(kind)
    available = {**context, 'name': name}
    if 'fingerprint' in context:
      kind_and_options = f'{kind.__module__}:{kind.__qualname__}', options
      available['fingerprint'] = fingerprint_of(
        context['fingerprint'], *kind_and_options
      )
    given = {k: x for k, x in available.items() if k in known}
    evaluators[name] = call(kind, options, where, **given)
    for needed in ('compile', 'run', 'about', 'samples'):
      if not hasattr(evaluators[name], needed):
        raise ValueError(
          f'{where}: {kind.__name__} has no `{needed}`: let it inherit from '
          f'seqlab.evaluators.interface.Evaluator'
        )
  return evaluators


def check_evaluator(where: str, options: Any, task: Any) -> None:
  """Checks the options of an evaluator, and that a task has what it needs.

  Args:
    where: its key in the experiment, for messages.
    options: the experiment's section for it.
    task: the task, or its class.

  Raises:
    ValueError: an option does not fit, or the task lacks an ability.
  """
  kind, given = evaluator_of(where, options)
  for ability in getattr(kind, 'needs', ()):
    try:
      needs(task, ability)
    except ValueError as error:
      raise ValueError(f'{where}: {error}') from None
  if isinstance(options, Mapping) and 'every' in options:
    domains.check_value(f'{where}.every', options['every'], Duration | None)
  if missing := required(kind, (*given, *CONTEXT)):
    raise ValueError(f'{where} needs {where}.{missing[0]}')
  check_section(where, given, _options_of_evaluator(kind))
  if hasattr(kind, 'check_options'):
    kind.check_options(given, where)


def _as_section(specification: Any) -> Any:
  return {'kind': specification} if isinstance(specification, str) else specification


def _check_optimizer(config: Mapping[str, Any]) -> None:
  """Builds the schedule and the optimiser, which check their own options."""
  width = config.get('model', {}).get('width')
  schedule = make_schedule(config['schedule'], steps=100, width=width)
  check_hyper(config['optimizer'], schedule, config['hyper'])
  tx = make_optimizer(config['optimizer'], schedule, {'kernel': ('embed', 'mlp')})
  if config['optimizer'].get('groups'):  # not every optimiser admits them
    jax.eval_shape(tx.init, {'kernel': jax.ShapeDtypeStruct((2, 2), jnp.float32)})


def _check_best(config: Mapping[str, Any]) -> None:
  best, evals = config['keep_best'], config['evals']
  if config['patience'] is not None and not best:
    raise ValueError('patience waits for a new best: set keep_best to a metric')
  if not best:
    return
  name = best.partition('/')[0]
  if name not in evals:
    raise ValueError(f'keep_best is {best!r}; evals has {list(evals)}')
  kind, _ = evaluator_of(f'evals.{name}', evals[name])
  if isinstance(getattr(kind, 'metrics', None), Sequence):  # known without an instance
    check_metric(best, {name: kind})


def check_metric(
  best: str | None,
  evaluators: Mapping[str, Any],
  variables: Callable[[], Variables] | None = None,
) -> None:
  """Checks that an evaluator gives the metric by which checkpoints are kept.

  Args:
    best: 'valid/bleu' and the like, or None.
    evaluators: name -> evaluator.
    variables: function that returns variables of the model. An evaluator that does not
      say what it measures, by its attribute `metrics`, is run with them; without the
      function it is not checked.

  Raises:
    ValueError: it gives no such metric.
  """
  if not best:
    return
  name, _, metric = best.partition('/')
  known = getattr(evaluators[name], 'metrics', None)
  if known is None and variables is not None:
    known = measured(name, evaluators[name], variables())
  if known is not None and metric not in known:
    domains.check_value(
      'keep_best', best, Annotated[str, domains.OneOf(f'{name}/{x}' for x in known)]
    )
