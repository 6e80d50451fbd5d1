"""Training of word vectors, compared with gensim's word2vec.

Words per second are those of the text, before frequent words are subsampled; per second
of wall time and of CPU time, since gensim may use more cores or fewer.
"""

import functools
import importlib.util
import os
from typing import Any, Protocol

import jax
import numpy as np

from seqlab.bench.measure import (
  Row,
  Speed,
  Subject,
  first_words,
  in_own_process,
  measure_speed,
)
from seqlab.compile.chips import chip_of
from seqlab.data.store import TokenStore
from seqlab.data.windows import WindowBatches, sentences
from seqlab.embeddings.objectives import Negative
from seqlab.embeddings.word2vec import Word2Vec
from seqlab.evaluators.similarity import evaluate_vectors
from seqlab.tasks.estimators import gensim_baseline
from seqlab.tasks.interface import tokens_per_step
from seqlab.text.words import WordCounts

_WORDS = 3_000_000  # of the text, that speed is measured on
_SEEDS = 3
_SETS = ('ws353', 'men', 'rw', 'google', 'msr')


class PredictsWords(Protocol):
  """A task that trains a net on windows of a text.

  Attributes:
    net: an `embeddings.word2vec:Word2Vec`.
    words: the vocabulary, a `text.words.WordCounts`.
    heldout: every so many-th line is not learnt from; 0 if all are.
  """

  net: Word2Vec
  words: WordCounts
  heldout: int

  @property
  def store(self) -> TokenStore:
    """The text as ids."""
    ...

  @property
  def train(self) -> WindowBatches:
    """Batches of the text, with their report."""
    ...


def samples_negatives(subject: Subject) -> bool:
  """Returns whether the net is the one for which gensim's word2vec is fast."""
  net = subject.task.net
  return isinstance(net.objective, Negative) and net.parts is None


def measure_words(subject: Subject) -> list[Row]:
  """Returns words per second, as `seqlab train` trains, and as gensim does."""
  cores, net = os.cpu_count() or 1, subject.task.net
  words, speed = _measure_epoch(subject)
  note = f'D = {net.width}, {words:,} words, {type(net).__name__}, window {net.window}'
  rows = [
    Row('word2vec', speed.cpu, 'words/s of CPU', note),
    Row('word2vec', speed.wall, 'words/s', note),
    *_traffic(subject.task, speed.wall),
  ]
  if importlib.util.find_spec('gensim') is None or not samples_negatives(subject):
    return rows
  text = first_words(subject.task.store, words)
  arguments = text.ids, text.offsets, net.width
  options = gensim_baseline.options_of(subject.task)
  one = in_own_process(_measure_gensim, *arguments, 1, options)
  all_cores = in_own_process(_measure_gensim, *arguments, cores, options)
  note = f'D = {net.width}; gensim {one.cpu:,.0f} with one worker'
  rows.append(Row('word2vec', speed.cpu / one.cpu, 'times gensim per CPU-s', note))
  note = f'D = {net.width}; gensim {all_cores.wall:,.0f} with {cores} workers'
  rows.append(Row('word2vec', speed.wall / all_cores.wall, 'times gensim', note))
  return rows


def _measure_epoch(subject: Subject) -> tuple[int, Speed]:
  """Returns how many words were trained on, and the speed.

  Batches are made by threads, put on the devices, and trained on.
  """
  task, batches = subject.task, subject.batches
  enough = round(_WORDS / tokens_per_step(task, batches))
  steps = min(batches.steps_per_epoch, max(1, enough))
  words = sum(task.tokens(batches.batch(k, seed=0)) for k in range(steps))
  step = subject.training_step(batches.steps_per_epoch)
  step.compile(batches.shapes[0])

  def train() -> int:
    step.run(lambda k: batches.batch(k, seed=0), steps)
    return words

  return words, measure_speed(train, 3)


def _traffic(task: PredictsWords, words_per_second: float) -> list[Row]:
  """Returns how many bytes of the tables are read and written per second."""
  bytes_per_word = task.net.row_bytes * task.train.report['kept']
  speed = words_per_second * bytes_per_word
  note = f'rows of both tables, {bytes_per_word:,.0f} bytes per word of the text'
  rows = [Row('word2vec', speed / 1e9, 'GB/s', note)]
  chip = chip_of(jax.devices()[0].device_kind)
  if chip and chip.memory_speed:
    peak = chip.memory_speed * jax.device_count()
    note = f'of {peak / 1e9:,.0f} GB/s'
    rows.append(Row('word2vec', 100 * speed / peak, '% of bandwidth', note))
  return rows


def _measure_gensim(
  ids: np.ndarray, offsets: np.ndarray, D: int, workers: int, options: dict[str, Any]
) -> Speed:
  """Returns the speed of an epoch of gensim over these rows."""
  net, rows = gensim_baseline.start(ids, offsets, D, workers, options)

  def train() -> int:
    net.train(rows, total_examples=net.corpus_count, epochs=1)
    return len(ids)

  return measure_speed(train, 2)


def measure_quality(subject: Subject) -> list[Row]:
  """Returns scores of whole trainings, and gensim's on the same text."""
  task = subject.task
  heldout = task.evaluation(100_000)
  loss = jax.jit(lambda params: task.loss({'params': params}, heldout, None, {})[:2])
  scores: dict[str, dict[str, list[float]]] = {}
  for seed in range(_SEEDS):
    for name, params in (
      ('ours', _train(subject, seed)),
      ('gensim', _train_gensim(subject, seed)),
    ):
      total, pairs = loss(params)
      measured = {'held-out loss (nats)': float(total) / float(pairs)}
      vectors = task.vectors({'params': params})
      for score in evaluate_vectors(vectors, _SETS, restrict=30_000, samples=1):
        measured[score.set.name] = score.result.known.value
      for key, value in measured.items():
        scores.setdefault(key, {}).setdefault(name, []).append(value)
  settings = f'D = {task.net.width}, {_SEEDS} seeds; gensim '
  return [
    Row(
      key,
      float(np.mean(x['ours'])),
      f'± {np.std(x["ours"], ddof=1):.3g}',
      f'{settings}{np.mean(x["gensim"]):.4g} ± {np.std(x["gensim"], ddof=1):.3g}',
    )
    for key, x in scores.items()
  ]


def _train(subject: Subject, seed: int) -> dict[str, np.ndarray]:
  """Returns both tables after the experiment's steps."""
  step = subject.training_step()
  step.restart(seed)
  step.run(lambda k: subject.batches.batch(k, seed=seed), subject.total_steps)
  return jax.device_get(step.variables['params'])


def _train_gensim(subject: Subject, seed: int) -> dict[str, np.ndarray]:
  """Returns both tables after the same number of epochs of gensim."""
  task = subject.task
  epochs = max(1, round(subject.total_steps / subject.batches.steps_per_epoch))
  ids, offsets = gensim_baseline.rows_of(
    task.store, sentences(task.store, task.heldout)[0]
  )
  options = {**gensim_baseline.options_of(task), 'seed': seed}
  workers = os.cpu_count() or 1
  train = functools.partial(gensim_baseline.trained, epochs=epochs)
  V, D = task.words.size, task.net.width
  return in_own_process(train, V, ids, offsets, D, workers, options)
