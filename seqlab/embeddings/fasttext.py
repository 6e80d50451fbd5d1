"""Models of fastText: files `.bin` with the rows of words and of character n-grams.

The layout is that of version 12 of fastText 0.9 (`FastText::saveModel` in
https://github.com/facebookresearch/fastText), in little-endian order:

  magic number, version
  12 numbers of `_Arguments` and the threshold of subsampling
  number of entries, words and labels; number of tokens; number of kept n-grams or -1
  for each entry: its bytes and a zero byte, its count, its type (0: a word)
  whether the input table is quantised; number of rows and columns; rows as float32
  whether the output table is quantised; number of rows and columns; rows as float32

The input table has one row per word, and after them one row per bucket.
"""

from pathlib import Path
import struct
from typing import NamedTuple

import numpy as np

from seqlab.embeddings.subwords import Subwords, SubwordTables
from seqlab.embeddings.vector_files import (
  FASTTEXT,
  LONGEST,
  Losses,
  Stream,
  check_memory,
  opened,
  read_until,
  whole,
)

_VERSIONS = (11, 12)
_SUPERVISED, _SKIPGRAM = 3, 2  # of the model; 1 is CBOW
_NEGATIVE_SAMPLING = 2  # of the loss
_HEAD = struct.Struct('<2i12id3i2q')
_ENTRY = struct.Struct('<qb')  # after the word and its zero byte
_TABLE = struct.Struct('<?2q')
_ROWS = 1 << 14  # rows that are read or written at a time


class _Arguments(NamedTuple):
  """Arguments of fastText that a file records, in their order, with its defaults."""

  dim: int
  ws: int = 5
  epoch: int = 5
  minCount: int = 5  # noqa: N815  # fastText's spelling
  neg: int = 5
  wordNgrams: int = 1  # noqa: N815
  loss: int = _NEGATIVE_SAMPLING
  model: int = _SKIPGRAM
  bucket: int = 2_000_000
  minn: int = 3
  maxn: int = 6
  lrUpdateRate: int = 100  # noqa: N815


def read(path: Path, losses: Losses) -> tuple[SubwordTables, np.ndarray]:
  """Reads a model that was trained without labels.

  The output table is not read, because vectors do not need it.

  Args:
    path: path of the file, which may be gzipped.
    losses: counts of words that are not UTF-8.

  Returns:
    The tables, and the vectors of the words, [V, D] float32.

  Raises:
    ValueError: the model is supervised or quantised, of an unknown version, or the file
      is damaged or cut short.
  """
  with opened(path, 'fasttext') as (file, size):
    magic, version, *numbers = _unpack(path, file, _HEAD)
    arguments = _Arguments(*numbers[:12])
    entries, V, labels, _, pruned = numbers[13:]
    _check_kind(path, magic, version, arguments, labels, pruned)
    D, bucket = arguments.dim, max(arguments.bucket, 0)
    if min(D, V) < 1 or entries != V:
      raise ValueError(
        f'{path} is damaged: its head counts {V:,} words among {entries:,} entries, of '
        f'{D:,} numbers'
      )
    if size is not None and size < 4 * D * (V + bucket):
      raise ValueError(
        f'{path} was cut short: {V:,} words and {bucket:,} buckets of {D:,} numbers '
        f'need more than its {path.stat().st_size:,} bytes'
      )
    check_memory(path, 2 * V + bucket, D, 'by its head')
    encoded, counts = _read_entries(path, file, V)
    quantised, rows, columns = _unpack(path, file, _TABLE)
    if quantised:
      raise _quantised(path)
    if (rows, columns) != (V + bucket, D):
      raise ValueError(
        f'{path} is damaged: its input table has {rows:,} rows of {columns:,} numbers '
        f'in place of {V + bucket:,} of {D:,}'
      )
    word_rows, ngram_rows = (_read_rows(path, file, n, D) for n in (V, bucket))
  has_ngrams = bucket > 0 and arguments.maxn >= max(arguments.minn, 1)
  subwords = Subwords(
    max(arguments.minn, 0), arguments.maxn if has_ngrams else 0, max(bucket, 1)
  )
  tables = SubwordTables(
    _decoded(encoded, losses),
    counts,
    subwords,
    word_rows,
    np.arange(bucket, dtype=np.int32),
    ngram_rows,
  )
  return tables, tables.means(encoded)


def _check_kind(
  path: Path, magic: int, version: int, arguments: _Arguments, labels: int, pruned: int
) -> None:
  """Raises ValueError for a model that has no vectors of words with all n-grams."""
  if magic != int.from_bytes(FASTTEXT, 'little'):
    raise ValueError(
      f'{path} does not begin as a model of fastText: leave out --from, or name another '
      'format'
    )
  if version not in _VERSIONS:
    raise ValueError(
      f'{path} has version {version} of the format of fastText; known are '
      f'{" and ".join(map(str, _VERSIONS))}: save it again with fastText 0.9'
    )
  if pruned >= 0:
    raise _quantised(path)
  if arguments.model == _SUPERVISED or labels:
    raise ValueError(
      f'{path} is a supervised model of fastText, a classifier of {labels:,} labels, '
      'and not one of word vectors: use a model of `fasttext skipgram` or '
      '`fasttext cbow`'
    )


def _quantised(path: Path) -> ValueError:
  return ValueError(
    f'{path} is a quantised model of fastText (.ftz), whose rows are compressed: use '
    'the .bin file that it was made from'
  )


def _unpack(path: Path, file: Stream, layout: struct.Struct) -> tuple:
  data = file.read(layout.size)
  if len(data) < layout.size:
    raise ValueError(f'{path} was cut short: get a new copy of it')
  return layout.unpack(data)


def _read_entries(path: Path, file: Stream, V: int) -> tuple[list[bytes], np.ndarray]:
  """Returns V words and their counts."""
  words, counts = [], np.empty(V, np.int64)
  for index in range(V):
    word = read_until(file, b'\0')
    if not word.endswith(b'\0') or len(word) > LONGEST:
      raise ValueError(
        f'word {index + 1:,} of {V:,} of {path} has no end: the file is damaged or was '
        'cut short'
      )
    counts[index], kind = _unpack(path, file, _ENTRY)
    if kind or len(word) == 1:
      raise ValueError(
        f'entry {index + 1:,} of {V:,} of {path}, {word[:40]!r}, is not a word: the '
        'file is damaged'
      )
    words.append(word[:-1])
  if len(set(words)) < V:
    raise ValueError(f'{path} has a word twice: the file is damaged')
  return words, counts


def _read_rows(path: Path, file: Stream, number: int, D: int) -> np.ndarray:
  """Returns the next rows of a table, [number, D] float32."""
  rows = np.empty((number, D), '<f4')
  for start in range(0, number, _ROWS):
    part = rows[start : start + _ROWS]
    if file.readinto(memoryview(part).cast('B')) < part.nbytes:
      raise ValueError(
        f'{path} was cut short: it ends among the {number:,} rows of a table, after '
        f'row {start:,}'
      )
  return rows.astype(np.float32, copy=False)


def _decoded(encoded: list[bytes], losses: Losses) -> list[str]:
  r"""Returns words; bytes that are not UTF-8 become \xNN."""
  words = []
  for number, data in enumerate(encoded, 1):
    try:
      words.append(data.decode('utf-8'))
    except UnicodeDecodeError:
      words.append(data.decode('utf-8', 'backslashreplace'))
      losses.add('bytes', f'{words[-1]!r}, word {number:,}')
  return words


def write(path: Path, tables: SubwordTables) -> None:
  """Writes a model that fastText and gensim read.

  Buckets without a row become rows of zeros, and so does an output table that is not
  known. Arguments that vectors do not depend on have fastText's defaults.

  Raises:
    ValueError: a word has a zero byte, which ends a word in this format.
  """
  V, D = tables.word_rows.shape
  subwords = tables.subwords
  sizes = dict(minn=subwords.minn, maxn=subwords.maxn, bucket=subwords.bucket)
  contexts = tables.contexts
  contexts = np.broadcast_to(np.float32(0), (V, D)) if contexts is None else contexts
  for number, word in enumerate(tables.words, 1):
    if not word or '\0' in word:
      raise ValueError(
        f'{path}: word {number:,} is {word!r}, which ends too early in this format: '
        'write .npz'
      )
  tokens = int(tables.counts.sum())
  with whole(path) as file:
    magic, version = int.from_bytes(FASTTEXT, 'little'), _VERSIONS[-1]
    arguments = _Arguments(D, **sizes)
    file.write(_HEAD.pack(magic, version, *arguments, 1e-4, V, V, 0, tokens, -1))
    for word, count in zip(tables.words, tables.counts.tolist(), strict=True):
      file.write(word.encode() + b'\0' + _ENTRY.pack(count, 0))
    file.write(_TABLE.pack(False, V + subwords.bucket, D))
    file.write(np.ascontiguousarray(tables.word_rows, '<f4').data)
    for start in range(0, subwords.bucket, _ROWS):
      stop = min(start + _ROWS, subwords.bucket)
      first, last = np.searchsorted(tables.numbers, [start, stop])
      rows = np.zeros((stop - start, D), '<f4')
      rows[tables.numbers[first:last] - start] = tables.ngram_rows[first:last]
      file.write(rows.data)
    file.write(_TABLE.pack(False, V, D))
    file.write(np.ascontiguousarray(contexts, '<f4').data)
