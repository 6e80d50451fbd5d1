"""Token ids of a corpus in flat, memory-mapped arrays.

A corpus is encoded once. The folder's name is a hash of all that decides the
ids, so what is stale is never read; it appears under its name only when whole.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
import contextlib
import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
import shutil
import tempfile
from typing import Protocol

import numpy as np

from seqlab.io.console import track
from seqlab.text.vocabulary import Vocabularies, Vocabulary
from seqlab.types import EOS, PAD

_FORMAT = 2  # raise it when the files or the encoding change
_CHUNK = 16_384  # lines that are encoded at once
_MANY = 200_000  # lines from which processes are worth their start


class _Corpus(Protocol):
  name: str
  skipped: dict[str, int]

  def read(self, split: str) -> tuple[list[str], list[str]]: ...

  def fingerprint(self, split: str) -> str: ...


class TokenStore:
  """Sentences as ids, each ending with EOS.

  Attributes:
    ids: [tokens] uint16 or int32, all sentences in a row; may lie on disk.
    offsets: [R + 1] int64, where each sentence starts.
    lengths: [R] int32, EOS counted.
  """

  def __init__(self, ids: np.ndarray, offsets: np.ndarray):
    self.ids, self.offsets = ids, offsets
    self.lengths = np.diff(offsets).astype(np.int32)

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, row: int) -> np.ndarray:
    """Ids of one sentence, int32."""
    return self.ids[self.offsets[row] : self.offsets[row + 1]].astype(np.int32)

  def gather(self, rows: np.ndarray, width: int) -> np.ndarray:
    """Sentences side by side, with PAD after the end of each.

    Args:
      rows: [B] which ones; -1 gives a row of PAD.
      width: columns.

    Returns:
      [B, width] int32.

    Raises:
      ValueError: a sentence is longer than `width`.
    """
    rows = np.asarray(rows)
    there = rows >= 0
    lengths = np.where(there, self.lengths[rows], 0)
    if len(rows) and lengths.max() > width:
      row = rows[lengths.argmax()]
      raise ValueError(f'sentence {row:,} has {lengths.max()} ids; width is {width}')
    column = np.arange(width)
    inside = column < lengths[:, None]  # [B, width]
    at = np.where(inside, self.offsets[rows][:, None] + column, 0)
    return np.where(inside, self.ids[at], PAD).astype(np.int32)

  @classmethod
  def open(cls, directory: Path, name: str) -> 'TokenStore':
    """Maps the files that `write` made; nothing is read yet."""
    ids = np.load(directory / f'{name}.ids.npy', mmap_mode='r')
    return cls(ids, np.load(directory / f'{name}.offsets.npy'))

  def write(self, directory: Path, name: str) -> None:
    """Saves `name.ids.npy` and `name.offsets.npy`."""
    save_array(directory / f'{name}.ids.npy', self.ids)
    save_array(directory / f'{name}.offsets.npy', self.offsets)


def save_array(path: Path, array: np.ndarray) -> None:
  """As np.save, whose OSError does not say that the disk is full."""
  with path.open('wb') as file:
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array).data)


def encode(
  lines: Sequence[str],
  vocabulary: Vocabulary,
  *,
  sampling: float = 0.0,
  seed: int = 0,
  workers: int | None = None,
  label: str = '',
) -> TokenStore:
  """Encodes lines, in processes where there are many.

  Args:
    lines: sentences.
    vocabulary: gives the ids.
    sampling: how strongly pieces are drawn; 0 for the best segmentation.
    seed: of the drawing, together with the chunk's number: the result does not
      depend on the number of workers.
    workers: processes; None decides by the number of lines, 0 uses none.
    label: shown beside the progress bar of a large corpus.
  """
  starts = range(0, len(lines), _CHUNK)
  jobs = [
    (lines[a : a + _CHUNK], vocabulary, sampling, _mix(seed, i))
    for i, a in enumerate(starts)
  ]
  if workers is None:
    workers = (os.cpu_count() or 1) if len(lines) >= _MANY else 0
  if workers:
    context = multiprocessing.get_context('spawn')  # forks and threads do not mix
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
      done = pool.map(_encode_chunk, jobs)
      parts = list(track(done, label, len(jobs)))
  else:
    parts = [_encode_chunk(job) for job in jobs]
  dtype = np.uint16 if vocabulary.size <= 2**16 else np.int32
  ids = np.concatenate([np.zeros(0, dtype), *(p[0].astype(dtype) for p in parts)])
  lengths = np.concatenate([np.zeros(0, np.int64), *(p[1] for p in parts)])
  offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
  return TokenStore(ids, offsets)


def _mix(seed: int, chunk: int) -> int:
  return int.from_bytes(hashlib.sha256(f'{seed}/{chunk}'.encode()).digest()[:4], 'big')


def _encode_chunk(job: tuple) -> tuple[np.ndarray, np.ndarray]:
  """Ids with an EOS after each sentence, and the sentences' lengths."""
  lines, vocabulary, sampling, seed = job
  options = {'sampling': sampling, 'seed': seed} if sampling else {}
  flat, offsets = vocabulary.encode(lines, **options)
  ends = offsets[1:]
  return np.insert(flat, ends, EOS), np.diff(offsets) + 1


def encode_corpus(
  corpus: _Corpus,
  split: str,
  vocabularies: Vocabularies,
  *,
  cache: Path,
  workers: int | None = None,
  sampling: float = 0.0,
  seed: int = 0,
) -> tuple[TokenStore, TokenStore]:
  """Both sides of one split as ids, from the cache if they are there.

  `corpus.skipped` says afterwards how many pairs were left out, either way.

  Args:
    corpus: gives the text and its fingerprint.
    split: name of the split.
    vocabularies: give the ids.
    cache: folder that holds encoded corpora.
    workers: see `encode`.
    sampling: see `encode`.
    seed: see `encode`.

  Returns:
    Source and target.

  Raises:
    OSError: the disk is full; says where, and how much is needed.
  """
  about = {
    'format': _FORMAT,
    'text': corpus.fingerprint(split),
    'vocabularies': [vocabularies.source.fingerprint, vocabularies.target.fingerprint],
    'sampling': [sampling, seed] if sampling else None,
  }
  digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
  folder = Path(cache) / 'tokens' / digest
  if not folder.exists():
    text = corpus.read(split)
    sides = zip(text, (vocabularies.source, vocabularies.target), strict=True)
    label = f'encoding {corpus.name} {split}'
    stores = [
      encode(lines, v, sampling=sampling, seed=seed, workers=workers, label=label)
      for lines, v in sides
    ]
    _publish(folder, stores, {**about, 'skipped': corpus.skipped.get(split, 0)})
  about = json.loads((folder / 'about.json').read_text('utf-8'))
  corpus.skipped[split] = about.get('skipped', 0)
  return TokenStore.open(folder, 'source'), TokenStore.open(folder, 'target')


def _publish(folder: Path, stores: Sequence[TokenStore], about: dict) -> None:
  need = sum(s.ids.nbytes + s.offsets.nbytes for s in stores)
  with publish(folder, 'the encoded corpus', need) as temporary:
    for store, name in zip(stores, ('source', 'target'), strict=True):
      store.write(temporary, name)
    (temporary / 'about.json').write_text(json.dumps(about, indent=2), 'utf-8')


@contextlib.contextmanager
def publish(folder: Path, what: str, need: int) -> Iterator[Path]:
  """Gives a folder to write to, and renames it: `folder` is there whole or not at all.

  If another process was quicker, what that wrote stays: the name says all that
  decides the content.

  Args:
    folder: where it shall be.
    what: is written, for messages.
    need: bytes that it takes, for messages.

  Raises:
    OSError: the disk is full; says where, and how much is needed.
  """
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _part(folder.parent) as temporary:
      yield temporary
      temporary.rename(folder)
  except OSError as error:
    if error.errno == errno.ENOSPC:
      raise OSError(
        error.errno,
        f'no space left for {what}: {need / 2**20:,.1f} MiB are needed; '
        f'free some, or set SEQLAB_CACHE to a folder on another disk',
        str(folder.parent),
      ) from None
    if not folder.exists():  # else another process was quicker, with the same ids
      raise


@contextlib.contextmanager
def _part(parent: Path) -> Iterator[Path]:
  """A folder for what is not whole yet, locked for as long as its owner lives.

  What others left there that were killed is deleted first.
  """
  with contextlib.ExitStack() as stack:
    with _locked(parent):  # nobody clears up before what is new has its lock
      for left in parent.glob('.part-*'):
        with (
          contextlib.suppress(FileNotFoundError),  # its owner was done with it
          _locked(left, wait=False) as dead,
        ):
          if dead:
            shutil.rmtree(left, ignore_errors=True)
      path = Path(tempfile.mkdtemp(prefix='.part-', dir=parent))
      stack.callback(shutil.rmtree, path, ignore_errors=True)
      stack.enter_context(_locked(path))
    yield path


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
  """Holds a folder's lock, and says whether it does: some file systems have none."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    held = True
  except OSError:  # somebody else holds it, or there are no locks here
    held = False
  try:
    yield held
  finally:
    os.close(handle)
