"""Checks of a whole experiment, before data are read or anything is compiled."""

from collections.abc import Callable, Mapping, Sequence
import inspect
from typing import Annotated, Any

from seqlab import domains
from seqlab.config import Duration, check_keys, resolve, task_of, with_defaults
from seqlab.domains import Range, Signature
from seqlab.train.fallback import Fallback
from seqlab.train.mesh import make_mesh
from seqlab.train.optimizers import make_optimizer, make_schedule

# Sections that every task has, and what their options are for.
_SIGNATURES: dict[str, Sequence[Signature]] = {
  'schedule': (make_schedule,),
  'optimizer': (make_optimizer,),
  'mesh': (make_mesh,),
  'fallback': (Fallback,),
}
_HYPER = {
  'peak': Annotated[float, Range(0)],
  'weight_decay': Annotated[float, Range(0)] | None,
}


def check_experiment(config: Mapping[str, Any]) -> None:
  """Checks every option of a resolved experiment by the signature that takes it.

  A sweep checks all its trials so before the first one starts, and training does
  before it reads any data.

  Args:
    config: a resolved experiment.

  Raises:
    ValueError: a key is unknown or missing, or a value is outside its domain.
  """
  config = with_defaults(config)
  task = task_of(config)
  for section in task.sections:
    if section not in config:
      raise ValueError(f'the experiment has no section {section!r}')
  sections = dict(_SIGNATURES)
  if hasattr(task, 'signatures'):
    sections |= task.signatures(config)
  hyper = (_HYPER, *sections.pop('hyper', ({},)))
  check_section('hyper', config['hyper'], hyper, closed=hasattr(task, 'signatures'))
  if config['hyper'].get('peak') is None:
    raise ValueError('hyper.peak is not set; it is the highest learning rate')
  for name, signatures in sections.items():
    check_section(name, config[name], signatures)
  if not isinstance(config['evals'], Mapping):
    raise ValueError(f'evals is {config["evals"]!r}; it must be a section')
  for name, options in config['evals'].items():
    _check_evaluator(f'evals.{name}', options)
  _check_best(config)


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
    ValueError: it is no section, an option is unknown, or a value is outside its
      domain.
  """
  if not isinstance(options, Mapping):
    raise ValueError(f'{where} is {options!r}; it must be a section, as in dict(...)')
  for signature in signatures:
    domains.check(signature, options, f'{where}.')
  names = [name for signature in signatures for name in _names(signature)]
  if closed and not (signatures and _is_open(signatures[-1])):
    check_keys(options, names, where=f'{where}.')


def _check_evaluator(where: str, options: Any) -> None:
  if not isinstance(options, Mapping) or not isinstance(options.get('type'), str):
    raise ValueError(
      f"{where} names no evaluator: set {where}.type, as in 'translation'"
    )
  kind = resolve(f'evaluators.{options["type"]}:Evaluator', f'{where}.type')
  own = {'type': str, 'every': Duration | None}
  check_section(where, options, (own, kind, *getattr(kind, 'signatures', ())))


def _check_best(config: Mapping[str, Any]) -> None:
  best, evals = config['keep_best'], config['evals']
  if config['patience'] is not None and not best:
    raise ValueError('patience waits for a new best: set keep_best to a metric')
  if best and best.partition('/')[0] not in evals:
    raise ValueError(f'keep_best is {best!r}; evals has {list(evals)}')


def check_metric(best: str | None, evaluators: Mapping[str, Any]) -> None:
  """Checks that an evaluator gives the metric by which checkpoints are kept.

  Args:
    best: 'valid/bleu' and the like, or None.
    evaluators: name -> evaluator. One that does not say what it measures, by its
      attribute `metrics`, is not checked.

  Raises:
    ValueError: it gives no such metric.
  """
  if not best:
    return
  name, _, metric = best.partition('/')
  known = getattr(evaluators[name], 'metrics', None)
  if known is not None and metric not in known:
    domains.check_value(
      'keep_best', best, Annotated[str, domains.OneOf(f'{name}/{x}' for x in known)]
    )


def _names(signature: Signature) -> list[str]:
  if isinstance(signature, Mapping):
    return list(signature)
  hidden = ('parent', 'name') if _is_module(signature) else ()
  parameters = inspect.signature(signature).parameters.values()
  return [
    p.name for p in parameters if p.kind != p.VAR_KEYWORD and p.name not in hidden
  ]


def _is_module(signature: Callable) -> bool:
  return inspect.isclass(signature) and hasattr(signature, 'setup')


def _is_open(signature: Signature) -> bool:
  if isinstance(signature, Mapping):
    return False
  kinds = [p.kind for p in inspect.signature(signature).parameters.values()]
  return inspect.Parameter.VAR_KEYWORD in kinds
