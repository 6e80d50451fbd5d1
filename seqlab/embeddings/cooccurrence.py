"""How often words occur near each other: a sparse matrix, counted exactly.

Pairs of words are packed into integers and sorted, in as much memory as is allowed.
Only the right side of each window is read: the left one is the transpose. Weights are
integers over a common denominator, so the result depends neither on the order of adding
nor on the memory or the number of threads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
import tempfile
from typing import Annotated, Literal, TypeVar
import zipfile

import numpy as np
from scipy import sparse

from seqlab.data.store import TokenStore, Workers
from seqlab.data.text_store import TextStore
from seqlab.domains import Count, Range, check
from seqlab.embeddings.contexts import (
  WEIGHTINGS,
  Contexts,
  Thinning,
  Weighting,
  count_pairs,
  positions,
)
from seqlab.embeddings.runs import MERGE_BYTES, Run, Slice, SpilledRun, merge, ranges
from seqlab.io.cache import DamagedError, Entry, cached, staging
from seqlab.io.console import track
from seqlab.io.files import NO_SPACE
from seqlab.text.workers import machine_memory

_FORMAT = 1  # raise it when the same options give other counts
_PAIR_BYTES = 48  # most bytes that a pair of positions takes while it is counted
_BAR_JOBS = 9  # fewer jobs show no progress bar

_Job = TypeVar('_Job')
_Result = TypeVar('_Result')


def cooccurrence(
  store: TokenStore,
  V: int,
  *,
  window: Count = 5,
  side: Literal['both', 'left', 'right'] = 'both',
  weights: Weighting = 'flat',
  keep: np.ndarray | None = None,
  mode: Literal['dirty', 'clean'] = 'dirty',
  seed: Annotated[int, Range(0)] = 0,
  memory: Count = 2**30,
  workers: Workers = None,
  device: bool = False,
) -> sparse.csr_array:
  """Sums the weights of all contexts of every word; contexts do not cross rows.

  Args:
    store: rows of ids below V.
    V: number of words.
    window: w, largest distance of a context.
    side: side of the centre that contexts are on: 'both', 'left' or 'right'.
    weights: weight of a context by its distance: 'flat', 'linear', 'harmonic', or a
      path; see `WEIGHTINGS`.
    keep: [V] probability that an occurrence of each word is kept, see
      `seqlab.text.words.keep_probability`; None keeps all.
    mode: what happens where a word is not kept: 'dirty' closes the gap, so that windows
      reach further; 'clean' leaves it (Levy et al. 2015, section 3.1).
    seed: integer seed of the draws.
    memory: bytes to work in, besides the result and, with both sides, about as much
      again to mirror it. What does not fit is written to the folder for temporary files
      ($TMPDIR). A thread works on 1,024 positions or more at a time.
    workers: number of threads; None takes one per core. NumPy sorts and adds without
      holding Python's lock, so threads are as fast as processes, and share the text.
    device: sort and add with JAX, on the accelerator if there is one.

  Returns:
    [V, V] float64, row = centre, column = context. Sums are integers until the last
    step, a division, so each entry is rounded once (if its numerator is below 2^53).

  Raises:
    ValueError: an option is unknown, an id is not below V, or sums are too large to be
      exact; or the matrix does not fit in the memory (the message has its size).
    OSError: the disk is full; the message has the folder and the space that is needed.
  """
  options = dict(seed=seed, memory=memory, workers=workers, device=device)
  check(cooccurrence, options, 'counts.')
  contexts = Contexts(V, window, side, weights)
  contexts.check(len(store.ids))
  thinning = (
    None if keep is None else Thinning(np.asarray(keep, np.float32), mode, seed)
  )
  if thinning:
    thinning.check(V)
  workers = (os.cpu_count() or 1) if workers is None else max(workers, 1)
  size = memory // workers // (_PAIR_BYTES * window)  # positions per chunk
  size = max(1_024, min(size, -(-len(store.ids) // workers)))
  count = functools.partial(count_pairs, contexts)
  if device:
    from seqlab.embeddings.on_device import count_pairs_on_device, limit

    size = min(size, limit(contexts))
    count = functools.partial(count_pairs_on_device, contexts, size=size)

  def count_chunk(start: int) -> Run | SpilledRun:
    stop = min(start + size, len(store.ids))
    ids, rows, n = positions(store, start, stop, window, thinning)
    _check_ids(ids, V, start)
    return count(ids, rows, n).spill(folder, f'run{start}')

  def merge_range(job: tuple[int, list[Slice]]) -> Run | SpilledRun:
    return merge(job[1]).spill(folder, f'part{job[0]}')

  pairs = len(store.ids) * window
  with _folder(pairs * 16, spill=pairs * (_PAIR_BYTES + 16) > memory) as folder:
    runs = _map(count_chunk, range(0, len(store.ids), size), workers, 'counting pairs')
    # By ranges of keys, so that threads add up parts that share no entry.
    cut = ranges(runs, max(1, memory // workers // MERGE_BYTES)) if runs else []
    parts = _map(merge_range, list(enumerate(cut)), workers, 'merging counts')
    return _matrix(parts, contexts)


def cached_cooccurrence(
  store: TextStore, V: int, cache: Path, **options
) -> sparse.csr_array:
  """Counts as `cooccurrence` does, or loads the counts from the cache.

  Args:
    store: a text that `encode_text` wrote.
    V: number of words.
    cache: folder that holds counts, in files for `scipy.sparse.load_npz`.
    **options: see `cooccurrence`.

  Raises:
    ValueError, OSError: as `cooccurrence`.
  """
  irrelevant = {'memory', 'workers', 'device'}  # they do not change the result
  key = {'format': _FORMAT, 'text': store.fingerprint, 'V': V}
  chosen = {**cooccurrence.__kwdefaults__, **options}
  key |= {name: value for name, value in chosen.items() if name not in irrelevant}
  if key['weights'] not in [*WEIGHTINGS]:  # a user's own may change under its name
    contexts = Contexts(V, key['window'], key['side'], key['weights'])
    key['weights'] = [str(weight) for weight in contexts.weights]
  if (keep := key['keep']) is not None:
    key['keep'] = hashlib.sha256(np.asarray(keep, np.float32).data).hexdigest()
  digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
  folder = Path(cache) / 'cooccurrence' / digest
  need = 0

  def build(part: Path) -> dict:
    nonlocal need
    matrix = cooccurrence(store, V, **options)
    need = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    # Compressing saves a third of the space, and takes thirty times as long.
    sparse.save_npz(part / 'counts.npz', matrix, compressed=False)
    return {}

  def read(entry: Entry) -> sparse.csr_array:
    entry.verify()
    try:
      matrix = sparse.load_npz(entry.folder / 'counts.npz')
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise DamagedError(f'has counts that cannot be read ({error})') from None
    if matrix.shape != (V, V):
      raise DamagedError(f'has counts of the shape {matrix.shape}')
    return matrix

  return cached(folder, key, build, read, title='the counts', need=lambda: need)


def _check_ids(ids: np.ndarray, V: int, start: int) -> None:
  if len(ids) and ids.max() >= V:
    raise ValueError(
      f'id {ids.max():,} near position {start + int(ids.argmax()):,} of the text is not '
      f'below V = {V:,}: the text was encoded with other words'
    )


def _map(
  function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int, label: str
) -> list[_Result]:
  """Returns function(job) of every job, in order; threads compute them."""
  with ThreadPoolExecutor(workers) as pool:
    try:
      done = pool.map(function, jobs)
      return list(track(done, label, len(jobs), show=len(jobs) >= _BAR_JOBS))
    finally:
      pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _folder(need: int, *, spill: bool) -> Iterator[Path | None]:
  """Makes a folder for runs, and removes it afterwards; None if the memory suffices."""
  if not spill:
    yield None
    return
  title = 'counted pairs'
  parent = Path(tempfile.gettempdir())
  place = dict(prefix='seqlab-counts-', mode=0o700, variable='TMPDIR')
  with staging(parent, title, **place) as folder:
    try:
      yield folder
    except OSError as error:
      if error.errno not in NO_SPACE:
        raise
      raise OSError(
        error.errno,
        f'no space left for {title}: up to {need / 2**20:,.1f} MiB are needed; '
        'set TMPDIR to a folder on another disk, or allow more memory',
        str(parent),
      ) from None


def _matrix(parts: Sequence[Run | SpilledRun], contexts: Contexts) -> sparse.csr_array:
  """Returns the matrix of keys and sums, which are in order."""
  V, size = contexts.V, sum(len(part.keys) for part in parts)
  both = contexts.side == 'both'
  _check_size(size * (4 if both else 1), V)
  columns, data = np.empty(size, np.int32), np.empty(size)
  in_row, at = np.zeros(V, np.int64), 0
  for part in parts:
    keys, target = part.keys, slice(at, at + len(part.keys))
    columns[target] = keys & np.uint64(2**contexts.bits - 1)
    data[target] = part.sums
    in_row += np.bincount(
      (keys >> np.uint64(contexts.bits)).view(np.int64), minlength=V
    )
    at += len(keys)
  starts = np.concatenate([[0], np.cumsum(in_row)])
  matrix = sparse.csr_array((data, columns, starts), shape=(V, V))
  if both:  # so far the smaller id is the row; equal ids count as left and as right
    matrix = matrix + matrix.T
  matrix.data /= contexts.denominator
  return matrix


def _check_size(entries: int, V: int) -> None:
  needed = entries * (8 + 4 if entries < 2**31 else 8 + 8)
  available = machine_memory()
  if needed > available:
    raise ValueError(
      f'the matrix of {V:,} words takes {needed / 2**30:,.3g} GiB while it is built, and '
      f'this machine has {available / 2**30:,.3g} GiB: keep fewer words (max_size, '
      'min_count), or use a narrower window'
    )
