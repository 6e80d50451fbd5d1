"""Properties of the kinds of batching that have each example once per epoch."""

import numpy as np
import pytest

from seqlab.data.batching import make_batches
from seqlab.data.packing import Packed
from seqlab.data.store import TokenStore
from seqlab.tasks.interface import EmptyBatches
from seqlab.types import EOS, PAD

KINDS = ('buckets', 'packed')
FIRST = 1_000  # the first word of pair i is FIRST + i, which identifies the pair


def store(lengths, seed=0):
  """Sentences of these lengths: a word that names the pair, any words, EOS."""
  ids = np.random.default_rng(seed).integers(4, 100, int(np.sum(lengths)))
  offsets = np.concatenate([[0], np.cumsum(lengths)])
  ids[offsets[1:] - 1] = EOS
  ids[offsets[:-1]] = FIRST + np.arange(len(lengths))
  return TokenStore(ids.astype(np.uint16), offsets)


def lengths_of(pairs=203, longest=20, seed=0):
  """Lengths of sources, and of targets that are longer on average."""
  source, target = np.random.default_rng(seed).integers(2, longest + 1, (2, pairs))
  return np.minimum(source, longest - 3), target


def stores(**options):
  source, target = lengths_of(**options)
  return store(source, 1), store(target, 2)


def sides_of(both):
  return dict(zip(('source', 'target'), both, strict=True))


def make(kind='buckets', both=None, *, sampled=(), reverse=(), repeats=None, **options):
  options = {'tokens': 320, 'max_length': 24, 'shapes': 4, **options}
  sampled = [sides_of(stores) for stores in sampled]
  sides = sides_of(both or stores())
  context = dict(reverse=reverse, sampled=sampled, repeats=repeats)
  return make_batches({'kind': kind, **options}, sides, **context)


def shapes_of(batches):
  """The declared shapes (B, S, T)."""
  return [(*b['source'].shape, b['target'].shape[1]) for b in batches.shapes]


def epoch(batches, number=0, seed=0):
  n = batches.steps_per_epoch
  return [batches.batch(k, seed=seed) for k in range(number * n, (number + 1) * n)]


def pairs_in(batch, side='source'):
  """Returns the pairs of a batch in their order, read from its words."""
  ids = batch[side][batch[side] >= FIRST]
  return (ids - FIRST).tolist()


def all_pairs(batches, **options):
  return [i for batch in epoch(batches, **options) for i in pairs_in(batch)]


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('kind', KINDS)
def test_batch_k_is_the_same_in_any_order_and_from_a_new_object(kind):
  forwards, asked = make(kind), make(kind)
  n = forwards.steps_per_epoch
  expected = {k: forwards.batch(k, seed=3) for k in range(2 * n)}
  for k in np.random.default_rng(0).permutation(2 * n).tolist():
    asked.batch(k, seed=4)  # another seed in between changes nothing
    assert equal(asked.batch(k, seed=3), expected[k])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('number', [0, 1, 7])
def test_an_epoch_has_each_pair_once(kind, number):
  batches = make(kind)
  assert sorted(all_pairs(batches, number=number)) == list(range(203))


@pytest.mark.parametrize('kind', KINDS)
def test_source_and_target_of_a_pair_stay_together(kind):
  for batch in epoch(make(kind)):
    assert pairs_in(batch, 'source') == pairs_in(batch, 'target')


@pytest.mark.parametrize('kind', KINDS)
def test_epochs_and_seeds_have_different_orders(kind):
  batches = make(kind)
  orders = [
    all_pairs(batches, number=number, seed=seed)
    for number, seed in ((0, 0), (1, 0), (0, 1), (1, 1))
  ]
  assert len(set(map(tuple, orders))) == 4


def test_each_bucketed_epoch_puts_other_pairs_together():
  # Not only the order of the batches changes, but also which pairs share a batch.
  batches = make(shapes=1)
  together = [{frozenset(pairs_in(b)) for b in epoch(batches, e)} for e in (0, 1)]
  assert not together[0] & together[1]


def test_batches_of_different_buckets_are_interleaved():
  batches = make(both=stores(pairs=1_000), shapes=2)
  widths = [batch['target'].shape[1] for batch in epoch(batches)]
  # If one bucket followed the other, the width would change once.
  assert np.count_nonzero(np.diff(widths)) > 10


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('hosts', [2, 4, 8])
def test_hosts_rows_concatenate_to_the_global_batch(kind, hosts):
  batches = make(kind)
  for k in range(batches.steps_per_epoch):
    whole = batches.batch(k, seed=0)
    parts = [batches.batch(k, seed=0, rows=(i, hosts)) for i in range(hosts)]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in whole}
    assert equal(joined, whole)


@pytest.mark.parametrize('kind', KINDS)
def test_no_rows_give_an_empty_batch(kind):
  batches = make(kind, shapes=1)
  ((B, S, T),) = shapes_of(batches)
  batch = batches.batch(0, seed=0, rows=(0, 2 * B))
  assert batch['source'].shape == (0, S)
  assert batch['target'].shape == (0, T)


@pytest.mark.parametrize('kind', KINDS)
def test_batches_have_the_declared_shapes_and_use_all_of_them(kind):
  batches = make(kind)
  used = {
    (*batch['source'].shape, batch['target'].shape[1]) for batch in epoch(batches)
  }
  assert used == set(shapes_of(batches))
  assert len(batches.shapes) == (4 if kind == 'buckets' else 1)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rows_multiple', [1, 3, 8])
def test_a_batch_respects_its_limits_of_tokens_and_rows(kind, rows_multiple):
  for B, S, T in shapes_of(make(kind, rows_multiple=rows_multiple)):
    assert B % rows_multiple == 0
    assert max(B * S, B * T) <= 320
    assert (B + rows_multiple) * max(S, T) > 320  # and another row would not fit


@pytest.mark.parametrize('kind', KINDS)
def test_reported_waste_is_that_of_an_epoch(kind):
  batches = make(kind)
  sides = [b[side] for b in epoch(batches, 1) for side in ('source', 'target')]
  words = sum((ids != PAD).sum() for ids in sides)
  waste = 1 - words / sum(ids.size for ids in sides)
  assert batches.report['padding_waste'] == pytest.approx(waste)
  assert batches.report['padding_waste'] > 0


@pytest.mark.parametrize('kind', KINDS)
def test_reported_target_tokens_are_those_of_an_epoch(kind):
  batches = make(kind)
  words = sum((batch['target'] != PAD).sum() for batch in epoch(batches))
  assert batches.report['target_tokens'] == words
  assert batches.report['steps_per_epoch'] == len(epoch(batches))


@pytest.mark.parametrize('kind', KINDS)
def test_pairs_that_are_too_long_are_counted_and_no_other_is_missing(kind):
  source, target = lengths_of(longest=30)
  batches = make(kind, (store(source), store(target)))
  fits = np.flatnonzero(np.maximum(source, target) <= 24)
  assert 0 < len(fits) < 203
  assert sorted(all_pairs(batches)) == fits.tolist()
  assert batches.report['pairs'] == len(fits)
  assert batches.report['too_long'] == 203 - len(fits)


@pytest.mark.parametrize('kind', KINDS)
def test_max_length_none_leaves_nothing_out(kind):
  source, target = lengths_of(longest=30)
  batches = make(kind, (store(source), store(target)), max_length=None)
  assert sorted(all_pairs(batches)) == list(range(203))
  assert batches.report['too_long'] == 0
  assert max(T for _, _, T in shapes_of(batches)) == 30


@pytest.mark.parametrize('kind', KINDS)
def test_rows_without_a_sentence_are_padding(kind):
  batches = make(kind)
  empty = 0
  for k, batch in enumerate(epoch(batches)):
    rows = batches.rows(k)
    assert len(rows) == len(batch['source'])
    for side in ('source', 'target'):
      np.testing.assert_array_equal((batch[side] == PAD).all(axis=1), rows == -1)
    empty += (rows == -1).sum()
  assert empty


def test_rows_names_the_line_of_each_bucketed_row():
  source, target = both = stores()
  batches = make(both=both)
  for k, batch in enumerate(epoch(batches)):
    for line, s, t in zip(
      batches.rows(k), batch['source'], batch['target'], strict=True
    ):
      if line >= 0:
        np.testing.assert_array_equal(s[: source.lengths[line]], source[line])
        np.testing.assert_array_equal(t[: target.lengths[line]], target[line])
        assert not s[source.lengths[line] :].any()
        assert not t[target.lengths[line] :].any()


def unpack(batch, side):
  """Returns the sentences of a packed batch; checks its segments and positions."""
  ids, segment = batch[side], batch[f'{side}_segment']
  position = batch[f'{side}_position']
  np.testing.assert_array_equal(segment == 0, ids == PAD)
  assert not position[segment == 0].any()
  sentences = []
  for row in range(len(ids)):
    used = segment[row][segment[row] > 0]
    assert (np.diff(used) >= 0).all()  # one after the other
    assert sorted(set(used.tolist())) == list(range(1, used.max(initial=0) + 1))
    for number in range(1, used.max(initial=0) + 1):
      at = segment[row] == number
      assert position[row][at].tolist() == list(range(at.sum()))
      sentences.append(ids[row][at].tolist())
  return sentences


def test_a_packed_epoch_has_the_sentences_of_the_store():
  for side, lines in zip(('source', 'target'), both := stores(), strict=True):
    batches = make('packed', both)
    sentences = [s for batch in epoch(batches) for s in unpack(batch, side)]
    assert sorted(sentences) == sorted(lines[i].tolist() for i in range(203))


def test_packed_segments_pair_source_with_target():
  for batch in epoch(make('packed')):
    sides = [unpack(batch, side) for side in ('source', 'target')]
    assert [s[0] for s in sides[0]] == [t[0] for t in sides[1]]
    np.testing.assert_array_equal(
      batch['source_segment'].max(axis=1), batch['target_segment'].max(axis=1)
    )


def test_packing_wastes_less_than_a_bucket_of_the_same_width():
  both = stores(pairs=2_000)
  packed, padded = (
    make(kind, both, tokens=1_024, max_length=128) for kind in KINDS[::-1]
  )
  wide = make(both=both, tokens=1_024, max_length=128, shapes=1)
  assert packed.report['padding_waste'] < 0.15
  assert packed.report['padding_waste'] < padded.report['padding_waste']
  assert padded.report['padding_waste'] < wide.report['padding_waste']


def test_a_bucketed_source_can_be_reversed():
  source, target = both = stores()
  batches = make(both=both, reverse=['source'])
  for k, batch in enumerate(epoch(batches)):
    for line, s, t in zip(
      batches.rows(k), batch['source'], batch['target'], strict=True
    ):
      if line >= 0:
        *words, end = source[line].tolist()
        assert s[s != PAD].tolist() == [*words[::-1], end]
        assert t[t != PAD].tolist() == target[line].tolist()
      else:
        assert not s.any()


def test_a_packed_source_can_be_reversed():
  plain, mirrored = make('packed'), make('packed', reverse=['source'])
  for before, after in zip(epoch(plain), epoch(mirrored), strict=True):
    assert unpack(after, 'target') == unpack(before, 'target')
    assert unpack(after, 'source') == [
      [*words[::-1], end] for *words, end in unpack(before, 'source')
    ]


@pytest.fixture
def segmentations():
  """Three ways to cut the same pairs, some of which are longer than others."""
  random = np.random.default_rng(5)
  source, target = lengths_of()
  longer = [random.integers(0, 4, (2, 203)) for _ in range(3)]
  return [(store(source + s, 1), store(target + t, 2)) for s, t in longer]


@pytest.mark.parametrize('kind', KINDS)
def test_epoch_e_reads_segmentation_e_mod_n(kind, segmentations):
  batches = make(kind, sampled=segmentations)
  for number in range(5):
    source, target = segmentations[number % 3]
    for side, lines in (('source', source), ('target', target)):
      expected = sorted(lines[i].tolist() for i in range(203))
      if kind == 'packed':
        sentences = [s for b in epoch(batches, number) for s in unpack(b, side)]
      else:
        rows = [row for b in epoch(batches, number) for row in b[side]]
        sentences = [row[row != PAD].tolist() for row in rows if row.any()]
      assert sorted(sentences) == expected


@pytest.mark.parametrize('kind', KINDS)
def test_all_segmentations_have_the_declared_shapes(kind, segmentations):
  batches = make(kind, sampled=segmentations)
  for number in range(3):
    used = {(*b['source'].shape, b['target'].shape[1]) for b in epoch(batches, number)}
    assert used == set(shapes_of(batches))


def test_with_segmentations_the_report_is_their_mean(segmentations):
  batches = make(sampled=segmentations)
  words, cells = [], []
  for number in range(3):
    sides = [b[s] for b in epoch(batches, number) for s in ('source', 'target')]
    words.append(sum((ids != PAD).sum() for ids in sides))
    cells.append(sum(ids.size for ids in sides))
  assert len(set(cells)) == 1
  assert batches.report['padding_waste'] == pytest.approx(1 - np.mean(words) / cells[0])


def test_a_pair_is_too_long_if_one_of_its_segmentations_is():
  lengths = np.full(20, 10)
  long = lengths.copy()
  long[7] = 25
  both = store(lengths), store(lengths)
  batches = make(both=both, sampled=[both, (store(long), store(lengths))])
  assert batches.report['too_long'] == 1
  assert 7 not in all_pairs(batches)


def test_unshuffled_rows_are_sorted_by_length():
  source, target = both = stores()
  batches = make(both=both, shuffle=False)
  lines = np.concatenate([batches.rows(k) for k in range(batches.steps_per_epoch)])
  lines = lines[lines >= 0]
  assert sorted(lines.tolist()) == list(range(203))
  assert (np.diff(np.maximum(source.lengths, target.lengths)[lines]) >= 0).all()


@pytest.mark.parametrize('kind', KINDS)
def test_unshuffled_order_is_the_same_for_all_seeds_and_epochs(kind):
  batches = make(kind, shuffle=False)
  first = all_pairs(batches)
  assert first == all_pairs(batches, seed=9) == all_pairs(batches, number=2)


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_that_cannot_fit_says_what_to_change(kind):
  both = stores(longest=24)
  message = (
    r'8 rows of 24 positions are 192, and batching.tokens is 191. Raise '
    r'batching.tokens, or lower batching.max_length or batching.rows_multiple'
  )
  with pytest.raises(ValueError, match=message):
    make(kind, both, tokens=191)
  for remedy in ({'tokens': 192}, {'max_length': 23}, {'rows_multiple': 7}):
    assert all_pairs(make(kind, both, **{'tokens': 191, **remedy}))


def test_sides_with_different_numbers_of_sentences_are_refused():
  with pytest.raises(ValueError, match=r'1,000 source and 999 target sentences'):
    make(both=(store(np.full(1_000, 2)), store(np.full(999, 2))))


@pytest.mark.parametrize('kind', KINDS)
def test_a_corpus_without_short_sentences_is_refused(kind):
  with pytest.raises(
    ValueError, match=r'all 203 pairs are longer than batching.max_length=1'
  ):
    make(kind, max_length=1)


def test_an_unknown_kind_is_refused():
  with pytest.raises(
    ValueError, match=r"unknown batching 'bucket'; did you mean 'buckets'"
  ):
    make('bucket')


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('option', 'value', 'must'),
  [
    ('tokens', 0, 'at least 1'),
    ('tokens', -4096, 'at least 1'),
    ('tokens', 4096.5, 'a whole number'),
    ('shapes', 0, 'at least 1'),
    ('shapes', -1, 'at least 1'),
    ('max_length', 0, 'at least 1'),
    ('max_length', -1, 'at least 1'),
    ('max_length', '256', 'a whole number'),
    ('rows_multiple', 0, 'at least 1'),
    ('rows_multiple', -8, 'at least 1'),
    ('shuffle', 'no', 'true or false'),
  ],
)
def test_an_option_outside_its_domain_is_refused(kind, option, value, must):
  with pytest.raises(ValueError, match=rf'batching\.{option} is .*; it must be {must}'):
    make(kind, **{option: value})


@pytest.mark.parametrize(
  'options', [{'max_length': -1}, {'max_length': 0}, {'max_length': 9, 'tokens': 0}]
)
def test_options_of_planned_shapes_have_the_same_domains(options):
  with pytest.raises(ValueError, match=r'batching\.\w+ is .* at least 1'):
    Packed.planned_shapes(['source'], **options)


def test_a_planned_shape_without_rows_is_refused():
  with pytest.raises(ValueError, match=r'a batch cannot fit: 8 rows of 1024'):
    Packed.planned_shapes(['source'], tokens=4096, max_length=1024)


def test_planned_shapes_are_those_of_the_batches():
  planned = Packed.planned_shapes(['source', 'target'], tokens=320, max_length=24)
  (empty,) = make('packed').shapes
  assert equal(planned[0], empty)
  assert Packed.planned_shapes(['text'], max_length=None) is None


@pytest.mark.parametrize('kind', KINDS)
def test_declared_shapes_are_batches_of_padding(kind):
  batches = make(kind)
  for empty in batches.shapes:
    assert not any(x.any() for x in empty.values())
  shares = EmptyBatches(batches.shapes).batch(0, seed=0, rows=(1, 2))
  assert [*shares] == [*batches.batch(0, seed=0)]


def reversed_batches(sides, *, size=2, sampled=(), reverse=()):
  """A kind that a user defines: a function that makes batches."""
  return 'mine', len(sides['source']), size


def test_a_users_kind_is_named_by_its_path():
  specification = {'kind': f'{__name__}:reversed_batches', 'size': 3}
  assert make_batches(specification, sides_of(stores())) == ('mine', 203, 3)
  with pytest.raises(ValueError, match=r'unknown key batching\.sise; did you mean'):
    make_batches({**specification, 'sise': 3}, sides_of(stores()))


# Text of one side.


def text_batches(kind, **options):
  source, _ = lengths_of()
  text = store(source, 1)
  options = {'tokens': 320, 'max_length': 24, 'shapes': 3, **options}
  return text, make_batches({'kind': kind, **options}, {'text': text})


@pytest.mark.parametrize('kind', KINDS)
def test_text_of_one_side_occurs_once_per_epoch(kind):
  text, batches = text_batches(kind)
  assert batches.report['sentences'] == len(text)
  for number in range(2):
    rows = [i for b in epoch(batches, number) for i in pairs_in(b, 'text')]
    assert sorted(rows) == list(range(len(text)))
  assert batches.report['text_tokens'] == sum(
    (b['text'] != PAD).sum() for b in epoch(batches)
  )


@pytest.mark.parametrize('kind', KINDS)
def test_text_of_one_side_has_its_shapes_and_shares(kind):
  _, batches = text_batches(kind)
  declared = {b['text'].shape for b in batches.shapes}
  assert {b['text'].shape for b in epoch(batches)} == declared
  whole = batches.batch(1, seed=5)
  parts = [batches.batch(1, seed=5, rows=(i, 4)) for i in range(4)]
  for name, x in whole.items():
    np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), x)


def test_packed_text_has_segments_and_positions():
  text, batches = text_batches('packed')
  sentences = [s for batch in epoch(batches) for s in unpack(batch, 'text')]
  assert sorted(sentences) == sorted(text[i].tolist() for i in range(len(text)))
  assert all(s[-1] == EOS for s in sentences)
  assert [*batches.shapes[0]] == ['text', 'text_segment', 'text_position']


# Examples that occur more or less often than once per epoch.


def repeats_of_pairs(pairs=203):
  """How often each pair occurs: a third every second epoch, others 2.5 times."""
  return np.where(np.arange(pairs) % 3 == 0, 0.5, 2.5)


@pytest.mark.parametrize('kind', KINDS)
def test_weighted_examples_occur_equally_often_over_epochs(kind):
  batches, epochs = make(kind, repeats=repeats_of_pairs()), 8
  count = np.zeros(203, int)
  for number in range(epochs):
    for batch in epoch(batches, number):
      np.add.at(count, pairs_in(batch), 1)
  # A permutation is finished before the next one starts.
  for repeats in (0.5, 2.5):
    kept = count[(repeats_of_pairs() == repeats) & (count > 0)]
    assert len(kept) == (repeats_of_pairs() == repeats).sum()
    assert (kept == repeats * epochs).all()
  assert batches.report['padding_waste'] < 0.6


@pytest.mark.parametrize('kind', KINDS)
def test_weighted_batches_depend_on_seed_and_number_alone(kind):
  first, second = (make(kind, repeats=repeats_of_pairs()) for _ in range(2))
  n = first.steps_per_epoch
  for k in (3 * n + 1, 0, n - 1):
    expected = first.batch(k, seed=5)
    actual = second.batch(k, seed=5)
    for name in expected:
      np.testing.assert_array_equal(actual[name], expected[name])
    halves = [second.batch(k, seed=5, rows=(i, 2)) for i in range(2)]
    whole = np.concatenate([half['target'] for half in halves])
    np.testing.assert_array_equal(whole, expected['target'])
  other = second.batch(0, seed=6)['source']
  assert other.shape != expected['source'].shape or (other != expected['source']).any()


@pytest.mark.parametrize('kind', KINDS)
def test_examples_that_occur_once_are_batched_as_without_weights(kind):
  plain, weighted = make(kind), make(kind, repeats=np.ones(203))
  assert shapes_of(weighted) == shapes_of(plain)
  assert weighted.report == plain.report
  assert sorted(x for b in epoch(weighted) for x in pairs_in(b)) == sorted(
    x for b in epoch(plain) for x in pairs_in(b)
  )


def test_small_weights_are_exact_over_epochs():
  repeats = np.where(np.arange(203) < 3, 0.1, 1.0)
  batches, rare = make(repeats=repeats), 0
  for number in range(40):
    pairs = [x for batch in epoch(batches, number) for x in pairs_in(batch)]
    rare += len(pairs) - 200
  assert rare == 40 * 3 // 10


def test_a_batching_without_weights_refuses_them():
  with pytest.raises(ValueError, match=r'leave out corpus\.weights'):
    make(f'{__name__}:plain', repeats=repeats_of_pairs())


def plain(sides, *, tokens, max_length, shapes):
  """A batching of a user, which takes each example once."""
