r"""Lines, blanks and words: the one definition that every reader of text follows.

Training, vocabularies, `translate`, `score`, `evaluate` and `bleu` all read by it.

Text is UTF-8. A byte order mark (U+FEFF) at the start of an input, be it a file or
standard input, is not text and is removed; anywhere else it is a character.

Line: ends at \n, and at nothing else: not at U+2028, U+0085, a form feed or a lone \r.
A \r right before the \n, or before the end of the input, belongs to the end and is
removed. What follows the last \n is a line unless it is empty.

Blank: a line of nothing that shows: white space of any kind, U+00A0 and U+3000 among
it, control characters, and characters that Unicode calls default ignorable, such as
U+200B. A corpus treats it as empty, and its translation is an empty line.

Word: a maximal run of characters that are not white space, as `str.split` finds them.
How much white space is between words, and at the ends of a line, means nothing: no
vocabulary keeps it, and BLEU does not count it.

Writing: what a program writes on a line of its own holds no character at which any
tool ends a line; see `one_line`.
"""

from collections.abc import Callable, Iterator
import dataclasses
import gzip
from pathlib import Path
import tarfile
from typing import BinaryIO
import zipfile
import zlib

from seqlab.io.containers import advice, name_of_container

DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)

_HEAD = 8192  # bytes by which a file is recognised

# Unicode's property Default_Ignorable_Code_Point, and control characters.
_INVISIBLE = frozenset(
  chr(code)
  for first, last in (
    *((0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C)),
    *((0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F)),
    *((0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3)),
    *((0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
  )
  for code in range(first, last + 1)
)
# Where `str.splitlines`, and with it many a tool, ends a line; all are white space. NUL
# ends a text in C.
_BREAKS = {ord(c): ' ' for c in '\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029'}
_UNPRINTED = str.maketrans({**_BREAKS, 0: '\ufffd'})
_REPLACED_BYTES = {c: b' ' for c in _BREAKS if c < 0x80} | {0: '\ufffd'.encode()}


def is_blank(line: str) -> bool:
  """Whether nothing of a line shows; see this module's definition of a blank line."""
  return all(c.isspace() or c in _INVISIBLE for c in line)


def words(line: str) -> list[str]:
  """Returns the words of a line; see this module's definition of a word."""
  return line.split()


def one_line(text: str) -> str:
  """Returns a text as it can be written on one line: breaks as spaces, NUL as U+FFFD.

  BLEU and chrF of the two are the same, since both are white space to them.
  """
  return text.translate(_UNPRINTED)


def one_line_byte(byte: int) -> bytes:
  """Returns what a lone byte of a text in UTF-8 is after `one_line`."""
  return _REPLACED_BYTES.get(byte) or bytes([byte])


def read_bytes(path: Path) -> bytes:
  """Returns a file's bytes, unpacked; no text in UTF-8 begins as gzip does."""
  data = path.read_bytes()
  try:
    return gzip.decompress(data) if data.startswith(b'\x1f\x8b') else data
  except DAMAGE as error:
    raise ValueError(
      f'{path} is damaged or cut short ({error}); get it anew'
    ) from error


def read_lines(path: str | Path) -> list[str]:
  """Returns the lines of a text in UTF-8, plain or gzipped; see this module's head.

  Raises:
    ValueError: the file is damaged, packed in another way, or not UTF-8. Says what it
      is, as far as that is known, and which line.
  """
  path = Path(path)
  data = read_bytes(path)
  try:
    text = data.decode('utf-8')
  except UnicodeDecodeError as error:
    problem = _name(data) or _at(error, data)
    raise ValueError(f'{problem[0]}{path.name}{problem[1]} ({path.parent})') from None
  if _is_binary(data) and (problem := _name(data)):
    raise ValueError(f'{problem[0]}{path.name}{problem[1]} ({path.parent})')
  lines = text.removeprefix('\ufeff').split('\n')
  if not lines[-1]:
    lines.pop()
  return [line.removesuffix('\r') for line in lines]


def _name(data: bytes) -> tuple[str, str] | None:
  """What precedes and follows a file's name in a message that says what it is."""
  name = name_of_container(data[:_HEAD])
  return name and ('', f' is {name}, and not text in UTF-8: {advice(name)}')


def _is_binary(data: bytes) -> bool:
  """Whether UTF-8 may be something else: a quarter of its bytes are controls.

  Of UTF-16 without a byte order mark at least so many are, where it is UTF-8 at all,
  and of an archive. Text may have a NUL.
  """
  sample = data[:_HEAD]
  return 4 * sum(c < 32 and c not in b'\t\n\r\f' for c in sample) > len(sample)


def _at(error: UnicodeDecodeError, data: bytes) -> tuple[str, str]:
  line = data.count(b'\n', 0, error.start) + 1
  return (
    f'line {line:,} of ',
    f' is not UTF-8 at byte {error.start:,} (0x{data[error.start]:02x}){_advice(data)}',
  )


def _advice(data: bytes) -> str:
  """Advises iconv for what may be text of one byte per character, and for that only."""
  sample = data[:65_536]
  if sample.count(b'\0') or sum(c < 32 and c not in b'\t\n\r\f' for c in sample) > 3:
    return '; it does not look like text'
  return '; convert the file from its encoding, as in `iconv -f latin1 -t utf-8`'


@dataclasses.dataclass(frozen=True)
class BadLine:
  """A line of a stream that cannot be read.

  Attributes:
    reason: what is wrong with it, as a predicate: 'is not UTF-8 at its byte 3'.
  """

  reason: str


def stream_lines(
  stream: BinaryIO,
  *,
  before: Callable[[], object] = lambda: None,
  name: str = 'the input',
) -> Iterator[str | BadLine]:
  """Yields the lines of a stream as they come; one that is not UTF-8 as `BadLine`.

  Args:
    stream: standard input, or another binary stream.
    before: called before each line is waited for.
    name: what messages call the stream.

  Raises:
    ValueError: the stream is packed or in another encoding, by its first bytes.
  """
  before()
  for number, line in enumerate(iter(stream.readline, b'')):
    try:
      text = line.decode('utf-8')
    except UnicodeDecodeError as error:
      if number == 0:
        _refuse_container(line, name)
      reason = f'is not UTF-8 at its byte {error.start:,} (0x{line[error.start]:02x})'
      yield BadLine(f'{reason}{_advice(line)}')
    else:
      if number == 0:
        if _is_binary(line):
          _refuse_container(line, name)
        text = text.removeprefix('\ufeff')
      if text:  # else the input is nothing but the mark
        yield text.removesuffix('\n').removesuffix('\r')
    before()


def _refuse_container(data: bytes, name: str) -> None:
  if problem := _name(data):
    raise ValueError(f'{problem[0]}{name}{problem[1]}')


def columns(name: str, lines: list[str]) -> tuple[list[str], list[str]]:
  """Returns the first two columns; a blank line is a pair of empty sides."""
  first, second = [], []
  for number, line in enumerate(lines, 1):
    left, tab, rest = line.partition('\t')
    if not tab and not is_blank(line):
      raise ValueError(
        f'line {number:,} of {name} has no tab; write source, tab, target, or give '
        'two files'
      )
    first.append(left)
    second.append(rest.partition('\t')[0])
  return first, second
