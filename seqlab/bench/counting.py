"""Counting of word pairs and singular vectors, compared with SciPy and others."""

import collections
import importlib.util
import itertools
from pathlib import Path
import resource
from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from seqlab.bench.measure import (
  Row,
  Speed,
  Subject,
  first_words,
  in_own_process,
  measure_speed,
  timed,
)
from seqlab.data.store import TokenStore
from seqlab.embeddings.cooccurrence import cooccurrence
from seqlab.embeddings.svd import truncated_svd
from seqlab.train.mesh import make_mesh

_SMALL_V = 2_000  # types, whose counts take little memory
_SCIPY_WORDS = 5_000_000
_DICTIONARY_WORDS = 500_000
_WINDOW = 5


class CountsPairs(Protocol):
  """A task that counts which words occur near each other."""

  @property
  def counts(self) -> sparse.csr_array:
    """[V, V] weights of pairs."""
    ...


class HasMatrix(Protocol):
  """A task whose vectors come from a matrix of words and contexts."""

  @property
  def matrix(self) -> sparse.csr_array:
    """[V, V]."""
    ...


def measure_counting(subject: Subject) -> list[Row]:
  """Returns words per second and memory, compared with SciPy and a dictionary."""
  store, V = subject.task.store, subject.task.words.size
  np.asarray(store.ids).max()  # reads the file, so that no try waits for the disk
  speed, rows = _measure_all(store, V)
  text = first_words(store, _SCIPY_WORDS)
  theirs = in_own_process(_count_by_scipy, text.ids, text.offsets, V)
  note = f'SciPy {theirs.wall:,.0f} words/s, {len(text.ids):,} words in one process'
  rows.append(Row('co-occurrence', speed / theirs.wall, 'times SciPy', note))
  text = first_words(store, _DICTIONARY_WORDS)
  theirs = in_own_process(_count_by_dictionary, text.ids, text.offsets)
  note = (
    f'dictionary {theirs.wall:,.0f} words/s, {len(text.ids):,} words in one process'
  )
  rows.append(Row('co-occurrence', speed / theirs.wall, 'times a dictionary', note))
  return rows


def _measure_all(store: TokenStore, V: int) -> tuple[float, list[Row]]:
  """Returns the words per second of the whole text, and rows of speed and memory.

  A small vocabulary is measured as well, since its result is small: the peak then
  shows what counting itself takes.
  """
  rows = []
  for types in sorted({V, min(V, _SMALL_V)}, reverse=True):
    for memory in (2**26, 2**30):
      # All rare words become one, in a dtype as narrow as before.
      ids = np.minimum(store.ids, store.ids.dtype.type(types - 1))
      counted = in_own_process(_count, ids, store.offsets, types, memory)
      mib = f'window {_WINDOW}, {memory / 2**20:,.0f} MiB'
      note = f'{len(ids):,} words, V = {types:,}, {mib}'
      if types == V:
        speed = counted.speed.wall
        rows.append(Row('co-occurrence', speed, 'words/s', note))
      note += f'; {counted.before / 2**20:,.0f} MiB before, '
      note += f'result {counted.result / 2**20:,.0f} MiB'
      peak = counted.peak / 2**20
      rows.append(Row('co-occurrence', peak, 'MiB at the peak', note))
  return speed, rows


class _Counted(NamedTuple):
  """Speed, and bytes of memory.

  Attributes:
    speed: words per second.
    before: memory that the process used before.
    peak: the most that it used.
    result: memory of the matrix alone.
  """

  speed: Speed
  before: float
  peak: float
  result: float


def _count(ids: np.ndarray, offsets: np.ndarray, V: int, memory: int) -> _Counted:
  result = None

  def count() -> int:
    nonlocal result
    result = cooccurrence(TokenStore(ids, offsets), V, window=_WINDOW, memory=memory)
    return len(ids)

  before, speed = _peak_memory(), measure_speed(count)
  size = result.data.nbytes + result.indices.nbytes + result.indptr.nbytes
  return _Counted(speed, before, _peak_memory(), size)


def _peak_memory() -> float:
  """Returns the most bytes of memory that this process has used so far."""
  status = Path('/proc/self/status')
  if status.exists():  # getrusage would count what the parent had at the fork
    (line,) = (x for x in status.read_text().splitlines() if x.startswith('VmHWM'))
    return int(line.split()[1]) * 1024.0
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _count_by_scipy(ids: np.ndarray, offsets: np.ndarray, V: int) -> Speed:
  """Counts pairs of a few thousand rows as one sparse matrix, and adds these up."""

  def count() -> int:
    total = sparse.csr_array((V, V))
    for start in range(0, len(offsets) - 1, 4_096):
      bounds = offsets[start : start + 4_097]
      words = np.asarray(ids[bounds[0] : bounds[-1]], np.int32)
      sentence = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
      for distance in range(1, _WINDOW + 1):
        same_sentence = sentence[distance:] == sentence[:-distance]
        left, right = words[:-distance][same_sentence], words[distance:][same_sentence]
        pairs = sparse.coo_array((np.ones(len(left)), (left, right)), shape=(V, V))
        total = total + pairs.tocsr()
    total = total + total.T
    return len(ids)

  return measure_speed(count)


def _count_by_dictionary(ids: np.ndarray, offsets: np.ndarray) -> Speed:
  """Counts word by word with weights 1 / distance, as GloVe's program does."""

  def count() -> int:
    total: dict[tuple[int, int], float] = collections.defaultdict(float)
    for first, last in itertools.pairwise(offsets.tolist()):
      words = ids[first:last].tolist()
      for i, word in enumerate(words):
        for d, other in enumerate(reversed(words[max(0, i - _WINDOW) : i]), 1):
          total[word, other] += 1 / d
          total[other, word] += 1 / d
    return len(ids)

  return measure_speed(count)


def measure_svd(subject: Subject) -> list[Row]:
  """Returns the seconds of a truncated SVD, compared with ARPACK and scikit-learn."""
  matrix, D = subject.task.matrix, subject.config.get('model', {}).get('width', 300)
  mesh = make_mesh()
  seconds, (_, values, _) = timed(lambda: truncated_svd(matrix, D, mesh))
  arpack, (_, exact, _) = timed(lambda: svds(matrix, k=D, random_state=0))
  error = float(np.max(np.abs(values[:100] / np.sort(exact)[::-1][:100] - 1)))
  note = f'{matrix.shape[0]:,} words, {matrix.nnz:,} values, D = {D}'
  rows = [
    Row('SVD', seconds, 's', note),
    Row('SVD', arpack / seconds, 'times svds', f'SciPy {arpack:.1f} s'),
    Row('SVD', error, 'relative error', 'of the first 100 singular values'),
  ]
  if importlib.util.find_spec('sklearn') is not None:
    from sklearn.utils.extmath import randomized_svd

    other, _ = timed(lambda: randomized_svd(matrix, D, random_state=0))
    note = f'scikit-learn {other:.1f} s'
    rows.append(Row('SVD', other / seconds, 'times randomized_svd', note))
  return rows
