"""Experiments: their arguments, the names in them, and checks of both.

A path in an experiment is 'module:name', in the tree ('models.transformer:Transformer')
or anywhere on the Python path ('my_package.models:Mine'); `resolve` is the one function
that turns it into the object. Short names of pieces are resolved in `pieces`. A run's
folder, which may come from an untrusted source, may name seqlab's own pieces only,
unless the user trusts it: see `trust`.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import difflib
import importlib
import inspect
import math
from pathlib import Path
import re
from typing import Annotated, Any, Literal

import ml_collections

from seqlab import domains
from seqlab.domains import Check, Count, Positive, Range, Rate, Seed
from seqlab.upgrade import upgrade

SMOKE = 'smoke'  # the argument of every experiment that makes it small
_DURATION = re.compile(r'([\d_.]+(?:e\d+)?)\s*(steps?|epochs?|tokens?)', re.ASCII)
_PATH = re.compile(r'\w+(\.\w+)*:\w+')
_LONGEST = 2**31 - 1  # steps: they are counted in int32 on the devices
_TIME = re.compile(r'\d\s*(s|sec|seconds?|m|min|minutes?|h|hours?)$')


def suggest(word: str, known: Iterable[str]) -> str:
  """Returns '; did you mean x?' if a known word is close, else an empty string."""
  close = difflib.get_close_matches(word, list(known), n=1)
  return f'; did you mean {close[0]!r}?' if close else ''


def parse_arg(
  arg: str | None, choices: Mapping[str, Iterable] | None = None, /, **defaults: Any
) -> ml_collections.ConfigDict:
  """Reads what follows the colon in `experiment.py:smoke,size=small`.

  A comma inside a value is taken for part of it where the value is in quotation marks
  (dir='my, data'), or where the whole is the path of something that exists.

  Args:
    arg: comma-separated `name=value` or `name` (meaning true), or None.
    choices: the values that some of the names may have.
    **defaults: the known names; a value is read as its default's type.

  Returns:
    The defaults, overridden.

  Raises:
    ValueError: a name is unknown, or a value cannot be read or is not among its choices.
  """
  values = dict(defaults)
  for _, part in _arguments(arg or ''):
    name, equals, text = part.strip().partition('=')
    if name not in defaults:
      known = (*defaults, SMOKE)
      raise ValueError(
        f'unknown experiment argument {name!r}{suggest(name, known)} '
        f"(known: {', '.join(known)}; a value with a comma is written name='a,b')"
      )
    if not equals and not isinstance(defaults[name], bool):
      raise ValueError(
        f'experiment argument {name!r} needs a value, as in {name}={defaults[name]}'
      )
    values[name] = _read(name, text if equals else 'true', defaults[name])
  for name, known in (choices or {}).items():
    if values[name] not in known:
      raise ValueError(
        f'experiment argument {name}={values[name]} must be one of '
        f'{", ".join(map(str, known))}'
      )
  return ml_collections.ConfigDict(values)


def split_smoke(arg: str) -> tuple[str, bool]:
  """Takes `smoke` out of an experiment's arguments: 'smoke,size=tiny' -> 'size=tiny'.

  Args:
    arg: what follows the colon in `experiment.py:smoke,size=tiny`.

  Returns:
    The other arguments, as they were written, and whether `smoke` is asked for.

  Raises:
    ValueError: it is given a value that is neither true nor false.
  """
  others, smoke = [], False
  for written, part in _arguments(arg):
    name, equals, text = part.strip().partition('=')
    if name == SMOKE:
      smoke = _read(SMOKE, text if equals else 'true', False)
    else:
      others.append(written)
  return ','.join(others), smoke


_ARGUMENT = re.compile(
  r"""\s*\w+\s*=\s*'(?P<single>[^']*)'\s*(?:,|$)"""
  r"""|\s*\w+\s*=\s*"(?P<double>[^"]*)"\s*(?:,|$)"""
  r'|(?P<plain>[^,]*)(?:,|$)'
)


def _arguments(arg: str) -> list[tuple[str, str]]:
  """Divides 'a=1,b="x, y",c' at the commas that are not part of a value.

  Returns:
    Each argument twice: as it is written, and without quotation marks.
  """
  parts, start = [], 0
  while start < len(arg):
    match = _ARGUMENT.match(arg, start)
    part, end = match[0].removesuffix(','), match.end()
    quoted = next(
      (q for q in (match['single'], match['double']) if q is not None), None
    )
    if quoted is not None:
      part = f'{part.partition("=")[0]}={quoted}'
    elif '=' in part:
      part, end = _longest_path(arg, start, part, end)
    if part.strip():
      parts.append((arg[start:end].removesuffix(','), part))
    start = end
  return parts


def _longest_path(arg: str, start: int, part: str, end: int) -> tuple[str, int]:
  """Extends name=value over commas if the longer value is an existing path."""
  text = f'{arg[start:]},'
  for i, letter in enumerate(text):
    if letter == ',' and i > len(part) and Path(text[:i].partition('=')[2]).exists():
      part, end = text[:i], start + i + 1
  return part, end


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


def resolve(name: str, where: str = '') -> Any:
  """Imports the object that a path such as 'models.transformer:Transformer' names.

  The module is looked for in seqlab first, and then anywhere on the Python path.

  Args:
    name: module, colon, attribute.
    where: the key of the experiment that holds the name, for messages.

  Raises:
    ValueError: it is not written so, or leads nowhere.
  """
  prefix = f'{where}: ' if where else ''
  if not is_path(name):
    raise ValueError(f"{prefix}{name!r} should be written 'module:name'")
  module_name, _, attribute = name.partition(':')
  modules = []
  for candidate in (f'seqlab.{module_name}', module_name):
    try:
      modules.append(importlib.import_module(candidate))
    except ModuleNotFoundError as error:
      # A missing import inside the module is the module's own error.
      if not f'{candidate}.'.startswith(f'{error.name}.'):
        raise
    else:
      if hasattr(modules[-1], attribute):
        return getattr(modules[-1], attribute)
  if not modules:
    raise ValueError(
      f'{prefix}{name!r}: no module seqlab.{module_name} and no {module_name}'
    )
  known = [known for module in modules for known in vars(module)]
  places = ' and '.join(module.__name__ for module in modules)
  raise ValueError(
    f'{prefix}{name!r}: {places} has no {attribute!r}{suggest(attribute, known)}'
  )


def is_path(value: Any) -> bool:
  """Returns whether a value of an experiment is written as a path to code."""
  return isinstance(value, str) and bool(_PATH.fullmatch(value))


def _check_duration(value: Any) -> None:
  try:
    if value is None:
      raise ValueError
    steps_of(value, steps_per_epoch=1, tokens_per_step=1.0)
  except ValueError:
    advice = (
      f"1 or more steps, or a text such as '10 epochs' or '3e7 tokens'{_hint(value)}"
    )
    raise ValueError(advice) from None


def _hint(duration: Any) -> str:
  if isinstance(duration, str) and _TIME.search(duration):
    return ' (a time is limited by `minutes`)'
  return ''


def _check_sinks(value: Any) -> None:
  if not isinstance(value, list | tuple):
    raise ValueError("a list of sinks, as in ['tensorboard', 'wandb']")


def _check_profile(value: Any) -> None:
  whole = isinstance(value, list | tuple) and all(type(step) is int for step in value)
  if not whole or len(value) != 2 or not 1 <= value[0] <= value[1]:
    raise ValueError('the first and the last step of a trace, from 1, as in (100, 105)')


Duration = Annotated[int | str, Check(_check_duration)]  # see `steps_of`


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the top level of an experiment, besides the sections of its task.

  Attributes:
    seed: decides every random number of the run.
    steps: updates of the run. An experiment of an estimator has no such key.
    parallel: 'jit', or 'pmap' for replicated data parallelism.
    threads: threads per CPU device; None gives one per core.
    accumulate: micro-batches per update.
    ema: decay of the moving average of the parameters; 0 keeps none.
    minutes: longest time of training; None sets no limit.
    patience: evaluations without a new best after which the run ends.
    keep_best: metric whose best checkpoints are kept, such as 'valid/bleu'.
    keep_best_n: number of these checkpoints.
    best_is: whether the best value is the largest or the smallest; by default that of
      the metric's name, see `direction`.
    keep_latest: number of newest checkpoints that are kept.
    save_every: time between checkpoints; None saves whenever something is evaluated.
    retries: further attempts at a save while the disk is full or a bucket is unreachable.
    sinks: where the run is shown besides `metrics.jsonl`, see `train.sinks`; None is
      ['tensorboard'].
    profile: first and last step of a trace of the device, see `train.profile`; None
      takes none.
  """

  seed: Seed
  steps: Duration
  parallel: Literal['jit', 'pmap'] = 'jit'
  threads: Annotated[int, Range(1, 4_096)] | None = None
  accumulate: Count = 1
  ema: Rate = 0.0
  minutes: Annotated[float, Positive] | None = None
  patience: Count | None = None
  keep_best: str | None = None
  keep_best_n: Count = 1
  best_is: Literal['max', 'min'] | None = None
  keep_latest: Count = 2
  save_every: Duration | None = None
  retries: Annotated[int, Range(0)] = 6
  sinks: Annotated[list, Check(_check_sinks)] | None = None
  profile: Annotated[list, Check(_check_profile)] | None = None


# How a run is watched, which changes none of its results: experiments that differ in
# these settings alone are the same experiment. A configuration has them only if they are
# set, because runs that are older lack them.
WATCHING = ('sinks', 'profile')
DEFAULTS = {
  field.name: field.default
  for field in dataclasses.fields(Settings)
  if field.default is not dataclasses.MISSING and field.name not in WATCHING
}
NEEDED = ('task', 'seed')
# Sections that may be left out. With fallback={'factor': 0.5, 'times': 3}, a run that
# diverges returns to the last good checkpoint with half the learning rate, up to three
# times; without `fallback` it ends there. `init` says what a run begins with in place of
# fresh parameters, see `train.init`; None is an empty section. `hyper_schedules` says
# which hyperparameters rise during training, see `train.hyper_schedules`.
SECTIONS = (
  *('hyper', 'hyper_schedules', 'schedule', 'optimizer', 'mesh', 'evals', 'fallback'),
  'init',
)
_LATER = ('init', 'hyper_schedules')  # runs that are older lack them
INNER_SECTIONS = ('init.vectors',)  # those of a section that may be left out too
_CONSTANT = {'kind': 'constant'}  # the schedule of an experiment that names none


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns an experiment with today's keys and with all defaults of the top level."""
  config = upgrade(config)
  task, evals = config.get('task'), config.get('evals')
  if isinstance(task, Mapping) and [*task] == ['kind']:  # a task has no options
    config['task'] = task['kind']
  if isinstance(evals, Mapping):  # sections, from which `every` is read
    config['evals'] = {
      name: {'kind': x} if isinstance(x, str) else x for name, x in evals.items()
    }
  sections = {section: {} for section in SECTIONS}
  config = {**DEFAULTS, **sections, 'schedule': _CONSTANT, **config}
  for section in _LATER:
    if not config[section]:
      del config[section]
  for setting in WATCHING:
    if setting in config and config[setting] is None:
      del config[setting]
  return {**config, 'best_is': best_is(config)}


def best_is(config: Mapping[str, Any]) -> str:
  """Returns whether the best value of `keep_best` is the largest or the smallest.

  Args:
    config: an experiment, or the configuration of a run.

  Returns:
    'max' or 'min'.
  """
  return config.get('best_is') or direction(config.get('keep_best') or '')


def direction(metric: str) -> str:
  """Returns 'min' for a loss, an error or a time, 'max' for any other metric.

  Args:
    metric: such as 'valid/cer', of the evaluator 'valid'; or 'valid/cer/<category>'.
  """
  first, *others = metric.split('/')
  return 'min' if _LESS.search(others[0] if others else first) else 'max'


# Words in the name of a metric of which lower values are better. 'per' is the whole name,
# since it is a part of 'tokens_per_second'.
_LESS = re.compile(
  r'(^|_)(loss|nll|perplexity|bits|bpc|bpb|errors?|wer|cer|ser|ter|mse|gap|seconds|minutes|bytes)'
  r'($|_)|^per$'
)


def check_keys(
  keys: Iterable[str],
  known: Iterable[str],
  *,
  needed: Iterable[str] = (),
  where: str = '',
) -> None:
  """Raises ValueError for a key that nothing reads, or one that is missing.

  Args:
    keys: the keys of a section.
    known: the keys that something reads.
    needed: the keys that are required.
    where: prefix of the keys in messages ('hyper.').
  """
  known, keys = sorted({*known, *needed}), list(keys)
  for key in keys:
    if key not in known:
      raise ValueError(
        f'unknown key {where}{key}{suggest(key, known)} (known: {", ".join(known)})'
      )
  for key in needed:
    if key not in keys:
      raise ValueError(f'the experiment sets no {where}{key}')


def check_sections(config: Mapping[str, Any], sections: Iterable[str]) -> None:
  """Raises ValueError for a section that an experiment lacks."""
  for section in sections:
    if section not in config:
      raise ValueError(f'the experiment has no section {section!r}')


def call(function: Callable, options: Mapping, where: str, **context: Any) -> Any:
  """Returns function(**options, **context); a wrong option gives a helpful error.

  Args:
    function: a function or a class.
    options: the experiment's section for it.
    where: the section's name, for messages ('model').
    **context: arguments that the experiment does not choose.

  Raises:
    ValueError: an option is unknown, a needed one is missing, or one is outside the
      domain that the signature declares.
  """
  signature = inspect.signature(function)
  options = dict(options)
  kinds = [p.kind for p in signature.parameters.values()]
  known = [n for n in signature.parameters if n not in (*context, 'parent', 'name')]
  takes_any = inspect.Parameter.VAR_KEYWORD in kinds
  for option in options:
    if option in context or not (takes_any or option in signature.parameters):
      raise ValueError(
        f'unknown key {where}.{option}{suggest(option, known)} '
        f'(known: {", ".join(known)})'
      )
  try:
    signature.bind(**options, **context)
  except TypeError as error:
    raise ValueError(f'{where}: {error}') from None
  domains.check(function, options, f'{where}.')
  return function(**options, **context)


def steps_of(
  duration: int | str | None, *, steps_per_epoch: int, tokens_per_step: float
) -> int | None:
  """Returns a duration in steps, of 4000, '4000 steps', '10 epochs' or '3e7 tokens'.

  Raises:
    ValueError: the text is none of these, or the duration is not above 0.
  """
  if duration is None:
    return None
  if isinstance(duration, int):
    return _in_range(duration, duration)
  match = _DURATION.fullmatch(str(duration).strip())
  if not match and _TIME.search(str(duration)):
    raise ValueError(
      f'{duration!r} is a time, which cannot be converted to steps: write '
      f"4000, '10 epochs' or '3e7 tokens', and limit a run's time by `minutes`"
    )
  if not match:
    raise ValueError(
      f"{duration!r} is not a duration: write 4000, '10 epochs' or '3e7 tokens'"
    )
  try:
    number = float(match[1])
  except ValueError:  # such as 1.2.3
    raise ValueError(
      f'{duration!r} begins with {match[1]!r}, which is not a number'
    ) from None
  per = {'step': 1.0, 'epoch': steps_per_epoch, 'token': 1 / tokens_per_step}
  steps = number * per[match[2].rstrip('s')]
  if not 0 < steps < math.inf:
    raise ValueError(f'{duration!r} is {steps:g} steps; a duration is more than 0')
  return _in_range(max(1, round(steps)), duration)


def _in_range(steps: int, duration: int | str) -> int:
  if not 1 <= steps <= _LONGEST:
    raise ValueError(
      f'{duration!r} is {steps:,} steps; it must be at least 1 and at most {_LONGEST:,}'
    )
  return steps


def flatten(config: Mapping, prefix: str = '') -> dict[str, Any]:
  """Flattens keys: {'a': {'b': 1}} -> {'a.b': 1}; an empty section stays as {}."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
