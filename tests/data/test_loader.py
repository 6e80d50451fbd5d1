import threading

import numpy as np
import pytest

from seqlab.data.buckets import Buckets
from seqlab.data.loader import feed
from seqlab.data.store import TokenStore


@pytest.fixture(scope='module')
def batches():
  lengths = np.random.default_rng(0).integers(1, 20, 300)
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  store = TokenStore(np.arange(4, 4 + offsets[-1]).astype(np.uint16), offsets)
  return Buckets({'source': store, 'target': store}, tokens=256)


def number(k):
  return {'k': np.array([k])}


def numbers(batches):
  return [batch['k'].item() for batch in batches]


def test_batches_come_in_order_whichever_thread_is_faster():
  second = threading.Event()

  def make(k):
    if k == 0:
      assert second.wait(30)  # until another thread has made batch 1
    if k == 1:
      second.set()
    return number(k)

  assert numbers(feed(make, 0, 20, threads=2)) == list(range(20))


def test_start_is_included_and_stop_is_not():
  assert numbers(feed(number, 17, 21)) == [17, 18, 19, 20]


def test_no_batches_follow_the_last_step():
  assert numbers(feed(number, 21, 21)) == []


def test_fed_batches_equal_those_made_directly(batches):
  start, stop = 5, 2 * batches.steps_per_epoch + 3
  fed = list(feed(lambda k: batches.batch(k, seed=1), start, stop, threads=4))
  assert len(fed) == stop - start
  for k, batch in zip(range(start, stop), fed, strict=True):
    direct = batches.batch(k, seed=1)
    assert batch.keys() == direct.keys()
    for name in direct:
      np.testing.assert_array_equal(batch[name], direct[name])


def test_an_error_reaches_the_consumer_after_the_batches_before_it():
  def make(k):
    if k == 3:
      raise ValueError('batch 3 is broken')
    return number(k)

  batches = feed(make, 0, 9)
  assert [next(batches)['k'].item() for _ in range(3)] == [0, 1, 2]
  with pytest.raises(ValueError, match='batch 3 is broken'):
    next(batches)


def test_batches_are_built_before_they_are_asked_for():
  ahead = threading.Event()

  def make(k):
    if k == 5:
      ahead.set()
    return number(k)

  batches = feed(make, 0, 100, buffer=8)
  next(batches)
  assert ahead.wait(30)


def test_no_more_is_built_ahead_than_the_buffer_holds():
  built = []

  def make(k):
    built.append(k)
    return number(k)

  batches = feed(make, 0, 1_000, buffer=4)
  for consumed in range(1, 11):
    next(batches)
    assert len(built) <= consumed + 5
