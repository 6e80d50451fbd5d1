"""How often words come near each other: a sparse matrix, counted exactly.

Pairs of words are packed into numbers and sorted, in as much memory as is allowed.
Only the right side of each window is looked at: the left one is the transpose. Weights
are integers over a common denominator, so the result depends neither on the order of
adding, nor on memory or threads.
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
from seqlab.embeddings.contexts import Contexts, Thinning, count_pairs, places
from seqlab.embeddings.runs import MERGE_BYTES, Run, Slice, SpilledRun, merge, ranges
from seqlab.io.cache import DamagedError, Entry, cached, staging
from seqlab.io.console import track
from seqlab.io.files import NO_SPACE
from seqlab.text.workers import machine_memory

_FORMAT = 1  # raise it when the same options count differently
_PAIR_BYTES = 48  # that a pair of places takes while it is counted, at most
_MANY = 9  # jobs that are worth a progress bar

_Job = TypeVar('_Job')
_Result = TypeVar('_Result')


def cooccurrence(
  store: TokenStore,
  V: int,
  *,
  window: Count = 5,
  side: Literal['both', 'left', 'right'] = 'both',
  weights: Literal['flat', 'linear', 'harmonic'] = 'flat',
  keep: np.ndarray | None = None,
  mode: Literal['dirty', 'clean'] = 'dirty',
  seed: Annotated[int, Range(0)] = 0,
  memory: Count = 2**30,
  workers: Workers = None,
  device: bool = False,
) -> sparse.csr_array:
  """Sums the weights of all contexts of every word; none is beyond its row.

  Args:
    store: rows of ids below V.
    V: number of words.
    window: w, how far a context is away at most.
    side: of the centre on which contexts are: 'both', 'left' or 'right'.
    weights: of a context at distance d: 'flat', 1; 'linear', (w - d + 1) / w, which
      is word2vec's random window in expectation (Levy et al. 2015, section 3.1,
      https://aclanthology.org/Q15-1016); 'harmonic', 1 / d (GloVe: Pennington et al.
      2014, section 4.2, https://aclanthology.org/D14-1162).
    keep: [V] how likely a place of each word is kept, as of
      `seqlab.text.words.keep_probability`; None keeps all.
    mode: what places that are not kept leave: 'dirty', nothing, so that windows
      reach further; 'clean', a gap (Levy et al. 2015, section 3.1).
    seed: of the draw.
    memory: bytes to work in, besides the result and, with both sides, about as much
      again to mirror it. What does not fit lies in the folder for temporary files
      ($TMPDIR). Pieces of 1,024 places a thread are the least.
    workers: threads; None takes one for each core. NumPy sorts and adds without
      Python's lock, so they do what processes would, and share the text.
    device: sorts and adds with JAX, on the accelerator if there is one.

  Returns:
    [V, V] float64, row = centre, column = context. Sums are integers until the last
    step, a division, so each entry is rounded once (if its numerator is below 2^53).

  Raises:
    ValueError: an option is unknown, an id is not below V, or sums are too large to
      be exact; or the matrix is too large for this machine (says how much it takes).
    OSError: the disk is full; says where, and how much is needed at most.
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
  size = memory // workers // (_PAIR_BYTES * window)  # places of a piece
  size = max(1_024, min(size, -(-len(store.ids) // workers)))
  count = functools.partial(count_pairs, contexts)
  if device:
    from seqlab.embeddings.on_device import count_pairs_on_device, limit

    size = min(size, limit(contexts))
    count = functools.partial(count_pairs_on_device, contexts, size=size)

  def piece(start: int) -> Run | SpilledRun:
    stop = min(start + size, len(store.ids))
    ids, rows, n = places(store, start, stop, window, thinning)
    _check_ids(ids, V, start)
    return count(ids, rows, n).spill(folder, f'run{start}')

  def part(job: tuple[int, list[Slice]]) -> Run | SpilledRun:
    return merge(job[1]).spill(folder, f'part{job[0]}')

  pairs = len(store.ids) * window
  with _folder(pairs * 16, spill=pairs * (_PAIR_BYTES + 16) > memory) as folder:
    runs = _map(piece, range(0, len(store.ids), size), workers, 'counting pairs')
    cut = ranges(runs, max(1, memory // workers // MERGE_BYTES)) if runs else []
    parts = _map(part, list(enumerate(cut)), workers, 'adding up')
    return _matrix(parts, contexts)


def cached_cooccurrence(
  store: TextStore, V: int, cache: Path, **options
) -> sparse.csr_array:
  """As `cooccurrence`, from the cache if it is there.

  Args:
    store: a text that `encode_text` wrote.
    V: number of words.
    cache: folder that holds counts; `scipy.sparse.load_npz` reads what is in it.
    **options: see `cooccurrence`.

  Raises:
    ValueError, OSError: as `cooccurrence`.
  """
  how = {'memory', 'workers', 'device'}  # do not change the result
  about = {'format': _FORMAT, 'text': store.fingerprint, 'V': V}
  chosen = {**cooccurrence.__kwdefaults__, **options}
  about |= {name: value for name, value in chosen.items() if name not in how}
  if (keep := about['keep']) is not None:
    about['keep'] = hashlib.sha256(np.asarray(keep, np.float32).data).hexdigest()
  digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
  folder = Path(cache) / 'cooccurrence' / digest
  need = 0

  def build(part: Path) -> dict:
    nonlocal need
    matrix = cooccurrence(store, V, **options)
    need = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    # Zipped it would take a third of the room, and thirty times as long.
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

  return cached(folder, about, build, read, title='the counts', need=lambda: need)


def _check_ids(ids: np.ndarray, V: int, start: int) -> None:
  if len(ids) and ids.max() >= V:
    raise ValueError(
      f'id {ids.max():,} at about place {start + int(ids.argmax()):,} of the text is not '
      f'below V = {V:,}; was the text encoded with other words?'
    )


def _map(
  function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int, label: str
) -> list[_Result]:
  """function(job) of every job, in order, in threads."""
  with ThreadPoolExecutor(workers) as pool:
    try:
      done = pool.map(function, jobs)
      return list(track(done, label, len(jobs), show=len(jobs) >= _MANY))
    finally:
      pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _folder(need: int, *, spill: bool) -> Iterator[Path | None]:
  """A folder for runs, for as long as they are needed; None where memory is enough."""
  if not spill:
    yield None
    return
  what = 'counted pairs'
  parent = Path(tempfile.gettempdir())
  place = dict(prefix='seqlab-counts-', mode=0o700, variable='TMPDIR')
  with staging(parent, what, **place) as folder:
    try:
      yield folder
    except OSError as error:
      if error.errno not in NO_SPACE:
        raise
      raise OSError(
        error.errno,
        f'no space left for {what}: {need / 2**20:,.1f} MiB are needed at most; '
        'set TMPDIR to a folder on another disk, or allow more memory',
        str(parent),
      ) from None


def _matrix(parts: Sequence[Run | SpilledRun], contexts: Contexts) -> sparse.csr_array:
  """The matrix of keys and sums in order."""
  V, size = contexts.V, sum(len(part.keys) for part in parts)
  both = contexts.side == 'both'
  _check_size(size * (4 if both else 1), V)
  columns, data = np.empty(size, np.int32), np.empty(size)
  in_row, at = np.zeros(V, np.int64), 0
  for part in parts:
    keys, here = part.keys, slice(at, at + len(part.keys))
    columns[here] = keys & np.uint64(2**contexts.bits - 1)
    data[here] = part.sums
    in_row += np.bincount(
      (keys >> np.uint64(contexts.bits)).view(np.int64), minlength=V
    )
    at += len(keys)
  starts = np.concatenate([[0], np.cumsum(in_row)])
  matrix = sparse.csr_array((data, columns, starts), shape=(V, V))
  if both:  # the smaller id is the row so far; equal ones count as left and as right
    matrix = matrix + matrix.T
  matrix.data /= contexts.denominator
  return matrix


def _check_size(entries: int, V: int) -> None:
  need, has = entries * (8 + 4 if entries < 2**31 else 8 + 8), machine_memory()
  if need > has:
    raise ValueError(
      f'the matrix of {V:,} words takes {need / 2**30:,.3g} GiB while it is built, and '
      f'this machine has {has / 2**30:,.3g} GiB; keep fewer words (max_size, min_count), '
      'or take a narrower window'
    )
