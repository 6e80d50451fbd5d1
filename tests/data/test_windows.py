import numpy as np
import pytest

from seqlab.data.store import TokenStore
from seqlab.data.windows import NO_WORD, WindowBatches, heldout_batch, sentences

V, LANES, LENGTH, WINDOW = 50, 4, 24, 3


def text(lengths=(5, 0, 1, 40, 17, 3, 120, 8) * 6) -> TokenStore:
  ids = np.random.default_rng(0).integers(0, V, sum(lengths)).astype(np.uint16)
  return TokenStore(ids, np.concatenate([[0], np.cumsum(lengths)]))


def batches(keep=None, store=None, **options) -> WindowBatches:
  keep = np.ones(V) if keep is None else keep
  shape = {'streams': LANES, 'length': LENGTH, 'window': WINDOW}
  return WindowBatches(store or text(), keep, **{**shape, **options})


def inner(batch: dict, name: str = 'words') -> np.ndarray:
  """Returns [B * L] without the words that streams share."""
  return batch[name][:, WINDOW:-WINDOW].ravel()


def read(batches: WindowBatches, epoch: int = 0, seed: int = 0) -> list[dict]:
  n = batches.steps_per_epoch
  return [batches.batch(k, seed=seed) for k in range(epoch * n, (epoch + 1) * n)]


def test_an_epoch_has_every_word_once():
  words = np.concatenate([inner(b) for b in read(batches())])
  np.testing.assert_array_equal(np.sort(words[words >= 0]), np.sort(text().ids))


def test_a_sentence_stays_together_and_in_order():
  store = text()
  sentences = set()
  for batch in read(batches(store=store, max_sentence=40)):
    words, number = inner(batch), inner(batch, 'sentence')
    sentences |= {tuple(words[number == n]) for n in set(number[number >= 0])}
  assert tuple(store[0]) in sentences
  assert tuple(store[3]) in sentences
  assert tuple(store[6][:40]) in sentences


def test_streams_share_the_words_at_their_ends():
  words = batches().batch(0, seed=0)['words']
  np.testing.assert_array_equal(words[1, : 2 * WINDOW], words[0, -2 * WINDOW :])
  assert (words[0, :WINDOW] == NO_WORD).all()


def test_a_batch_depends_on_seed_and_number_alone():
  keep = np.full(V, 0.5)
  one, other = batches(keep), batches(keep)
  other.batch(3, seed=1)
  for name, value in one.batch(2, seed=1).items():
    np.testing.assert_array_equal(value, other.batch(2, seed=1)[name])
  assert (inner(one.batch(2, seed=1)) != inner(one.batch(2, seed=2))).any()


def test_epochs_have_the_batches_in_different_orders():
  windows = batches()
  first, second = ([inner(b)[0] for b in read(windows, e)] for e in (0, 1))
  assert sorted(first) == sorted(second)
  assert first != second


def test_hosts_rows_concatenate_to_the_global_batch():
  windows = batches(np.full(V, 0.7))
  whole = windows.batch(1, seed=0)
  parts = [windows.batch(1, seed=0, rows=(i, 2)) for i in range(2)]
  for name, value in whole.items():
    np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), value)


def test_counts_are_of_all_words_of_the_text():
  windows = batches(np.full(V, 0.5))
  assert (
    sum(b['count'].sum() for b in read(windows)) == len(text().ids) == windows.words
  )


def test_words_are_kept_with_the_requested_probability():
  keep = np.linspace(0.1, 1, V)
  windows = batches(keep, text((200,) * 300), length=240)
  words = np.concatenate([inner(b) for epoch in range(5) for b in read(windows, epoch)])
  share = np.bincount(words[words >= 0], minlength=V) / 5
  share = share / np.bincount(text((200,) * 300).ids, minlength=V)
  np.testing.assert_allclose(share, keep, atol=0.03)


def test_kept_gaps_leave_words_in_their_positions():
  windows = batches(np.full(V, 0.5), keep_gaps=True)
  full = batches()
  batch, whole = windows.batch(0, seed=0), full.batch(0, seed=0)
  gap = batch['words'] == NO_WORD
  np.testing.assert_array_equal(batch['sentence'], whole['sentence'])
  np.testing.assert_array_equal(batch['words'][~gap], whole['words'][~gap])
  assert 0.4 < gap[whole['words'] >= 0].mean() < 0.6


def test_held_out_lines_are_not_trained_on():
  lengths = (6,) * 20
  ids = np.arange(120) % 251
  store = TokenStore(ids.astype(np.uint16), np.arange(0, 121, 6))
  windows = batches(np.ones(251), store, heldout=5)
  words = np.concatenate([inner(b) for b in read(windows)])
  held = heldout_batch(store, 5, max_words=1000, length=LENGTH, window=WINDOW)
  heldout = inner(held)
  np.testing.assert_array_equal(heldout[heldout >= 0], ids.reshape(20, 6)[4::5].ravel())
  assert not set(heldout[heldout >= 0]) & set(words)
  assert len(words[words >= 0]) + len(heldout[heldout >= 0]) == len(ids) == sum(lengths)


def test_rows_without_words_are_not_held_out():
  store = TokenStore(np.arange(20, dtype=np.uint16), np.repeat(np.arange(0, 21, 2), 2))
  train, heldout = sentences(store, 5)
  assert heldout.tolist() == [[8, 10], [18, 20]]
  assert len(train) == 8


def test_a_single_line_is_divided_at_the_longest_sentence():
  store = TokenStore(np.arange(100, dtype=np.uint16), np.array([0, 100]))
  train, heldout = sentences(store, 4, longest=10)
  assert heldout.tolist() == [[30, 40], [70, 80]]
  assert (train[:, 1] - train[:, 0]).sum() == 80


def test_a_long_sentence_is_held_out_in_part():
  store = TokenStore(np.arange(100, dtype=np.uint16), np.arange(0, 101, 20))
  heldout = inner(heldout_batch(store, 2, max_words=25, length=LENGTH, window=WINDOW))
  assert heldout[heldout >= 0].tolist() == [*range(20, 40), *range(60, 65)]


@pytest.mark.parametrize('every', [-1, 1])
def test_holding_out_everything_is_an_error(every):
  with pytest.raises(
    ValueError, match=rf'corpus\.heldout is {every}; .* 0 to hold out'
  ):
    batches(heldout=every)


def test_nothing_to_hold_out_is_an_error():
  message = r'corpus\.heldout=500 holds out none of .* leave out evals\.heldout'
  with pytest.raises(ValueError, match=message):
    heldout_batch(text(), 500, max_words=10, length=LENGTH, window=WINDOW)


def test_a_text_without_words_is_an_error():
  empty = TokenStore(np.zeros(0, np.uint16), np.zeros(4, np.int64))
  with pytest.raises(ValueError, match='no words to train on'):
    batches(store=empty)


def test_a_stream_shorter_than_the_window_is_an_error():
  with pytest.raises(ValueError, match=r'batching\.length is 2, less than the window'):
    batches(length=2)


@pytest.mark.parametrize(
  ('option', 'value', 'name'),
  [
    ('streams', 0, 'batching.streams'),
    ('streams', -1, 'batching.streams'),
    ('streams', 1.5, 'batching.streams'),
    ('length', 0, 'batching.length'),
    ('window', 0, 'batching.window'),
    ('window', True, 'batching.window'),
    ('max_sentence', 0, 'batching.max_sentence'),
    ('max_sentence', -10, 'batching.max_sentence'),
    ('keep_gaps', 'yes', 'batching.keep_gaps'),
    ('heldout', '200', 'corpus.heldout'),
    ('heldout', -1, 'corpus.heldout'),
    ('heldout', 1, 'corpus.heldout'),
  ],
)
def test_an_option_outside_its_domain_is_refused(option, value, name):
  with pytest.raises(ValueError, match=rf'{name} is .*; it must be '):
    batches(**{option: value})


def test_an_id_outside_the_vocabulary_is_refused():
  with pytest.raises(ValueError, match=r'has an id outside the 3 words'):
    batches(keep=np.ones(3))
