"""Batches of running text: every id has its predecessor; an epoch has all ids."""

import itertools

import numpy as np
import pytest

from seqlab.data.store import TokenStore
from seqlab.data.streams import STREAMS, SlidingWindows, Streams, Windows
from seqlab.pieces import find
from seqlab.types import EOS, PAD

N = 203


def sides(count=N):
  """A text whose ids from 4 on are consecutive numbers, with EOS as its last id."""
  ids = np.append(np.arange(4, 3 + count), EOS).astype(np.uint16)
  return {'text': TokenStore(ids, np.array([0, count]))}


@pytest.mark.parametrize('name', STREAMS)
def test_every_kind_gives_an_id_and_its_predecessor_as_a_function_of_seed_and_k(name):
  kind, _ = find(name, STREAMS, 'batching')
  batches, again = (kind(sides(), rows=4, length=5) for _ in range(2))
  assert batches.is_running
  for k in (7, 0, 25):
    batch = batches.batch(k, seed=3)
    assert {n: x.shape for n, x in batch.items()} == {
      n: x.shape for n, x in batches.shapes[0].items()
    }
    rows = np.concatenate([batch['previous'][:, None], batch['text']], axis=1)
    step = np.diff(rows)
    assert ((step == 1) | (rows[:, 1:] == EOS) | (rows[:, :-1] == EOS)).all()
    shares = [again.batch(k, seed=3, rows=(i, 2)) for i in range(2)]
    for n, x in batch.items():
      np.testing.assert_array_equal(np.concatenate([s[n] for s in shares]), x)
  assert (batches.batch(0, seed=0)['text'] != batches.batch(0, seed=1)['text']).any()
  with pytest.raises(ValueError, match='fewer than a batch'):
    kind(sides(9), rows=2, length=5)
  with pytest.raises(ValueError, match=r'batching\.length'):
    kind(sides(), length=0)
  with pytest.raises(ValueError, match='one side'):
    kind({'source': None, 'target': None})


def test_streams_continue_and_an_epoch_has_every_id_once():
  batches = Streams(sides(), rows=4, length=5)
  epoch = [batches.batch(k, seed=0) for k in range(batches.steps_per_epoch)]
  for before, after in itertools.pairwise(epoch):
    np.testing.assert_array_equal(after['previous'], before['text'][:, -1])
  assert [x['fresh'].tolist() for x in epoch] == [[1] * 4] + [[0] * 4] * 9
  assert epoch[3]['row'].tolist() == [0, 1, 2, 3]
  ids = np.concatenate([x['text'].reshape(-1) for x in epoch])
  assert len({*ids.tolist()}) == len(ids) == 200
  following = batches.batch(batches.steps_per_epoch, seed=0)
  assert following['fresh'].all()
  assert (following['text'] != epoch[0]['text']).any()


def test_windows_end_with_the_text_at_the_latest():
  batches = Windows(sides(), rows=2, length=100)
  drawn = [batches.batch(k, seed=0)['text'] for k in range(900)]
  first = {int(x) for text in drawn for x in text[:, 0]}
  assert first == {*range(5, 5 + 103)}
  assert any((text[:, -1] == EOS).any() for text in drawn)


def test_a_window_needs_an_id_before_it():
  assert len(Windows(sides(6), rows=1, length=5).batch(0, seed=0)['text']) == 1
  with pytest.raises(ValueError, match=r'a row of 5 needs one more'):
    Windows(sides(5), rows=1, length=5)


@pytest.mark.parametrize(
  ('context', 'stride'), [(10, 10), (10, 3), (7, 1), (300, 300), (203, 50)]
)
def test_sliding_windows_score_every_id_once_with_its_context(context, stride):
  batches = SlidingWindows(
    sides(), context=context, stride=stride, tokens=50, rows_multiple=2
  )
  scored, fewest = [], N
  for k in range(batches.steps_per_epoch):
    batch = batches.batch(k, seed=0)
    assert len(batch['text']) % 2 == 0
    assert batch['text'].shape == batches.shapes[0]['text'].shape
    for text, previous, counts in zip(
      batch['text'], batch['previous'], batch['scored'], strict=True
    ):
      ids = text[counts > 0]
      assert PAD not in ids
      scored += ids.tolist()
      if len(ids) and previous != EOS:
        fewest = min(fewest, int(np.argmax(counts)))
        assert previous == text[0] - 1
  assert sorted(scored) == sorted(sides()['text'].ids.tolist())
  if context < N:
    assert fewest == context - stride


def test_a_stride_longer_than_the_context_is_refused():
  with pytest.raises(ValueError, match='stride is 5'):
    SlidingWindows(sides(), context=4, stride=5)
