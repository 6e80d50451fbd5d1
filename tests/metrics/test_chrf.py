import functools

import jax
import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from seqlab.metrics.characters import as_text, characters
from seqlab.metrics.chrf import chrf_score, chrf_statistics
from seqlab.metrics.tokenizers import tokenize


@functools.partial(jax.jit, static_argnums=(2, 3))
def statistics_of(hypotheses, references, word_order, lowercase):
  def sides(text):
    chars = characters(text, lowercase)
    return [tokenize(chars, kind, chars.shape[-1]) for kind in ('char', 'chrf')]

  return chrf_statistics(sides(hypotheses), sides(references), word_order)


@pytest.mark.parametrize(('word_order', 'lowercase'), [(0, True), (2, False)])
@pytest.mark.parametrize(
  'rows', [1_500, pytest.param(6_000, marks=pytest.mark.slow)], ids=str
)
def test_statistics_of_random_strings_are_sacrebleus(
  strings, rows, word_order, lowercase
):
  hypotheses, references = strings(seed=3 + word_order, rows=rows)
  encoded = [[x.encode() for x in side] for side in (hypotheses, references)]
  size = max(len(x) for side in encoded for x in side)
  actual = statistics_of(
    *(as_text(side, size) for side in encoded), word_order, lowercase
  )
  metric = CHRF(word_order=word_order, lowercase=lowercase)
  expected = metric._extract_corpus_statistics(hypotheses, [references])
  np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize('word_order', [0, 2])
def test_scores_are_sacrebleus(word_order):
  rng = np.random.default_rng(4)
  rows = rng.integers(0, 9, (200, 3 * (6 + word_order)))
  rows[:, 2::3] = np.minimum(rows[:, 2::3], np.minimum(rows[:, ::3], rows[:, 1::3]))
  rows[::4, 3:6] = 0
  metric = CHRF(word_order=word_order)
  expected = [metric._compute_f_score(list(row)) for row in rows]
  np.testing.assert_allclose(jax.jit(chrf_score)(rows), expected, rtol=1e-5, atol=1e-5)
