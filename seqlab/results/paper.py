"""Reads the rows of an experiment's PAPER from its file, without executing it."""

import ast
from collections.abc import Iterator
import dataclasses
from pathlib import Path
from typing import Any
import warnings

from seqlab.config import suggest
from seqlab.results.row import Row

_FORM = (
  "write PAPER = [Row(metric='test/bleu', value=41.02, of='Wu et al. 2021, table 2', "
  "url='https://...', tolerance=0.5)], with `from seqlab.results import Row`"
)
_FIELDS = {field.name: field for field in dataclasses.fields(Row)}


def read_paper(path: Path) -> list[Row]:
  """Returns the rows of an experiment's file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is not Python, or its PAPER is not a list of rows that are made
      of constants.
  """
  if not path.is_file():
    raise FileNotFoundError(
      f'there is no experiment {path}; `seqlab experiments` lists the known ones'
    )
  try:
    tree = parse(path)
  except SyntaxError as error:
    raise ValueError(f'{path} cannot be read: {error}') from None
  return rows_of(tree, path)


def rows_of(tree: ast.Module, path: Path) -> list[Row]:
  """Returns the rows of an experiment's syntax tree; see `read_paper`.

  Args:
    tree: the file.
    path: its path, for messages.
  """
  value = assigned(tree, 'PAPER')
  if value is None:
    return []
  if isinstance(value, ast.Dict) and not value.keys:
    return []
  if not isinstance(value, ast.List):
    raise ValueError(f'PAPER of {path} is not a list of rows: {_FORM}')
  rows = [_row(item, f'PAPER of {path}, line {item.lineno}') for item in value.elts]
  for i, row in enumerate(rows):
    if row.key in (other.key for other in rows[:i]):
      raise ValueError(
        f'PAPER of {path} has two rows {row.name!r} with evaluate={row.evaluate!r}: '
        'leave one of them out'
      )
  return rows


def parse(path: Path) -> ast.Module:
  """Returns the syntax tree of a file.

  Raises:
    SyntaxError: it is not Python.
  """
  with warnings.catch_warnings():  # of strings such as '\d' in a user's file
    warnings.simplefilter('ignore')
    try:
      return ast.parse(path.read_bytes(), str(path))
    except (ValueError, RecursionError, MemoryError) as error:
      raise SyntaxError(str(error)) from None


def assigned(tree: ast.Module, name: str) -> ast.expr | None:
  """Returns the expression of the last `name = ...` at the top of a file, or None."""
  return next((node.value for node in assignments(tree, name)), None)


def assignments(tree: ast.Module, name: str) -> Iterator[ast.Assign | ast.AnnAssign]:
  """Yields the statements `name = ...` at the top of a file, the last one first."""
  for node in reversed(tree.body):
    targets = node.targets if isinstance(node, ast.Assign) else ()
    if isinstance(node, ast.AnnAssign) and node.value is not None:
      targets = (node.target,)
    if any(isinstance(target, ast.Name) and target.id == name for target in targets):
      yield node


def _row(node: ast.expr, where: str) -> Row:
  """Returns the row of a call `Row(metric='test/bleu', ...)`."""
  if not isinstance(node, ast.Call) or _called(node) != 'Row':
    raise ValueError(f'{where}: {ast.unparse(node)} is not a Row(...): {_FORM}')
  if node.args:
    raise ValueError(f'{where}: name the fields of Row, as in metric={_text(node)}')
  fields = {word.arg: _constant(word, where) for word in node.keywords}
  for name in fields:
    if name not in _FIELDS:
      raise ValueError(
        f'{where}: Row has no field {name!r}{suggest(str(name), _FIELDS)} '
        f'(known: {", ".join(_FIELDS)})'
      )
  missing = [
    name
    for name, field in _FIELDS.items()
    if field.default is dataclasses.MISSING and name not in fields
  ]
  if missing:
    raise ValueError(f'{where}: Row needs {", ".join(missing)}')
  try:
    return Row(**fields)
  except ValueError as error:
    raise ValueError(f'{where}: {error}') from None


def _called(node: ast.Call) -> str:
  """Returns the name of the called function: 'Row' for Row() and for results.Row()."""
  function = node.func
  return getattr(function, 'id', None) or getattr(function, 'attr', '')


def _text(node: ast.Call) -> str:
  return ast.unparse(node.args[0])


def _constant(word: ast.keyword, where: str) -> Any:
  try:
    return ast.literal_eval(word.value)
  except ValueError:
    raise ValueError(
      f'{where}: {ast.unparse(word)} is computed, and the registry reads constants '
      'only: write the value itself'
    ) from None
