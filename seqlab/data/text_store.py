"""Plain text as ids of words, written to disk as it is read.

The text may be larger than the memory. One line is one row; words outside the
vocabulary are left out. Unlike in `data.store` there is no EOS and no PAD: id 0 is a
word.
"""

from collections.abc import Iterator
import functools
import hashlib
from itertools import repeat
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seqlab.data.store import TokenStore, Workers, save_array
from seqlab.io.cache import DamagedError, Entry, cached
from seqlab.text.phrases import Phrases
from seqlab.text.plain import PlainText
from seqlab.text.words import TOKENIZER, WordCounts, count_words, tokenize_lines
from seqlab.text.workers import in_order

_FORMAT = 1  # raise it when the files or the encoding change
_END, _UNKNOWN = -1, -2

Part = tuple[np.ndarray, np.ndarray, int]  # ids, lengths of rows, number of words


class TextStore(TokenStore):
  """Lines of a text as ids of words; some rows may be empty.

  Attributes:
    ids: [tokens] uint16 or int32, all rows joined; large arrays are mapped from the
      disk.
    offsets: [R + 1] int64, start of each row.
    lengths: [R] int32, number of words per row.
    total: number of words of the text, including unknown ones.
    fingerprint: digest of everything that the ids depend on.
  """

  total: int
  fingerprint: str

  @classmethod
  def open(cls, entry: Entry, name: str, size: int) -> 'TextStore':
    """Reads, or maps, the files that `encode_text` made; see `TokenStore.open`."""
    store = super().open(entry, name, size)
    store.total = entry.about['total']
    store.fingerprint = entry.folder.name  # a digest of the text and the words
    return store


def cached_words(corpus: PlainText, cache: Path, **options) -> WordCounts:
  """Counts as `seqlab.text.words.count_words`, or loads the words from the cache.

  Args:
    corpus: the text.
    cache: folder that holds counted words, in readable text files.
    **options: see `count_words`.

  Raises:
    OSError, ValueError: as `count_words` and `encode_text`.
  """
  decides = {name: value for name, value in options.items() if name != 'workers'}
  if phrases := decides.get('phrases'):
    decides['phrases'] = phrases.fingerprint
  description = {
    'format': _FORMAT,
    'tokenizer': TOKENIZER,
    'text': corpus.fingerprint,
    'options': dict(sorted(decides.items())),
  }
  folder = Path(cache) / 'words' / _digest(description)
  need = 0

  def build(part: Path) -> dict:
    nonlocal need
    words = count_words(corpus, **options)
    need = 32 * words.size
    words.save(part)
    return {}

  def read(entry: Entry) -> WordCounts:
    entry.verify()
    try:
      return WordCounts.load(entry.folder)
    except ValueError as error:
      raise DamagedError(f'has words that cannot be read ({error})') from None

  title = f'the counted words of {corpus.name}'
  return cached(folder, description, build, read, title=title, need=lambda: need)


def encode_text(
  corpus: PlainText, words: WordCounts, cache: Path, *, workers: Workers = None
) -> TextStore:
  """Encodes a text as ids, or loads them from the cache.

  Args:
    corpus: the text.
    words: the vocabulary, with its phrases if it has any.
    cache: folder that holds encoded corpora.
    workers: number of processes; None decides by the length, 0 uses none. The result
      does not depend on it.

  Raises:
    OSError: the disk is full; the message has the folder and the space that is needed.
    ValueError: as `PlainText.chunks`.
  """
  description = {
    'format': _FORMAT,
    'tokenizer': TOKENIZER,
    'text': corpus.fingerprint,
    'words': words.fingerprint,
  }
  folder = Path(cache) / 'tokens' / _digest(description)
  dtype = np.dtype(np.uint16 if words.size <= 2**16 else np.int32)

  def build(part: Path) -> dict:
    chunks = corpus.chunks(f'encoding {corpus.name}')
    encode = functools.partial(_encode_chunk, words.ids, words.phrases)
    return {'total': _write(part, in_order(encode, chunks, workers=workers), dtype)}

  def read(entry: Entry) -> TextStore:
    return TextStore.open(entry, 'text', words.size)

  title = f'the encoded corpus {corpus.name}'
  need = int(words.counts.sum()) * dtype.itemsize  # if words were counted in this text
  return cached(folder, description, build, read, title=title, need=need)


def _digest(description: dict) -> str:
  return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:24]


def _encode_chunk(ids: dict[str, int], phrases: Phrases | None, chunk: str) -> Part:
  tokens = tokenize_lines(chunk)
  tokens = phrases.join(tokens) if phrases else tokens
  ids = {**ids, '\n': _END}
  encoded = np.fromiter(map(ids.get, tokens, repeat(_UNKNOWN)), np.int32, len(tokens))
  kept = encoded[encoded != _UNKNOWN]
  ends = np.flatnonzero(kept == _END)  # one per row
  lengths = np.diff(ends, prepend=-1) - 1
  return kept[kept != _END], lengths, len(tokens) - len(ends)


def _write(folder: Path, parts: Iterator[Part], dtype: np.dtype) -> int:
  """Writes text.ids.npy part by part, and text.offsets.npy; returns the word count."""
  lengths, size, total = [np.zeros(1, np.int64)], 0, 0
  with (folder / 'text.ids.npy').open('wb') as file:
    _header(file, 0, dtype)
    for ids, rows, count in parts:
      file.write(ids.astype(dtype).data)
      lengths.append(rows)
      size, total = size + len(ids), total + count
    file.seek(0)
    _header(file, size, dtype)  # of the same length: NumPy pads the header
  save_array(folder / 'text.offsets.npy', np.cumsum(np.concatenate(lengths)))
  return total


def _header(file: BinaryIO, size: int, dtype: np.dtype) -> None:
  description = {'shape': (size,), 'fortran_order': False, 'descr': dtype.str}
  np.lib.format.write_array_header_1_0(file, description)
