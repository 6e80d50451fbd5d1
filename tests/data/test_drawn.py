"""Batches of examples that are drawn with replacement."""

import numpy as np
import pytest

from seqlab.data.batching import make_batches
from seqlab.data.store import TokenStore
from seqlab.types import EOS, PAD

FIRST = 1_000  # the first token of example i is FIRST + i


def sides(examples=60, longest=12):
  random = np.random.default_rng(0)
  lengths = random.integers(2, longest + 1, (2, examples))
  made = {}
  for side, n in zip(('source', 'target'), lengths, strict=True):
    offsets = np.concatenate([[0], np.cumsum(n)])
    ids = random.integers(4, 100, offsets[-1])
    ids[offsets[:-1]], ids[offsets[1:] - 1] = FIRST + np.arange(examples), EOS
    made[side] = TokenStore(ids.astype(np.uint16), offsets)
  return made


SIDES = sides()


def make(*, sampled=(), reverse=(), repeats=None, **options):
  context = dict(sampled=sampled, reverse=reverse, repeats=repeats)
  return make_batches({'kind': 'drawn', **options}, SIDES, **context)


def examples_in(batch):
  return (batch['source'][:, 0] - FIRST).tolist()


def drawn(batches, steps, seed=0):
  return [i for k in range(steps) for i in examples_in(batches.batch(k, seed=seed))]


@pytest.mark.parametrize('rows', [1, 4])
def test_batch_k_depends_on_seed_and_k_alone(rows):
  forwards, asked = make(rows=rows), make(rows=rows)
  expected = {k: forwards.batch(k, seed=3) for k in range(150)}
  for k in np.random.default_rng(0).permutation(150).tolist():
    asked.batch(k, seed=4)
    for side, ids in asked.batch(k, seed=3).items():
      np.testing.assert_array_equal(ids, expected[k][side])


def test_a_batch_has_complete_examples_in_all_of_its_rows():
  batches = make(rows=4)
  for k in range(50):
    batch, rows = batches.batch(k, seed=0), batches.rows(k)
    for side, store in SIDES.items():
      assert batch[side].shape[0] == 4
      for ids, row in zip(batch[side], rows, strict=True):
        assert ids[ids != PAD].tolist() == store[row].tolist()


def test_hosts_rows_concatenate_to_the_global_batch():
  batches = make(rows=4)
  for k in range(10):
    parts = [batches.batch(k, seed=0, rows=(i, 2))['target'] for i in range(2)]
    whole = batches.batch(k, seed=0)['target']
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(('rows', 'shapes'), [(1, 1), (1, 5), (3, 4)])
def test_every_example_is_equally_probable(rows, shapes):
  steps = 6_000 // rows
  counts = np.bincount(drawn(make(rows=rows, shapes=shapes), steps), minlength=60)
  assert counts.sum() == 6_000
  # 100 of each; the sum of squares is that of a multinomial distribution, too.
  assert abs(counts - 100).max() < 5 * 10
  assert 0.5 < np.square(counts - 100).mean() / 100 < 1.6


def test_probabilities_are_proportional_to_the_repeats():
  repeats = np.where(np.arange(60) < 20, 3.0, 0.5)  # 60 and 20 of 80 draws
  batches = make(shapes=4, repeats=repeats)
  assert batches.steps_per_epoch == 80
  share = np.mean(np.array(drawn(batches, 4_000)) < 20)
  assert abs(share - 0.75) < 5 * (0.75 * 0.25 / 4_000) ** 0.5


def test_seeds_draw_other_examples_in_batches_of_the_same_shape():
  batches = make(rows=2, shapes=4)
  first, second = ([batches.batch(k, seed=s) for k in range(100)] for s in (0, 1))
  pairs = list(zip(first, second, strict=True))
  assert all(a['target'].shape == b['target'].shape for a, b in pairs)
  assert len({a['target'].shape for a in first}) == 4
  assert np.mean([examples_in(a) == examples_in(b) for a, b in pairs]) < 0.2
  assert batches.shared_shapes


def test_the_examples_of_a_batch_may_be_of_similar_length():
  batches = make(rows=4, shapes=4, together=True)
  longest = np.maximum(SIDES['source'].lengths, SIDES['target'].lengths)
  lowest = {}  # width of the batch -> length of its shortest example
  for k in range(1_500):
    lengths = longest[batches.rows(k)]
    width = max(ids.shape[1] for ids in batches.batch(k, seed=0).values())
    lowest[width] = min(lowest.get(width, width), lengths.min())
    assert lengths.max() <= width
  widths = sorted(lowest)
  assert [lowest[width] for width in widths] == [
    min(longest[longest > below]) for below in (0, *widths[:-1])
  ]
  counts = np.bincount(drawn(batches, 6_000), minlength=60)
  # Four draws of each batch share their bucket, so that they vary more than 400 draws.
  assert abs(counts - 400).max() < 5 * 2 * 400**0.5


@pytest.mark.parametrize(('rows', 'together'), [(1, False), (4, False), (4, True)])
def test_the_report_states_the_expectation(rows, together):
  batches = make(rows=rows, shapes=4, together=together)
  words = cells = targets = 0
  for k in range(2_000):
    batch = batches.batch(k, seed=0)
    cells += sum(ids.size for ids in batch.values())
    words += sum(np.count_nonzero(ids) for ids in batch.values())
    targets += np.count_nonzero(batch['target'])
  assert batches.report['padding_waste'] == pytest.approx(1 - words / cells, abs=0.01)
  assert batches.tokens_per_step == pytest.approx(targets / 2_000, rel=0.03)
  assert batches.steps_per_epoch == 60 / rows
  assert len(batches.shapes) == 4


def test_long_examples_are_left_out_and_sources_can_be_reversed():
  batches = make(max_length=8, reverse=['source'])
  longest = np.maximum(SIDES['source'].lengths, SIDES['target'].lengths)
  assert batches.report['too_long'] == (longest > 8).sum() > 0
  for k in range(20):
    (row,) = batches.rows(k)
    assert longest[row] <= 8
    *words, end = SIDES['source'][row].tolist()
    (ids,) = batches.batch(k, seed=0)['source']
    assert ids[ids != PAD].tolist() == [*words[::-1], end]


def test_an_epoch_reads_one_segmentation():
  other = {
    side: TokenStore(x.ids + (x.ids >= 4), x.offsets) for side, x in SIDES.items()
  }
  batches = make(sampled=[SIDES, other])
  for epoch, segmentation in enumerate((SIDES, other, SIDES)):
    k = epoch * batches.steps_per_epoch
    (row,), (ids,) = batches.rows(k), batches.batch(k, seed=0)['target']
    assert ids[ids != PAD].tolist() == segmentation['target'][row].tolist()


@pytest.mark.parametrize('option', ['rows', 'shapes', 'max_length'])
def test_a_count_of_zero_is_refused(option):
  with pytest.raises(ValueError, match=rf'batching\.{option}'):
    make(**{option: 0})
