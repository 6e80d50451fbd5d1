"""Rules about tokens, against lists."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.rules import Rules
from seqlab.decoding.scores import NextTokens
from seqlab.types import BOS, EOS, PAD, UNK

V, L = 6, 5
WORDS = (UNK, 4, 5)
LIMITS = np.array([5, 4, 5, 3, 2, 5])
PREFIXES = [(), (4, 4), (5,), (), (4,), (5, UNK, 5, UNK)]
MIN_LENGTH, NGRAM = 2, 2


def padded(words, length=L):
  return [*words, *[PAD] * (length - len(words))]


def allowed(y, limit, *, min_length=0, no_repeat_ngram=0, prefix=()):
  """Returns what may follow the words `y`."""
  i, n = len(y), no_repeat_ngram
  if i == limit - 1:
    return {EOS}
  if i < len(prefix):
    return {prefix[i]}
  words = set(WORDS) | ({EOS} if i >= min_length else set())
  if n:
    known = {y[j : j + n] for j in range(i - n + 1)}
    words = {w for w in words if (*y[i - n + 1 :], w) not in known}
  return words


@pytest.mark.parametrize(
  'rules',
  [
    {'min_length': 2},
    {'no_repeat_ngram': 1},
    {'no_repeat_ngram': 2},
    {'no_repeat_ngram': 3},
    {'prefix': (4, 4, 5)},
    {'prefix': (4, 4, 4), 'no_repeat_ngram': 1, 'min_length': 4},
  ],
)
@pytest.mark.parametrize('i', [0, 1, 2, 3, 4])
def test_only_what_the_rules_allow_keeps_its_logit(rules, i):
  pasts = [*itertools.product(WORDS, repeat=i)][:40]
  logits = np.random.default_rng(i).normal(size=(len(pasts), V)).astype(np.float32)
  limit = np.where(np.arange(len(pasts)) % 3 == 0, i + 1, L)  # some have to end
  tokens = NextTokens.of(jnp.asarray(logits), i, jnp.asarray(limit))
  prefix = rules.get('prefix')
  given = rules | (
    {'prefix': jnp.array([padded(prefix)] * len(pasts))} if prefix else {}
  )
  # What is behind the last token must not be read.
  written = np.array([[*y, *[4] * (L - i)] for y in pasts])
  ruled = Rules(**given).apply(tokens, jnp.asarray(written), jnp.int32(i))
  # At a limit only EOS is allowed, whatever the rules.
  expected = [
    {EOS} if lim == i + 1 else allowed(y, L + 9, **rules)
    for y, lim in zip(pasts, limit, strict=True)
  ]
  kept = np.isfinite(np.asarray(ruled.allowed_logits))
  for row, words in zip(kept, expected, strict=True):
    assert set(np.flatnonzero(row)) == words
  np.testing.assert_array_equal(
    np.asarray(ruled.allowed_logits)[kept], logits[kept]
  )  # no score changes


@pytest.fixture(scope='module')
def model(toy):
  return toy(len(LIMITS), V, seed=4)


RULES = Rules(MIN_LENGTH, NGRAM, jnp.array([padded(x) for x in PREFIXES]))


def outputs(limit, prefix):
  """Returns every output that the rules allow."""
  ended, live = [], [()]
  while live:
    grown = [
      (*y, w)
      for y in live
      for w in allowed(
        y, limit, min_length=MIN_LENGTH, no_repeat_ngram=NGRAM, prefix=prefix
      )
    ]
    ended += [y for y in grown if y[-1] == EOS]
    live = [y for y in grown if y[-1] != EOS]
  return ended


def test_a_wide_beam_finds_every_output_that_the_rules_allow(model, beam):
  tokens, scores = beam(model.table, LIMITS, M=128, L=L, alpha=0.0, rules=RULES)
  for b, (limit, prefix) in enumerate(zip(LIMITS, PREFIXES, strict=True)):
    expected = sorted((model.logp(b, y), y) for y in outputs(limit, prefix))[::-1]
    found = [row for row, x in zip(tokens[b], scores[b], strict=True) if x > -np.inf]
    assert np.array(found).tolist() == [padded(y) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_greedy_search_obeys_rules(model, greedy):
  tokens, logp = greedy(model.table, LIMITS, L=L, rules=RULES)
  for b, (limit, prefix) in enumerate(zip(LIMITS, PREFIXES, strict=True)):
    y = ()
    while EOS not in y:
      options = allowed(
        y, limit, min_length=MIN_LENGTH, no_repeat_ngram=NGRAM, prefix=prefix
      )
      y = (*y, max(options, key=lambda w: model.logp(b, (*y, w))))
    assert tokens[b].tolist() == padded(y)
    np.testing.assert_allclose(logp[b], model.logp(b, y), rtol=1e-5)


def test_bos_and_pad_stay_forbidden():
  tokens = NextTokens.of(jnp.zeros((1, V)), 0, jnp.array([L]))
  ruled = Rules(min_length=1).apply(tokens, jnp.zeros((1, L), jnp.int32), 0)
  assert not np.isfinite(np.asarray(ruled.allowed_logits)[0, [PAD, BOS, EOS]]).any()
