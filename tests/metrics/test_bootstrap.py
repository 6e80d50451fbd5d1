import jax
from jax.extend.random import threefry_2x32
import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
import scipy.stats

from seqlab.metrics import bootstrap
from seqlab.metrics.bootstrap import bootstrap_scores, compare, confidence_interval
from seqlab.metrics.corpus import Lines, corpus_statistics

WORDS = [*'abcdefgh']


def system(references, seed, share):
  """Returns outputs in which the given share of the words is replaced at random."""
  rng = np.random.default_rng(seed)

  def spoil(line):
    return ' '.join(
      rng.choice(WORDS) if rng.random() < share else w for w in line.split()
    )

  return [spoil(line) for line in references]


@pytest.fixture(scope='module')
def systems():
  """References, three systems (two of equal quality), and their statistics."""
  rng = np.random.default_rng(0)
  references = [' '.join(rng.choice(WORDS, rng.integers(5, 20))) for _ in range(400)]
  outputs = [system(references, n, s) for n, s in ((1, 0.2), (2, 0.2), (3, 0.3))]
  lines = Lines([line.encode() for line in references])
  statistics = [
    corpus_statistics(Lines([x.encode() for x in out]), [lines], tokenizer='none')
    for out in outputs
  ]
  return references, outputs, statistics


def sacrebleus(systems, test, samples):
  references, outputs, _ = systems
  named = [(str(n), out) for n, out in enumerate(outputs)]
  metrics = {'BLEU': BLEU(tokenize='none', force=True, references=[references])}
  _, scores = PairedTest(named, metrics, None, test, samples, n_ar_confidence=1_000)()
  return scores['BLEU']


def identity(sums):
  return sums


def counts(R, samples, seed=0):
  """Returns how often each of R rows occurs in each sample, [samples, R]."""
  rows = np.eye(R, dtype=np.int32)
  key = jax.random.key(seed)
  return np.asarray(bootstrap_scores(rows, key, samples=samples, score=identity))


@pytest.mark.parametrize(('R', 'samples'), [(1, 3), (3, 500), (40, 1), (401, 1_000)])
def test_a_sample_has_the_number_of_rows_of_the_set(R, samples):
  actual = counts(R, samples)
  assert actual.shape == (samples, R)
  assert actual.min() >= 0
  assert set(actual.sum(axis=1)) == {R}
  assert len(np.unique(actual, axis=0)) > (R > 1) * samples * 0.01


R, SAMPLES = 61, 20_000


@pytest.fixture(scope='module')
def drawn():
  return counts(R, SAMPLES)


def test_counts_have_the_moments_of_the_multinomial(drawn):
  # Bounds are 5 standard errors, about 1, √3 and 1 over √samples.
  error = 5 / SAMPLES**0.5
  covariance = np.cov(drawn, rowvar=False)
  np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=error)
  np.testing.assert_allclose(np.diag(covariance), 1 - 1 / R, atol=3**0.5 * error)
  others = covariance[~np.eye(R, dtype=bool)]
  np.testing.assert_allclose(others, -1 / R, atol=error)


@pytest.mark.parametrize('part', [slice(0, 30), slice(0, None, 4), slice(45, None)])
def test_sums_of_counts_have_the_variance_of_the_multinomial(drawn, part):
  """The variance of large sums is sensitive to small errors of covariances."""
  rows = len(range(R)[part])
  expected = rows * (1 - rows / R)
  error = 5 * expected * (2 / SAMPLES) ** 0.5
  assert drawn[:, part].sum(axis=1).var() == pytest.approx(expected, abs=error)


def test_each_count_is_binomial(drawn):
  expected = scipy.stats.binom.pmf(np.arange(8), R, 1 / R)
  actual = np.bincount(drawn.ravel(), minlength=8)[:8] / drawn.size
  error = 5 * (expected / drawn.size) ** 0.5
  assert (np.abs(actual - expected) < error).all()


def test_samples_are_independent(drawn):
  one, next_one = drawn[:-1].ravel(), drawn[1:].ravel()
  assert abs(np.corrcoef(one, next_one)[0, 1]) < 5 / one.size**0.5


def test_large_sets_are_drawn_in_parts(monkeypatch):
  monkeypatch.setattr(bootstrap, '_CELLS', 50 * 30)
  actual = counts(50, 100)  # in four parts of 25
  assert set(actual.sum(axis=1)) == {50}
  assert len(np.unique(actual, axis=0)) == 100


def test_random_words_equal_those_of_jax():
  i, j = np.arange(6, dtype=np.uint32) * 2**29, np.arange(6, dtype=np.uint32)
  key = np.array([3, 2**31], np.uint32)
  actual = np.concatenate(bootstrap._threefry(key, i, j))
  np.testing.assert_array_equal(actual, threefry_2x32(key, np.concatenate([i, j])))


@pytest.mark.parametrize(('test', 'samples'), [('bs', 1_000), ('ar', 4_000)])
def test_paired_tests_agree_with_sacrebleus_up_to_sampling(systems, test, samples):
  actual = compare(systems[2], test=test, samples=1_000, trials=samples)
  for ours, theirs in zip(actual, sacrebleus(systems, test, samples), strict=True):
    assert ours.score == pytest.approx(theirs.score, rel=1e-5)
    # Two means of 1,000 draws with standard deviation s = ci / 1.96: 4 s √(2/1000).
    assert abs(ours.mean - theirs.mean) < 4 * theirs.ci / 1.96 * (2 / 1_000) ** 0.5
    # A quantile at 2.5 % of a normal has 2.7 √(1/1000) s; ± 25 % is over 4 of those.
    assert ours.ci == pytest.approx(theirs.ci, rel=0.25)
    if theirs.p_value is not None:
      spread = (theirs.p_value * (1 - theirs.p_value) * 2 / samples) ** 0.5
      assert abs(ours.p_value - theirs.p_value) < 4 * spread + 2 / samples


def test_one_system_is_significantly_worse_and_one_is_not(systems):
  baseline, close, worse = compare(systems[2])
  assert baseline.p_value is None
  assert close.p_value > 0.05
  assert worse.p_value < 0.01


@pytest.mark.parametrize('test', ['bs', 'ar'])
def test_a_system_does_not_differ_from_itself(systems, test):
  statistics = systems[2][0]
  _, comparison = compare([statistics, statistics], test=test, samples=200, trials=200)
  assert comparison.p_value == 1  # sacreBLEU has 1 / 201, since no draw exceeds 0


def test_a_sample_equal_to_the_observation_counts():
  """Only one of two sentences differs, so every swap keeps the absolute difference."""
  one = np.array([[4, 3, 2, 1, 4, 3, 2, 1, 4, 4], [4, 3, 2, 1, 4, 3, 2, 1, 4, 4]])
  other = np.array([[2, 1, 0, 0, 4, 3, 2, 1, 4, 4], [4, 3, 2, 1, 4, 3, 2, 1, 4, 4]])
  _, actual = compare([one, other], test='ar', samples=10, trials=100)
  assert actual.p_value == 1


def test_the_same_seed_draws_the_same_samples(systems):
  statistics = systems[2][0]
  one = confidence_interval(statistics, samples=100, seed=1)
  assert one == confidence_interval(statistics, samples=100, seed=1)
  assert one != confidence_interval(statistics, samples=100, seed=2)


def test_systems_with_different_numbers_of_sentences_are_refused(systems):
  statistics = systems[2][0]
  with pytest.raises(ValueError, match=r'systems have \[400, 399\] sentences'):
    compare([statistics, statistics[1:]])


@pytest.mark.parametrize(
  ('R', 'samples', 'message'),
  [(0, 10, 'both must be 1 or more'), (10, 0, 'samples is 0; it must be at least 1')],
)
def test_zero_rows_or_samples_are_refused(R, samples, message):
  with pytest.raises(ValueError, match=message):
    confidence_interval(np.zeros((R, 10)), samples=samples)


@pytest.mark.parametrize(
  'options', [{'samples': 0}, {'trials': 0}, {'trials': -1}, {'seed': -1}]
)
def test_numbers_of_samples_and_trials_are_at_least_one(systems, options):
  ((name, value),) = options.items()
  with pytest.raises(ValueError, match=f'{name} is {value}; it must be at least'):
    compare(systems[2], test='ar', **options)


def test_an_unknown_test_is_named(systems):
  with pytest.raises(ValueError, match="it may be 'bs' or 'ar'"):
    compare(systems[2], test='t')
