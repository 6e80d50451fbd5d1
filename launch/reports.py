"""The files of a report: which were written, and their copies beside the text."""

from collections.abc import Sequence
from pathlib import Path
import re
import shlex

from seqlab.io.files import write_bytes, write_text
from seqlab.io.secrets import hide_urls

_SUFFIXES = ('.png', '.svg', '.md', '.csv')
TABLE = 'table.md'


def report_files(folder: Path) -> dict[Path, int]:
  """Returns the files of a report -> time of the last change, in nanoseconds."""
  return {
    path: path.stat().st_mtime_ns
    for path in sorted(folder.iterdir())
    if path.suffix in _SUFFIXES
  }


def written_since(before: dict[Path, int], folder: Path) -> list[Path]:
  """Returns the files of a report that are new or changed since `report_files`."""
  after = report_files(folder)
  return [path for path, time in after.items() if before.get(path) != time]


def publish(written: Sequence[Path], folder: Path, made_by: str = '') -> None:
  """Copies a report to a folder.

  Args:
    written: its files.
    folder: the folder, which is made if there is none.
    made_by: a paragraph that is added to table.md, which is made if there is none.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for path in written:
    if path.name != TABLE:
      write_bytes(folder / path.name, path.read_bytes())
  table = ''.join(p.read_text('utf-8') for p in written if p.name == TABLE) + made_by
  if table:
    write_text(folder / TABLE, table)


def shown_command(words: Sequence[str]) -> str:
  """Returns a command as Markdown, without passwords."""
  command = hide_urls(shlex.join(words))
  # More backticks than there are in the command itself, as Markdown requires.
  mark = '`' * (1 + max(map(len, re.findall('`+', command)), default=0))
  return f'{mark}{command}{mark}'
