import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from seqlab.metrics.bleu import bleu_score, bleu_statistics
from seqlab.metrics.characters import as_text, characters
from seqlab.metrics.ngrams import _by_pairs, _by_sorting
from seqlab.metrics.tokenizers import Words, tokenize

score_of = jax.jit(bleu_score, static_argnums=1, static_argnames='effective_order')
TO_SACREBLEU = [8, 9, *range(8)]  # sacreBLEU's order has the lengths first


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def statistics_of(hypotheses, references, tokenizer, lowercase, room):
  """Returns statistics [B, 10], and the largest number of tokens of a line."""
  words = [
    tokenize(characters(t, lowercase), tokenizer, room)
    for t in (hypotheses, references)
  ]
  return bleu_statistics(*words), jnp.maximum(*(w.count.max() for w in words))


def ours(hypotheses, references, tokenizer='none', lowercase=False, room=None):
  """Returns the statistics of strings; `references` is a list of lists."""
  B = -(-len(hypotheses) // 256) * 256 - len(hypotheses)  # few shapes to compile
  sides = [
    [*(line.encode() for line in side), *[b''] * B]
    for side in (hypotheses, *references)
  ]
  size = max(128, *(len(line) for side in sides for line in side))
  texts = [as_text(side, size) for side in sides]
  several = jax.tree.map(lambda *x: np.stack(x, axis=1), *texts[1:])
  room = room or size
  actual, tokens = statistics_of(texts[0], several, tokenizer, lowercase, room)
  assert tokens <= room
  return np.asarray(actual)[: len(hypotheses)]


def sacrebleus(hypotheses, references, tokenizer='none', lowercase=False):
  metric = BLEU(tokenize=tokenizer, lowercase=lowercase, force=True)
  rows = metric._extract_corpus_statistics(hypotheses, references)
  return np.array(rows)[:, np.argsort(TO_SACREBLEU)]


@pytest.mark.parametrize('lowercase', [False, True], ids=['mixed', 'lc'])
@pytest.mark.parametrize('tokenizer', ['13a', 'none', 'char'])
@pytest.mark.parametrize(
  'rows', [1_500, pytest.param(18_000, marks=pytest.mark.slow)], ids=str
)
def test_statistics_of_random_strings_are_sacrebleus(
  strings, rows, tokenizer, lowercase
):
  hypotheses, references = strings(seed=lowercase, rows=rows)
  actual = ours(hypotheses, [references], tokenizer, lowercase)
  np.testing.assert_array_equal(
    actual, sacrebleus(hypotheses, [references], tokenizer, lowercase)
  )


def sentences(seed, rows=200, words=4, longest=14):
  rng = np.random.default_rng(seed)
  return [
    ' '.join(rng.choice([*'abcd'][:words], rng.integers(0, longest)))
    for _ in range(rows)
  ]


def test_several_references_clip_by_the_largest_count_and_the_closest_length():
  hypotheses, references = sentences(0), [sentences(n) for n in (1, 2, 3)]
  np.testing.assert_array_equal(
    ours(hypotheses, references), sacrebleus(hypotheses, references)
  )


def test_the_shorter_of_two_equally_close_lengths_is_the_reference_length():
  assert ours(['a b c'], [['a b'], ['a b c d']])[0, 9] == 2
  assert ours(['a b c'], [['a b c d'], ['a b']])[0, 9] == 2


def random_words(seed, K, R, kinds=3):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    ids = rng.integers(0, kinds, (*shape, K)).astype(np.uint32)
    return Words(
      np.stack([ids, ids], -1), rng.integers(0, K + 1, shape).astype(np.int32)
    )

  return draw(16), draw(16, R)


@pytest.mark.parametrize('K', [30, 300])
def test_sorting_and_comparing_pairs_give_the_same_counts(K):
  hypothesis, references = random_words(0, K, R=2)
  pairs = jax.jit(_by_pairs, static_argnums=2)(hypothesis, references, 4)
  by_sorting = jax.vmap(lambda h, r: _by_sorting(h, r, 4))
  np.testing.assert_array_equal(pairs, jax.jit(by_sorting)(hypothesis, references))


def test_a_word_may_be_repeated_more_often_than_8_bits_can_count():
  line = ' '.join(['a'] * 300)
  np.testing.assert_array_equal(
    ours([line], [[line]]), [[300, 299, 298, 297, 300, 299, 298, 297, 300, 300]]
  )


def test_vmap_gives_the_statistics_of_a_batch():
  hypothesis, references = random_words(1, 12, R=2)
  np.testing.assert_array_equal(
    jax.vmap(bleu_statistics)(hypothesis, references),
    bleu_statistics(hypothesis, references),
  )


def test_eight_devices_count_the_same_integers():
  hypothesis, references = random_words(2, 12, R=1)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  total = jax.jit(lambda h, r: bleu_statistics(h, r).sum(axis=0))
  np.testing.assert_array_equal(
    total(*jax.device_put((hypothesis, references), rows)),
    total(hypothesis, references),
  )


def test_incompatible_shapes_are_refused():
  hypothesis, _ = random_words(3, 12, R=1)
  with pytest.raises(ValueError, match=r'need references \[\.\.\., R\]'):
    bleu_statistics(hypothesis, hypothesis)


SMOOTHING = ('exp', 'floor', 'add-k', 'none')


@pytest.mark.parametrize('smoothing', SMOOTHING)
@pytest.mark.parametrize('effective', [False, True])
def test_scores_of_sentences_are_sacrebleus(smoothing, effective):
  hypotheses, references = sentences(4, longest=8), sentences(5, longest=8)
  rows = ours(hypotheses, [references])
  metric = BLEU(
    tokenize='none', smooth_method=smoothing, effective_order=effective, force=True
  )
  metric.effective_order = effective
  expected = [
    BLEU.compute_bleu(
      list(map(int, row[:4])),
      list(map(int, row[4:8])),
      int(row[8]),
      int(row[9]),
      smooth_method=smoothing,
      effective_order=effective,
    ).score
    for row in rows
  ]
  actual = score_of(rows, smoothing, effective_order=effective)
  np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-5)


def test_the_score_of_a_corpus_is_computed_from_summed_statistics():
  hypotheses, references = sentences(6), sentences(7)
  total = ours(hypotheses, [references]).sum(axis=0)
  expected = BLEU(tokenize='none', force=True).corpus_score(hypotheses, [references])
  assert float(score_of(total)) == pytest.approx(expected.score, rel=1e-5)


def test_the_score_of_a_text_against_itself_is_100():
  line = 'a b c d e'
  assert float(score_of(ours([line], [[line]])[0])) == pytest.approx(100.0)


def test_an_unknown_smoothing_is_named():
  with pytest.raises(ValueError, match="smoothing='magic' is not one of exp, floor"):
    bleu_score(np.ones(10), 'magic')


def test_statistics_without_10_columns_are_refused():
  with pytest.raises(ValueError, match=r'must be \[\.\.\., 10\]'):
    bleu_score(np.ones(9))
