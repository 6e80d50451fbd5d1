"""Batches of arrays in memory."""

import numpy as np
import pytest

from seqlab.data.arrays import ArrayBatches

ARRAYS = {'x': np.arange(20).reshape(10, 2), 'y': np.arange(10)}


def test_an_epoch_has_each_row_at_most_once_in_its_own_order():
  batches = ArrayBatches(ARRAYS, rows=3)
  assert (batches.steps_per_epoch, len(batches.shapes)) == (3, 1)
  epochs = [
    np.concatenate([batches.batch(3 * e + k, seed=1)['y'] for k in range(3)])
    for e in range(2)
  ]
  assert all(len(set(rows)) == 9 for rows in epochs)
  assert (epochs[0] != epochs[1]).any()
  again = ArrayBatches(ARRAYS, rows=3).batch(4, seed=1)  # also after other batches
  np.testing.assert_array_equal(again['y'], epochs[1][3:6])
  assert (batches.batch(4, seed=2)['y'] != again['y']).any()


def test_sides_of_a_row_stay_together_and_hosts_share_a_batch():
  batches = ArrayBatches(ARRAYS, rows=4)
  whole = batches.batch(1, seed=0)
  np.testing.assert_array_equal(whole['x'][:, 0], 2 * whole['y'])
  parts = [batches.batch(1, seed=0, rows=(i, 2))['y'] for i in range(2)]
  np.testing.assert_array_equal(np.concatenate(parts), whole['y'])


@pytest.mark.parametrize(
  ('rows', 'multiple', 'sizes'), [(4, 1, [4, 4, 2]), (7, 4, [4, 4, 2]), (50, 8, [10])]
)
def test_evaluation_has_each_row_once(rows, multiple, sizes):
  batches = ArrayBatches(ARRAYS, rows=rows, shuffle=False, rows_multiple=multiple)
  batched = [batches.batch(k)['y'] for k in range(batches.steps_per_epoch)]
  assert [len(x) for x in batched] == sizes
  np.testing.assert_array_equal(np.concatenate(batched), np.arange(10))
  assert sorted({len(s['y']) for s in batches.shapes}) == sorted(set(sizes))


@pytest.mark.parametrize(
  ('arrays', 'rows', 'message'),
  [
    (ARRAYS, 11, 'set rows to a number from 1 to 10'),
    (ARRAYS, 0, 'set rows to'),
    ({'x': np.zeros(3), 'y': np.zeros(4)}, 2, "{'x': 3, 'y': 4}"),
  ],
)
def test_arrays_that_make_no_batch_are_refused(arrays, rows, message):
  with pytest.raises(ValueError, match=message):
    ArrayBatches(arrays, rows=rows)
