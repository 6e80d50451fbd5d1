"""Domains of options: the values that a function's signature allows.

A signature declares an option once, with its type and its domain:

    def step(*, clip: Annotated[float, Range(0, exclude_low=True)] | None = None): ...

`check` compares values with such a signature before anything is built from them. The
same domain therefore applies to a file, a command line, a sweep and a call from Python.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import difflib
import functools
import inspect
import numbers
import types
import typing
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union

_F = TypeVar('_F', bound=Callable)


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers between two bounds, which belong to the range unless excluded.

  Attributes:
    low: lower bound, or None.
    high: upper bound, or None.
    exclude_low: whether `low` itself is outside.
    exclude_high: whether `high` itself is outside.
  """

  low: float | None = None
  high: float | None = None
  exclude_low: bool = False
  exclude_high: bool = False

  def __contains__(self, value: float) -> bool:
    low, high = self.low, self.high
    above = low is None or (value > low if self.exclude_low else value >= low)
    below = high is None or (value < high if self.exclude_high else value <= high)
    return above and below

  def __str__(self) -> str:
    parts = []
    if self.low is not None:
      parts.append(f'{"more than" if self.exclude_low else "at least"} {self.low:,}')
    if self.high is not None:
      parts.append(f'{"less than" if self.exclude_high else "at most"} {self.high:,}')
    return ' and '.join(parts)


_LARGEST = 3.4028234663852886e38  # of float32

Positive = Range(0, exclude_low=True)  # 0 excluded
Count = Annotated[int, Range(1)]  # a number of things, at least 1
Probability = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1, exclude_high=True)]  # a rate of dropout or decay
Seed = Annotated[int, Range(0, 2**32 - 1)]  # a seed of a random number generator


@dataclasses.dataclass(frozen=True, init=False)
class OneOf:
  """A choice between known names.

  Attributes:
    names: the names, such as the keys of a dictionary of pieces.
  """

  names: tuple[str, ...]

  def __init__(self, names: Iterable[str]):
    object.__setattr__(self, 'names', tuple(names))

  def __contains__(self, value: Any) -> bool:
    return isinstance(value, str) and value in self.names

  def advice(self, value: Any) -> str:
    """Returns 'one of a, b, c', with the name that is closest to the value."""
    close = difflib.get_close_matches(str(value), self.names, n=1)
    suggestion = f'; did you mean {close[0]!r}?' if close else ''
    return f'one of {", ".join(map(repr, self.names))}{suggestion}'


@dataclasses.dataclass(frozen=True)
class Check:
  """A domain given by a function that refuses values outside of it.

  Attributes:
    test: function of the value; its ValueError says what the value must be.
  """

  test: Callable[[Any], Any]


Signature = Callable | Mapping[str, Any]  # a mapping: name -> annotation


def check(function: Signature, options: Mapping[str, Any], where: str = '') -> None:
  """Compares options with the types and domains that a signature declares.

  An option without a plain type as its annotation, or without a parameter of its name,
  is not checked.

  Args:
    function: function or class that takes the options; or its annotations.
    options: name -> value.
    where: prefix of names in messages, such as 'model.'.

  Raises:
    ValueError: a value has another type, or is outside the domain.
  """
  hints = annotations(function)
  for name, value in options.items():
    if name in hints:
      check_value(f'{where}{name}', value, hints[name])


def check_fields(instance: Any, where: str = '') -> None:
  """Checks the fields of a dataclass, such as a Linen module; see `check`."""
  hints = annotations(type(instance))
  fields = [f.name for f in dataclasses.fields(instance) if f.name in hints]
  for name in fields:
    if name not in ('parent', 'name'):  # fields of every Linen module
      check_value(f'{where}{name}', getattr(instance, name), hints[name])


def checked(function: _F) -> _F:
  """Wraps a function so that `check` checks its arguments before each call."""
  signature = inspect.signature(function)

  @functools.wraps(function)
  def run(*args, **options):
    bound = signature.bind(*args, **options)
    check(function, bound.arguments)
    return function(*args, **options)

  return run


def annotations_of(names: Iterable[str] | Mapping[str, Any]) -> Mapping[str, Any]:
  """Returns names with their annotations; those without one are numbers or None."""
  return names if isinstance(names, Mapping) else dict.fromkeys(names, float | None)


def annotations(function: Signature) -> Mapping[str, Any]:
  """Returns parameter -> annotation for a function or a class's constructor.

  Where an annotation is no plain type, such as the ArrayLike of optax, or cannot be
  resolved, the type of the parameter's default counts, if that is plain.
  """
  if isinstance(function, Mapping):
    return function
  if isinstance(function, functools.partial):
    function = function.func
  if inspect.isclass(function) and not dataclasses.is_dataclass(function):
    function = function.__init__  # a dataclass, such as a Linen module, has its fields
  hints = _type_hints(function)
  for name, parameter in _parameters(function).items():
    kind = _DEFAULT_TYPES.get(type(parameter.default))
    if kind is not None and not _is_plain(hints.get(name)):
      hints[name] = kind
  return hints


# A whole number as the default of an array does not exclude other numbers.
_DEFAULT_TYPES = {bool: bool, int: float, float: float, str: str}
_PLAIN = (bool, int, float, str, None, type(None), list, tuple, dict, Any)


def _type_hints(function: Callable) -> dict[str, Any]:
  with contextlib.suppress(NameError, TypeError):
    return typing.get_type_hints(function, include_extras=True)
  hints = {}  # one by one, since some names exist only for type checkers
  for name, parameter in _parameters(function).items():
    alone = types.SimpleNamespace(__annotations__={name: parameter.annotation})
    scope = getattr(inspect.unwrap(function), '__globals__', None)
    with contextlib.suppress(NameError, TypeError):
      hints |= typing.get_type_hints(alone, scope, include_extras=True)
  hints.pop('return', None)
  return {k: x for k, x in hints.items() if x is not inspect.Parameter.empty}


def _parameters(function: Callable) -> Mapping[str, inspect.Parameter]:
  try:
    return inspect.signature(function).parameters
  except (TypeError, ValueError):  # some builtin functions have none
    return {}


def _is_plain(annotation: Any) -> bool:
  """Returns whether `check_value` can compare values with every part of it."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in (Annotated, Literal):
    return True
  if origin in (Union, types.UnionType):
    return all(map(_is_plain, args))
  plain = (*_PLAIN[:4], *_PLAIN[5:], Sequence, Mapping)
  return annotation is type(None) or (origin or annotation) in plain


class Domain(Protocol):
  """A domain whose messages name parts of the value, such as a piece's options."""

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError unless the value of the option `name` is in the domain."""
    ...


def check_value(name: str, value: Any, annotation: Any) -> None:
  """Raises ValueError, which begins with `name`, unless `annotation` allows `value`."""
  for domain in _custom_domains(annotation, value):
    domain.check(name, value)
    return
  problem = _problem(value, annotation)
  if problem:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f'{shown[:57]}...'
    raise ValueError(f'{name} is {shown}; it must be {problem}')


def _custom_domains(annotation: Any, value: Any) -> Iterator[Domain]:
  """Yields domains of an annotation with a `check`; none for an allowed None."""
  args = typing.get_args(annotation)
  if typing.get_origin(annotation) is Annotated:
    yield from (x for x in args[1:] if hasattr(x, 'check'))
  elif typing.get_origin(annotation) in (Union, types.UnionType):
    if value is None and type(None) in args:
      return
    for part in args:
      yield from _custom_domains(part, value)


def _problem(value: Any, annotation: Any) -> str:
  """Returns a description of the allowed values; '' if the value is allowed."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Annotated:
    problem = _problem(value, args[0])
    if not problem:
      return _outside(value, annotation, args[1:])
    # The message of a `Check` is more specific than the name of the expected type, if
    # the check can be applied to a value of another type.
    checks = [domain for domain in args[1:] if isinstance(domain, Check)]
    with contextlib.suppress(TypeError):
      return _outside(value, annotation, checks) or problem
    return problem
  if origin in (Union, types.UnionType):
    problems = [_problem(value, kind) for kind in args]
    if not all(problems):
      return ''
    return ' or '.join(dict.fromkeys(problems))
  if origin is Literal:
    known = any(type(value) is type(x) and value == x for x in args)
    return '' if known else ' or '.join(map(repr, args))
  return _wrong_type(value, origin or annotation, args)


def _outside(value: Any, annotation: Any, domains: Sequence[Any]) -> str:
  for domain in domains:
    if isinstance(domain, Range) and value not in domain:
      return str(domain) if _is_number(value) else f'{_name(annotation)}, {domain}'
    if isinstance(domain, OneOf) and value not in domain:
      return domain.advice(value)
    if isinstance(domain, Check):
      try:
        domain.test(value)
      except ValueError as error:
        return str(error)
  return ''


def _wrong_type(value: Any, kind: Any, args: tuple) -> str:
  if kind is None or kind is type(None):
    return '' if value is None else 'None'
  if kind is bool:
    return '' if isinstance(value, bool) else 'true or false'
  if kind is int:
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return '' if fits else 'a whole number'
  if kind is float:
    # Devices compute in float32, in which a larger number is infinite.
    return '' if _is_number(value) and abs(value) <= _LARGEST else 'a number'
  if kind is str:
    return '' if isinstance(value, str) else 'a text'
  if kind in (list, tuple, Sequence):
    if isinstance(value, str) or not isinstance(value, Sequence):
      return 'a list'
    kinds = [a for a in args if a is not Ellipsis]
    if len(kinds) == 1:  # Sequence[int], tuple[int, ...]
      problems = filter(None, (_problem(x, kinds[0]) for x in value))
      return next((f'a list of which each is {p}' for p in problems), '')
    if kind is tuple and kinds:
      each = zip(value, kinds, strict=False)
      fits = len(value) == len(kinds) and not any(_problem(x, k) for x, k in each)
      return '' if fits else f'a list of {len(kinds)}'
    return ''
  if kind is dict or kind is Mapping:
    return '' if isinstance(value, Mapping) else 'a section'
  return ''


def _name(annotation: Any) -> str:
  base = typing.get_args(annotation)[0]
  return {int: 'a whole number', float: 'a number'}.get(base, 'a value')


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)
