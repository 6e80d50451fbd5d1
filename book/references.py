r"""References from a page into the tree, which are filled in when the site is built.

  {{ code seqlab/embeddings/ppmi.py pmi }}                 objects of a module, as code
  {{ lecture-mask/table.md | without it | BLEU }}          a cell of a table below docs/
  {{ lecture-bleu/table.md ~ with the power (\S+) of }}    a number in its text

The first cells of a row name it, with ` / ` between them. Numbers are written as the
language of the page writes them.
"""

from pathlib import Path
import re

from book.code import code_block
from book.numbers import cell, in_text, localised

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r'\{\{ *(.*?) *\}\}')


def fill(text: str, language: str, root: Path = ROOT) -> str:
  """Returns the Markdown of a page with all of its references resolved.

  Args:
    text: Markdown.
    language: 'ru' or 'en'; Russian has a decimal comma.
    root: the root of the tree.

  Raises:
    ValueError: a reference does not name exactly one thing.
  """
  return REFERENCE.sub(lambda match: resolve(match[1], language, root), text)


def resolve(reference: str, language: str, root: Path = ROOT) -> str:
  """Returns what one reference stands for, without its braces; see `fill`."""
  if reference.startswith('code '):
    _, path, *names = reference.split()
    return code_block(root, path, names)
  if ' ~ ' in reference:
    path, pattern = reference.split(' ~ ', 1)
    return localised(in_text(root / 'docs' / path.strip(), pattern.strip()), language)
  parts = [part.strip() for part in reference.split(' | ')]
  if len(parts) != 3:
    raise ValueError(
      f'{{{{ {reference} }}}} is no reference: write "code PATH NAME", '
      '"TABLE | ROW | COLUMN" or "FILE ~ PATTERN"'
    )
  path, row, column = parts
  value = cell(root / 'docs' / path, tuple(row.split(' / ')), column)
  return localised(value, language)
