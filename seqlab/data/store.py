"""Token ids of a corpus in flat arrays, which the cache keeps.

A corpus is encoded once. The folder's name is a hash of all that decides the ids, so a
stale entry is never read. An entry gets its name only when it is complete, and damage
is detected when it is opened: see `io.cache`.
"""

from collections.abc import Mapping, Sequence
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from seqlab.domains import Probability, Range
from seqlab.io.cache import DamagedError, Entry, cached
from seqlab.io.console import track
from seqlab.text.corpora import Corpus
from seqlab.text.vocabulary import Vocabularies, Vocabulary
from seqlab.text.workers import in_order
from seqlab.types import EOS, PAD

Workers = Annotated[int, Range(0)] | None  # processes; None decides, 0 uses none

_FORMAT = 2  # increment it when the files or the encoding change
_CHUNK = 16_384  # lines that are encoded at once
_MANY = 200_000  # from so many lines on, processes save more time than they take


class TokenStore:
  """Sentences as ids, each ending with EOS.

  Attributes:
    ids: [tokens] uint16 or int32, all sentences one after the other; large arrays are
      mapped from the disk.
    offsets: [R + 1] int64, where each sentence starts.
    lengths: [R] int32, EOS counted.
  """

  def __init__(self, ids: np.ndarray, offsets: np.ndarray):
    self.ids, self.offsets = ids, offsets
    self.lengths = np.diff(offsets).astype(np.int32)

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, row: int) -> np.ndarray:
    """Returns the ids of one sentence, [L] int32."""
    return self.ids[self.offsets[row] : self.offsets[row + 1]].astype(np.int32)

  def gather(self, rows: np.ndarray, width: int) -> np.ndarray:
    """Returns sentences as rows, with PAD after the end of each.

    Args:
      rows: [B] numbers of the sentences; -1 gives a row of PAD.
      width: number of columns.

    Returns:
      [B, width] int32.

    Raises:
      ValueError: a sentence is longer than `width`.
    """
    rows = np.asarray(rows)
    lengths = np.where(rows >= 0, self.lengths[rows], 0)
    if len(rows) and lengths.max() > width:
      row = rows[lengths.argmax()]
      raise ValueError(f'sentence {row:,} has {lengths.max()} ids; width is {width}')
    column = np.arange(width)
    inside = column < lengths[:, None]  # [B, width]
    at = np.where(inside, self.offsets[rows][:, None] + column, 0)
    return np.where(inside, self.ids[at], PAD).astype(np.int32)

  @classmethod
  def open(cls, entry: Entry, name: str, size: int) -> 'TokenStore':
    """Reads, or maps, the files that `write` made.

    Args:
      entry: entry of the cache.
      name: stem of the files.
      size: number of ids of the vocabulary.

    Raises:
      DamagedError: a file has changed since it was written, or an id is out of range.
    """
    ids, offsets = entry.array(f'{name}.ids.npy'), entry.array(f'{name}.offsets.npy')
    if not (ids.dtype.kind in 'ui' and offsets.dtype == np.int64 and len(offsets)):
      raise DamagedError(f'has {name} ids or offsets of another type')
    if offsets[0] or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
      raise DamagedError(f'has {name} offsets that do not fit the ids')
    if problem := _out_of_range(ids, size):
      raise DamagedError(f'has a {name} {problem}')
    return cls(ids, offsets)

  def write(self, directory: Path, name: str) -> None:
    """Writes `name.ids.npy` and `name.offsets.npy`."""
    save_array(directory / f'{name}.ids.npy', self.ids)
    save_array(directory / f'{name}.offsets.npy', self.offsets)


Sides = Mapping[str, TokenStore]  # name of a side, such as 'source' -> its sentences


def _out_of_range(ids: np.ndarray, size: int) -> str:
  """Returns what is wrong with ids of a vocabulary of this size; '' if nothing is."""
  for start in range(0, len(ids), 1 << 24):  # reads a mapped array in parts
    part = ids[start : start + (1 << 24)]
    low, high = int(part.min()), int(part.max())
    if low < 0 or high >= size:
      return f'id {low if low < 0 else high:,}, and the vocabulary has {size:,}'
  return ''


def save_array(path: Path, array: np.ndarray) -> None:
  """Saves an array as np.save does, whose OSError hides that the disk is full."""
  with path.open('wb') as file:
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array).data)


def encode(
  lines: Sequence[str],
  vocabulary: Vocabulary,
  *,
  sampling: Probability = 0.0,
  seed: int = 0,
  workers: Workers = None,
  label: str = '',
) -> TokenStore:
  """Encodes lines, in several processes if there are many lines.

  Args:
    lines: sentences.
    vocabulary: gives the ids.
    sampling: how strongly segmentations are drawn at random; 0 for the best ones.
    seed: integer seed of sampling. The bits also depend on a chunk's number, but not on
      the number of workers.
    workers: number of processes; None decides by the number of lines, 0 uses none.
    label: text in front of the progress bar of a large corpus.

  Raises:
    ValueError: the vocabulary gives an id that is out of its range.
  """
  starts = range(0, len(lines), _CHUNK)
  jobs = [(lines[a : a + _CHUNK], _mix(seed, i)) for i, a in enumerate(starts)]
  if workers is None:
    workers = (os.cpu_count() or 1) if len(lines) >= _MANY else 0
  function = functools.partial(_encode_chunk, vocabulary, sampling)
  done = in_order(function, jobs, workers=workers)
  parts = list(track(done, label, len(jobs), show=bool(workers)))
  for flat, _ in parts:
    if problem := _out_of_range(flat, vocabulary.size):
      raise ValueError(f'the vocabulary gives the {problem} (encoding {label})')
  dtype = np.uint16 if vocabulary.size <= 2**16 else np.int32
  ids = np.concatenate([np.zeros(0, dtype), *(p[0].astype(dtype) for p in parts)])
  lengths = np.concatenate([np.zeros(0, np.int64), *(p[1] for p in parts)])
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  return TokenStore(ids, offsets)


def _mix(seed: int, chunk: int) -> int:
  return int.from_bytes(hashlib.sha256(f'{seed}/{chunk}'.encode()).digest()[:4], 'big')


def _encode_chunk(
  vocabulary: Vocabulary, sampling: float, job: tuple[Sequence[str], int]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns ids with an EOS after each sentence, and the lengths of the sentences."""
  lines, seed = job
  options = {'sampling': sampling, 'seed': seed} if sampling else {}
  flat, offsets = vocabulary.encode(lines, **options)
  ends = offsets[1:]
  return np.insert(flat, ends, EOS), np.diff(offsets) + 1


class EncodedCorpus(NamedTuple):
  """One split of a corpus as ids.

  Attributes:
    sides: name of a side -> its sentences.
    skipped: number of examples that the corpus left out, because a side was empty.
  """

  sides: dict[str, TokenStore]
  skipped: int


def encode_corpus(
  corpus: Corpus,
  split: str,
  vocabularies: Vocabularies,
  *,
  cache: Path,
  workers: Workers = None,
  sampling: Probability = 0.0,
  seed: int = 0,
) -> EncodedCorpus:
  """Returns one split as ids, from the cache if it holds them.

  Args:
    corpus: gives the text and its fingerprint.
    split: name of the split.
    vocabularies: those of the sides that are encoded.
    cache: folder that holds encoded corpora.
    workers: see `encode`.
    sampling: see `encode`.
    seed: see `encode`.

  Raises:
    OSError: the disk is full; says where, and how much is needed.
  """
  known = vocabularies.sides
  description = {
    'format': _FORMAT,
    'text': corpus.fingerprint(split),
    'vocabularies': [v.fingerprint for v in known.values()],
    'sampling': [sampling, seed] if sampling else None,
  }
  digest = hashlib.sha256(json.dumps(description).encode()).hexdigest()[:24]
  folder = Path(cache) / 'tokens' / digest
  label = f'encoding {corpus.name} {split}'
  size = 0

  def build(part: Path) -> dict:
    nonlocal size
    options = dict(sampling=sampling, seed=seed, workers=workers, label=label)
    lines = dict(zip(corpus.sides, corpus.read(split), strict=True))
    stores = {side: encode(lines[side], v, **options) for side, v in known.items()}
    size = sum(s.ids.nbytes + s.offsets.nbytes for s in stores.values())
    for side, store in stores.items():
      store.write(part, side)
    return {'skipped': corpus.skipped(split)}

  def read(entry: Entry) -> EncodedCorpus:
    sides = {side: TokenStore.open(entry, side, v.size) for side, v in known.items()}
    return EncodedCorpus(sides, entry.about.get('skipped', 0))

  title = f'the encoded corpus {corpus.name} {split}'
  return cached(folder, description, build, read, title=title, need=lambda: size)
