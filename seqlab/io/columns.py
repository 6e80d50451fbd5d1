"""Texts in columns, for output that is read on a terminal or in a file."""

from collections.abc import Sequence

GAP = '  '  # between columns


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Returns rows of texts in columns, one line per row.

  Args:
    rows: texts of each row, as many in one as in another.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    GAP.join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
