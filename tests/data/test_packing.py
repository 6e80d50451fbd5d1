from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from seqlab.data import packing
from seqlab.data.packing import pack

WIDTH = 12
LENGTHS = st.lists(
  st.tuples(st.integers(1, WIDTH), st.integers(1, WIDTH)), min_size=1, max_size=60
)
steady = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@steady
@given(LENGTHS, st.randoms(use_true_random=False))
def test_each_pair_is_in_one_row(pairs, random):
  source, target = np.array(pairs).T
  order = list(range(len(pairs)))
  random.shuffle(order)
  rows = pack([source, target], WIDTH, order=np.array(order))
  assert sorted(np.concatenate(rows).tolist()) == list(range(len(pairs)))


@steady
@given(LENGTHS)
def test_no_row_overflows_on_either_side(pairs):
  source, target = np.array(pairs).T
  for row in pack([source, target], WIDTH, order=np.arange(len(pairs))):
    assert len(row)
    assert source[row].sum() <= WIDTH
    assert target[row].sum() <= WIDTH


def test_only_the_requested_pairs_are_packed():
  lengths = np.full(10, 3)
  rows = pack([lengths, lengths], WIDTH, order=np.array([7, 2, 5]))
  assert [row.tolist() for row in rows] == [[7, 2, 5]]


def test_a_later_pair_fills_an_earlier_row():
  lengths = np.array([8, 8, 4])
  rows = pack([lengths, lengths], WIDTH, order=np.arange(3))
  assert sorted(row.tolist() for row in rows) == [[0, 2], [1]]


def test_the_fuller_side_decides():
  source, target = np.array([2, 2, 2]), np.array([8, 8, 4])
  rows = pack([source, target], WIDTH, order=np.arange(3))
  assert sorted(row.tolist() for row in rows) == [[0, 2], [1]]


def corpus(seed, pairs=5_000):
  """Lengths as sentences have them: skewed, and similar on both sides."""
  random = np.random.default_rng(seed)
  source = np.clip(random.gamma(3, 5, pairs).astype(int), 2, 128)
  target = np.clip((source * random.normal(1.1, 0.15, pairs)).astype(int), 2, 128)
  return source, target


def test_little_is_wasted():
  source, target = corpus(0)
  rows = pack([source, target], 128, order=np.arange(len(source)))
  min_rows = max(source.sum(), target.sum()) / 128  # the number of rows without gaps
  assert len(rows) < 1.05 * min_rows  # one pair per row would need seven times the rows
  assert len(source) > 6 * min_rows


def test_few_rows_are_open_at_the_same_time(monkeypatch):
  monkeypatch.setattr(packing, '_OPEN', 4)
  lengths = np.array([65] * 20 + [5] * 5)  # two of 65 do not fit in 128
  rows = pack([lengths, lengths], 128, order=np.arange(25))
  assert [row.tolist() for row in rows if len(row) > 1] == [[16, 20, 21, 22, 23, 24]]
