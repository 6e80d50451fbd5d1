"""Text files, plain or gzipped: bytes to lines."""

import gzip
from pathlib import Path
import tarfile
import zipfile
import zlib

DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)


def read_bytes(path: Path) -> bytes:
  """A file's bytes, unpacked; no text in UTF-8 begins as gzip does."""
  data = path.read_bytes()
  try:
    return gzip.decompress(data) if data.startswith(b'\x1f\x8b') else data
  except DAMAGE as error:
    raise ValueError(
      f'{path} is damaged or cut short ({error}); get it anew'
    ) from error


def read_lines(path: Path) -> list[str]:
  r"""Lines of a text in UTF-8, plain or gzipped.

  They end at \n alone, as other tools count them, and not at U+2028 or the like; a
  \r before it goes, and so does a byte order mark at the start.
  """
  data = read_bytes(path)
  try:
    text = data.decode('utf-8')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise ValueError(
      f'line {line:,} of {path.name} is not UTF-8 at byte {error.start:,} '
      f'(0x{data[error.start]:02x}); convert the file, as in '
      f'`iconv -f latin1 -t utf-8` ({path.parent})'
    ) from None
  lines = text.removeprefix('\ufeff').split('\n')
  if not lines[-1]:
    lines.pop()  # what follows the last \n is no line
  return [line.removesuffix('\r') for line in lines]


def columns(name: str, lines: list[str]) -> tuple[list[str], list[str]]:
  """The first two columns; an empty line is a pair of empty sides."""
  first, second = [], []
  for number, line in enumerate(lines, 1):
    left, tab, rest = line.partition('\t')
    if line.strip() and not tab:
      raise ValueError(
        f'line {number:,} of {name} has no tab; write source, tab, target, or give '
        'two files'
      )
    first.append(left)
    second.append(rest.partition('\t')[0])
  return first, second
