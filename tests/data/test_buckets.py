import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from seqlab.data.buckets import bucket_bounds

LENGTHS = st.lists(
  st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=14
)
SHAPES = st.integers(1, 4)
steady = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def sides(pairs):
  return np.array(pairs).T


def cells(source, target, bounds):
  """Positions that these bounds use, with one row per pair."""
  bucket = np.searchsorted(bounds, np.maximum(source, target))
  return sum(
    (bucket == i).sum() * (source[bucket == i].max() + target[bucket == i].max())
    for i in range(len(bounds))
  )


@steady
@given(LENGTHS, SHAPES)
def test_no_other_bounds_waste_less(pairs, shapes):
  source, target = sides(pairs)
  *inner, last = np.unique(np.maximum(source, target)).tolist()
  minimum = min(
    cells(source, target, [*cuts, last])
    for n in range(min(shapes, len(inner) + 1))
    for cuts in itertools.combinations(inner, n)
  )
  assert cells(source, target, bucket_bounds([source, target], shapes)) == minimum


@steady
@given(LENGTHS, SHAPES)
def test_bounds_cover_every_length_in_few_buckets(pairs, shapes):
  source, target = sides(pairs)
  bounds = bucket_bounds([source, target], shapes)
  longer = np.maximum(source, target)
  assert 1 <= len(bounds) <= shapes
  assert (np.diff(bounds) > 0).all()
  assert bounds[-1] == longer.max()
  assert set(bounds.tolist()) <= set(longer.tolist())  # no bucket is empty


def test_more_shapes_never_waste_more():
  source, target = np.random.default_rng(0).integers(1, 60, (2, 500))
  waste = [
    cells(source, target, bucket_bounds([source, target], shapes))
    for shapes in range(1, 12)
  ]
  assert waste == sorted(waste, reverse=True)
  assert waste[-1] < waste[0]


def test_a_shape_for_each_length_wastes_nothing():
  lengths = np.array([3, 7, 7, 12, 3, 40])
  bounds = bucket_bounds([lengths, lengths], 4)
  assert bounds.tolist() == [3, 7, 12, 40]


def test_shapes_that_save_nothing_are_not_used():
  lengths = np.array([5, 5, 5])
  assert bucket_bounds([lengths, lengths], 8).tolist() == [5]


def test_a_bound_lies_between_two_groups_of_lengths():
  lengths = np.array([4] * 10 + [5] * 10 + [29] * 10 + [30] * 10)
  assert bucket_bounds([lengths, lengths], 2).tolist() == [5, 30]


def test_errors():
  one = np.array([1])
  with pytest.raises(ValueError, match=r'batching.shapes is 0; it must be at least 1'):
    bucket_bounds([one, one], 0)
  with pytest.raises(ValueError, match=r'there are no sentences to make batches of'):
    bucket_bounds([one[:0], one[:0]], 2)
