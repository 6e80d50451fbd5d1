"""Experiments: their arguments, the names in them, and what is wrong with them.

A name in an experiment is a path in the tree ('models.transformer:Transformer');
`resolve` is the one function that turns it into the object. There are no
registries, so a user's own 'my_package.models:Mine' works the same way.
"""

from collections.abc import Callable, Iterable, Mapping
import difflib
import importlib
import inspect
import re
from typing import Any

import ml_collections

_DURATION = re.compile(r'([\d_.]+(?:e\d+)?)\s*(steps?|epochs?|tokens?)')
_TIME = re.compile(r'\d\s*(s|sec|seconds?|m|min|minutes?|h|hours?)$')


def suggest(word: str, known: Iterable[str]) -> str:
  """'; did you mean x?' if some known word is close, else an empty string."""
  close = difflib.get_close_matches(word, list(known), n=1)
  return f'; did you mean {close[0]!r}?' if close else ''


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
  """Reads what follows the colon in `experiment.py:smoke,size=small`.

  Args:
    arg: comma-separated `name=value` or `name` (meaning true), or None.
    **defaults: the known names; a value is read as its default's type.

  Returns:
    The defaults, overridden.

  Raises:
    ValueError: a name is unknown, or a value cannot be read.
  """
  found = dict(defaults)
  for part in filter(None, (arg or '').split(',')):
    name, equals, text = part.strip().partition('=')
    if name not in defaults:
      raise ValueError(
        f'unknown experiment argument {name!r}{suggest(name, defaults)} '
        f'(known: {", ".join(defaults)})'
      )
    if not equals and not isinstance(defaults[name], bool):
      raise ValueError(
        f'experiment argument {name!r} needs a value, as in {name}={defaults[name]}'
      )
    found[name] = _read(name, text if equals else 'true', defaults[name])
  return ml_collections.ConfigDict(found)


def _read(name: str, text: str, default: Any) -> Any:
  kind = str if default is None else type(default)
  if kind is bool:
    if text.lower() in ('true', '1', 'yes', 'false', '0', 'no'):
      return text.lower() in ('true', '1', 'yes')
    raise ValueError(f'experiment argument {name}={text!r} should be true or false')
  try:
    return kind(text)
  except ValueError:
    raise ValueError(
      f'experiment argument {name}={text!r} should be a {kind.__name__}'
    ) from None


def resolve(name: str) -> Any:
  """'models.transformer:Transformer' -> the class.

  The module is looked for in seqlab first, and then anywhere on the Python path.
  """
  module_name, colon, attribute = name.partition(':')
  if not colon:
    raise ValueError(f"{name!r} should be written 'module:name'")
  module = None
  for candidate in (f'seqlab.{module_name}', module_name):
    try:
      module = importlib.import_module(candidate)
      break
    except ModuleNotFoundError as error:
      # A missing import inside the module is the module's own error.
      if not f'{candidate}.'.startswith(f'{error.name}.'):
        raise
  if module is None:
    raise ValueError(f'{name!r}: no module seqlab.{module_name} and no {module_name}')
  if not hasattr(module, attribute):
    hint = suggest(attribute, vars(module))
    raise ValueError(f'{name!r}: {module.__name__} has no {attribute!r}{hint}')
  return getattr(module, attribute)


# What an experiment may set at its top level besides its task's sections, and what
# holds if it does not.
DEFAULTS = {
  'parallel': 'jit',  # or 'pmap': replicated data parallel
  'threads': None,  # of a CPU device; by default one a core
  'accumulate': 1,  # micro-batches an update
  'ema': 0.0,  # decay of the parameters' moving average; 0 keeps none
  'minutes': None,  # of training, at most
  'patience': None,  # evaluations without a new best before the run ends
  'keep_best': None,  # a metric, such as 'valid/bleu'
  'keep_best_n': 1,
  'best_is': 'max',
  'keep_latest': 2,
  'save_every': None,  # a duration; by default, whenever something is evaluated
  'retries': 6,  # of a save that finds the disk full or the bucket out of reach
}
NEEDED = ('task', 'seed', 'steps', 'hyper', 'schedule')
# Those that may be left out. `fallback` says what to do where training diverges:
# {'factor': 0.5, 'times': 3} goes back to the last good checkpoint with half the rate,
# and if need be with half of that, three times in all; with `loss_above` a loss beyond
# that counts too. Left out, the run ends there.
SECTIONS = ('optimizer', 'mesh', 'evals', 'fallback')


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
  """The experiment with all that it leaves to be chosen here."""
  return {**DEFAULTS, **{section: {} for section in SECTIONS}, **config}


def check_keys(
  found: Iterable[str],
  known: Iterable[str],
  *,
  needed: Iterable[str] = (),
  where: str = '',
) -> None:
  """Raises ValueError for a key that nothing reads, or one that is missing.

  Args:
    found: the keys there are.
    known: those that something reads.
    needed: those that must be there.
    where: what stands before them in messages ('hyper.').
  """
  known, found = sorted({*known, *needed}), list(found)
  for key in found:
    if key not in known:
      raise ValueError(
        f'unknown key {where}{key}{suggest(key, known)} (known: {", ".join(known)})'
      )
  for key in needed:
    if key not in found:
      raise ValueError(f'the experiment sets no {where}{key}')


def task_of(config: Mapping[str, Any]) -> Any:
  """The class of an experiment's task.

  Raises:
    ValueError: a key of the experiment is missing, or nothing reads it.
  """
  check_keys(config, config, needed=NEEDED)
  task = resolve(config['task'])
  check_keys(config, (*DEFAULTS, *SECTIONS, *NEEDED, *task.sections))
  return task


def call(function: Callable, options: Mapping, where: str, **more: Any) -> Any:
  """function(**options, **more), with a helpful error for an unknown option.

  Args:
    function: what to call, or a class.
    options: the experiment's section for it.
    where: the section's name, for messages ('model').
    **more: arguments that the experiment does not choose.

  Raises:
    ValueError: an option is unknown or a needed one is missing.
  """
  signature = inspect.signature(function)
  options = dict(options)
  kinds = [p.kind for p in signature.parameters.values()]
  known = [n for n in signature.parameters if n not in (*more, 'parent', 'name')]
  if inspect.Parameter.VAR_KEYWORD not in kinds:
    for option in options:
      if option not in signature.parameters:
        raise ValueError(
          f'unknown key {where}.{option}{suggest(option, known)} '
          f'(known: {", ".join(known)})'
        )
  try:
    signature.bind(**options, **more)
  except TypeError as error:
    raise ValueError(f'{where}: {error}') from None
  return function(**options, **more)


def steps_of(
  duration: int | str | None, *, steps_per_epoch: int, tokens_per_step: float
) -> int | None:
  """A duration in steps: 4000, '4000 steps', '10 epochs' or '3e7 tokens'.

  Raises:
    ValueError: the text is none of these.
  """
  if duration is None or isinstance(duration, int):
    return duration
  match = _DURATION.fullmatch(str(duration).strip())
  if not match and _TIME.search(str(duration)):
    raise ValueError(
      f'{duration!r} is a time, of which it is not known how many steps it has: write '
      f"4000, '10 epochs' or '3e7 tokens', and limit a run's time by `minutes`"
    )
  if not match:
    raise ValueError(
      f"{duration!r} is no duration: write 4000, '10 epochs' or '3e7 tokens'"
    )
  number, unit = float(match[1]), match[2].rstrip('s')
  per = {'step': 1.0, 'epoch': steps_per_epoch, 'token': 1 / tokens_per_step}
  return max(1, round(number * per[unit]))


def flatten(config: Mapping, prefix: str = '') -> dict[str, Any]:
  """{'a': {'b': 1}} -> {'a.b': 1}; an empty section stays as {}."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
