"""Parts of the modules, as they are, for pages."""

import ast
from collections.abc import Sequence
from pathlib import Path

SHORTEST, LONGEST = 15, 30  # lines of a block


def code_block(root: Path, path: str, names: Sequence[str]) -> str:
  """Returns objects of a module as a fenced block of Markdown.

  Args:
    root: the root of the tree.
    path: the module, relative to the root; it is the block's title.
    names: functions, classes, methods (`Class.method`) or constants, in their order on
      the page.

  Raises:
    ValueError: the module or an object does not exist, or the block is not 15 to 30
      lines long.
  """
  lines = source(root / path, names).splitlines()
  if not SHORTEST <= len(lines) <= LONGEST:
    raise ValueError(
      f'{path}: {" and ".join(names)} have {len(lines)} lines, and a block has '
      f'{SHORTEST} to {LONGEST}: choose other objects'
    )
  return '\n'.join([f'```python title="{path}"', *lines, '```'])


def source(path: Path, names: Sequence[str]) -> str:
  """Returns the lines of objects of a module, with two empty lines between them."""
  if not path.is_file():
    raise ValueError(f'{path} does not exist')
  text = path.read_text('utf-8')
  lines, tree = text.splitlines(), ast.parse(text)
  parts = []
  for name in names:
    node = _find(tree, name.split('.'))
    if node is None:
      raise ValueError(f'{path} has no {name}')
    first = min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', []))])
    part = lines[first - 1 : node.end_lineno]
    indent = len(part[0]) - len(part[0].lstrip())
    parts.append('\n'.join(line[indent:] for line in part))
  return '\n\n\n'.join(parts)


def _find(node: ast.AST, names: Sequence[str]) -> ast.AST | None:
  for name in names:
    node = next((x for x in getattr(node, 'body', []) if name in _names(x)), None)
  return node


def _names(node: ast.AST) -> list[str]:
  """Returns the names that a statement gives."""
  if isinstance(node, ast.Assign):
    return [x.id for x in node.targets if isinstance(x, ast.Name)]
  if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
    return [node.target.id]
  return [node.name] if hasattr(node, 'name') else []
