"""Paths of parameters, and patterns that choose among them.

The path of a parameter is the names of its modules and its own, as in
'encoder/self_attention/query/kernel'. A pattern is a regular expression for the first
names of a path: 'encoder' and 'encoder/.*' both choose all parameters of the encoder, and
neither chooses those of 'encoder_norm'.
"""

from collections.abc import Iterable, Mapping, Sequence
import re
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from seqlab.config import suggest
from seqlab.types import PyTree

_SHOWN = 5  # number of names in a message


def by_path(tree: PyTree) -> dict[str, Any]:
  """Returns path -> leaf of nested dictionaries, in the order of the paths."""
  return dict(sorted(flatten_dict(dict(tree), sep='/').items()))


def rewritten(path: str, pattern: str, replacement: str) -> str | None:
  """Returns a path whose first names are replaced; None if the pattern does not match.

  Raises:
    ValueError: the replacement has a group that the pattern lacks.
  """
  match = re.match(rf'(?:{pattern})(?=/|\Z)', path)
  if not match:
    return None
  try:
    first = match.expand(replacement)
  except (re.error, IndexError) as error:
    raise ValueError(f'{replacement!r} does not fit {pattern!r}: {error}') from None
  return f'{first}{path[match.end() :]}'.strip('/')


def unmatched(pattern: str, where: str, known: Iterable[str]) -> ValueError:
  """Returns the error of a pattern that matches no path.

  Args:
    pattern: the pattern.
    where: option of the experiment that has it.
    known: all paths.
  """
  first = [*dict.fromkeys(path.partition('/')[0] for path in known)]
  return ValueError(
    f'{where}: no parameter has a path that begins with {pattern!r}'
    f'{suggest(pattern, first)} (known: {", ".join(first)})'
  )


def listed(names: Sequence[str]) -> str:
  """Returns names for a message, of which only the first are shown."""
  more = f' and {len(names) - _SHOWN:,} more' if len(names) > _SHOWN else ''
  return f'{", ".join(names[:_SHOWN])}{more}'


class Frozen:
  """Divides parameters into those that are trained and those that are frozen.

  Optimiser, gradients and moving average only have the trained ones, so that a frozen
  parameter costs none of these and keeps its bits.

  Attributes:
    patterns: patterns of the frozen parameters; none if all are trained.
  """

  def __init__(self, patterns: str | Sequence[str] = ()):
    """Takes one pattern or several."""
    self.patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)

  def has(self, path: str) -> bool:
    """Returns whether a parameter is frozen."""
    return any(rewritten(path, x, '') is not None for x in self.patterns)

  def check(self, params: PyTree) -> None:
    """Raises ValueError if a pattern has no parameter, or no parameter is trained."""
    paths = [*by_path(params)] if self.patterns else []
    for pattern in self.patterns:
      if not Frozen(pattern).paths(params):
        raise unmatched(pattern, 'init.freeze', paths)
    if paths and all(map(self.has, paths)):
      raise ValueError('init.freeze: no parameter is left to train; freeze fewer')

  def paths(self, params: PyTree) -> list[str]:
    """Returns the paths of the frozen parameters."""
    return [path for path in by_path(params) if self.has(path)] if self.patterns else []

  def split(self, tree: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the trained and the frozen part of parameters, or of a tree like them."""
    if not self.patterns:
      return tree, {}
    flat = flatten_dict(dict(tree))
    frozen = {names for names in flat if self.has('/'.join(names))}
    return (
      unflatten_dict({names: x for names, x in flat.items() if names not in frozen}),
      unflatten_dict({names: x for names, x in flat.items() if names in frozen}),
    )

  @staticmethod
  def merge(trained: PyTree, frozen: Mapping) -> PyTree:
    """Returns the tree that `split` has divided."""
    if not frozen:
      return trained
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(frozen)})
