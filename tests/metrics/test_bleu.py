import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from seqlab.metrics.bleu import bleu_score, ngram_statistics
from seqlab.types import EOS, PAD

statistics_of = jax.jit(ngram_statistics)
score_of = jax.jit(bleu_score, static_argnums=1)


def random_pairs(seed, *, rows=40, L=15, T=15, words=6):
  """Hypotheses [R, L] and references [R, T] that end by EOS, by PAD, or at the edge."""
  rng = np.random.default_rng(seed)
  sides = []
  for width in (L, T):
    ids = rng.integers(4, 4 + words, (rows, width))
    ends = rng.integers(0, width + 1, rows)  # width: no end
    for row, end, how in zip(ids, ends, rng.random(rows), strict=True):
      if how < 0.5:
        row[end : end + 1] = EOS  # words go on after it, and must not count
      else:
        row[end:] = PAD
    sides.append(ids)
  return sides


def text(ids):
  stop = np.flatnonzero((ids == EOS) | (ids == PAD))
  return ' '.join(map(str, ids[: stop[0]] if stop.size else ids))


def oracle(hypothesis, reference, **options):
  return sacrebleu.corpus_bleu(
    [text(x) for x in hypothesis],
    [[text(x) for x in reference]],
    tokenize='none',
    force=True,
    **options,
  )


def integers(score):
  return [*score.counts, *score.totals, score.sys_len, score.ref_len]


@pytest.mark.parametrize('seed', range(3))
def test_statistics_equal_sacrebleus(seed):
  hypothesis, reference = random_pairs(seed)
  found = statistics_of(hypothesis, reference).sum(axis=0)
  assert found.tolist() == integers(oracle(hypothesis, reference))


def test_each_sentence_has_its_own_statistics():
  hypothesis, reference = random_pairs(3)
  found = statistics_of(hypothesis, reference)
  for row, h, r in zip(found, hypothesis, reference, strict=True):
    assert row.tolist() == integers(oracle([h], [r]))


@pytest.mark.parametrize(('L', 'T'), [(2, 9), (9, 2), (1, 1)])
def test_sentences_shorter_than_an_n_gram(L, T):
  hypothesis, reference = random_pairs(4, L=L, T=T, words=2)
  found = statistics_of(hypothesis, reference).sum(axis=0)
  assert found.tolist() == integers(oracle(hypothesis, reference))


def test_repeated_words_are_clipped():
  # Papineni et al. 2002, section 2.1: "the the the the the the the" has 2 of 7.
  the, cat, is_, on, mat = range(4, 9)
  hypothesis = jnp.array([[the] * 7])
  reference = jnp.array([[the, cat, is_, on, the, mat]])
  assert statistics_of(hypothesis, reference)[0, :5].tolist() == [2, 0, 0, 0, 7]


@pytest.mark.parametrize('smoothing', ['exp', 'floor', 'add-k', 'none'])
@pytest.mark.parametrize(
  ('rows', 'words'),
  [(200, 4), (40, 6), (6, 12), (3, 40), (1, 3)],  # from many matches to next to none
)
def test_the_score_equals_sacrebleus(smoothing, rows, words):
  hypothesis, reference = random_pairs(rows, rows=rows, words=words)
  expected = oracle(hypothesis, reference, smooth_method=smoothing)
  # Not from `expected`: for add-k sacreBLEU adds k to its counts in place.
  statistics = np.array(integers(oracle(hypothesis, reference)))
  found = score_of(statistics, smoothing)
  np.testing.assert_allclose(found, expected.score, atol=1e-3)


def test_a_short_corpus_pays_the_brevity_penalty():
  _, reference = random_pairs(8)
  hypothesis = np.where(np.arange(15) < 8, reference, PAD)
  expected = oracle(hypothesis, reference)
  assert expected.bp < 0.95
  found = score_of(statistics_of(hypothesis, reference).sum(axis=0))
  np.testing.assert_allclose(found, expected.score, atol=1e-3)


def test_a_smoothing_value_is_used():
  hypothesis, reference = random_pairs(3, rows=3, words=40)
  expected = oracle(hypothesis, reference, smooth_method='floor', smooth_value=0.7)
  statistics = np.array(integers(expected))
  found = bleu_score(statistics, 'floor', 0.7)
  np.testing.assert_allclose(found, expected.score, atol=1e-3)


def test_a_perfect_corpus_scores_100():
  _, reference = random_pairs(9)
  statistics = statistics_of(reference, reference).sum(axis=0)
  np.testing.assert_allclose(score_of(statistics), 100, atol=1e-3)


def test_nothing_written_scores_0():
  _, reference = random_pairs(10)
  statistics = statistics_of(np.full_like(reference, PAD), reference).sum(axis=0)
  assert score_of(statistics) == 0


def test_scores_of_many_corpora_at_once():
  statistics = jnp.stack([statistics_of(*random_pairs(s)).sum(axis=0) for s in (0, 1)])
  one_by_one = [score_of(row) for row in statistics]
  np.testing.assert_allclose(score_of(statistics), one_by_one, rtol=1e-6)


def test_an_unknown_smoothing_is_named():
  with pytest.raises(ValueError, match=r"smoothing='laplace' is not one of exp, floor"):
    bleu_score(jnp.ones(10), 'laplace')


def test_shapes_that_do_not_pair_are_named():
  with pytest.raises(ValueError, match=r'not \(2, 3\) and \(3, 3\)'):
    ngram_statistics(jnp.ones((2, 3), int), jnp.ones((3, 3), int))
