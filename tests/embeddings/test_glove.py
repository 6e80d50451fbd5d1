import functools

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest
from scipy import sparse

from seqlab.embeddings import glove
from seqlab.embeddings.glove import (
  GloVe,
  PairGroups,
  Parameters,
  loss,
  start,
  update,
  vectors,
)

V, D = 40, 8


@pytest.fixture(scope='module')
def counts():
  """Counts by Zipf's law of words in four topics: [V, V]."""
  random = np.random.default_rng(0)
  topics = random.dirichlet(np.full(4, 0.2), V)
  zipf = 1 / np.arange(1, V + 1)
  mean = 2e3 * np.outer(zipf, zipf) * (0.05 + topics @ topics.T)
  return sparse.csr_array(random.poisson(mean) / 2)


@pytest.fixture(scope='module')
def groups(counts):
  return PairGroups(counts, size=8, group=4, seed=1)


def epoch(groups, number=0, seed=0):
  first = number * groups.batches
  return [groups.batch(first + i, seed=seed) for i in range(groups.batches)]


def pairs(batches):
  """(row, column, count) of all pairs."""
  return [
    (row, column, count)
    for batch in batches
    for row, columns, values in zip(*batch.values(), strict=True)
    for column, count in zip(columns, values, strict=True)
    if count
  ]


@pytest.mark.parametrize('number', [0, 3])
def test_an_epoch_has_every_pair_once(counts, groups, number):
  expected = sorted(zip(*counts.nonzero(), counts.data, strict=True))
  assert sorted(pairs(epoch(groups, number))) == expected
  assert groups.pairs == counts.nnz


def test_batches_have_one_shape_and_little_padding(groups):
  shapes = {(*map(np.shape, batch.values()),) for batch in epoch(groups)}
  assert shapes == {((8,), (8, 4), (8, 4))}
  assert groups.counts.size < groups.pairs + 4 * V + 8 * 4


def test_a_batch_depends_on_its_number_and_the_seed_only(counts, groups):
  again = PairGroups(counts, size=8, group=4, seed=1)
  for k in (0, 2, 5 * groups.batches + 1):
    for x, y in zip(
      groups.batch(k, seed=7).values(), again.batch(k, seed=7).values(), strict=True
    ):
      np.testing.assert_array_equal(x, y)
  one, other = epoch(groups, 0), epoch(groups, 1)
  assert pairs(one) != pairs(other)
  assert pairs(one) != pairs(epoch(groups, 0, seed=1))
  reshuffled = PairGroups(counts, size=8, group=4, seed=2)
  assert pairs(epoch(reshuffled)) != pairs(one)


def test_shuffling_in_parts_does_not_change_the_batches(counts, groups, monkeypatch):
  monkeypatch.setattr(glove, '_BLOCK', 50)
  parts = PairGroups(counts, size=8, group=4, seed=1)
  for name in ('rows', 'columns', 'counts'):
    np.testing.assert_array_equal(getattr(parts, name), getattr(groups, name))


def test_the_words_of_a_batch_are_mixed(groups):
  distinct = [len(np.unique(batch['rows'])) for batch in epoch(groups)]
  assert np.mean(distinct) > 4


def test_counts_that_have_no_logarithm_are_refused():
  with pytest.raises(ValueError, match='0 counts'):
    PairGroups(sparse.csr_array((3, 3)), size=1)
  negative = sparse.csr_array(np.array([[2.0, -1.0]]))
  with pytest.raises(ValueError, match=r'the smallest -1\.0'):
    PairGroups(negative, size=1)


def state_of(seed=0, scale=1.0):
  """Parameters of size `scale` instead of 1 / D."""
  state = jax.jit(start, static_argnums=(1, 2))(jax.random.key(seed), V, D)
  larger = jax.tree.map(lambda x: 2 * D * scale * x, state.parameters)
  return GloVe(larger, state.squares)


def test_parameters_start_small_and_sums_of_squares_with_one():
  state = start(jax.random.key(0), V, D)
  for x in jax.tree.leaves(state.parameters):
    assert 0.8 * 0.5 / D < np.abs(x).max() < 0.5 / D
  assert all((np.asarray(x) == 1).all() for x in jax.tree.leaves(state.squares))
  assert (
    np.asarray(vectors(state)) == state.parameters.words + state.parameters.contexts
  ).all()


def test_the_loss_is_its_formula(groups):
  p, batch = state_of().parameters, groups.batch(0, seed=0)
  expected = 0.0
  for i, j, x in pairs([batch]):
    product = p.words[i] @ p.contexts[j] + p.word_biases[i] + p.context_biases[j]
    weight = min(1.0, (x / 30) ** 0.6)
    expected += weight * float(product - np.log(x)) ** 2 / 2
  total, weight = jax.jit(loss)(p, batch, x_max=30.0, alpha=0.6)
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert int(weight) == len(pairs([batch]))


def test_the_gradient_is_that_of_the_loss(groups):
  state, batch = state_of(), groups.batch(0, seed=0)
  big = jax.tree.map(lambda x: 1e12 * x, state.squares)  # which hardly change
  after, sums = jax.jit(functools.partial(update, groups=8))(
    GloVe(state.parameters, big), batch, 1e4
  )
  gradient = jax.jit(jax.grad(lambda p: loss(p, batch)[0]))(state.parameters)
  for x, y, g in zip(
    *map(jax.tree.leaves, (state.parameters, after.parameters, gradient)), strict=True
  ):
    np.testing.assert_allclose((x - y) * 100, g, atol=3e-4 * np.abs(g).max())
    assert np.abs(g).max() > 0.1
  expected = loss(state.parameters, batch)
  np.testing.assert_allclose(sums, expected, rtol=1e-5)


def test_squares_are_summed_over_single_pairs(groups):
  state, batch = state_of(), groups.batch(0, seed=0)
  after, _ = jax.jit(functools.partial(update, groups=8))(state, batch, 0.1)
  expected = jax.tree.map(lambda x: np.ones(x.shape), state.parameters)

  def alone(p, i, j, x):
    one = {'rows': i[None], 'columns': j[None, None], 'counts': x[None, None]}
    return loss(p, one)[0]

  gradient = jax.jit(jax.grad(alone))
  for i, j, x in pairs([batch]):
    each = gradient(state.parameters, i, j, x)
    expected = jax.tree.map(lambda s, g: s + (0.1 * np.asarray(g)) ** 2, expected, each)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5), after.squares, expected
  )


def test_other_rows_stay_as_they_are(groups):
  state, batch = state_of(), groups.batch(1, seed=0)
  after, _ = jax.jit(functools.partial(update, groups=4))(state, batch, 0.05)
  p, q = state.parameters, after.parameters
  rows = {i for i, _, _ in pairs([batch])}
  columns = {j for _, j, _ in pairs([batch])}
  for name, touched in (('words', rows), ('contexts', columns)):
    x, y = getattr(p, name), getattr(q, name)
    assert set(np.flatnonzero((x != y).any(axis=1))) == touched
  assert len(rows) < V


def test_parts_of_a_batch_are_applied_one_after_another(groups):
  one, two = state_of(), state_of()
  batch = groups.batch(0, seed=0)
  one, sums = jax.jit(functools.partial(update, groups=4))(one, batch, 0.05)
  halves = [{k: v[part] for k, v in batch.items()} for part in (slice(4), slice(4, 8))]
  step = jax.jit(functools.partial(update, groups=4))
  two, first = step(two, halves[0], 0.05)
  two, second = step(two, halves[1], 0.05)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), one, two)
  assert float(sums[0]) == pytest.approx(float(first[0] + second[0]), rel=1e-6)
  with pytest.raises(
    ValueError,
    match=r'batching\.size is 8, which is not a multiple of model\.groups, 3',
  ):
    update(one, batch, 0.05, groups=3)


def written_out(state, batches, rate, x_max=100.0, alpha=0.75):
  """AdaGrad pair by pair, as Pennington et al.'s program; returns losses by epoch."""
  w, c, b, d = (np.array(x, np.float64) for x in jax.tree.leaves(state.parameters))
  w2, c2, b2, d2 = (np.ones_like(x) for x in (w, c, b, d))
  losses = []
  for batch in batches:
    total = 0.0
    for i, j, x in pairs(batch):
      difference = w[i] @ c[j] + b[i] + d[j] - np.log(x)
      error = min(1.0, (x / x_max) ** alpha) * difference
      total += error * difference / 2
      to_word, to_context, to_bias = (
        rate * error * c[j],
        rate * error * w[i],
        rate * error,
      )
      w[i] -= to_word / np.sqrt(w2[i])
      c[j] -= to_context / np.sqrt(c2[j])
      b[i] -= to_bias / np.sqrt(b2[i])
      d[j] -= to_bias / np.sqrt(d2[j])
      w2[i] += to_word**2
      c2[j] += to_context**2
      b2[i] += to_bias**2
      d2[j] += to_bias**2
    losses.append(total)
  return losses


def test_the_losses_are_those_of_adagrad_pair_by_pair(groups):
  state = start(jax.random.key(0), V, D)
  epochs = [epoch(groups, number) for number in range(25)]
  expected = written_out(state, epochs, 0.05)
  step, losses = jax.jit(functools.partial(update, groups=2), donate_argnums=0), []
  for batches in epochs:
    total = 0.0
    for batch in batches:
      state, (part, _) = step(state, batch, 0.05)
      total += float(part)
    losses.append(total)
  # The first losses differ a little.
  np.testing.assert_allclose(losses, expected, rtol=0.05)
  assert losses[-1] == pytest.approx(expected[-1], rel=0.005)
  assert losses[-1] < 0.3 * losses[0]


def test_tables_sharded_over_dimensions_learn_the_same(groups):
  if jax.device_count() != 8:
    pytest.skip('needs the 8 pretended devices of conftest.py')
  mesh = jax.make_mesh((8,), ('embed',), axis_types=(AxisType.Auto,))
  tables = NamedSharding(mesh, PartitionSpec(None, 'embed'))
  everywhere = NamedSharding(mesh, PartitionSpec())
  layout = Parameters(tables, tables, everywhere, everywhere)
  layout = GloVe(layout, layout)
  step = functools.partial(update, groups=4)
  sharded = jax.jit(
    step,
    in_shardings=(layout, everywhere, everywhere),
    out_shardings=(layout, (everywhere, everywhere)),
  )
  one = start(jax.random.key(0), V, D)
  eight = jax.device_put(one, layout)
  for batch in epoch(groups)[:5]:
    one, sums = jax.jit(step)(one, batch, 0.05)
    eight, sharded_sums = sharded(eight, batch, 0.05)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, one, eight)
  close(sums, sharded_sums)
  assert eight.parameters.words.addressable_shards[0].data.shape == (V, 1)
