"""Shared functions for reading files of word vectors, with warnings about lost rows.

The name of a file is not reliable, and neither is its first line. Files are therefore
recognised by their content, memory grows with the rows that are read, and each row that
is not kept is counted in a warning.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import gzip
import io
import math
import os
from pathlib import Path
import stat
from typing import BinaryIO
import warnings

import numpy as np
import scipy.sparse

from seqlab.io.containers import advice, name_of_container
from seqlab.io.files import replacing
from seqlab.text.lines import DAMAGE
from seqlab.text.workers import machine_memory

Matrix = np.ndarray | scipy.sparse.csr_array
Stream = io.BufferedReader | gzip.GzipFile  # both have `peek`
Content = tuple[list[str], Matrix]  # V words and [V, D] float32

LONGEST = 10_000  # maximum bytes of a word; a longer one means a damaged file
_LINE = 1 << 26  # maximum bytes of a line of numbers
_NUMBER = 64  # maximum bytes per number in a line of known dimensions
_BUFFER = 1 << 14  # `peek`, before each word of a binary file, copies all of it
_DEFLATE = 1032  # maximum number of bytes into which one byte of gzip is unpacked
FASTTEXT = (793_712_314).to_bytes(4, 'little')  # first bytes of a fastText model


@contextlib.contextmanager
def opened(path: Path, format: str) -> Iterator[tuple[Stream, int | None]]:
  """Opens a file of vectors, unpacked if its content is gzipped.

  Args:
    path: path of the file.
    format: expected format, for messages.

  Yields:
    The file, and its maximum number of bytes; None if that is unknown, as for a pipe.

  Raises:
    ValueError: its first bytes are those of another kind of file; or it is empty or
      damaged.
  """
  with contextlib.ExitStack() as stack:
    packed = stack.enter_context(open(path, 'rb', _BUFFER))
    status = os.fstat(packed.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    file: Stream = packed
    try:
      if packed.peek(2)[:2] == b'\x1f\x8b':
        file = stack.enter_context(gzip.GzipFile(fileobj=packed))
        size = None if size is None else size * _DEFLATE
      head = file.peek(1)
      if not head:
        raise ValueError(f'{path} is empty')
      check_kind(path, head, format)
      yield file, size
    except DAMAGE as error:  # at any point of reading
      raise ValueError(
        f'{path} is damaged or cut short ({error}); get a new copy of it'
      ) from error


def is_fasttext(path: Path) -> bool:
  """Returns whether a file, plain or gzipped, begins as a model of fastText."""
  if not path.is_file():  # such as a pipe, which can be read only once
    return False
  with open(path, 'rb') as packed:
    is_packed = packed.peek(2)[:2] == b'\x1f\x8b'
    file = gzip.GzipFile(fileobj=packed) if is_packed else packed
    try:
      return file.read(len(FASTTEXT)) == FASTTEXT
    except DAMAGE:  # reported where the content is read
      return False


def check_kind(path: Path, head: bytes, format: str | None) -> None:
  """Raises ValueError if a file's first bytes are those of another kind of file.

  Args:
    path: path of the file, for the message.
    head: first bytes of the file, unpacked.
    format: expected format; None if that is not known yet.
  """
  if head.startswith(FASTTEXT):
    if format == 'fasttext':
      return
    raise ValueError(
      f'{path} is a model of fastText: leave out --from, or add --from fasttext'
    )
  name = name_of_container(head)
  if name is None or (name == 'gzip' and format is None):
    return
  if name == 'zip' and format == 'npz':
    return
  if name == 'zip' and b'.npy' in head[:200]:
    raise ValueError(f"{path} is a zip file of NumPy's arrays: add --from npz")
  if name == 'pickle':
    raise ValueError(
      f'{path} is a pickle, as gensim saves KeyedVectors. Reading one can run any code; '
      'if you trust this file, add --from gensim'
    )
  raise ValueError(f'{path} is {name}, not a file of vectors: {advice(name)}')


def lines(
  file: Stream, path: Path, dimensions: int | None = None, start: int = 1
) -> Iterator[tuple[int, str, bool]]:
  r"""Yields line numbers, lines without ends, and whether bytes had to be replaced.

  A line ends only at \n. Bytes that are not UTF-8 become \xNN, so that different words
  stay different. A byte order mark at the start is left out.

  Args:
    file: file to read.
    path: path of the file, for messages.
    dimensions: number of numbers per line, which bounds its length; None if unknown.
    start: number of the first line.

  Raises:
    ValueError: the file is damaged, or a line too long.
  """
  limit = _LINE if dimensions is None else _NUMBER * dimensions + LONGEST
  number = start - 1
  while True:
    try:
      line = file.readline(limit + 1)
    except DAMAGE as error:
      raise ValueError(
        f'{path} is damaged or cut short after line {number:,} ({error}); get a new '
        'copy of it'
      ) from error
    if not line:
      return
    number += 1
    if len(line) > limit:
      raise ValueError(
        f'line {number:,} of {path} has more than {limit:,} bytes, too many for a word '
        'and its numbers: line 1 is wrong about the dimensions, or the file is damaged'
      )
    line = line.rstrip(b'\r\n')
    if number == 1:
      line = line.removeprefix(b'\xef\xbb\xbf')
    try:
      yield number, line.decode('utf-8'), False
    except UnicodeDecodeError:
      yield number, line.decode('utf-8', 'backslashreplace'), True


def read_until(file: Stream, mark: bytes) -> bytes:
  """Reads bytes up to and with the first `mark`, a byte.

  It ends earlier at the end of the file, and after `LONGEST` bytes.
  """
  parts, length = [], 0
  while length <= LONGEST:
    ahead = file.peek(1)
    end = ahead.find(mark) + 1
    part = file.read(end or len(ahead))
    parts.append(part)
    length += len(part)
    if end or not ahead:
      break
  return b''.join(parts)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
  """Yields a file that gets its name when it is complete; gzipped if it ends in .gz."""
  with replacing(path) as part, open(part, 'wb') as file:
    if path.suffix.lower() == '.gz':
      # No time stamp and no name, so that the same vectors give the same bytes.
      with gzip.GzipFile('', 'wb', fileobj=file, mtime=0) as packed:
        yield packed
    else:
      yield file


def check_memory(path: Path, words: float, dimensions: float, source: str) -> None:
  """Raises ValueError if a matrix is larger than this machine's memory.

  Args:
    path: path of the file, for the message.
    words: number of words, V.
    dimensions: dimension of the vectors, D.
    source: source of these numbers in the message, such as 'by line 1'.
  """
  needed, available = 4 * words * dimensions, machine_memory()
  if needed > available:
    raise ValueError(
      f'{path}: {source} there are {words:,} words of {dimensions:,} numbers, which '
      f'take {needed / 2**30:,.1f} GiB; this machine has {available / 2**30:,.1f} GiB '
      'of memory'
    )


class Losses:
  """Counts of rows of a file that are left out or changed, for warnings at its end.

  Attributes:
    path: path of the file.
  """

  def __init__(self, path: Path):
    self.path = path
    self._counts: dict[str, int] = {}
    self._first: dict[str, str] = {}

  def add(self, kind: str, place: str) -> None:
    """Counts a row of one kind of loss; `place` describes the first one."""
    self._counts[kind] = self._counts.get(kind, 0) + 1
    self._first.setdefault(kind, place)

  def warn(self) -> None:
    """Gives one warning per kind of loss."""
    for kind, count in self._counts.items():
      text = f'{self.path}: {_KINDS[kind].format(n=count, first=self._first[kind])}'
      warnings.warn(text, stacklevel=2)
    self._counts, self._first = {}, {}


_KINDS = {
  'duplicate': '{n:,} rows left out, whose words came before; the first row of a word is '
  'kept (first left out: {first})',
  'empty': '{n:,} rows left out, which have no word (first: {first})',
  'bytes': '{n:,} words are not UTF-8: cut within a letter, as word2vec.c does to long '
  r'words, or in another encoding; such bytes are written \xNN (first: {first})',
  'spaces': '{n:,} words have spaces in them (first: {first})',
  'more': '{n:,} rows more than line 1 says; all are read (first: {first})',
}


class Rows:
  """Words and vectors during reading: one matrix, which grows only if necessary.

  Empty and repeated words are left out and counted.
  """

  def __init__(self, losses: Losses, dimensions: int, capacity: int):
    """Allocates the matrix.

    Args:
      losses: counts of the words that are left out.
      dimensions: dimension of the vectors D, at least 1.
      capacity: initial number of rows. Only filled rows use memory.
    """
    self.words: list[str] = []
    self._known: set[str] = set()
    self._losses = losses
    self._matrix = np.empty((max(1, capacity), dimensions), '<f4')

  def next(self) -> np.ndarray:
    """Returns the row [D] to fill; `keep` makes it permanent."""
    used = len(self.words)
    if used == len(self._matrix):
      rows = used + used // 8 + 1_000
      check_memory(self._losses.path, rows, self._matrix.shape[1], 'so far')
      # In place if the allocator can; only this class refers to the matrix.
      self._matrix.resize((rows, self._matrix.shape[1]), refcheck=False)
    return self._matrix[used]

  def keep(self, word: str, place: str) -> None:
    """Keeps the row that was filled last for a word; `place` describes it."""
    if not word:
      self._losses.add('empty', place)
    elif word in self._known:
      self._losses.add('duplicate', f'{word!r}, {place}')
    else:
      self._known.add(word)
      self.words.append(word)

  def finish(self) -> Content:
    """Returns the words and their matrix [V, D]."""
    self._known = set()
    shape = len(self.words), self._matrix.shape[1]
    self._matrix.resize(shape, refcheck=False)
    return self.words, self._matrix.astype(np.float32, copy=False)


def kept_once(losses: Losses, words: Sequence[str], matrix: Matrix) -> Content:
  """Leaves out the rows of empty and repeated words, and counts them."""
  known: set[str] = set()
  keep = []
  for number, word in enumerate(words, 1):
    if not word:
      losses.add('empty', f'word {number:,}')
    elif word in known:
      losses.add('duplicate', f'{word!r}, word {number:,}')
    else:
      known.add(word)
      keep.append(number - 1)
  if len(keep) == len(words):
    return list(words), matrix
  return [words[i] for i in keep], matrix[keep]


def first_not_finite(matrix: Matrix) -> int | None:
  """Returns the first row with NaN or infinity, without a mask of the whole matrix."""
  if scipy.sparse.issparse(matrix):
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    return (
      int(np.searchsorted(matrix.indptr, bad[0], 'right')) - 1 if len(bad) else None
    )
  for start in range(0, len(matrix), 4096):
    finite = np.isfinite(matrix[start : start + 4096])
    if not finite.all():
      return start + int(np.flatnonzero(~finite.all(axis=1))[0])
  return None


def numbers_at_end(parts: Sequence[str]) -> int:
  """Returns the number of numeric fields at a line's end, without its first field."""
  count = 0
  for part in reversed(parts[1:]):
    if not is_number(part):
      break
    count += 1
  return count


def is_number(text: str) -> bool:
  """Returns whether a text is a finite number; 'nan' and 'inf' count as words."""
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def most_common(numbers: Iterable[int]) -> int:
  """Returns the most frequent number, and the largest of several."""
  counts: dict[int, int] = {}
  for number in numbers:
    counts[number] = counts.get(number, 0) + 1
  return max(counts, key=lambda number: (counts[number], number))
