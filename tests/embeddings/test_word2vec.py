import contextlib
import re

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice
import numpy as np
import pytest

from seqlab.data.store import TokenStore
from seqlab.data.windows import NO_WORD, WindowBatches
from seqlab.embeddings.band import Band
from seqlab.embeddings.objectives import OBJECTIVES, Normalised, Softmax, normalised
from seqlab.embeddings.rows import add_rows
from seqlab.embeddings.word2vec import ARCHITECTURES, SkipGram, Word2Vec
from seqlab.layers.device import instead_of
from seqlab.pieces import make

V, D, WINDOW, BLOCK = 13, 6, 2, 4
COUNTS = np.arange(V, 0, -1) ** 2
OPTIONS = {'negative': {'negatives': 3, 'pool': 5}}
MADE = {
  name: kind(COUNTS, **OPTIONS.get(name, {})) for name, kind in OBJECTIVES.items()
}


def text(rows=8) -> TokenStore:
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 15, rows)
  ids = rng.integers(0, V, lengths.sum()).astype(np.uint16)
  return TokenStore(ids, np.concatenate([[0], np.cumsum(lengths)]))


def batch(streams=2, length=32, keep=1.0, store=None, **options) -> dict:
  shape = {'streams': streams, 'length': length, 'window': WINDOW}
  windows = WindowBatches(store or text(), np.full(V, keep), **shape, **options)
  return windows.batch(0, seed=0)


def net(objective='negative', kind='skipgram', **options) -> Word2Vec:
  options = {'window': WINDOW, 'block': BLOCK, 'max_pairs_per_row': None, **options}
  return ARCHITECTURES[kind](MADE[objective], V, D, **options)


def tables(model: Word2Vec) -> dict:
  rng = np.random.default_rng(1)
  shapes = model.init(jax.random.key(0))
  return {k: jnp.asarray(rng.normal(size=x.shape), x.dtype) for k, x in shapes.items()}


def buffers(tables: dict) -> dict:
  """Row counts, see `add_rows`."""
  return {name: jnp.zeros(len(table)) for name, table in tables.items()}


def pairs_of(model: Word2Vec, b: dict) -> list[tuple[int, int]]:
  """Returns (word, word within its window) of all blocks."""
  blocks = model.blocks(b, jax.random.key(0))
  pairs = []
  for i in range(len(blocks['span_words'])):
    ids = np.asarray(blocks['span_words'][i])
    band = jax.tree.map(lambda x: x[i], blocks['band'])  # noqa: B023
    inside = np.asarray(band.covers(np.arange(ids.shape[1])))
    np.testing.assert_array_equal(inside.sum(axis=1), band.number)
    pairs += [(ids[x, s + WINDOW], ids[x, e]) for x, e, s in np.argwhere(inside)]
  return sorted(pairs)


def test_no_pair_is_lost_where_blocks_and_streams_meet():
  store = text()
  expected = [
    (row[i], row[j])
    for row in (store[r] for r in range(len(store)))
    for i in range(len(row))
    for j in range(max(0, i - WINDOW), min(len(row), i + WINDOW + 1))
    if i != j
  ]
  windows = WindowBatches(store, np.ones(V), streams=8, length=4 * BLOCK, window=WINDOW)
  assert windows.steps_per_epoch == 1
  assert pairs_of(net(dynamic=False), windows.batch(0, seed=0)) == sorted(expected)


def test_a_dynamic_window_takes_close_words_more_often():
  store = TokenStore(
    np.tile(np.arange(V), 400).astype(np.uint16), np.array([0, V * 400])
  )
  pairs = np.array(pairs_of(net(), batch(length=2800, store=store)))
  distance = np.abs((pairs[:, 0] - pairs[:, 1] + V // 2) % V - V // 2)
  adjacent, second = (distance == 1).sum(), (distance == 2).sum()
  assert abs(second / adjacent - 0.5) < 0.03  # (w - d + 1) / w


def test_a_gap_has_no_pairs_and_keeps_its_position():
  words = jnp.array([[NO_WORD, NO_WORD, 1, 2, NO_WORD, 4, 5, 6]])
  sentence = jnp.array([[NO_WORD, NO_WORD, 0, 0, 0, 0, 0, 1]])
  band = Band.of_windows(words, sentence, jnp.full((1, BLOCK), WINDOW), has_gaps=True)
  inside = np.argwhere(band.covers(np.arange(8))[0].T)
  assert inside.tolist() == [[0, 3], [1, 2], [1, 5], [3, 3], [3, 6]]


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('kind', ARCHITECTURES)
@pytest.mark.parametrize('keep', [1.0, 0.6])
def test_a_step_follows_the_negative_gradient_of_the_loss(objective, kind, keep):
  model = net(objective, kind, keep_gaps=keep < 1)
  start = tables(model)
  blocks = model.blocks(batch(keep=keep, keep_gaps=keep < 1), jax.random.key(2))
  block = jax.tree.map(lambda x: x[1], blocks)
  gradient = jax.grad(lambda t: model.loss(t, block)[0])(start)
  after, _, _ = model.learn(start, buffers(start), block, jnp.float32(0.1))
  for name in start:
    np.testing.assert_allclose(
      after[name], start[name] - 0.1 * gradient[name], atol=2e-6
    )


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_the_loss_is_that_of_the_first_stream(objective):
  model = net(objective)
  start = tables(model)
  block = jax.tree.map(lambda x: x[1], model.blocks(batch(), jax.random.key(2)))
  _, _, (loss, pairs) = model.learn(start, buffers(start), block, jnp.float32(0.1))
  first = jax.tree.map(lambda x: x[:1], block)
  np.testing.assert_allclose(model.loss(start, first), (loss, pairs), rtol=1e-6)


def test_negative_sampling_is_the_papers_loss():
  model = net()
  start = tables(model)
  blocks = model.blocks(batch(), jax.random.key(3))
  block = jax.tree.map(lambda x: np.asarray(x[1]), blocks)
  band = block['band']
  words, contexts = (np.asarray(start[k], np.float64) for k in ('words', 'contexts'))
  total = 0.0
  for b, row in enumerate(block['span_words']):
    for s in range(BLOCK):
      t = s + WINDOW
      for e in range(band.first[b, s], band.last[b, s] + 1):
        if e == t:
          continue
        h = words[row[t]]
        total += np.log1p(np.exp(-h @ contexts[row[e]]))
        others = contexts[block['samples'][b]] @ h
        total += 3 / 5 * np.log1p(np.exp(others)).sum()
  np.testing.assert_allclose(model.loss(start, block)[0], total, rtol=1e-5)


def test_the_softmax_is_that_of_a_dense_network():
  model = net('softmax', dynamic=False)
  start = tables(model)
  blocks = model.blocks(batch(), jax.random.key(3))
  words, contexts = (np.asarray(start[k], np.float64) for k in ('words', 'contexts'))
  chances = np.exp(words @ contexts.T)  # one-hot in, V out
  chances /= chances.sum(axis=1, keepdims=True)
  expected = -sum(np.log(chances[a, b]) for a, b in pairs_of(model, batch()))
  total = sum(
    float(model.loss(start, jax.tree.map(lambda x: x[i], blocks))[0])  # noqa: B023
    for i in range(len(blocks['span_words']))
  )
  np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_the_softmax_learns_from_a_probability_of_zero():
  objective = Softmax(np.ones(4))
  table, h = jnp.zeros((4, 1)).at[0].set(200.0), jnp.ones((1, 1, 1))
  band = Band.of_diagonal(jnp.ones((1, 1), bool))
  words = jnp.array([[1]])
  update = objective.learn(table, h, words, band, {}, 0.1, None, jnp.zeros(4))
  assert update.loss == objective.loss(table, h, words, band, {}) == 200


def test_negative_sampling_at_its_optimum_has_the_likelihood_of_the_counts():
  # p(c | w) of one word w, and samples from counts ** 0.5.
  p, counts, k = np.array([0.5, 0.3, 0.15, 0.05]), np.array([9.0, 4.0, 4.0, 1.0]), 3
  q = counts**0.5 / (counts**0.5).sum()
  table = jnp.asarray(np.log(p / (k * q)), jnp.float32)[:, None]
  objective = normalised(OBJECTIVES['negative'](counts, negatives=k, power=0.5))
  assert isinstance(objective, Normalised)
  band = Band.of_diagonal(jnp.ones((1, 1), bool))
  losses = [
    float(objective.loss(table, jnp.ones((1, 1, 1)), jnp.array([[v]]), band, {}))
    for v in range(4)
  ]
  np.testing.assert_allclose(np.exp(-np.array(losses)), p, rtol=1e-5)


def test_likelihoods_are_left_as_they_are():
  for kind in ('softmax', 'hierarchical'):
    assert normalised(MADE[kind]) is MADE[kind]


def test_a_pool_without_samples_is_refused():
  with pytest.raises(ValueError, match=r'model\.objective\.pool is 0'):
    OBJECTIVES['negative'](COUNTS, pool=0)


def test_the_probabilities_of_the_tree_sum_to_one():
  objective = MADE['hierarchical']
  rng = np.random.default_rng(0)
  table = jnp.asarray(rng.normal(size=(objective.num_rows, D)), jnp.float32)
  h = jnp.asarray(rng.normal(size=(1, 1, D)), jnp.float32)
  band = Band.of_diagonal(jnp.ones((1, 1), bool))
  losses = [objective.loss(table, h, jnp.array([[v]]), band, {}) for v in range(V)]
  np.testing.assert_allclose(np.exp(-np.array(losses)).sum(), 1, rtol=1e-5)


def test_words_without_neighbours_change_no_parameters():
  store = TokenStore(np.arange(V).astype(np.uint16), np.arange(V + 1))
  for kind in ARCHITECTURES:
    model = net(kind=kind)
    start = tables(model)
    after, (loss, pairs) = model.update(
      start, batch(store=store), jax.random.key(0), jnp.float32(0.5)
    )
    assert float(loss) == float(pairs) == 0
    for name in start:
      np.testing.assert_array_equal(after[name], start[name])


@pytest.mark.parametrize('shape', [(4,), (2, 2)])
@pytest.mark.parametrize('is_gpu', [False, True])
def test_the_updates_of_one_row_are_limited_to_a_number_of_pairs(is_gpu, shape):
  table = jnp.zeros((3, 2))
  rows, updates = jnp.array([0, 0, 0, 2]).reshape(shape), jnp.ones((*shape, 2))
  pairs, counts = jnp.array([2.0, 4.0, 2.0, 1.0]).reshape(shape), jnp.zeros(3)
  gpu = AbstractDevice('NVIDIA H100', None, 'gpu')
  with instead_of(gpu) if is_gpu else contextlib.nullcontext():
    after, counts = add_rows(table, rows, updates, pairs, 4.0, counts)
  np.testing.assert_allclose(after, [[1.5, 1.5], [0, 0], [1, 1]])
  np.testing.assert_array_equal(counts, 0)  # ready for the next
  after, _ = add_rows(table, rows, updates, jnp.ones(shape), None, counts)
  np.testing.assert_allclose(after, [[3, 3], [0, 0], [1, 1]])


def test_a_step_computes_nothing_of_the_size_of_a_table():
  """Nothing of a table's size, or of V numbers, is computed in the loop over blocks."""
  objective = OBJECTIVES['negative'](np.ones(50_000))
  model = SkipGram(objective, 50_000, 32, window=WINDOW, block=BLOCK)
  start = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  b = batch()
  step = jax.jit(model.update, donate_argnums=0)
  compiled = step.lower(start, b, jax.random.key(0), 0.1).compile()
  memory = compiled.memory_analysis()
  assert memory.alias_size_in_bytes >= 2 * 50_000 * 32 * 4  # the tables, in place
  assert memory.temp_size_in_bytes < 50_000 * 32 * 4 / 2
  loop, _ = compiled.as_text().split('\nENTRY')
  assert 'f32[50000,32]' in loop
  assert not re.search(r'= f32\[50000\S* copy\(', loop)


@pytest.mark.parametrize('objective', OBJECTIVES)
@pytest.mark.parametrize('kind', ARCHITECTURES)
def test_row_bytes_are_those_of_the_rows_that_a_block_reads(objective, kind):
  """Rows of the tables that a gradient reaches, in the program as it is written."""
  model = net(objective, kind)
  block = jax.tree.map(
    lambda x: x[0], model.blocks(batch(streams=1), jax.random.key(0))
  )
  gathers = str(jax.make_jaxpr(model.loss)(tables(model), block))
  rows = [
    int(np.prod([int(n) for n in shape.split(',')]))
    for shape in re.findall(rf'f32\[([\d,]+),{D}\] = gather', gathers)
  ]
  if objective == 'softmax':
    rows.append(V)  # a product with all of the table
  assert model.row_bytes == 12 * D * sum(rows) / BLOCK


@pytest.mark.parametrize('kind', ARCHITECTURES)
def test_words_of_the_same_contexts_become_similar(kind):
  """Two words with the same contexts become similar, though they never co-occur."""
  rng = np.random.default_rng(0)
  lines = []
  for _ in range(400):
    topic = rng.integers(2)
    around = rng.choice([2, 3, 4] if topic else [5, 6, 7], 4)
    word = rng.choice([0, 1] if topic else [8, 9])
    lines.append([*around[:2], word, *around[2:]])
  store = TokenStore(np.array(lines, np.uint16).ravel(), np.arange(0, 2001, 5))
  model = net(kind=kind, dynamic=False)
  now = model.init(jax.random.key(0))
  update = jax.jit(model.update)
  b = batch(streams=4, length=512, store=store)
  for k in range(30):
    now, _ = update(now, b, jax.random.key(k), jnp.float32(0.1))
  unit = now['words'] / jnp.linalg.norm(now['words'], axis=1, keepdims=True)
  cosine = np.asarray(unit @ unit.T)
  assert cosine[0, 1] > 0.8
  assert cosine[8, 9] > 0.8
  assert cosine[0, 8] < 0.5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'window': 0}, r'model\.window is 0'),
    ({'max_pairs_per_row': 0}, r'model\.max_pairs_per_row is 0'),
  ],
)
def test_wrong_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    net(**options)


def test_streams_that_blocks_do_not_fill_are_an_error():
  with pytest.raises(ValueError, match='streams of 30 words cannot be cut'):
    net().blocks(batch(length=30), jax.random.key(0))


class FirstWord(SkipGram):
  """An architecture that a user defines: only a block's first word predicts."""

  def predictions(self, words, span_words, band):
    predicted = super().predictions(words, span_words, band)
    first = jnp.arange(self.block) == 0
    number = jnp.where(first, predicted.band.number, 0)
    last = jnp.where(first, predicted.band.last, -1)
    return predicted._replace(band=predicted.band.replace(last=last, number=number))


def test_a_users_architecture_is_named_by_its_path():
  model = make(
    {'kind': f'{__name__}:FirstWord', 'width': D, 'window': WINDOW, 'block': BLOCK},
    ARCHITECTURES,
    'model',
    objective=MADE['negative'],
    size=V,
  )
  blocks = model.blocks(batch(), jax.random.key(0))
  block = jax.tree.map(lambda x: x[0], blocks)
  _, pairs = model.loss(tables(model), block)
  assert float(pairs) == float(block['band'].number[:, 0].sum())
