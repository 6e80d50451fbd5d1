import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from seqlab.metrics.bootstrap import compare, confidence_interval
from seqlab.metrics.corpus import Lines, corpus_statistics

WORDS = [*'abcdefgh']


def system(references, seed, share):
  """Outputs in which that share of the words is drawn anew."""
  rng = np.random.default_rng(seed)

  def spoil(line):
    return ' '.join(
      rng.choice(WORDS) if rng.random() < share else w for w in line.split()
    )

  return [spoil(line) for line in references]


@pytest.fixture(scope='module')
def systems():
  """References, three systems (two of them as good), their statistics."""
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


@pytest.mark.parametrize(('test', 'samples'), [('bs', 1_000), ('ar', 4_000)])
def test_paired_tests_agree_with_sacrebleus_but_for_the_draw(systems, test, samples):
  found = compare(systems[2], test=test, samples=1_000, trials=samples)
  for ours, theirs in zip(found, sacrebleus(systems, test, samples), strict=True):
    assert ours.score == pytest.approx(theirs.score, rel=1e-5)
    # Two means of 1,000 draws with standard deviation s = ci / 1.96: 4 s √(2/1000).
    assert abs(ours.mean - theirs.mean) < 4 * theirs.ci / 1.96 * (2 / 1_000) ** 0.5
    # A quantile at 2.5 % of a normal has 2.7 √(1/1000) s; ± 25 % is over 4 of those.
    assert ours.ci == pytest.approx(theirs.ci, rel=0.25)
    if theirs.p_value is not None:
      spread = (theirs.p_value * (1 - theirs.p_value) * 2 / samples) ** 0.5
      assert abs(ours.p_value - theirs.p_value) < 4 * spread + 2 / samples


def test_one_of_the_systems_is_worse_for_certain_and_one_is_not(systems):
  baseline, close, worse = compare(systems[2])
  assert baseline.p_value is None
  assert close.p_value > 0.05
  assert worse.p_value < 0.01


def test_a_system_beside_itself_differs_by_nothing(systems):
  statistics = systems[2][0]
  _, same = compare([statistics, statistics], test='ar', trials=200)
  assert same.p_value == pytest.approx(1 / 201)  # as sacreBLEU has it: none exceeds 0


def test_the_same_seed_draws_the_same_samples(systems):
  statistics = systems[2][0]
  one = confidence_interval(statistics, samples=100, seed=1)
  assert one == confidence_interval(statistics, samples=100, seed=1)
  assert one != confidence_interval(statistics, samples=100, seed=2)


def test_systems_of_other_numbers_of_sentences_are_refused(systems):
  statistics = systems[2][0]
  with pytest.raises(ValueError, match=r'systems have \[400, 399\] sentences'):
    compare([statistics, statistics[1:]])


def test_an_unknown_test_is_named(systems):
  with pytest.raises(ValueError, match="it may be 'bs' or 'ar'"):
    compare(systems[2], test='t')
