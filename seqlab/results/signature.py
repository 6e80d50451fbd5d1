"""Digests that decide whether a result still belongs to an experiment."""

import ast
from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from seqlab.config import DEFAULTS, WATCHING, with_defaults
from seqlab.numerics import NUMERICS
from seqlab.results.paper import assignments, parse

_DESCRIPTIONS = ('PAPER', 'TIME')  # of an experiment; they change no number
_DIGITS = 16  # hexadecimal, of a digest


class Signature(NamedTuple):
  """What a result depends on besides the seed.

  Attributes:
    experiment: digest of the experiment's file; see `experiment_digest`.
    configuration: digest of the resolved experiment; see `configuration_digest`.
    numerics: `seqlab.numerics.NUMERICS`.
  """

  experiment: str
  configuration: str
  numerics: int

  @classmethod
  def of(cls, path: Path, config: Mapping[str, Any]) -> 'Signature':
    """Returns the present signature of an experiment.

    Args:
      path: its file.
      config: the resolved experiment.

    Raises:
      SyntaxError: the file is not Python.
    """
    return cls(experiment_digest(path), configuration_digest(config), NUMERICS)

  def same_numbers(self, other: 'Signature') -> bool:
    """Returns whether a run of the other signature computes the same numbers.

    A change of the file that leaves the resolved experiment as it was changes none.
    """
    return self._replace(experiment='') == other._replace(experiment='')

  def changes_since(self, then: 'Signature') -> list[str]:
    """Returns in words what has changed since an earlier signature."""
    changes = []
    if self.experiment != then.experiment:
      changes.append("the experiment's file has changed")
    if self.configuration != then.configuration:
      changes.append('the configuration has changed')
    if self.numerics != then.numerics:
      changes.append(f'NUMERICS was {then.numerics} and is {self.numerics}')
    return changes


def experiment_digest(path: Path) -> str:
  """Returns a digest of the code of an experiment's file.

  Comments, docstrings, PAPER, TIME and the import of `Row` do not count.

  Raises:
    SyntaxError: the file is not Python.
  """
  tree = parse(path)
  for name in _DESCRIPTIONS:
    for node in [*assignments(tree, name)]:
      tree.body.remove(node)
  tree.body = [node for node in tree.body if not _imports_row(node)]
  for node in ast.walk(tree):
    _drop_docstring(node)
  return _digest(repr(_plain(tree)))


def configuration_digest(config: Mapping[str, Any]) -> str:
  """Returns a digest of a resolved experiment without its seed.

  Options at the top level that have their defaults do not count, so that an option
  which is added to the program changes no digest. How the run is watched does not
  count either.
  """
  config = with_defaults(config)
  counted = {
    key: value
    for key, value in config.items()
    if key not in ('seed', *WATCHING)
    and not (key in DEFAULTS and value == DEFAULTS[key])
  }
  return _digest(json.dumps(counted, sort_keys=True, ensure_ascii=False))


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _imports_row(node: ast.stmt) -> bool:
  return isinstance(node, ast.ImportFrom) and node.module == 'seqlab.results'


def _drop_docstring(node: ast.AST) -> None:
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
    node.body = node.body[1:]


def _plain(node: Any) -> Any:
  """Returns a syntax tree as nested tuples, without positions and empty fields.

  Versions of Python differ in the fields that are empty, and in `ast.dump`.
  """
  if isinstance(node, ast.AST):
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return type(node).__name__, *(x for x in fields if x[1] not in (None, ()))
  return tuple(map(_plain, node)) if isinstance(node, list) else node
