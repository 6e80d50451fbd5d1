"""Files of word vectors: words and a matrix, as several programs write them.

  'text'       word2vec's: a line 'V D', then a line for each word: it and D numbers.
  'glove'      the same without the first line, as GloVe writes it.
  'binary'     word2vec's: a line 'V D', then each word, a space, D float32.
  'gensim'     KeyedVectors as gensim saves them (needs gensim).
  'npz'        NumPy's: `words` and `matrix`, or of sparse vectors the parts of a CSR;
               where one word is far longer than the rest, `utf8` and `ends` for `words`.
  'projector'  a folder for TensorBoard's embedding projector.

By default the name tells which it is; `FORMATS` says how. Only 'gensim' is read by
unpickling, which can run whatever the file says: open none that you do not trust.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import gzip
import importlib
import itertools
import mmap
import os
from pathlib import Path
import pickle
from types import ModuleType
from typing import BinaryIO

import numpy as np
import scipy.sparse

from seqlab.config import suggest
from seqlab.text.lines import DAMAGE

Matrix = np.ndarray | scipy.sparse.csr_array
Content = tuple[list[str], Matrix]  # V words and [V, D] float32

# Name's ending -> format; a folder, or a name without an ending, is a 'projector'.
FORMATS = {
  '.txt': 'text',
  '.txt.gz': 'text',
  '.vec': 'text',
  '.vec.gz': 'text',
  '.bin': 'binary',
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
# What unpickling raises of something else, by the documentation of `pickle`.
_NO_PICKLE = (
  *(pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError),
  *(KeyError, OSError, TypeError, ValueError),
)
_SPARSE = ('data', 'indices', 'indptr', 'shape')  # of a CSR, in .npz
# In .npz words are an array up to so many bytes, or bytes a letter; beyond, joined.
_LARGE, _WIDE = 1 << 26, 64
_LONGEST = 10_000  # bytes of a word; where there are more, no word begins there


def read(path: str | Path, format: str | None = None) -> Content:
  """Reads words and their vectors.

  Args:
    path: a file; of 'projector', a folder.
    format: see above; None goes by the name.

  Raises:
    FileNotFoundError: there is nothing at the path.
    ValueError: the content is not of that format, is cut short, has a number that is
      not finite, or a word twice. Says where.
    RuntimeError: it takes gensim, which is not installed.
  """
  path = Path(path).expanduser()
  if not path.exists():
    raise FileNotFoundError(f'there are no vectors at {path} (seen from {Path.cwd()})')
  if format is None and path.is_dir():
    format = 'projector'
  format = _format(path, format, '--from')
  if path.is_dir() and format != 'projector':
    raise ValueError(f'{path} is a folder; {format!r} is read from a file: name one')
  words, matrix = _READERS[format](path)
  _check(path, words, matrix)
  return words, matrix


def write(
  path: str | Path, words: Sequence[str], matrix: Matrix, format: str | None = None
) -> None:
  """Writes words and their vectors; a file is there whole or not at all, save gensim's.

  Phrases: those formats that part a word from its numbers by a space take no word with
  a space in it, for neither word2vec nor gensim could read it. Both join the words of a
  phrase with '_'.

  Args:
    path: a file; of 'projector', a folder.
    words: V of them, all different.
    matrix: [V, D]; sparse for 'npz' only.
    format: see above; None goes by the name.

  Raises:
    ValueError: the format is unknown, or cannot hold such words or a sparse matrix; or
      a folder lies where a file should, or the other way round.
    RuntimeError: it takes gensim, which is not installed.
  """
  path = Path(path).expanduser()
  if format is None and not by_ending(path) and (path.is_dir() or not _ending(path)):
    format = 'projector'
  format = _format(path, format, '--format')
  _check_place(path, format)
  if scipy.sparse.issparse(matrix) and format != 'npz':
    raise ValueError(
      f'{path}: sparse vectors of {matrix.shape[1]:,} numbers a word go into .npz only'
    )
  bad = {'npz': '', 'gensim': '', 'projector': '\t\n\r'}.get(format, ' \t\n\v\f\r')
  for number, word in enumerate(words, 1):
    if not word or any(mark in word for mark in bad):
      raise ValueError(
        f'word {number:,} is {word!r}, which cannot be written as {format!r}: join '
        "phrases with '_', or write .npz"
      )
  path.parent.mkdir(parents=True, exist_ok=True)
  _WRITERS[format](path, list(words), matrix)


def by_ending(path: Path) -> str | None:
  """The format that a name's ending tells, or None."""
  return FORMATS.get(_ending(path))


def _ending(path: Path) -> str:
  return ''.join(path.suffixes[-2:] if path.suffix == '.gz' else path.suffixes[-1:])


def _format(path: Path, format: str | None, option: str) -> str:
  """The format of a file, by `option` of the command line or by its ending."""
  format = by_ending(path) if format is None else format
  endings = f'{", ".join(_READERS)}; by their endings: {", ".join(FORMATS)}'
  if format is None:
    what = f'its ending {_ending(path)}' if _ending(path) else 'its name'
    raise ValueError(
      f'{path}: {what} tells no format; add {option} (in Python, format=) with one of: '
      f'{endings}'
    )
  if format not in _READERS:
    close = suggest(format, _READERS)
    raise ValueError(f'{path}: unknown format {format!r}{close} (known: {endings})')
  return format


def _check_place(path: Path, format: str) -> None:
  """Raises ValueError if a file is in the way, or a folder."""
  above = next((p for p in path.parents if p.exists()), path)
  if not above.is_dir():
    raise ValueError(f'{path}: {above} is a file, and no folder; name another place')
  if format == 'projector' and path.exists() and not path.is_dir():
    raise ValueError(
      f"{path} is a file, and 'projector' makes a folder: name another, or add an "
      f'ending ({", ".join(FORMATS)})'
    )
  if format != 'projector' and path.is_dir():
    raise ValueError(
      f'{path} is a folder, and {format!r} makes a file: name another, or add --format '
      'projector to write into the folder'
    )


def _check(path: Path, words: list[str], matrix: Matrix) -> None:
  if matrix.ndim != 2 or len(words) != matrix.shape[0]:
    raise ValueError(f'{path} has {len(words):,} words and a matrix {matrix.shape}')
  numbers = matrix.data if scipy.sparse.issparse(matrix) else matrix
  if not np.isfinite(numbers).all():
    rows = matrix.tocsr() if scipy.sparse.issparse(matrix) else matrix
    row = next(i for i in range(len(words)) if not np.isfinite(_row(rows, i)).all())
    raise ValueError(f'{path}: word {row + 1:,}, {words[row]!r}, has NaN or infinity')
  first: dict[str, int] = {}
  for number, word in enumerate(words, 1):
    if first.setdefault(word, number) != number:
      raise ValueError(
        f'{path} has {word!r} twice, as words {first[word]:,} and {number:,}; keep one'
      )


def _row(matrix: Matrix, i: int) -> np.ndarray:
  if scipy.sparse.issparse(matrix):
    return matrix.data[matrix.indptr[i] : matrix.indptr[i + 1]]
  return matrix[i]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
  """A file that takes its name when it is finished; gzipped if the name says so."""
  part = path.with_name(f'.part-{os.getpid()}-{path.name}')
  try:
    with open(part, 'wb') as file:
      if path.suffix == '.gz':
        # No time stamp and no name, so that the same vectors give the same bytes.
        with gzip.GzipFile('', 'wb', fileobj=file, mtime=0) as packed:
          yield packed
      else:
        yield file
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


# Text.


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Numbered lines of a file in UTF-8, plain or gzipped, without a byte order mark."""
  number = 0
  try:
    with (gzip.open if _is_gzipped(path) else open)(path, 'rb') as file:
      for number, line in enumerate(file, 1):
        text = line.rstrip(b'\r\n').decode('utf-8')
        yield number, text if number > 1 else text.removeprefix('\ufeff')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'line {number:,} of {path} is not UTF-8 at its byte {error.start:,} '
      f'(0x{error.object[error.start]:02x}); is it a binary file (.bin)?'
    ) from None
  except DAMAGE as error:
    raise ValueError(
      f'{path} is damaged or cut short after line {number:,} ({error}); get it anew'
    ) from error


def _is_gzipped(path: Path) -> bool:
  with open(path, 'rb') as file:
    return file.read(2) == b'\x1f\x8b'


def _header(path: Path, line: str) -> tuple[int, int]:
  """V and D."""
  parts = line.split()
  if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
    V, D = map(int, parts)
    if V and D:
      return V, D
  raise ValueError(
    f"line 1 of {path} is {line[:60]!r}; it should be two numbers, 'words dimensions'. "
    "A file without such a line is read with format='glove' (--from glove)"
  )


def _numbers(path: Path, number: int, parts: list[str], out: np.ndarray) -> None:
  """Puts a line's numbers into `out` [D]."""
  if len(parts) != len(out):
    raise ValueError(
      f'line {number:,} of {path} has {len(parts):,} numbers, and should have '
      f'{len(out):,}: a word with a space in it, a wrong first line, or a cut'
    )
  try:
    with np.errstate(over='ignore'):  # it becomes infinity, which is refused below
      out[:] = parts
  except ValueError as error:
    raise ValueError(f'line {number:,} of {path}: {error}') from None
  if not np.isfinite(out).all():
    at = int(np.flatnonzero(~np.isfinite(out))[0])
    raise ValueError(f'line {number:,} of {path}: its number {at + 1} is {parts[at]}')


def _read_text(path: Path) -> Content:
  lines = _lines(path)
  V, D = _header(path, next(lines, (1, ''))[1])
  size = path.stat().st_size * (1032 if _is_gzipped(path) else 1)  # deflate's limit
  if size < V * (2 * D + 1):
    raise ValueError(
      f'{path} was cut short: by line 1 there are {V:,} words of {D:,} numbers, which '
      f'need more than its {path.stat().st_size:,} bytes'
    )
  words, matrix = [], np.empty((V, D), np.float32)
  for number, line in lines:
    if len(words) == V:
      if line:
        raise ValueError(
          f'line {number:,} of {path} is one too many: by line 1 there are {V:,} words'
        )
      continue
    word, *parts = line.rstrip(' ').split(' ')  # word2vec.c leaves one at the end
    _numbers(path, number, parts, matrix[len(words)])
    words.append(word)
  if len(words) < V:
    raise ValueError(
      f'{path} ends after line {len(words) + 1:,}, with {len(words):,} words; by line 1 '
      f'there are {V:,}: it was cut short'
    )
  return words, matrix


def _read_glove(path: Path) -> Content:
  words, rows = [], []
  for number, line in _lines(path):
    word, *parts = line.rstrip(' ').split(' ')  # word2vec.c leaves one at the end
    rows.append(np.empty(len(rows[0]) if rows else len(parts), np.float32))
    _numbers(path, number, parts, rows[-1])
    words.append(word)
  if not rows or not len(rows[0]):
    raise ValueError(f'{path} has no vectors: a line should be a word and its numbers')
  return words, np.stack(rows)


def _write_text(
  path: Path, words: list[str], matrix: np.ndarray, *, header: bool = True
) -> None:
  with _whole(path) as file:
    if header:
      file.write(f'{len(words)} {matrix.shape[1]}\n'.encode())
    for word, row in zip(words, matrix, strict=True):
      file.write(f'{word} {_shortest(row, " ")}\n'.encode())


def _write_glove(path: Path, words: list[str], matrix: np.ndarray) -> None:
  _write_text(path, words, matrix, header=False)


def _shortest(row: np.ndarray, between: str) -> str:
  """Numbers with as many digits as tell one float32 from all others."""
  return between.join(map(str, row.astype(np.float32)))


# Binary.


def _read_binary(path: Path) -> Content:
  size = path.stat().st_size
  if not size:
    raise ValueError(f'{path} is empty')
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    end = data.find(b'\n', 0, 100)
    line = data[: end if end >= 0 else 60]
    V, D = _header(path, line.decode('ascii', 'backslashreplace'))
    if (most := (size - end - 1) // (4 * D + 2)) < V:
      raise ValueError(
        f'{path} was cut short: by line 1 there are {V:,} words of {D:,} numbers, and '
        f'{size:,} bytes hold {most:,} at most'
      )
    words, matrix, at = [], np.empty((V, D), np.float32), end + 1
    for row in matrix:
      word, at = _binary_word(path, data, at, len(words))
      if at + 4 * D > size:
        raise ValueError(
          f'{path} ends at byte {size:,}, within word {len(words) + 1:,} of {V:,}, '
          f'{word!r}: it was cut short'
        )
      row[:] = np.frombuffer(data[at : at + 4 * D], '<f4')
      words.append(word)
      at += 4 * D
    if data[at:].strip(b'\n'):
      raise ValueError(
        f'{path} has {size - at:,} bytes after the last of {V:,} words, from byte '
        f'{at:,} on: line 1 counts too few words or dimensions'
      )
  return words, matrix


def _binary_word(path: Path, data: mmap.mmap, at: int, index: int) -> tuple[str, int]:
  """The word at a byte, and where its numbers begin."""
  while data[at : at + 1] == b'\n':  # word2vec.c ends a vector with it, gensim does not
    at += 1
  end = data.find(b' ', at, at + _LONGEST)
  where = f'word {index + 1:,} of {path}, at byte {at:,},'
  if end < 0:
    raise ValueError(
      f'{where} has no end: either the file was cut short, or line 1 is wrong about '
      'the dimensions'
    )
  try:
    return data[at:end].decode('utf-8'), end + 1
  except UnicodeDecodeError:
    raise ValueError(
      f'{where} is not UTF-8: {data[at:end][:40]!r}; line 1 is wrong about the '
      'dimensions, or the words are in another encoding'
    ) from None


def _write_binary(path: Path, words: list[str], matrix: np.ndarray) -> None:
  with _whole(path) as file:
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
      "word2vec's format, .bin, which gensim reads and writes as well"
    ) from None


def _read_gensim(path: Path) -> Content:
  models = _gensim()
  try:
    found = models.KeyedVectors.load(str(path))
  except _NO_PICKLE as error:
    raise ValueError(
      f'{path} is not what gensim saved, or is cut short, or a file beside it is '
      f'missing: {error}'
    ) from error
  found = getattr(found, 'wv', found)  # of a whole model, its vectors
  if not isinstance(found, models.KeyedVectors):
    raise ValueError(f'{path} holds a {type(found).__name__}, not KeyedVectors')
  return list(found.index_to_key), np.asarray(found.vectors, np.float32)


def _write_gensim(path: Path, words: list[str], matrix: np.ndarray) -> None:
  vectors = _gensim().KeyedVectors(matrix.shape[1])
  vectors.add_vectors(words, np.asarray(matrix, np.float32))
  vectors.save(str(path))


# NumPy.


def _read_npz(path: Path) -> Content:
  try:
    with open(path, 'rb') as file, np.load(file) as arrays:
      found = {name: arrays[name] for name in arrays.files}
  except (OSError, ValueError, EOFError, *DAMAGE) as error:
    raise ValueError(
      f'{path} is no .npz, or is damaged or cut short: {error}'
    ) from error
  named = 'words' in found or {'utf8', 'ends'} <= set(found)
  if named and 'matrix' in found:
    return _npz_words(path, found), _npz_numbers(path, found, 'matrix')
  if named and set(_SPARSE) <= set(found):
    return _npz_words(path, found), _npz_sparse(path, found)
  raise ValueError(
    f'{path} has {", ".join(found) or "nothing"}; of vectors there should be words and '
    'matrix, or words, data, indices, indptr and shape'
  )


def _npz_words(path: Path, found: dict[str, np.ndarray]) -> list[str]:
  if 'words' not in found:
    return _npz_joined(path, found['utf8'], found['ends'])
  words = found['words']
  if words.ndim != 1 or words.dtype.kind != 'U':
    raise ValueError(
      f'{path}: words is {_described(words)}; it should be text (str), a row of it'
    )
  return words.tolist()


def _npz_joined(path: Path, utf8: np.ndarray, ends: np.ndarray) -> list[str]:
  """Words from their bytes in a row, and where each ends."""
  sound = utf8.dtype == np.uint8 and ends.dtype.kind == 'i' and ends.ndim == 1
  bounds = [0, *ends.tolist()] if sound else [-1]
  if bounds != sorted(bounds) or bounds[-1] != utf8.size or utf8.ndim != 1:
    raise ValueError(
      f'{path}: utf8 is {_described(utf8)}, which ends ({_described(ends)}) does not '
      'part into words'
    )
  data = utf8.tobytes()
  try:
    return [data[a:b].decode('utf-8') for a, b in itertools.pairwise(bounds)]
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: words in utf8 are not UTF-8: {error}') from None


def _npz_numbers(path: Path, found: dict[str, np.ndarray], name: str) -> np.ndarray:
  array = found[name]
  if array.dtype.kind not in 'fiub':
    raise ValueError(f'{path}: {name} is {_described(array)}; it should be numbers')
  with np.errstate(over='ignore'):  # it becomes infinity, which is refused later
    return array.astype(np.float32)


def _npz_sparse(path: Path, found: dict[str, np.ndarray]) -> scipy.sparse.csr_array:
  for name in ('indices', 'indptr', 'shape'):
    array = found[name]
    if array.ndim != 1 or array.dtype.kind not in 'iu':
      raise ValueError(
        f'{path}: {name} is {_described(array)}; it should be a row of integers'
      )
  data, indptr = _npz_numbers(path, found, 'data'), found['indptr']
  try:
    if (indptr[1:] < indptr[:-1]).any():  # which scipy asks only if the last is not 0
      raise ValueError('indptr must be a non-decreasing sequence')
    shape = tuple(found['shape'].tolist())
    matrix = scipy.sparse.csr_array((data, found['indices'], indptr), shape=shape)
    matrix.check_format(full_check=True)  # else scipy would read beyond its memory
  except (ValueError, TypeError, IndexError, OverflowError) as error:
    raise ValueError(f'{path} has no whole sparse matrix: {error}') from error
  return matrix


def _described(array: np.ndarray) -> str:
  return f'{array.dtype} of shape {array.shape}'


def _write_npz(path: Path, words: list[str], matrix: Matrix) -> None:
  if scipy.sparse.issparse(matrix):
    arrays = {name: getattr(matrix, name) for name in _SPARSE[:3]}
    arrays['shape'] = np.array(matrix.shape)
  else:
    arrays = {'matrix': np.asarray(matrix, np.float32)}
  with _whole(path) as file:
    np.savez(file, **_npz_names(words), **arrays)


def _npz_names(words: list[str]) -> dict[str, np.ndarray]:
  """Words as an array of str, or as UTF-8 where that would be large or inexact.

  NumPy gives every word the width of the longest, four bytes a letter, and drops
  characters 0 at the end.
  """
  width = max(map(len, words), default=0)
  large = 4 * width * len(words) > max(_LARGE, _WIDE * sum(map(len, words)))
  if not large and not any(word.endswith('\0') for word in words):
    return {'words': np.array(words, str)}
  parts = [word.encode('utf-8') for word in words]
  ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
  return {'utf8': np.frombuffer(b''.join(parts), np.uint8), 'ends': ends}


# TensorBoard's embedding projector.


def _read_projector(path: Path) -> Content:
  for name in (TENSORS, METADATA):
    if not (path / name).is_file():
      raise FileNotFoundError(f'{path} has no {name}: it is no folder of the projector')
  words = [line for _, line in _lines(path / METADATA)]
  for number, word in enumerate(words, 1):
    if '\t' in word:
      raise ValueError(
        f'line {number:,} of {path / METADATA} has a tab: keep the column of words '
        'alone, without a heading'
      )
  matrix = None
  for number, line in _lines(path / TENSORS):
    parts = line.split('\t')
    if matrix is None:
      matrix = np.empty((len(words), len(parts)), np.float32)
    if number > len(words):
      break
    _numbers(path / TENSORS, number, parts, matrix[number - 1])
  if matrix is None or number != len(words):
    raise ValueError(
      f'{path / METADATA} has {len(words):,} words, and {path / TENSORS} '
      f'{"more" if matrix is not None and number > len(words) else "fewer"} vectors: '
      'one of them was cut short'
    )
  return words, matrix


def _write_projector(path: Path, words: list[str], matrix: np.ndarray) -> None:
  """Its documentation: https://www.tensorflow.org/tensorboard/tensorboard_projector_plugin.

  A metadata.tsv of one column has no heading.
  """
  path.mkdir(exist_ok=True)
  with _whole(path / TENSORS) as file:
    for row in matrix:
      file.write(f'{_shortest(row, chr(9))}\n'.encode())
  with _whole(path / METADATA) as file:
    file.write(''.join(f'{word}\n' for word in words).encode())
  with _whole(path / CONFIG) as file:
    file.write(_CONFIG.encode())


_READERS: dict[str, Callable[[Path], Content]] = {
  'text': _read_text,
  'glove': _read_glove,
  'binary': _read_binary,
  'gensim': _read_gensim,
  'npz': _read_npz,
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
