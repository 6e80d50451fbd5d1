"""`seqlab bench` of an experiment that makes word vectors, beside its peers.

Peers run in processes of their own, with the usual allocator. Words per second are
those of the text, before frequent ones are thinned out; of the processor's time and of
the clock's, since a peer may use more cores or fewer.
"""

import collections
from collections.abc import Callable
import functools
import importlib.util
import itertools
import os
from pathlib import Path
import resource
import tempfile
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from seqlab.bench import Row, all_steps, elsewhere, row
from seqlab.chips import chip_of
from seqlab.data.loader import feed
from seqlab.data.store import TokenStore
from seqlab.data.windows import sentences
from seqlab.embeddings.cooccurrence import cooccurrence
from seqlab.embeddings.objectives import Negative
from seqlab.embeddings.svd import truncated_svd
from seqlab.evaluators.similarity import evaluate_vectors
from seqlab.tasks import peer
from seqlab.tasks.counting import CountingTask, PMITask
from seqlab.tasks.word2vec import WordPrediction
from seqlab.tasks.words import WordTask
from seqlab.train.engines import make_engine
from seqlab.train.mesh import make_mesh

_WORDS = 3_000_000  # of the text, that are trained on
_SEEDS = 3
_SETS = ('ws353', 'men', 'rw', 'google', 'msr')
_FEW = 2_000  # types, of which the counts are small
_PEER_WORDS = 5_000_000  # that the slower way of counting counts


class Speed(NamedTuple):
  """Words a second.

  Attributes:
    wall: of the clock.
    cpu: of the processor, all cores together.
  """

  wall: float
  cpu: float


def parts(config: dict, task: WordTask) -> dict:
  """What can be measured of an experiment: name -> function that gives rows."""
  found = {}
  if isinstance(task, WordPrediction) and not isinstance(task, peer.Gensim):
    found['words'] = lambda: _words(config, task)
    if isinstance(task.net.judge, Negative):
      found['quality'] = lambda: _quality(config, task)
  if isinstance(task, CountingTask):
    found['counts'] = lambda: _counts(task)
  if isinstance(task, PMITask):
    found['svd'] = lambda: _svd(config, task)
  return found


def _measured(function: Callable[[], int], tries: int = 1) -> Speed:
  """Of a function that returns how many words it went through; the best of `tries`."""
  speeds = []
  for _ in range(tries):
    wall, cpu = time.perf_counter(), time.process_time()
    words = function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    speeds.append(Speed(words / wall, words / cpu))
  return Speed(*(max(values) for values in zip(*speeds, strict=True)))


def _words(config: dict, task: WordPrediction) -> list[Row]:
  """Training of the net, as `seqlab train` does it, beside gensim's."""
  cores, D = os.cpu_count() or 1, task.net.width
  store = _first(task.store, _WORDS)
  ours = _ours(config, task, store)
  note = f'D = {D}, {len(store.ids):,} words, {task.net.kind}, window {task.net.window}'
  rows = [
    row('word2vec', ours.cpu, 'words/s of CPU', note),
    row('word2vec', ours.wall, 'words/s', note),
  ]
  rows += _traffic(task, ours.wall)
  if importlib.util.find_spec('gensim') is None or not isinstance(
    task.net.judge, Negative
  ):
    return rows
  options = peer.options_of(task)
  one = elsewhere(_gensim, store.ids, store.offsets, D, 1, options)
  all_ = elsewhere(_gensim, store.ids, store.offsets, D, cores, options)
  note = f'D = {D}; gensim {one.cpu:,.0f} with one worker'
  rows.append(row('word2vec', ours.cpu / one.cpu, 'times gensim a CPU-s', note))
  note = f'D = {D}; gensim {all_.wall:,.0f} with {cores} workers'
  rows.append(row('word2vec', ours.wall / all_.wall, 'times gensim', note))
  return rows


def _traffic(task: WordPrediction, speed: float) -> list[Row]:
  """How much of the tables moves, at so many words a second of the text."""
  a_word = task.net.row_bytes * task.train.report['kept']
  note = f'rows of both tables, {a_word:,.0f} bytes a word of the text'
  rows = [row('word2vec', speed * a_word / 1e9, 'GB/s', note)]
  chip = chip_of(jax.devices()[0].device_kind)
  if chip and chip.memory_speed:
    best = chip.memory_speed * jax.device_count()
    note = f'of {best / 1e9:,.0f} GB/s'
    rows.append(row('word2vec', 100 * speed * a_word / best, '% of bandwidth', note))
  return rows


def _quality(config: dict, task: WordPrediction) -> list[Row]:
  """What vectors of whole trainings score, beside gensim's of the same text."""
  epochs = max(1, round(all_steps(config, task) / task.train.steps_per_epoch))
  heldout = task.evaluation(100_000)
  loss = jax.jit(lambda params: task.loss({'params': params}, heldout, None, {})[:2])
  scores: dict[str, dict[str, list[float]]] = {}
  rows = peer.rows_of(task.store, sentences(task.store, task.heldout)[0])
  for seed in range(_SEEDS):
    options = {**peer.options_of(task), 'seed': seed}
    theirs = (*rows, config['model']['width'], os.cpu_count() or 1, options)
    gensim = functools.partial(peer.trained, epochs=epochs)
    for name, params in (
      ('ours', _trained(config, task, seed)),
      ('gensim', elsewhere(gensim, task.words.size, *theirs)),
    ):
      total, pairs = loss(params)
      found = {'held-out loss (nats)': float(total) / float(pairs)}
      vectors = task.vectors({'params': params})
      for score in evaluate_vectors(vectors, _SETS, restrict=30_000, samples=1):
        found[score.set.name] = score.result.known.value
      for key, value in found.items():
        scores.setdefault(key, {}).setdefault(name, []).append(value)
  about = f'D = {config["model"]["width"]}, {_SEEDS} seeds; gensim '
  return [
    row(
      key,
      float(np.mean(x['ours'])),
      f'± {np.std(x["ours"], ddof=1):.3g}',
      f'{about}{np.mean(x["gensim"]):.4g} ± {np.std(x["gensim"], ddof=1):.3g}',
    )
    for key, x in scores.items()
  ]


def _trained(config: dict, task: WordPrediction, seed: int) -> dict[str, np.ndarray]:
  """Tables after the experiment's steps."""
  steps = all_steps(config, task)
  engine = make_engine(config, task, steps)
  state = engine.init(seed)
  for batch in feed(lambda k: task.train.batch(k, seed=seed), 0, steps):
    state, _ = engine.step(state, engine.put(batch))
  return jax.device_get(state.params)


def _first(store: TokenStore, words: int) -> TokenStore:
  """The rows of the first so many words."""
  rows = max(1, int(np.searchsorted(store.offsets, words, side='right')) - 1)
  return TokenStore(store.ids[: store.offsets[rows]], store.offsets[: rows + 1])


def _ours(config: dict, task: WordPrediction, store: TokenStore) -> Speed:
  """An epoch: batches made by threads, put on the devices, gone through."""
  with tempfile.TemporaryDirectory() as folder:
    small = type(task).from_config(config, Path(folder))
  small.__dict__['store'] = store  # in place of the whole text
  engine = make_engine(config, small, steps := small.train.steps_per_epoch)
  state = engine.init(0)
  engine.compile(small.train.shapes[0])

  def epoch() -> int:
    nonlocal state
    words = 0
    batches = feed(lambda k: small.train.batch(k, seed=0), 0, steps)
    for batch in batches:
      words += small.tokens(batch)
      state, _ = engine.step(state, engine.put(batch))
    jax.block_until_ready(state)
    return words

  return _measured(epoch, 3)


def _gensim(
  ids: np.ndarray, offsets: np.ndarray, D: int, workers: int, options: dict[str, Any]
) -> Speed:
  """An epoch of gensim over the same rows."""
  net, rows = peer.start(ids, offsets, D, workers, options)

  def epoch() -> int:
    net.train(rows, total_examples=net.corpus_count, epochs=1)
    return len(ids)

  return _measured(epoch, 2)


def _counts(task: CountingTask) -> list[Row]:
  """Counting all of the text, beside a dictionary and SciPy's sparse matrices."""
  store, V = task.store, task.words.size
  np.asarray(store.ids).max()  # is read from disk now
  rows = []
  # Of few words the result is small: the rest is seen.
  for types in sorted({V, min(V, _FEW)}, reverse=True):
    for memory in (2**26, 2**30):
      # All rare words as one, in as few bytes
      ids = np.minimum(store.ids, store.ids.dtype.type(types - 1))
      speed, before, peak, result = elsewhere(_count, ids, store.offsets, types, memory)
      note = f'{len(ids):,} words, V = {types:,}, window 5, {memory / 2**20:,.0f} MiB'
      if types == V:
        rows.append(row('co-occurrence', ours := speed.wall, 'words/s', note))
      note += f'; {before / 2**20:,.0f} MiB before, result {result / 2**20:,.0f} MiB'
      rows.append(row('co-occurrence', peak / 2**20, 'MiB at the peak', note))
  some = _first(store, _PEER_WORDS)
  theirs = elsewhere(_add, some.ids, some.offsets, V)
  note = f'SciPy {theirs.wall:,.0f} words/s, {len(some.ids):,} words in one process'
  rows.append(row('co-occurrence', ours / theirs.wall, 'times SciPy', note))
  few = _first(store, _PEER_WORDS // 10)
  theirs = elsewhere(_look_up, few.ids, few.offsets)
  note = f'dictionary {theirs.wall:,.0f} words/s, {len(few.ids):,} words in one process'
  return [*rows, row('co-occurrence', ours / theirs.wall, 'times a dictionary', note)]


def _count(
  ids: np.ndarray, offsets: np.ndarray, V: int, memory: int
) -> tuple[Speed, float, float, float]:
  """Speed; and bytes of memory before, at the peak, and of the result."""
  result = None

  def count() -> int:
    nonlocal result
    result = cooccurrence(TokenStore(ids, offsets), V, window=5, memory=memory)
    return len(ids)

  before, speed = _peak(), _measured(count)
  size = result.data.nbytes + result.indices.nbytes + result.indptr.nbytes
  return speed, before, _peak(), size


def _peak() -> float:
  """Bytes of memory that this process had at most so far."""
  status = Path('/proc/self/status')
  if status.exists():  # getrusage counts what the parent had when it was started, too
    (line,) = (x for x in status.read_text().splitlines() if x.startswith('VmHWM'))
    return int(line.split()[1]) * 1024.0
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _add(ids: np.ndarray, offsets: np.ndarray, V: int) -> Speed:
  """Pairs of some rows at a time as a sparse matrix, and the sum of these."""

  def count() -> int:
    total = sparse.csr_array((V, V))
    for start in range(0, len(offsets) - 1, 4_096):
      bounds = offsets[start : start + 4_097]
      words = np.asarray(ids[bounds[0] : bounds[-1]], np.int32)
      number = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
      for d in range(1, 6):
        near = number[d:] == number[:-d]
        left, right = words[:-d][near], words[d:][near]
        pairs = sparse.coo_array((np.ones(len(left)), (left, right)), shape=(V, V))
        total = total + pairs.tocsr()
    total = total + total.T
    return len(ids)

  return _measured(count)


def _look_up(ids: np.ndarray, offsets: np.ndarray) -> Speed:
  """GloVe's way: word by word, a sum for each pair in a dictionary, at 1 / distance."""

  def count() -> int:
    total: dict[tuple[int, int], float] = collections.defaultdict(float)
    for first, last in itertools.pairwise(offsets.tolist()):
      words = ids[first:last].tolist()
      for i, word in enumerate(words):
        for d, other in enumerate(reversed(words[max(0, i - 5) : i]), 1):
          total[word, other] += 1 / d
          total[other, word] += 1 / d
    return len(ids)

  return _measured(count)


def _svd(config: dict, task: CountingTask) -> list[Row]:
  """Singular vectors, beside ARPACK's and scikit-learn's."""
  matrix, D = task.matrix, config['model'].get('width', 300)
  mesh = make_mesh()

  def ours() -> tuple:
    return truncated_svd(matrix, D, mesh)

  seconds, (_, values, _) = _timed(ours)
  arpack, (_, exact, _) = _timed(lambda: svds(matrix, k=D, random_state=0))
  error = float(np.max(np.abs(values[:100] / np.sort(exact)[::-1][:100] - 1)))
  about = f'{matrix.shape[0]:,} words, {matrix.nnz:,} values, D = {D}'
  rows = [
    row('SVD', seconds, 's', about),
    row('SVD', arpack / seconds, 'times svds', f'SciPy {arpack:.1f} s'),
    row('SVD', error, 'relative error', 'of the first 100 singular values'),
  ]
  if importlib.util.find_spec('sklearn') is not None:
    from sklearn.utils.extmath import randomized_svd

    other, _ = _timed(lambda: randomized_svd(matrix, D, random_state=0))
    note = f'scikit-learn {other:.1f} s'
    rows.append(row('SVD', other / seconds, 'times randomized_svd', note))
  return rows


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
  started = time.perf_counter()
  result = function()
  return time.perf_counter() - started, result
