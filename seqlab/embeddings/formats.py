"""Files of word vectors: words and a matrix, in the formats of several programs.

  'text'       word2vec's: a line 'V D', then one line per word: the word and D numbers.
  'glove'      GloVe's: the same without the first line.
  'binary'     word2vec's: a line 'V D', then for each word: it, a space, D float32.
  'gensim'     KeyedVectors as saved by gensim (needs gensim).
  'npz'        NumPy's: `words` and `matrix`, or the parts of a CSR for sparse vectors;
               `utf8` and `ends` instead of `words` if one word is much longer than the
               others.
  'fasttext'   fastText's model, .bin: rows of words and of their n-grams. It is written
               by `SubwordVectors.save` only.
  'projector'  a folder for TensorBoard's embedding projector.

By default the ending of the name determines the format, as in `FORMATS`; a model of
fastText is recognised by its first bytes. The first three and 'fasttext' may be gzipped
under any name. Only 'gensim' is read by unpickling, which can run
any code in the file. It is therefore never chosen by the name alone: the caller has to
request it, for a file that is trusted.

The first row of a word is kept. Rows of repeated words, rows without a word, and words
that are not UTF-8 are counted in a warning that shows one of them. In text a word may
contain spaces, because the last D fields of a line are its numbers. Lines beyond the
number in line 1 are read, too, with a warning. Fewer lines are an error. In 'binary'
more words are also an error, because they cannot be distinguished from a wrong first
line.
"""

from collections.abc import Callable, Sequence
import gzip
import importlib
import itertools
import os
from pathlib import Path
from types import ModuleType
from typing import Any
import zipfile

import numpy as np
import scipy.sparse

from seqlab.config import suggest
from seqlab.embeddings import fasttext
from seqlab.embeddings.subwords import SubwordTables
from seqlab.embeddings.vector_files import (
  Content,
  Losses,
  Matrix,
  Rows,
  Stream,
  check_kind,
  check_memory,
  first_not_finite,
  is_fasttext,
  is_number,
  kept_once,
  lines,
  most_common,
  numbers_at_end,
  opened,
  read_until,
  whole,
)
from seqlab.io.files import replacing
from seqlab.text.lines import DAMAGE
from seqlab.text.remote import is_remote
from seqlab.text.workers import machine_memory

# Name's ending -> format; a folder, or a name without an ending, is a 'projector'.
FORMATS = {
  '.txt': 'text',
  '.txt.gz': 'text',
  '.vec': 'text',
  '.vec.gz': 'text',
  '.bin': 'binary',
  '.bin.gz': 'binary',
  '.kv': 'gensim',
  '.npz': 'npz',
}
TENSORS, METADATA, CONFIG = 'tensors.tsv', 'metadata.tsv', 'projector_config.pbtxt'
_CONFIG = f"""embeddings {{
  tensor_name: "vectors"
  tensor_path: "{TENSORS}"
  metadata_path: "{METADATA}"
}}
"""
_SPARSE = ('data', 'indices', 'indptr', 'shape')  # the parts of a CSR in .npz
# Words in .npz are an array of up to so many bytes, or bytes per letter; otherwise their
# bytes are joined.
_LARGE, _WIDE = 1 << 26, 64
_BLANK = ' \t\r'  # characters without a meaning at the end of a line of text
_SAMPLE = 100  # number of lines that determine the dimension of a file without header


def read(path: str | Path, format: str | None = None) -> Content:
  """Reads words and their vectors.

  The memory needed is about that of the matrix.

  Args:
    path: path of a file, or of a folder for 'projector'.
    format: format of the file, see above; None determines it by the name, except for
      'gensim'.

  Warns:
    UserWarning: rows were left out, or words changed; see above.

  Raises:
    FileNotFoundError: the path does not exist.
    ValueError: the content does not have this format, is cut short, has a number that
      is not finite, or needs more memory than this machine has. The message says where.
    RuntimeError: the format needs gensim, which is not installed.
  """
  path = Path(path).expanduser()
  format = format_of(path, format)
  losses = Losses(path)
  try:
    words, matrix = _READERS[format](path, losses)
  except MemoryError:
    raise RuntimeError(f'{path} needs more memory than this machine has') from None
  _check(path, words, matrix)
  words, matrix = kept_once(losses, words, matrix)
  if not words or not matrix.shape[1]:
    raise ValueError(
      f'{path} has no vectors: {len(words):,} words of {matrix.shape[1]:,} numbers'
    )
  losses.warn()
  return words, matrix


def read_model(path: Path) -> tuple[SubwordTables, np.ndarray]:
  """Reads a model of fastText: its tables, and the vectors of its words.

  Warnings and errors are those of `read`.
  """
  losses = Losses(path)
  try:
    tables, matrix = fasttext.read(path, losses)
  except MemoryError:
    raise RuntimeError(f'{path} needs more memory than this machine has') from None
  _check(path, tables.words, matrix)
  bucket = first_not_finite(tables.ngram_rows)
  if bucket is not None:
    raise ValueError(f'{path}: the row of bucket {bucket:,} has NaN or infinity')
  losses.warn()
  return tables, matrix


def format_of(path: Path, format: str | None = None) -> str:
  """Returns the format of a file or folder that exists.

  Args:
    path: its path.
    format: the format that the user gives; None determines it as described above.

  Raises:
    FileNotFoundError, ValueError: as `read`.
  """
  if not path.exists():
    raise FileNotFoundError(
      f'there are no vectors at {path} (relative to {Path.cwd()})'
    )
  if format is None and path.is_dir():
    format = 'projector'
  if format is None and is_fasttext(path):
    format = 'fasttext'
  if format is None:
    _check_name(path)
  format = _format(path, format, '--from')
  if path.is_dir() and format != 'projector':
    raise ValueError(f'{path} is a folder; {format!r} is read from a file: name one')
  return format


def write(
  path: str | Path, words: Sequence[str], matrix: Matrix, format: str | None = None
) -> None:
  """Writes words and their vectors; each file is written atomically.

  Formats with a space between a word and its numbers refuse a word that contains a
  space, because word2vec and gensim could not read it. Both join the words of a phrase
  with '_'.

  Args:
    path: path of a file, or of a folder for 'projector'. Missing folders are made.
    words: V different words.
    matrix: [V, D]; a sparse one only for 'npz'.
    format: format of the file, see above; None determines it by the name.

  Raises:
    ValueError: the format is unknown, or cannot hold these words or a sparse matrix; or
      there is a folder in place of the file, or the reverse.
    PermissionError: the path cannot be written.
    RuntimeError: the format needs gensim, which is not installed.
  """
  format = check_target(path, format)
  path = Path(path).expanduser()
  if format == 'fasttext':
    raise ValueError(
      f'{path}: these vectors have no n-grams, which a model of fastText has: write '
      "'binary' or 'text'"
    )
  if scipy.sparse.issparse(matrix) and format != 'npz':
    raise ValueError(
      f'{path}: sparse vectors of {matrix.shape[1]:,} numbers per word can only be '
      'written as .npz'
    )
  bad = {'npz': '', 'gensim': '', 'projector': '\t\n\r'}.get(format, ' \t\n\v\f\r')
  for number, word in enumerate(words, 1):
    if not word or any(mark in word for mark in bad):
      raise ValueError(
        f'word {number:,} is {word!r}, which cannot be written as {format!r}: join '
        "phrases with '_', or write .npz"
      )
    if not word.isprintable() and not _is_unicode(word):
      raise ValueError(
        f'word {number:,} is {word!r}, which has half of a surrogate pair and cannot be '
        'written in UTF-8'
      )
  path.parent.mkdir(parents=True, exist_ok=True)
  _WRITERS[format](path, list(words), matrix)


def _is_unicode(word: str) -> bool:
  return not any('\ud800' <= character <= '\udfff' for character in word)


def check_target(path: str | Path, format: str | None = None) -> str:
  """Returns the format in which `write` would write to a path, without writing.

  Raises:
    ValueError, PermissionError, RuntimeError: as in `write`, for the path and format.
  """
  if is_remote(path):
    raise ValueError(
      f'{path}: vectors are written on a disk only: name a path there, and copy the file '
      'to the bucket'
    )
  path = Path(path).expanduser()
  if format is None and not by_ending(path) and (path.is_dir() or not _ending(path)):
    format = 'projector'
  format = _format(path, format, '--format')
  if format in ('npz', 'gensim') and path.suffix.lower() == '.gz':
    raise ValueError(f'{path}: {format!r} is not gzipped: leave out the ending .gz')
  _check_place(path, format)
  if format == 'gensim':
    _gensim()
  return format


def by_ending(path: Path) -> str | None:
  """Returns the format of a name's ending, or None."""
  return FORMATS.get(_ending(path))


def _ending(path: Path) -> str:
  last = path.suffix.lower()
  return ''.join(path.suffixes[-2:]).lower() if last == '.gz' else last


def _check_name(path: Path) -> None:
  """Raises ValueError for a file whose format its name alone does not determine."""
  if path.is_file() and by_ending(path) in (None, 'gensim'):
    with open(path, 'rb') as file:
      check_kind(path, file.read(4096), None)
  if by_ending(path) == 'gensim':
    raise ValueError(
      f'{path}: files of gensim are pickles, and reading one can run any code; if you '
      'trust this file, add --from gensim (in Python, format=)'
    )


def _format(path: Path, format: str | None, option: str) -> str:
  """Returns the format of a file, by `option` of the command line or by its ending."""
  format = by_ending(path) if format is None else format
  endings = f'{", ".join(_READERS)}; by their endings: {", ".join(FORMATS)}'
  if format is None:
    part = f'its ending {_ending(path)}' if _ending(path) else 'its name'
    raise ValueError(
      f'{path}: {part} does not determine the format; add {option} (in Python, format=) '
      f'with one of: {endings}'
    )
  if format not in _READERS:
    close = suggest(format, _READERS)
    raise ValueError(f'{path}: unknown format {format!r}{close} (known: {endings})')
  return format


def _check_place(path: Path, format: str) -> None:
  """Checks that a path can be written.

  Raises:
    ValueError: a file is in place of a folder, or the reverse.
    PermissionError: this user may not write there.
  """
  above = next((p for p in path.parents if p.exists()), path)
  if not above.is_dir():
    raise ValueError(f'{path}: {above} is a file, not a folder; name another path')
  if format == 'projector' and path.exists() and not path.is_dir():
    raise ValueError(
      f"{path} is a file, and 'projector' makes a folder: name another path, or add an "
      f'ending ({", ".join(FORMATS)})'
    )
  if format != 'projector' and path.is_dir():
    raise ValueError(
      f'{path} is a folder, and {format!r} makes a file: name another path, or add '
      '--format projector to write into the folder'
    )
  # Files are first written under another name, so the folder must be writable.
  folder = path if format == 'projector' and path.exists() else above
  if not os.access(folder, os.W_OK | os.X_OK):
    raise PermissionError(
      f'{path}: this user cannot make files in {folder}; name another path'
    )


def _check(path: Path, words: list[str], matrix: Matrix) -> None:
  if matrix.ndim != 2 or len(words) != matrix.shape[0]:
    raise ValueError(f'{path} has {len(words):,} words and a matrix {matrix.shape}')
  row = first_not_finite(matrix)
  if row is not None:
    raise ValueError(f'{path}: word {row + 1:,}, {words[row]!r}, has NaN or infinity')


# Text.


def _header(path: Path, line: str, format: str) -> tuple[int, int]:
  """Parses line 1 and returns V and D."""
  parts = line.split()
  if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
    V, D = (int(part) if len(part) < 16 else 10**15 for part in parts)
    if V and D:
      return V, D
    raise ValueError(
      f'{path} has no vectors: by line 1 there are {V:,} of {D:,} numbers'
    )
  advice = ''
  if numbers_at_end(parts) and len(parts) > 2:
    advice = (
      ". A file without such a line is read with format='glove' (--from glove)"
      if format == 'text'
      else '; it looks like text: add --from text, or --from glove without a first line'
    )
  raise ValueError(
    f"line 1 of {path} is {line[:60]!r}; it should be two numbers, 'words dimensions'"
    f'{advice}'
  )


def _row(path: Path, number: int, line: str, D: int) -> tuple[str, list[str]]:
  """Returns the word of a line, and its numbers as text.

  The last D fields are numbers, so a word may contain spaces. Spaces around a word are
  separators, unless the word consists of spaces only.
  """
  word, *parts = line.rstrip(_BLANK).rsplit(' ', D)  # word2vec.c leaves one at the end
  before = word.rpartition(' ')[2]
  if len(parts) == D and not (word.strip(' ') != before and is_number(before)):
    return word.strip(' ') or word, parts
  fields = line.rstrip(_BLANK).split(' ')
  if '\t' in line:
    problem = "has tabs; convert it with `tr '\\t' ' '`"
  else:
    problem = (
      f'has {len(fields) - 1:,} numbers, and should have {D:,}: a wrong first line, a '
      'cut, or a word that ends in a number'
    )
  raise ValueError(f'line {number:,} of {path} {problem}{_hint_of_binary(line)}')


def _hint_of_binary(line: str) -> str:
  """Returns advice for a line that cannot be read because it may be binary."""
  binary = any(character < ' ' and character != '\t' for character in line)
  return '; is it a binary file (--from binary)?' if binary else ''


def _numbers(path: Path, number: int, parts: list[str], out: np.ndarray) -> None:
  """Parses the numbers of a line into `out` [D]."""
  if len(parts) != len(out):
    raise ValueError(
      f'line {number:,} of {path} has {len(parts):,} numbers, and should have '
      f'{len(out):,}'
    )
  try:
    with np.errstate(over='ignore'):  # it becomes infinity, which is refused below
      # A list of float, because an array of str reserves the longest length for each.
      out[:] = list(map(float, parts))
  except ValueError as error:
    problem = f'line {number:,} of {path}: {str(error)[:200]}'
    raise ValueError(f'{problem}{_hint_of_binary(" ".join(parts))}') from None
  if not np.isfinite(out).all():
    at = int(np.flatnonzero(~np.isfinite(out))[0])
    raise ValueError(
      f'line {number:,} of {path}: its number {at + 1} is {parts[at][:60]}'
    )


def _read_text(path: Path, losses: Losses) -> Content:
  with opened(path, 'text') as (file, size):
    line = next(lines(file, path), (1, '', False))[1]
    V, D = _header(path, line, 'text')
    if size is not None and size < V * (2 * D + 1):
      raise ValueError(
        f'{path} was cut short: by line 1 there are {V:,} words of {D:,} numbers, which '
        f'need more than its {path.stat().st_size:,} bytes'
      )
    check_memory(path, V, D, 'by line 1')
    rows, count, number = Rows(losses, D, V), 0, 1
    for number, line, damaged in lines(file, path, D, start=2):
      if line.strip(_BLANK):
        count += 1
        if count > V:
          losses.add('more', f'line {number:,}')
        _read_row(path, losses, rows, number, line, damaged)
  if count < V:
    raise ValueError(
      f'{path} ends after line {number:,}, with {count:,} words; by line 1 there are '
      f'{V:,}: it was cut short, or line 1 is wrong'
    )
  return rows.finish()


def _read_row(
  path: Path, losses: Losses, rows: Rows, number: int, line: str, damaged: bool
) -> None:
  """Parses a line of text as the next row."""
  out, place = rows.next(), f'line {number:,}'
  word, parts = _row(path, number, line, len(out))
  _numbers(path, number, parts, out)
  if damaged:
    losses.add('bytes', f'{word!r}, {place}')
  if ' ' in word:
    losses.add('spaces', f'{word!r}, {place}')
  rows.keep(word, place)


def _read_glove(path: Path, losses: Losses) -> Content:
  with opened(path, 'glove') as (file, _):
    every = (row for row in lines(file, path) if row[1].strip(_BLANK))
    sample = list(itertools.islice(every, _SAMPLE))
    fields = [line.rstrip(_BLANK).split(' ') for _, line, _ in sample]
    D = most_common(map(numbers_at_end, fields)) if fields else 0
    if not D:
      raise ValueError(
        f'{path} has no vectors: a line should be a word and its numbers'
        f'{_hint_of_binary("".join(line for _, line, _ in sample))}'
      )
    first = fields[0]
    if len(first) == 2 and all(x.isdecimal() for x in first) and len(fields) > 1:
      dimensions = numbers_at_end(fields[1])
      if int(first[1][:15]) == dimensions and dimensions > 1:
        raise ValueError(
          f"{path} has word2vec's first line, {sample[0][1]!r}: read it as 'text' "
          '(--from text)'
        )
    rows = Rows(losses, D, _estimate(path, file, sample))
    for number, line, damaged in itertools.chain(sample, every):
      _read_row(path, losses, rows, number, line, damaged)
  return rows.finish()


def _estimate(path: Path, file: Stream, sample: Sequence[tuple]) -> int:
  """Estimates the number of lines of a file from its first ones.

  Unused capacity needs no memory, while a growing matrix may temporarily need more.
  """
  read = sum(len(line.encode('utf-8', 'replace')) + 1 for _, line, _ in sample)
  size = path.stat().st_size if path.is_file() else 0
  if isinstance(file, gzip.GzipFile):
    size *= 3  # numbers as text unpack to 2 to 3 times their size
  count = size * len(sample) // max(read, 1)
  D = len(sample[0][1].split(' '))
  return min(count + count // 8, machine_memory() // (4 * D)) + len(sample)


def _write_text(
  path: Path, words: list[str], matrix: np.ndarray, *, header: bool = True
) -> None:
  with whole(path) as file:
    if header:
      file.write(f'{len(words)} {matrix.shape[1]}\n'.encode())
    for word, row in zip(words, matrix, strict=True):
      file.write(f'{word} {_shortest(row, " ")}\n'.encode())


def _write_glove(path: Path, words: list[str], matrix: np.ndarray) -> None:
  _write_text(path, words, matrix, header=False)


def _shortest(row: np.ndarray, between: str) -> str:
  """Returns numbers with the fewest digits that determine their float32."""
  return between.join(map(str, row.astype(np.float32)))


# Binary.


def _read_binary(path: Path, losses: Losses) -> Content:
  with opened(path, 'binary') as (file, size):
    line = file.readline(100)
    text = line.removesuffix(b'\n').removesuffix(b'\r')
    V, D = _header(path, text.decode('ascii', 'backslashreplace')[:60], 'binary')
    at = len(line)
    if size is not None and (capacity := (size - at) // (4 * D + 1)) < V:
      raise ValueError(
        f'{path} was cut short: by line 1 there are {V:,} words of {D:,} numbers, and '
        f'{path.stat().st_size:,} bytes hold {capacity:,} at most'
      )
    check_memory(path, V, D, 'by line 1')
    _check_not_text(path, file.peek(1), D)
    rows = Rows(losses, D, V)
    try:
      for index in range(V):
        at = _read_binary_row(path, file, losses, rows, at, index, V)
      rest = file.read(1 << 16)
    except DAMAGE as error:
      raise ValueError(
        f'{path} is damaged or cut short after byte {at:,} of its unpacked content '
        f'({error}); get a new copy of it'
      ) from None
  if rest.strip(b'\r\n'):
    count = f'{len(rest):,}' if len(rest) < 1 << 16 else f'more than {1 << 16:,}'
    raise ValueError(
      f'{path} has {count} bytes after the last of {V:,} words, from byte {at:,} on: '
      'line 1 counts too few words or dimensions'
    )
  return rows.finish()


def _check_not_text(path: Path, ahead: bytes, D: int) -> None:
  """Raises ValueError if a row of text follows line 1."""
  line, end, _ = ahead.partition(b'\n')
  fields = line.split()
  if end and len(fields) > D and numbers_at_end(fields) >= D:
    raise ValueError(f'line 2 of {path} is text, and not binary: add --from text')


def _read_binary_row(
  path: Path,
  file: Stream,
  losses: Losses,
  rows: Rows,
  at: int,
  index: int,
  V: int,
) -> int:
  """Reads the word at byte `at` and its numbers as the next row; returns its end."""
  raw = read_until(file, b' ')
  # word2vec.c ends a vector with \n, gensim does not.
  data = raw.lstrip(b'\n')
  where = f'word {index + 1:,} of {path}, at byte {at + len(raw) - len(data):,},'
  if not data.endswith(b' '):
    raise ValueError(
      f'{where} has no end: either the file was cut short, or line 1 is wrong about '
      'the dimensions'
    )
  try:
    word = data[:-1].decode('utf-8')
  except UnicodeDecodeError:
    if min(data) < 32:  # not a word, not even a truncated one
      raise ValueError(
        f'{where} is not UTF-8: {data[:40]!r}; line 1 is wrong about the dimensions, or '
        'the file is damaged'
      ) from None
    word = data[:-1].decode('utf-8', 'backslashreplace')
    losses.add('bytes', f'{word[:200]!r}, word {index + 1:,}')
  out = rows.next()
  count = file.readinto(memoryview(out).cast('B'))
  end = at + len(raw) + count
  if count < out.nbytes:
    raise ValueError(
      f'{path} ends at byte {end:,}, within word {index + 1:,} of {V:,}, '
      f'{word[:200]!r}: it was cut short'
    )
  rows.keep(word, f'word {index + 1:,}')
  return end


def _write_binary(path: Path, words: list[str], matrix: np.ndarray) -> None:
  with whole(path) as file:
    file.write(f'{len(words)} {matrix.shape[1]}\n'.encode())
    for word, row in zip(words, matrix, strict=True):
      file.write(f'{word} '.encode() + row.astype('<f4').tobytes())


# gensim.


def _gensim() -> ModuleType:
  try:
    return importlib.import_module('gensim.models')
  except ImportError as error:
    raise RuntimeError(
      f"KeyedVectors need gensim: pip install 'gensim>=4.4' ({error}); or use "
      "word2vec's format, .bin, which gensim can also read and write"
    ) from None


def _read_gensim(path: Path, losses: Losses) -> Content:
  models = _gensim()
  try:
    saved = models.KeyedVectors.load(str(path))
    saved = getattr(saved, 'wv', saved)  # the vectors of a whole model
    keyed = isinstance(saved, models.KeyedVectors)
    words = list(saved.index_to_key) if keyed else []
    matrix = np.asarray(saved.vectors) if keyed else np.zeros((0, 0))
  except Exception as error:  # a damaged pickle may raise anything
    raise ValueError(
      f'{path} is not a file that gensim saved, or is cut short, or another file of it '
      f'is missing: {type(error).__name__}: {str(error)[:200]}'
    ) from error
  if not keyed:
    raise ValueError(f'{path} holds a {type(saved).__name__}, not KeyedVectors')
  # gensim 4 reads a file with a repeated word into a list that ends in None.
  words = ['' if word is None else word for word in words]
  if not all(isinstance(word, str) for word in words):
    raise ValueError(f'{path} has words that are not text')
  return words, _float32(path, matrix, 'vectors')


def _write_gensim(path: Path, words: list[str], matrix: np.ndarray) -> None:
  vectors = _gensim().KeyedVectors(matrix.shape[1])
  vectors.lifecycle_events = None  # would hold the temporary name, time and machine
  vectors.add_vectors(words, np.asarray(matrix, np.float32))
  with replacing(path) as part:
    vectors.save(str(part), separately=[])  # a single file, so that it is atomic


# NumPy.


def _read_npz(path: Path, losses: Losses) -> Content:
  with open(path, 'rb') as file:
    head = file.read(4096)
  check_kind(path, head, 'npz')
  if not head.startswith(b'PK'):  # otherwise NumPy would advise to unpickle it
    raise ValueError(f'{path} is not an .npz, or is damaged or cut short at its start')
  # By the archive's directory, before anything is unpacked: a small file can unpack to
  # more than the memory.
  try:
    with zipfile.ZipFile(path) as archive:
      size = sum(member.file_size for member in archive.infolist())
  except (OSError, ValueError, RuntimeError, *DAMAGE) as error:
    raise ValueError(
      f'{path} is not an .npz, or is damaged or cut short: {error}'
    ) from error
  if size > machine_memory():
    raise ValueError(
      f'{path} unpacks to {size / 2**30:,.1f} GiB; this machine has '
      f'{machine_memory() / 2**30:,.1f} GiB of memory'
    )
  try:
    with open(path, 'rb') as file, np.load(file) as arrays:
      names = [
        x for x in arrays.files if x in ('words', 'utf8', 'ends', 'matrix', *_SPARSE)
      ]
      others = [name for name in arrays.files if name not in names]
      parts = {name: _npz_array(arrays, name) for name in names}
  except MemoryError:  # the file is not damaged
    raise
  except Exception as error:  # NumPy and zipfile raise many types for damaged content
    raise ValueError(
      f'{path} is not an .npz, or is damaged or cut short: {str(error)[:200]}'
    ) from error
  named = 'words' in parts or {'utf8', 'ends'} <= set(parts)
  if named and 'matrix' in parts:
    return _npz_words(path, parts), _float32(path, parts['matrix'], 'matrix')
  if named and set(_SPARSE) <= set(parts):
    return _npz_words(path, parts), _npz_sparse(path, parts)
  raise ValueError(
    f'{path} has {", ".join([*parts, *others]) or "nothing"}; a file of vectors should '
    'have words and matrix, or words, data, indices, indptr and shape'
  )


def _npz_array(arrays: Any, name: str) -> np.ndarray:
  """Returns an array of an .npz, after comparing its header with its size."""
  with arrays.zip.open(f'{name}.npy') as member:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
      shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    else:
      shape, _, dtype = np.lib.format.read_array_header_2_0(member)
  if dtype.hasobject:
    raise ValueError(
      f'{name} holds Python objects, which would have to be unpickled: save words as '
      'np.array(words, str)'
    )
  # NumPy allocates the shape of the header before it reads, so a damaged header could
  # ask for any amount of memory.
  size = arrays.zip.getinfo(f'{name}.npy').file_size
  if any(n < 0 for n in shape) or np.prod(shape, dtype=object) * dtype.itemsize > size:
    raise ValueError(f'{name} is {dtype} of shape {shape}, and has {size:,} bytes')
  return arrays[name]


def _npz_words(path: Path, parts: dict[str, np.ndarray]) -> list[str]:
  if 'words' not in parts:
    return _npz_joined(path, parts['utf8'], parts['ends'])
  words = parts['words']
  if words.ndim != 1 or words.dtype.kind != 'U':
    raise ValueError(
      f'{path}: words is {_described(words)}; it should be a row of text (str)'
    )
  try:
    return words.tolist()
  except ValueError as error:
    raise ValueError(f'{path}: words are not Unicode: {error}') from None


def _npz_joined(path: Path, utf8: np.ndarray, ends: np.ndarray) -> list[str]:
  """Returns words from their joined bytes and the end of each."""
  valid = utf8.dtype == np.uint8 and ends.dtype.kind == 'i' and ends.ndim == 1
  bounds = [0, *ends.tolist()] if valid else [-1]
  if bounds != sorted(bounds) or bounds[-1] != utf8.size or utf8.ndim != 1:
    raise ValueError(
      f'{path}: utf8 is {_described(utf8)}, which ends ({_described(ends)}) does not '
      'divide into words'
    )
  data = utf8.tobytes()
  try:
    return [data[a:b].decode('utf-8') for a, b in itertools.pairwise(bounds)]
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: words in utf8 are not UTF-8: {error}') from None


def _float32(path: Path, array: np.ndarray, name: str) -> np.ndarray:
  if array.dtype.kind not in 'fiub':
    raise ValueError(f'{path}: {name} is {_described(array)}; it should be numbers')
  with np.errstate(over='ignore'):  # it becomes infinity, which is refused later
    return array.astype(np.float32, copy=False)


def _npz_sparse(path: Path, parts: dict[str, np.ndarray]) -> scipy.sparse.csr_array:
  for name in ('indices', 'indptr', 'shape'):
    array = parts[name]
    if array.ndim != 1 or array.dtype.kind not in 'iu':
      raise ValueError(
        f'{path}: {name} is {_described(array)}; it should be a row of integers'
      )
  data, indptr = _float32(path, parts['data'], 'data'), parts['indptr']
  try:
    if (indptr[1:] < indptr[:-1]).any():  # scipy checks this only if the last is not 0
      raise ValueError('indptr must be a non-decreasing sequence')
    shape = tuple(parts['shape'].tolist())
    matrix = scipy.sparse.csr_array((data, parts['indices'], indptr), shape=shape)
    matrix.check_format(full_check=True)  # otherwise scipy could read invalid memory
  except (ValueError, TypeError, IndexError, OverflowError) as error:
    raise ValueError(f'{path} has an invalid sparse matrix: {error}') from error
  return matrix


def _described(array: np.ndarray) -> str:
  return f'{array.dtype} of shape {array.shape}'


def _write_npz(path: Path, words: list[str], matrix: Matrix) -> None:
  if scipy.sparse.issparse(matrix):
    arrays = {name: getattr(matrix, name) for name in _SPARSE[:3]}
    arrays['shape'] = np.array(matrix.shape)
  else:
    arrays = {'matrix': np.asarray(matrix, np.float32)}
  with whole(path) as file:
    np.savez(file, **_npz_names(words), **arrays)


def _npz_names(words: list[str]) -> dict[str, np.ndarray]:
  """Returns words as an array of str, or as UTF-8 if that would be large or inexact.

  NumPy gives every word the width of the longest, with four bytes per letter, and drops
  NUL characters at the end.
  """
  width = max(map(len, words), default=0)
  large = 4 * width * len(words) > max(_LARGE, _WIDE * sum(map(len, words)))
  if not large and not any(word.endswith('\0') for word in words):
    return {'words': np.array(words, str)}
  parts = [word.encode('utf-8') for word in words]
  ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
  return {'utf8': np.frombuffer(b''.join(parts), np.uint8), 'ends': ends}


# TensorBoard's embedding projector.


def _read_projector(path: Path, losses: Losses) -> Content:
  for name in (TENSORS, METADATA):
    if not (path / name).is_file():
      raise FileNotFoundError(f'{path} has no {name}: it is not a projector folder')
  words = []
  with opened(path / METADATA, 'projector') as (file, _):
    for number, word, damaged in lines(file, path / METADATA):
      if '\t' in word:
        raise ValueError(
          f'line {number:,} of {path / METADATA} has a tab: keep only the column of '
          'words, without a heading'
        )
      words.append(word)
      if damaged:
        losses.add('bytes', f'{word!r}, line {number:,}')
  rows: Rows | None = None
  number = 0  # number of the last line that is not blank
  with opened(path / TENSORS, 'projector') as (file, _):
    for at, line, _ in lines(file, path / TENSORS):
      if not line.strip():
        continue
      if at != number + 1:
        raise ValueError(f'line {number + 1:,} of {path / TENSORS} is blank')
      number, parts = at, line.split('\t')
      if rows is None:
        # Before the first row, since `Rows` allocates the whole matrix.
        check_memory(path, len(words), len(parts), 'by its files')
        rows = Rows(losses, len(parts), len(words))
      if number > len(words):  # reported below, with the numbers of both files
        break
      _numbers(path / TENSORS, number, parts, rows.next())
      rows.keep(words[number - 1], f'line {number:,}')
  while len(words) > number and not words[-1]:
    words.pop()  # empty lines at the end
  if rows is None or number != len(words):
    raise ValueError(
      f'{path / METADATA} has {len(words):,} words, and {path / TENSORS} '
      f'{"more" if number > len(words) else "fewer"} vectors: one of them was cut short'
    )
  return rows.finish()


def _write_projector(path: Path, words: list[str], matrix: np.ndarray) -> None:
  """Writes a projector folder; a metadata.tsv of one column has no heading.

  https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin
  """
  path.mkdir(exist_ok=True)
  # A folder without words is invalid, so an interrupted write cannot mix two of them.
  (path / METADATA).unlink(missing_ok=True)
  with whole(path / TENSORS) as file:
    for row in matrix:
      file.write(f'{_shortest(row, chr(9))}\n'.encode())
  with whole(path / CONFIG) as file:
    file.write(_CONFIG.encode())
  with whole(path / METADATA) as file:
    file.write(''.join(f'{word}\n' for word in words).encode())


def _read_fasttext(path: Path, losses: Losses) -> Content:
  tables, matrix = fasttext.read(path, losses)
  return list(tables.words), matrix


_READERS: dict[str, Callable[[Path, Losses], Content]] = {
  'text': _read_text,
  'glove': _read_glove,
  'binary': _read_binary,
  'gensim': _read_gensim,
  'npz': _read_npz,
  'fasttext': _read_fasttext,
  'projector': _read_projector,
}
_WRITERS: dict[str, Callable[[Path, list[str], Matrix], None]] = {
  'text': _write_text,
  'glove': _write_glove,
  'binary': _write_binary,
  'gensim': _write_gensim,
  'npz': _write_npz,
  'projector': _write_projector,
}
