"""gensim as an estimator."""

import sys

import gensim.models
import numpy as np
import pytest

from seqlab.tasks.estimators.gensim_baseline import GensimBaseline, rows_of
from seqlab.train.loop import train
from seqlab.train.writer import read_metrics

V = 6


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """Words that are followed by the next one, most of the time."""
  random = np.random.default_rng(0)
  lines = []
  for _ in range(400):
    word = random.integers(V)
    line = []
    for _ in range(10):
      line.append('abcdef'[word])
      word = (word + random.choice([1, 2], p=[0.9, 0.1])) % V
    lines.append(' '.join(line))
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  path.write_text('\n'.join(lines), 'utf-8')
  return path


def config(text, **changes) -> dict:
  c = {
    'task': 'tasks.estimators.gensim_baseline:GensimBaseline',
    'seed': 0,
    'corpus': {'path': str(text), 'heldout': 5},
    'vocabulary': {'min_count': 1},
    'batching': {'subsample': 0.0},
    'model': {'width': 8, 'window': 1, 'epochs': 5, 'alpha': 0.05, 'min_alpha': 0.0005},
    'evals': {'heldout': {'type': 'heldout'}},
  }
  for key, value in changes.items():
    section, _, name = key.rpartition('__')
    (c[section] if section else c)[name] = value
  return c


def make(text, tmp_path, **changes) -> GensimBaseline:
  return GensimBaseline.from_config(config(text, **changes), tmp_path / 'words')


def test_tables_are_those_of_gensim_alone(text, tmp_path):
  task = make(text, tmp_path, seed=3)
  tables = task.train()
  lines = text.read_text('utf-8').splitlines()
  rows = [[str(task.words.ids[w]) for w in x.split()] for x in lines]
  rows = [row for i, row in enumerate(rows) if (i + 1) % 5]  # the rest is held out
  options = dict(vector_size=8, window=1, sg=1, negative=5, sample=0, min_count=1)
  rates = dict(alpha=0.05, min_alpha=0.0005)
  net = gensim.models.Word2Vec(rows, workers=1, seed=3, epochs=5, **options, **rates)
  for v in range(V):
    np.testing.assert_allclose(tables['words'][v], net.wv[str(v)], rtol=1e-6)


def test_it_trains_evaluates_and_gives_vectors(text, tmp_path):
  train(config(text), tmp_path)
  rows = [
    row for row in read_metrics(tmp_path / 'metrics.jsonl') if 'heldout/loss' in row
  ]
  # Before training a question costs log 2, and there are 1 + 5 questions per pair.
  assert rows[-1]['heldout/loss'] < 0.9 * 6 * np.log(2)


def test_the_seed_decides(text, tmp_path):
  one, repeated, other = (
    make(text, tmp_path, seed=seed).train()['words'] for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, repeated)
  assert not np.array_equal(one, other)


def test_rows_are_those_of_their_bounds(text, tmp_path):
  store = make(text, tmp_path).store
  bounds = np.stack([store.offsets[[1, 7]], store.offsets[[2, 8]]], 1)
  ids, offsets = rows_of(store, bounds)
  np.testing.assert_array_equal(ids[: offsets[1]], store[1])
  np.testing.assert_array_equal(ids[offsets[1] :], store[7])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batching__keep_gaps': True}, r'neither batching\.keep_gaps'),
    ({'model__subwords': {'bucket': 100}}, r'nor model\.subwords'),
    ({'model__dynamic': False}, r'model\.dynamic=True'),
    ({'model__objective': {'kind': 'softmax'}}, r"model\.objective\.kind='negative'"),
  ],
)
def test_options_that_gensim_lacks_are_named(text, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    make(text, tmp_path, **changes)


def test_a_missing_gensim_is_named(text, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'gensim.models', None)
  with pytest.raises(RuntimeError, match=r"pip install 'gensim>=4.4'"):
    make(text, tmp_path).train()
