"""Outputs that contain given phrases, against lists."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.beam import beam_search
from seqlab.decoding.phrases import Coverage
from seqlab.decoding.rules import Rules
from seqlab.types import EOS, PAD, UNK

V, L = 6, 6
WORDS = (UNK, 4, 5)
PHRASES = [
  [(4, 5), (5, 5)],
  [(UNK,)],
  [],
  [(4, 4, 4), (5,)],
  [(4, 5), (4, 5, 5), (4, 5)],
  [(5, UNK, 5), (UNK, 5)],
]
LIMITS = np.array([6, 5, 4, 6, 6, 6])
RULES = Rules(
  phrases=jnp.array(
    [
      [[*x, *[PAD] * (3 - len(x))] for x in (*phrases, *[()] * (3 - len(phrases)))]
      for phrases in PHRASES
    ]
  )
)


def covered(y, phrases):
  """Returns whether each phrase occurs in `y`, and what `y` has begun of it."""
  windows = {y[a:b] for a in range(len(y)) for b in range(a + 1, len(y) + 1)}
  met = [x in windows for x in phrases]
  begun = [
    0 if is_met else max(n for n in range(len(x)) if y[len(y) - n :] == x[:n])
    for x, is_met in zip(phrases, met, strict=True)
  ]
  lengths = [len(x) for x, is_met in zip(phrases, met, strict=True) if is_met]
  return met, begun, sum(lengths) + max(begun, default=0)


def test_coverage_is_that_of_lists():
  for i in (0, 1, 4):
    pasts = [*itertools.product(WORDS, repeat=i)]
    written = np.array([[*y, *[4] * (L - i)] for y in pasts])
    written = np.broadcast_to(written, (len(PHRASES), *written.shape))
    coverage = jax.jit(Coverage.of)(RULES.phrases, written, i)
    is_met, begun_of, total_of = map(np.asarray, coverage)
    for b, phrases in enumerate(PHRASES):
      for k, y in enumerate(pasts):
        met, begun, total = covered(y, phrases)
        n = len(phrases)
        assert is_met[b, k].tolist() == [*met, *[True] * (3 - n)]
        assert begun_of[b, k, :n].tolist() == begun
        assert total_of[b, k] == total


@pytest.fixture(scope='module')
def model(toy):
  return toy(len(LIMITS), V, seed=6)


def padded(y):
  return [*y, *[PAD] * (L - len(y))]


def by_banks(cands, phrases):
  """Sorts (log p, y) as a beam with constraints takes them."""
  banks = {}
  for p, y in sorted(cands, reverse=True):
    bank = covered(y[:-1] if y[-1] == EOS else y, phrases)[2]
    banks.setdefault(bank, []).append((p, y))
  keyed = [(rank, -bank, x) for bank, xs in banks.items() for rank, x in enumerate(xs)]
  return [x for _, _, x in sorted(keyed, key=lambda k: k[:2])]


def plain_constrained_search(model, b, limit, M, phrases):
  live, done = [()], []
  for i in range(limit):
    free, forced = [], []
    for y in live:
      met, begun, _ = covered(y, phrases)
      words = () if i == limit - 1 else WORDS
      free += [(*y, w) for w in (*words, *((EOS,) if all(met) else ()))]
      unmet = [
        (x, n) for x, m, n in zip(phrases, met, begun, strict=True) if not m and words
      ]
      forced += [(*y, x[n]) for x, n in unmet]
    free = sorted(((model.logp(b, y), y) for y in free), reverse=True)[: 2 * M]
    cands = {*free, *((model.logp(b, y), y) for y in forced)}
    chosen = by_banks(cands, phrases)[: 2 * M]
    done += [(p, y) for p, y in chosen[:M] if y[-1] == EOS]
    live = [y for _, y in chosen if y[-1] != EOS][:M]
  return sorted(done, reverse=True)[:M]


@pytest.mark.parametrize('M', [4, pytest.param(128, marks=pytest.mark.slow)])
def test_a_beam_with_phrases_is_that_of_lists(model, beam, M):
  limits = np.minimum(LIMITS, 5) if M == 128 else LIMITS
  tokens, scores = beam(model.table, limits, M=M, L=L, alpha=0.0, rules=RULES)
  for b, (limit, phrases) in enumerate(zip(limits, PHRASES, strict=True)):
    if M == 128:  # every output that contains the phrases
      every = (
        (*y, EOS) for n in range(limit) for y in itertools.product(WORDS, repeat=n)
      )
      expected = sorted(
        ((model.logp(b, y), y) for y in every if all(covered(y, phrases)[0])),
        reverse=True,
      )[:M]
    else:
      expected = plain_constrained_search(model, b, limit, M, phrases)
    assert expected
    found = [row for row, x in zip(tokens[b], scores[b], strict=True) if x > -np.inf]
    assert np.array(found).tolist() == [padded(y) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_groups_have_no_phrases():
  def step(cache, token):
    return cache, jnp.zeros((2, V))

  with pytest.raises(ValueError, match='groups=2 must be 1 with phrases'):
    beam_search(step, {}, batch_size=1, beam_size=2, max_len=3, groups=2, rules=RULES)
