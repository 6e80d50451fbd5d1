r"""Lines, blank lines and words: one definition for all readers of text.

Training, vocabularies, `translate`, `score`, `evaluate` and `bleu` use this definition.

Text is UTF-8. A byte order mark (U+FEFF) at the start of a file or of standard input is
not text and is removed; anywhere else it is a character.

Line: a line ends only at \n, not at U+2028, U+0085, a form feed or a single \r. A \r
immediately before the \n, or before the end of the input, belongs to the line end and
is removed. The text after the last \n is a line unless it is empty.

Blank line: a line without visible characters. It has only white space of any kind
(including U+00A0 and U+3000), control characters, and characters that Unicode calls
default ignorable, such as U+200B. A corpus treats it as empty, and its translation is
an empty line.

Word: a maximal run of characters that are not white space, as in `str.split`. The
amount of white space between words and at the ends of a line is kept by vocabularies of
characters, bytes and symbols; subwords and words lose it, and BLEU does not count it.

Writing: a text that a program writes as one line has no character at which any tool
ends a line; see `one_line`.
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

_GZIP = b'\x1f\x8b'  # the first bytes of gzip, with which no text in UTF-8 begins
_HEAD = 8192  # number of first bytes by which a file is recognised

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
# Characters at which `str.splitlines`, like many tools, ends a line; all are white
# space. NUL ends a string in C.
_BREAKS = {ord(c): ' ' for c in '\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029'}
_UNPRINTED = str.maketrans({**_BREAKS, 0: '\ufffd'})
_REPLACED_BYTES = {c: b' ' for c in _BREAKS if c < 0x80} | {0: '\ufffd'.encode()}


def is_blank(line: str) -> bool:
  """Returns whether a line is blank by the definition of this module."""
  return all(c.isspace() or c in _INVISIBLE for c in line)


def words(line: str) -> list[str]:
  """Returns the words of a line by the definition of this module."""
  return line.split()


def one_line(text: str) -> str:
  """Returns a text for one line: line breaks become spaces and NUL becomes U+FFFD.

  BLEU and chrF do not change, because both treat line breaks as white space.
  """
  return text.translate(_UNPRINTED)


def one_line_byte(byte: int) -> bytes:
  """Returns the bytes into which `one_line` turns a single byte of a text in UTF-8."""
  return _REPLACED_BYTES.get(byte) or bytes([byte])


def read_bytes(path: Path) -> bytes:
  """Returns a file's bytes, unpacked if it is gzipped."""
  data = path.read_bytes()
  try:
    return gzip.decompress(data) if data.startswith(_GZIP) else data
  except DAMAGE as error:
    raise _damaged(path, error) from error


def open_bytes(path: Path) -> BinaryIO:
  """Opens a file whose bytes are read in parts, unpacked if it is gzipped."""
  with path.open('rb') as file:
    is_gzipped = file.read(len(_GZIP)) == _GZIP
  return gzip.open(path, 'rb') if is_gzipped else path.open('rb')


def check_undamaged(path: Path) -> None:
  """Raises ValueError if a file is gzipped and damaged; reads the whole file."""
  try:
    with open_bytes(path) as stream:
      while stream.read(1 << 20):
        pass
  except DAMAGE as error:
    raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
  return ValueError(f'{path} is damaged or truncated ({error}); get a new copy of it')


def read_lines(path: str | Path) -> list[str]:
  """Returns the lines of a text in UTF-8, plain or gzipped.

  Raises:
    ValueError: the file is damaged, packed in another way, or is not UTF-8. The message
      names the line, and the kind of the file if it is known.
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
  """Returns the text before and after a file's name in a message about its kind."""
  name = name_of_container(data[:_HEAD])
  return name and ('', f' is {name}, not text in UTF-8: {advice(name)}')


def _is_binary(data: bytes) -> bool:
  """Returns whether more than a quarter of the first bytes are control characters.

  This holds for archives and for UTF-16 without a byte order mark, even where their
  bytes are valid UTF-8. Text may contain single NULs.
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
  """Recommends iconv, but only for data that may have one byte per character."""
  sample = data[:65_536]
  if sample.count(b'\0') or sum(c < 32 and c not in b'\t\n\r\f' for c in sample) > 3:
    return '; it does not look like text'
  return '; convert the file from its encoding, as in `iconv -f latin1 -t utf-8`'


@dataclasses.dataclass(frozen=True)
class BadLine:
  """A line of a stream that cannot be read.

  Attributes:
    reason: the problem, as a predicate: 'is not UTF-8 at its byte 3'.
  """

  reason: str


def stream_lines(
  stream: BinaryIO,
  *,
  before: Callable[[], object] = lambda: None,
  name: str = 'the input',
) -> Iterator[str | BadLine]:
  """Yields each line of a stream as soon as it is complete.

  A line that is not UTF-8 is yielded as a `BadLine`.

  Args:
    stream: standard input, or another binary stream.
    before: function that is called before waiting for each line.
    name: name of the stream in messages.

  Raises:
    ValueError: the first bytes show that the stream is packed or in another encoding.
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
      if text:  # otherwise the input consists of the byte order mark only
        yield text.removesuffix('\n').removesuffix('\r')
    before()


def text_lines(stream: BinaryIO, *, name: str = 'the input') -> Iterator[str]:
  """Yields each line of a stream, all of which must be UTF-8.

  Raises:
    ValueError: one is not; or the stream is packed or in another encoding.
  """
  for number, line in enumerate(stream_lines(stream, name=name), 1):
    if isinstance(line, BadLine):
      raise ValueError(f'line {number:,} of {name} {line.reason}')
    yield line


def _refuse_container(data: bytes, name: str) -> None:
  if problem := _name(data):
    raise ValueError(f'{problem[0]}{name}{problem[1]}')
