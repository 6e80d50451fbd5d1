"""Dot products of skip-gram against the optimum of their loss."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.tasks.word2vec import WordPrediction
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))
WORDS, WINDOW = 9, 2


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """Words that prefer some neighbours, and 'w0' and 'w8', which never co-occur."""
  random = np.random.default_rng(0)
  lines = []
  for _ in range(300):
    word = random.integers(0, WORDS)
    line = [word]
    for _ in range(12):
      word = (word + random.choice([1, 2, 3, 5], p=[0.5, 0.3, 0.1, 0.1])) % WORDS
      line.append(word)
    for other in (0, 8):
      if random.random() < 0.5 or (0 in line and 8 in line):
        line = [word for word in line if word != other]
    lines.append(' '.join('abcdefghi'[word] for word in line))
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  path.write_text('\n'.join(lines), 'utf-8')
  return path


def make_task(text, tmp_path, *, heldout=0, negatives=3, **model):
  config = {
    'corpus': {'path': str(text), 'heldout': heldout},
    'vocabulary': {'min_count': 1},
    'batching': {'streams': 4, 'length': 256, 'subsample': 0.0},
    'model': {'width': 16, 'window': WINDOW, 'max_pairs_per_row': None, 'block': 16}
    | model,
  }
  objective = {'kind': 'negative', 'negatives': negatives, 'pool': 16}
  config['model'].setdefault('objective', objective)
  return WordPrediction.from_config(config, tmp_path / 'words')


@pytest.fixture
def task(text, tmp_path):
  return make_task(text, tmp_path)


def make(task, **options):
  kind = resolve('evaluators.factorization:Evaluator')
  options = {'min_count': 1.0, 'unseen': 2_000} | options
  return call(kind, options, 'evals', task=task, sharding=ROWS)


def optimum(task, text):
  """[V, V] log(#(w, c) / (#(w) P(c))) - log k, written out; NaN for unseen pairs."""
  pairs = Counter()
  for line in text.read_text('utf-8').split('\n'):
    ids = [task.words.ids[word] for word in line.split()]
    for i, w in enumerate(ids):
      for j, c in enumerate(ids):
        if 0 < abs(i - j) <= WINDOW:
          pairs[w, c] += 1 - (abs(i - j) - 1) / WINDOW
  noise = task.words.counts**0.75 / (task.words.counts**0.75).sum()
  values = np.full((WORDS, WORDS), np.nan)
  for (w, c), number in pairs.items():
    of_w = sum(n for (other, _), n in pairs.items() if other == w)
    values[w, c] = np.log(number / of_w / noise[c] / 3)
  return values


def run(evaluator, words, contexts):
  tables = {'words': jnp.asarray(words), 'contexts': jnp.asarray(contexts)}
  variables = {'params': jax.tree.map(lambda x: x.astype(jnp.float32), tables)}
  evaluator.compile(variables)
  return dict(evaluator.run(variables))


def test_the_optimum_itself_has_correlation_1(task, text):
  optimal = optimum(task, text)
  assert 2 <= np.isnan(optimal).sum() < 9
  evaluator = make(task)
  metrics = run(evaluator, np.where(np.isnan(optimal), -7.0, optimal), np.eye(WORDS))
  assert metrics['pearson'] == pytest.approx(1)
  assert metrics['weighted'] == pytest.approx(1)
  assert metrics['gap'] == pytest.approx(0, abs=1e-5)
  assert metrics['unseen'] == -7


def test_the_scores_are_computed_from_the_arrays(task, text):
  random = np.random.default_rng(0)
  words, contexts = random.normal(size=(2, WORDS, 4))
  optimal = optimum(task, text)
  evaluator = make(task)
  metrics = run(evaluator, words, contexts)
  seen = ~np.isnan(optimal)
  dots, expected = (words @ contexts.T)[seen], optimal[seen]
  assert metrics['pearson'] == pytest.approx(
    np.corrcoef(dots, expected)[0, 1], abs=1e-5
  )
  arrays = evaluator.arrays
  np.testing.assert_allclose(np.sort(arrays['optimum']), np.sort(expected), atol=1e-5)
  weighted = np.cov(arrays['dot'], arrays['optimum'], aweights=arrays['count'])
  expected = weighted[0, 1] / np.sqrt(weighted[0, 0] * weighted[1, 1])
  assert metrics['weighted'] == pytest.approx(expected, abs=1e-5)
  assert metrics['unseen'] == pytest.approx(arrays['unseen'].mean(), abs=1e-5)


def test_the_sample_is_a_subset_and_depends_only_on_the_seed(task):
  tables = np.random.default_rng(0).normal(size=(2, WORDS, 4))
  kept = []
  for seed in (0, 0, 1):
    evaluator = make(task, sample=10, seed=seed)
    run(evaluator, *tables)
    kept.append(evaluator.arrays['dot'])
  assert len(kept[0]) == 10
  np.testing.assert_array_equal(kept[0], kept[1])
  assert (kept[0] != kept[2]).any()


def test_rare_pairs_are_left_out(task, text):
  evaluator = make(task, min_count=100)
  run(evaluator, *np.ones((2, WORDS, 4)))
  assert 5 < len(evaluator.arrays['dot']) < (~np.isnan(optimum(task, text))).sum()
  assert evaluator.arrays['count'].min() >= 100
  with pytest.raises(ValueError, match=r'no pair that was seen 1e\+06 times'):
    make(task, min_count=1e6)


def test_training_converges_to_the_optimum(task):
  """With as many dimensions as words the optimum can be reached."""
  tables = task.net.init(jax.random.key(0))
  update = jax.jit(task.net.update)
  batches = [
    task.batches('train').batch(k, seed=0)
    for k in range(task.batches('train').steps_per_epoch)
  ]
  assert len(batches) > 1
  for k in range(400):
    rate = jnp.float32(0.05 * (1 - k / 400))
    batch = batches[k % len(batches)]
    tables, _ = update(tables, batch, jax.random.key(k), rate)
  evaluator = make(task, min_count=20)
  metrics = run(evaluator, tables['words'], tables['contexts'])
  assert metrics['pearson'] > 0.98
  assert metrics['gap'] < 0.1
  assert metrics['unseen'] < evaluator.arrays['dot'].min()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'kind': 'cbow'}, "set model.kind='skipgram'"),
    ({'objective': {'kind': 'softmax'}}, "and model.objective.kind='negative'"),
    ({'heldout': 10}, r'counts every line of the text; leave corpus\.heldout out'),
  ],
)
def test_other_tasks_are_refused(text, tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    make(make_task(text, tmp_path, **change))


def test_a_task_without_windows_is_refused():
  with pytest.raises(ValueError, match=r"set model\.kind='skipgram'"):
    make(object())
