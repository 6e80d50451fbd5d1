"""The one rule for every piece that an experiment names.

A piece is named by a short name, by a path, or by a dict that has either as `kind` and
the piece's options:

    c.optimizer = 'adam'
    c.optimizer = dict(kind='adam', b2=0.999)
    c.optimizer = dict(kind='optax:lion', b1=0.95)
    c.evals.valid = dict(kind='my_package.evals:Exact', split='dev')

Short names are plain dictionaries in the modules of the pieces. Their values are the
functions and classes themselves, or paths to them, so that a dictionary imports
nothing.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
import inspect
import typing
from typing import Any

from seqlab import domains
from seqlab.config import call, check_keys, resolve, suggest
from seqlab.domains import Signature

Specification = str | Mapping[str, Any]
Kinds = Mapping[str, Callable | str]


def make(specification: Specification, kinds: Kinds, where: str, **context: Any) -> Any:
  """Builds the piece that an experiment names.

  Args:
    specification: a short name, a path 'module:name', or a dict with `kind` and
      options.
    kinds: short name -> the class or function behind it, or a path to that.
    where: key of the experiment that holds the specification, for messages.
    **context: what the caller knows and an experiment cannot set. A piece gets those
      that its signature has.

  Returns:
    What the class or function returns.

  Raises:
    ValueError: the name or an option is unknown, a required option is missing, or a
      value is outside the domain that the signature declares.
  """
  builder, options = find(specification, kinds, where)
  return call(builder, options, where, **accepted_context(builder, context))


def bind(
  specification: Specification, kinds: Kinds, where: str
) -> tuple[Callable, int]:
  """Returns a function of arrays that an experiment names, with its options applied.

  The arrays are the parameters that have no default; an experiment sets the others.

  Returns:
    The function, and how many arrays it takes.

  Raises:
    ValueError: as `make`; or the function takes no array.
  """
  function, options = find(specification, kinds, where)
  arrays = required(function, ())
  if not arrays:
    raise ValueError(f'{where}: {specification!r} is not a function of an array')
  known = names(function, hidden=arrays)
  if known is not None:
    check_keys(options, known, where=f'{where}.')
  domains.check(function, options, f'{where}.')
  return functools.partial(function, **options), len(arrays)


def find(
  specification: Specification, kinds: Kinds, where: str
) -> tuple[Callable, dict[str, Any]]:
  """Returns the class or function that a specification names, and its options.

  Raises:
    ValueError: it names nothing, or something unknown.
  """
  name, options = split(specification, where)
  if name is None:
    raise ValueError(f'{where} names no kind: set {where}.kind to {_choice(kinds)}')
  if not isinstance(name, str):
    raise ValueError(f'{where}.kind is {name!r}; it must be {_choice(kinds)}')
  builder = kinds.get(name, name)
  if isinstance(builder, str):
    if ':' not in builder:
      raise ValueError(
        f'unknown {where} {name!r}{suggest(name, kinds)} (known: {_choice(kinds)})'
      )
    builder = resolve(builder, where)
  if not callable(builder):
    raise ValueError(f'{where}: {name!r} is not a class or function')
  return builder, options


def split(specification: Any, where: str) -> tuple[Any, dict[str, Any]]:
  """Divides a specification into its name, or None, and its options."""
  if isinstance(specification, Mapping):
    options = dict(specification)
    return options.pop('kind', None), options
  if not isinstance(specification, str):
    raise ValueError(
      f'{where} is {specification!r}; it must be a name, or a section with a kind'
    )
  return specification, {}


def accepted_context(builder: Callable, context: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the part of the context that a class or function has parameters for."""
  parameters = inspect.signature(builder).parameters
  if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
    return dict(context)
  return {name: value for name, value in context.items() if name in parameters}


def _choice(kinds: Kinds) -> str:
  return f"{', '.join(map(repr, kinds))}, or a path 'module:name'"


@dataclasses.dataclass(frozen=True)
class Piece:
  """The domain of an option that names a piece, for a signature:

      positions: Annotated[Specification, Piece(POSITIONS)] = 'sinusoidal'

  Attributes:
    kinds: short names; see `make`.
    context: parameters that the caller supplies, which an experiment cannot set.
    base: class that a piece must inherit from; None for any class or function.
  """

  kinds: Kinds
  context: tuple[str, ...] = ()
  base: type | None = None

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError unless the value names a piece and options that it admits."""
    builder, options = find(value, self.kinds, name)
    check_base(builder, self.base, name)
    known = names(builder, hidden=self.context)
    if known is not None:
      check_keys(options, known, where=f'{name}.')
    if missing := required(builder, (*options, *self.context)):
      raise ValueError(f'{name} needs {name}.{missing[0]}')
    domains.check(builder, options, f'{name}.')

  def __hash__(self) -> int:
    return hash((tuple(self.kinds), self.context, self.base))


def check_base(builder: Callable, base: type | None, where: str) -> None:
  """Raises ValueError unless a piece is a class that inherits from `base`."""
  is_class = inspect.isclass(builder)
  if base is not None and not (is_class and issubclass(builder, base)):
    name = getattr(builder, '__name__', repr(builder))
    raise ValueError(
      f'{where}: {name} must be a class that inherits from '
      f'{base.__module__}:{base.__name__}'
    )


def piece_in(annotation: Any) -> Any:
  """Returns the domain in an annotation that names pieces, such as `Piece`.

  Args:
    annotation: an annotation, such as `Annotated[Specification, Piece(KINDS)] | None`.

  Returns:
    The domain, whose `kinds` are the short names; None if there is none.
  """
  for domain in getattr(annotation, '__metadata__', ()):
    if hasattr(domain, 'kinds'):
      return domain
  domains_inside = map(piece_in, typing.get_args(annotation))
  return next((domain for domain in domains_inside if domain is not None), None)


@dataclasses.dataclass(frozen=True)
class Function:
  """The domain of an option that names a function of arrays, see `bind`.

  Attributes:
    kinds: short names; see `make`.
  """

  kinds: Kinds

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError unless the value names a function and options that it takes."""
    bind(value, self.kinds, name)

  def __hash__(self) -> int:
    return hash(tuple(self.kinds))


def names(signature: Signature, hidden: Iterable[str] = ()) -> list[str] | None:
  """Returns the options of a signature; None if it takes any keyword.

  Args:
    signature: a function, a class or a mapping of annotations.
    hidden: parameters that are not options.
  """
  if not isinstance(signature, Mapping):
    kinds = [p.kind for p in inspect.signature(signature).parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
      return None
  return [name for name in parameters(signature) if name not in hidden]


def options_of(builder: Callable, hidden: Iterable[str]) -> Signature:
  """Returns the options of a piece as annotations, without what the caller supplies.

  Args:
    builder: the class or function behind the piece.
    hidden: parameters that an experiment cannot set.
  """
  if names(builder) is None:  # it takes any keyword
    return builder
  return Options(builder, hidden)


class Options(dict):
  """Option -> annotation for the parameters that an experiment can set.

  Attributes:
    defaults: option -> its default, for those that have one.
  """

  def __init__(self, builder: Callable, hidden: Iterable[str]):
    """Reads a signature, without the parameters that are hidden."""
    hints, found = domains.annotations(builder), inspect.signature(builder).parameters
    known = [name for name in parameters(builder) if name not in hidden]
    super().__init__({name: hints.get(name, Any) for name in known})
    self.defaults = {
      name: found[name].default
      for name in known
      if found[name].default is not inspect.Parameter.empty
    }


def parameters(signature: Signature) -> list[str]:
  """Returns the names of the parameters of a signature, without *args and **options."""
  if isinstance(signature, Mapping):
    return list(signature)
  module = inspect.isclass(signature) and hasattr(signature, 'setup')  # Linen's
  hidden = ('parent', 'name') if module else ()
  several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
  declared = inspect.signature(signature).parameters.values()
  return [p.name for p in declared if p.kind not in several and p.name not in hidden]


def required(signature: Callable, given: Iterable[str]) -> list[str]:
  """Returns the parameters without a default that are not given."""
  given, declared = set(given), inspect.signature(signature).parameters
  return [
    n
    for n in parameters(signature)
    if declared[n].default is declared[n].empty and n not in given
  ]
