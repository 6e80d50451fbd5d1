from collections import defaultdict
import contextlib
from fractions import Fraction
import os
import subprocess
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import sparse

from seqlab.data.store import TokenStore
from seqlab.data.text_store import encode_text
from seqlab.embeddings import contexts as contexts_module
from seqlab.embeddings import cooccurrence as module
from seqlab.embeddings.contexts import WEIGHTINGS, Contexts, Thinning, positions
from seqlab.embeddings.cooccurrence import cached_cooccurrence, cooccurrence
from seqlab.text.plain import open_text
from seqlab.text.words import count_words

SIDES = ['both', 'left', 'right']
WEIGHTS = [*WEIGHTINGS]


def make_store(rows, dtype=np.uint16):
  offsets = np.cumsum([0, *map(len, rows)])
  return TokenStore(np.array([i for row in rows for i in row], dtype), offsets)


def by_loops(rows, V, window, side, weights):
  """The definition, written out."""
  sums = defaultdict(Fraction)
  for row in rows:
    for i, centre in enumerate(row):
      for j, context in enumerate(row):
        d = abs(i - j)
        if {'both': i != j, 'left': j < i, 'right': j > i}[side] and d <= window:
          sums[centre, context] += WEIGHTINGS[weights](window)[d - 1]
  table = np.zeros((V, V))
  for pair, total in sums.items():
    table[pair] = total
  return table


def random_rows(seed, V=7, rows=40, longest=30):
  random = np.random.default_rng(seed)
  weights = 1 / np.arange(1, V + 1)
  return [
    random.choice(V, random.integers(0, longest), p=weights / weights.sum()).tolist()
    for _ in range(rows)
  ]


def identical(a, b):
  return (a != b).nnz == 0 and a.nnz == b.nnz and a.dtype == b.dtype


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
  rows=st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=6),
  window=st.integers(1, 11),
  side=st.sampled_from(SIDES),
  weights=st.sampled_from(WEIGHTS),
)
def test_counts_are_those_of_three_loops(rows, window, side, weights):
  options = {'window': window, 'side': side, 'weights': weights}
  counts = cooccurrence(make_store(rows), 5, workers=1, **options)
  np.testing.assert_array_equal(counts.toarray(), by_loops(rows, 5, **options))


@pytest.fixture
def small_pieces(monkeypatch):
  """A memory size with which a piece has 1,024 places and a merge about 100 sums."""
  monkeypatch.setattr(module, 'MERGE_BYTES', 1_000)
  return 100_000


@pytest.mark.parametrize('side', SIDES)
@pytest.mark.parametrize('weights', WEIGHTS)
@pytest.mark.parametrize('V', [7, 300])
def test_spilled_and_merged_counts_are_the_same(small_pieces, side, weights, V):
  rows = random_rows(0, V, rows=400)
  options = {'window': 4, 'side': side, 'weights': weights}
  counts = cooccurrence(make_store(rows), V, memory=small_pieces, **options)
  assert identical(counts, cooccurrence(make_store(rows), V, **options))
  np.testing.assert_array_equal(counts.toarray(), by_loops(rows, V, **options))


def test_runs_lie_on_disk_only_where_memory_is_short(
  small_pieces, monkeypatch, tmp_path
):
  monkeypatch.setattr(module.tempfile, 'tempdir', str(tmp_path))
  store, seen, make = make_store(random_rows(0, rows=400)), [], module.staging

  @contextlib.contextmanager
  def watch(*where, **options):
    with make(*where, **options) as folder:
      yield folder
      seen.append((folder.stat().st_mode & 0o777, len(list(folder.iterdir()))))

  monkeypatch.setattr(module, 'staging', watch)
  cooccurrence(store, 7)
  assert not seen
  cooccurrence(store, 7, memory=small_pieces)
  [(mode, files)] = seen
  assert mode == 0o700
  assert files > 2
  assert not list(tmp_path.iterdir())


# Spills counted pairs, prints a line, and waits to be killed.
SPILL = """
import sys, time
import numpy as np
from seqlab.data.store import TokenStore
from seqlab.embeddings import cooccurrence as module

def wait(*_):
  print('spilled', flush=True)
  time.sleep(60)

if sys.argv[1:] == ['wait']:
  module.ranges = wait
ids = np.arange(5_000, dtype=np.uint16) % 300
store = TokenStore(ids, np.array([0, len(ids)]))
module.cooccurrence(store, 300, memory=100_000, workers=1)
"""


def test_runs_of_a_killed_process_are_deleted_by_the_next_one(tmp_path):
  environment = os.environ | {'TMPDIR': str(tmp_path)}
  command = [sys.executable, '-c', SPILL]
  options = dict(env=environment, stdout=subprocess.PIPE)
  with subprocess.Popen([*command, 'wait'], **options) as process:
    process.stdout.readline()
    [folder] = tmp_path.iterdir()
    assert len(list(folder.iterdir())) > 2
    subprocess.run(command, env=environment, check=True)
    assert list(tmp_path.iterdir()) == [folder]  # its process is running
    process.kill()
  subprocess.run(command, env=environment, check=True)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('damage', ['empty', 'cut', 'flipped'])
def test_damaged_counts_are_named_and_counted_again(text, tmp_path, capsys, damage):
  store, words = text
  right = cached_cooccurrence(store, words.size, tmp_path)
  [path] = (tmp_path / 'cooccurrence').glob('*/counts.npz')
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  part = {'empty': b'', 'cut': data[:-9], 'flipped': data}[damage]
  path.write_bytes(part)
  assert identical(cached_cooccurrence(store, words.size, tmp_path), right)
  assert f'{path.parent} has a counts.npz' in capsys.readouterr().err


def test_counts_that_do_not_fit_on_the_disk_are_named(text, small_disk, fill):
  store, words = text
  filler = fill(small_disk)
  with filler.open('r+b') as file:
    file.truncate(filler.stat().st_size - 2**12)
  with pytest.raises(OSError, match=r'no space left for .*; free some, or set SEQLAB'):
    cached_cooccurrence(store, words.size, small_disk)


@pytest.mark.parametrize('workers', [0, 1, 3])
@pytest.mark.parametrize('memory', [100_000, 10**6, 2**30])
def test_workers_and_memory_change_nothing(workers, memory):
  store = make_store(random_rows(1, 50, rows=900))
  keep = np.linspace(0.2, 1, 50)
  options = {'weights': 'harmonic', 'keep': keep}
  counts = cooccurrence(store, 50, workers=workers, memory=memory, **options)
  assert identical(counts, cooccurrence(store, 50, workers=2, **options))


def test_a_row_longer_than_a_piece_is_counted_completely(small_pieces):
  rows = [*random_rows(2, longest=3), *random_rows(2, rows=1, longest=9_000)]
  assert max(map(len, rows)) > 2_000
  options = {'window': 6, 'side': 'right', 'weights': 'linear'}
  counts = cooccurrence(make_store(rows), 7, memory=small_pieces, **options)
  whole = cooccurrence(make_store(rows), 7, workers=1, **options)
  assert identical(counts, whole)
  first = rows[-1][:300]
  part = cooccurrence(make_store([first]), 7, **options)
  np.testing.assert_array_equal(part.toarray(), by_loops([first], 7, **options))


def test_bounds_of_rows_are_bounds_of_windows():
  counts = cooccurrence(make_store([[0, 1], [], [2, 3]]), 4, window=3).toarray()
  assert counts[0, 1] == counts[1, 0] == counts[2, 3] == 1
  assert counts.sum() == 4


def test_a_word_next_to_itself_is_counted_on_both_sides():
  assert cooccurrence(make_store([[0, 0]]), 1).toarray().tolist() == [[2]]
  assert cooccurrence(make_store([[0, 0]]), 1, side='left').toarray().tolist() == [[1]]


def test_left_is_the_transpose_of_right():
  store = make_store(random_rows(3))
  left, right = (cooccurrence(store, 7, side=side) for side in ('left', 'right'))
  assert identical(left, right.T.tocsr())
  assert (left != right).nnz


@pytest.mark.parametrize('rows', [[], [[]], [[], [3], []]])
def test_text_without_neighbours_gives_a_matrix_of_zeros(rows):
  counts = cooccurrence(make_store(rows), 5)
  assert counts.shape == (5, 5)
  assert counts.nnz == 0


def test_sums_of_fractions_are_exact():
  row = [0, 1] * 3_000
  counts = cooccurrence(make_store([row]), 2, window=3, weights='harmonic')
  pairs = 5_999 + Fraction(5_997, 3)
  assert counts[0, 1] == float(pairs)


def drop(rows, store, thinning, gap):
  kept = thinning.kept(store.ids, 0)
  for row, start in zip(rows, store.offsets, strict=False):
    places = [word if kept[start + i] else None for i, word in enumerate(row)]
    yield places if gap else [word for word in places if word is not None]


@pytest.mark.parametrize('memory', [100_000, 2**30])
@pytest.mark.parametrize('mode', ['dirty', 'clean'])
def test_omitted_places_leave_a_gap_or_none(mode, memory):
  rows = [*random_rows(4, rows=90), *random_rows(4, rows=1, longest=5_000)]
  store = make_store(rows)
  keep = np.array([0.01, 0.1, 0.3, 0.5, 0.7, 1, 1], np.float32)
  counts = cooccurrence(store, 7, keep=keep, mode=mode, seed=5, memory=memory)
  thinned = list(drop(rows, store, Thinning(keep, mode, 5), mode == 'clean'))
  padded = make_store([[w if w is not None else 7 for w in row] for row in thinned])
  expected = cooccurrence(padded, 8).toarray()[:7, :7]
  np.testing.assert_array_equal(counts.toarray(), expected)


def test_the_probability_of_keeping_a_place_depends_on_its_word():
  ids = np.repeat([0, 1, 2], 100_000)
  kept = Thinning(np.array([0.1, 0.5, 1], np.float32), 'dirty', 0).kept(ids, 0)
  np.testing.assert_allclose(kept.reshape(3, -1).mean(1), [0.1, 0.5, 1], atol=0.01)


def test_the_kept_places_depend_on_their_number_and_the_seed(monkeypatch):
  monkeypatch.setattr(contexts_module, '_BLOCK', 64)
  ids = np.zeros(500, np.int32)
  thinning = Thinning(np.array([0.5], np.float32), 'dirty', 1)
  whole = thinning.kept(ids, 0)
  for start, stop in [(0, 64), (63, 65), (64, 65), (100, 500)]:
    part = thinning.kept(ids[start:stop], start)
    np.testing.assert_array_equal(part, whole[start:stop])
  other = Thinning(np.array([0.5], np.float32), 'dirty', 2)
  assert (other.kept(ids, 0) != whole).any()


def test_a_window_may_span_many_omitted_places():
  row = [0, *[1] * 10_000, 0]
  keep = np.array([1, 0], np.float32)
  ids, _, n = positions(make_store([row]), 0, 5, 2, Thinning(keep, 'dirty', 0))
  assert (ids.tolist(), n) == ([0, 0], 1)


@pytest.mark.parametrize('weights', WEIGHTS)
@pytest.mark.parametrize('side', SIDES)
def test_a_device_counts_the_same(side, weights):
  store = make_store(random_rows(6, 30, rows=150))
  keep = np.linspace(0.3, 1, 30, dtype=np.float32)
  options = {'side': side, 'weights': weights, 'keep': keep, 'mode': 'clean'}
  counts = cooccurrence(store, 30, device=True, workers=2, **options)
  assert identical(counts, cooccurrence(store, 30, **options))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'side': 'top'}, "side is 'top'; it may be 'both' or 'left' or 'right'"),
    ({'weights': 'round'}, "unknown counts.weights 'round'"),
    ({'window': 0}, 'window 0 and V 5 must be 1 or more'),
    ({'keep': np.ones(5), 'mode': 'grey'}, "mode is 'grey'; it may be 'dirty'"),
    ({'keep': np.ones(4)}, 'keep has 4 probabilities for 5 words'),
    (
      {'window': 20, 'weights': 'harmonic', 'device': True},
      'enough for 2 positions at a time: use a narrower window',
    ),
    ({'window': 60, 'weights': 'harmonic'}, 'not exact in 64 bits: use a narrower'),
    ({'memory': 0}, 'counts.memory is 0; it must be at least 1'),
    ({'memory': -1}, 'counts.memory is -1; it must be at least 1'),
    ({'memory': '1GB'}, "counts.memory is '1GB'; it must be a whole number"),
    ({'workers': -1}, 'counts.workers is -1; it must be at least 0'),
    ({'seed': -1}, 'counts.seed is -1; it must be at least 0'),
    ({'device': 'gpu'}, "counts.device is 'gpu'; it must be true or false"),
  ],
)
def test_unusable_options_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    cooccurrence(make_store([[0, 1]]), 5, **options)


def test_an_id_outside_the_vocabulary_is_an_error():
  with pytest.raises(ValueError, match=r'id 9 near position 3 .* not below V = 5'):
    cooccurrence(make_store([[0, 1], [2, 9]]), 5, workers=1)


def test_a_matrix_too_large_for_the_machine_is_an_error_with_its_size(
  monkeypatch,
):
  monkeypatch.setattr(module, 'machine_memory', lambda: 2**18)
  store = make_store(random_rows(7, 300, rows=2_000))
  with pytest.raises(ValueError, match=r'takes 0\.00\d+ GiB .* keep fewer words'):
    cooccurrence(store, 300)


def test_a_full_disk_is_named_with_the_space_that_is_needed(
  small_disk, small_pieces, monkeypatch
):
  monkeypatch.setattr(module.tempfile, 'tempdir', str(small_disk))
  store = make_store(random_rows(8, 5_000, rows=3_000))
  with pytest.raises(
    OSError, match=r'no space left for counted pairs: up to \d\.\d MiB'
  ):
    cooccurrence(store, 5_000, memory=small_pieces)
  assert list(small_disk.iterdir()) == []


@pytest.fixture
def text(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_text('one two three\ntwo one\n' * 30, 'utf-8')
  corpus = open_text(path=path)
  words = count_words(corpus)
  return encode_text(corpus, words, tmp_path), words


def test_counts_are_made_once_and_are_an_npz_of_scipy(text, tmp_path, monkeypatch):
  store, words = text
  first = cached_cooccurrence(store, words.size, tmp_path, window=2)
  assert identical(first, cooccurrence(store, words.size, window=2))
  [file] = (tmp_path / 'cooccurrence').glob('*/counts.npz')
  assert identical(sparse.load_npz(file), first)
  monkeypatch.setattr(module, '_matrix', None)
  assert identical(
    cached_cooccurrence(store, words.size, tmp_path, window=2, workers=1), first
  )


def test_other_options_or_another_text_are_noticed(text, tmp_path):
  store, words = text
  keep = np.full(words.size, 0.5)
  variants = [{}, {'window': 1}, {'side': 'left'}, {'keep': keep}, {'keep': keep / 2}]
  for options in variants:
    cached_cooccurrence(store, words.size, tmp_path, **options)
  store.fingerprint = 'other'
  cached_cooccurrence(store, words.size, tmp_path)
  assert len(list((tmp_path / 'cooccurrence').iterdir())) == len(variants) + 1


def test_keys_of_pairs_have_enough_bits():
  assert Contexts(1, 5, 'both', 'flat').bits == 1
  assert Contexts(2**16, 5, 'both', 'flat').bits == 16
  assert Contexts(2**16 + 1, 5, 'both', 'flat').bits == 17
  with pytest.raises(ValueError, match='too many: a pair takes 64 bits or more'):
    Contexts(2**31, 5, 'both', 'flat').check(1)


@pytest.mark.parametrize(
  ('weights', 'expected'),
  [
    ('flat', [1, 1, 1, 1]),
    ('linear', [1, 0.75, 0.5, 0.25]),
    ('harmonic', [1, 1 / 2, 1 / 3, 1 / 4]),
  ],
)
def test_weights_are_those_of_the_papers(weights, expected):
  assert [float(x) for x in WEIGHTINGS[weights](4)] == expected


def squares(window):
  """A weighting that a user defines: 1 / d^2."""
  return [Fraction(1, d * d) for d in range(1, window + 1)]


def test_a_users_own_weights_are_named_by_a_path(text, tmp_path, monkeypatch):
  store, words = text
  options = {'window': 2, 'weights': f'{__name__}:squares'}
  weighted = cached_cooccurrence(store, words.size, tmp_path, **options)
  flat = cooccurrence(store, words.size, window=1)
  distant = cooccurrence(store, words.size, window=2) - flat
  np.testing.assert_allclose(weighted.toarray(), (flat + distant / 4).toarray())
  # Another function of the same name has other counts.
  monkeypatch.setattr(sys.modules[__name__], 'squares', WEIGHTINGS['flat'])
  changed = cached_cooccurrence(store, words.size, tmp_path, **options)
  assert identical(changed, cooccurrence(store, words.size, window=2))


@pytest.mark.parametrize(
  'wrong', [[Fraction(1)], [Fraction(1), Fraction(0)], [1, -1]], ids=str
)
def test_a_users_wrong_weights_are_refused(wrong, monkeypatch):
  monkeypatch.setattr(sys.modules[__name__], 'squares', lambda window: wrong)
  with pytest.raises(ValueError, match='there must be 2 weights above 0'):
    cooccurrence(make_store([[0, 1]]), 2, window=2, weights=f'{__name__}:squares')
