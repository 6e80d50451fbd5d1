import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.beam import beam_search, coverage_penalty
from seqlab.types import BOS, EOS, PAD, UNK

V = 6  # words that may be generated: UNK, EOS, 4, 5
WORDS = (UNK, 4, 5)
B, L = 16, 8
LIMITS = np.arange(B) % L + 1

STATES = 101  # of the toy model

SHORT = np.array([4, 3, 4, 2, 4])  # limits at which every output can be listed
ALL = 1 + 3 + 9 + 27  # outputs of at most 4 words, including EOS


@pytest.fixture(scope='module')
def model(toy):
  return toy(B, V, seed=1)


@pytest.fixture(scope='module')
def small(toy):
  return toy(len(SHORT), V)


def penalty(length, alpha):
  return ((5 + length) / 6) ** alpha


def penalty_of_fairseq(length, alpha):
  return length**alpha


def padded(words, length):
  return [*words, *[PAD] * (length - len(words))]


def exhaustive(model, b, limit, alpha, penalty=penalty):
  """Returns every output with its score, the best one first."""
  outputs = [
    (*words, EOS) for n in range(limit) for words in itertools.product(WORDS, repeat=n)
  ]
  scored = [(model.logp(b, y) / penalty(len(y), alpha), y) for y in outputs]
  return sorted(scored, reverse=True)


def plain_beam_search(
  model, b, limit, M, alpha, stop='never', reward=0.0, added=lambda y: 0.0
):
  """Beam search as it is defined: with lists and without an early stop, or fairseq's."""
  live, done = [()], []
  for i in range(limit):
    nexts = (EOS,) if i == limit - 1 else (*WORDS, EOS)
    grown = [(model.logp(b, (*y, w)), (*y, w)) for y in live for w in nexts]
    grown = sorted(grown, reverse=True)[: 2 * M]
    ended = [(p, y) for p, y in grown[:M] if y[-1] == EOS]
    done += [
      (p / penalty(len(y), alpha) + reward * len(y) + added(y), y) for p, y in ended
    ]
    live = [y for _, y in grown if y[-1] != EOS][:M]
    if (M == 1 and ended) or (stop == 'count' and len(done) >= M):
      break
  return sorted(done, reverse=True)[:M]


@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_a_wide_beam_equals_exhaustive_search(small, beam, alpha):
  tokens, scores = beam(small.table, SHORT, M=ALL, L=4, alpha=alpha)
  for b, limit in enumerate(SHORT):
    expected = exhaustive(small, b, limit, alpha)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, 4) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_the_penalty_of_fairseq_divides_by_a_power_of_the_length(small, beam):
  tokens, scores = beam(small.table, SHORT, M=ALL, L=4, alpha=1.0, penalty='length')
  for b, limit in enumerate(SHORT):
    expected = exhaustive(small, b, limit, 1.0, penalty_of_fairseq)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, 4) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_fewer_outputs_than_beams_leave_padding(small, beam):
  tokens, scores = beam(small.table, SHORT, M=ALL, L=4)
  exist = [sum(3**n for n in range(limit)) for limit in SHORT]
  np.testing.assert_array_equal((scores > -np.inf).sum(axis=1), exist)
  assert (tokens[scores == -np.inf] == PAD).all()


@pytest.mark.parametrize('alpha', [0.0, 1.0])
@pytest.mark.parametrize('M', [1, 2, 3])
def test_stopping_early_does_not_change_the_result(model, beam, M, alpha):
  tokens, scores = beam(model.table, LIMITS, M=M, L=L, alpha=alpha)
  for b, limit in enumerate(LIMITS):
    expected = plain_beam_search(model, b, limit, M, alpha)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, L) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_a_search_may_stop_once_enough_outputs_are_finished(model, beam):
  options = dict(M=2, L=L, alpha=3.0)
  _, scores = beam(model.table, LIMITS, stop='count', **options)
  _, longest = beam(model.table, LIMITS, **options)
  assert (scores[:, 0] < longest[:, 0] - 1e-3).any()  # a better output came later
  for b, limit in enumerate(LIMITS):
    expected = plain_beam_search(model, b, limit, 2, 3.0, stop='count')
    found = scores[b, : len(expected)]
    np.testing.assert_allclose(found, [s for s, _ in expected], rtol=1e-5)


def test_a_reward_for_each_token_is_added_and_the_search_still_ends_late(model, beam):
  tokens, scores = beam(model.table, LIMITS, M=3, L=L, alpha=0.6, reward=0.7)
  without, _ = beam(model.table, LIMITS, M=3, L=L, alpha=0.6)
  assert (tokens[:, 0] != without[:, 0]).any()
  for b, limit in enumerate(LIMITS):
    expected = plain_beam_search(model, b, limit, 3, 0.6, reward=0.7)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, L) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


def test_source_tokens_without_attention_lower_the_score(model):
  """Equation 14 of Wu et al. 2016, in a search that keeps the attention of each past."""
  S, M, strength = 3, 3, 0.8
  attention = np.random.default_rng(2).dirichlet(0.3 * np.ones(S), (B, STATES))
  table, of_state = jnp.asarray(model.table), jnp.asarray(attention, jnp.float32)

  def step(cache, token):
    state, logits = model.step(table, {'state': cache['state']}, token)
    sentence = jnp.arange(token.size) // M
    coverage = cache['coverage'] + of_state[sentence, state['state']]
    return {**state, 'coverage': coverage}, logits

  tokens, scores = jax.jit(
    lambda cache: beam_search(
      step,
      cache,
      batch_size=B,
      beam_size=M,
      max_len=L,
      alpha=0.6,
      surcharge=lambda cache: coverage_penalty(cache['coverage'], strength),
      limit=jnp.asarray(LIMITS),
    )
  )({**model.start(B * M), 'coverage': jnp.zeros((B * M, S))})

  def added(b, y):
    state, last, coverage = 0, BOS, np.zeros(S)
    for word in y:
      state = (state * 31 + last + 1) % STATES
      coverage, last = coverage + attention[b, state], word
    return strength * np.log(np.minimum(coverage, 1)).sum()

  for b, limit in enumerate(LIMITS):
    options = dict(added=functools.partial(added, b))
    expected = plain_beam_search(model, b, limit, M, 0.6, **options)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, L) for _, y in expected]
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-4
    )


def plain_diverse_search(model, b, limit, M, groups, diversity, alpha):
  """Diverse beam search as it is defined, with lists."""
  K = M // groups
  live, done = [[()] for _ in range(groups)], [[] for _ in range(groups)]
  for i in range(limit):
    nexts = (EOS,) if i == limit - 1 else (*WORDS, EOS)
    counts = collections.Counter()  # of the tokens that earlier groups wrote here
    for g in range(groups):
      grown = [(model.logp(b, (*y, w)), (*y, w)) for y in live[g] for w in nexts]
      grown.sort(key=lambda x: x[0] - diversity * counts[x[1][-1]], reverse=True)
      grown = grown[: 2 * K]
      ended = [(p, y) for p, y in grown[:K] if y[-1] == EOS]
      going = [(p, y) for p, y in grown if y[-1] != EOS][:K]
      counts.update(y[-1] for _, y in ended + going)
      scored = [(p / penalty(len(y), alpha), y) for p, y in ended]
      done[g] = sorted(done[g] + scored, reverse=True)[:K]
      bound = max([p for p, _ in going], default=-np.inf) / penalty(limit, alpha)
      full = len(done[g]) == K and bound <= done[g][-1][0]
      live[g] = [] if full or (K == 1 and ended) else [y for _, y in going]
  return sorted((x for group in done for x in group), reverse=True)


@pytest.mark.parametrize('groups', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_groups_of_a_diverse_search_avoid_the_tokens_of_earlier_ones(
  model, beam, groups
):
  options = dict(M=4, L=L, alpha=0.6)
  tokens, scores = beam(model.table, LIMITS, **options, groups=groups, diversity=1.5)
  for b, limit in enumerate(LIMITS):
    expected = plain_diverse_search(model, b, limit, 4, groups, 1.5, 0.6)
    outputs = tokens[b, : len(expected)].tolist()
    assert outputs == [padded(y, L) for _, y in expected]
    assert (scores[b, len(expected) :] == -np.inf).all()
    np.testing.assert_allclose(
      scores[b, : len(expected)], [s for s, _ in expected], rtol=1e-5
    )


@pytest.mark.parametrize('alpha', [0.0, 0.6, 3.0])
def test_one_beam_equals_greedy_search(model, beam, greedy, alpha):
  tokens, scores = beam(model.table, LIMITS, M=1, L=L, alpha=alpha)
  expected, logp = greedy(model.table, LIMITS, L=L)
  np.testing.assert_array_equal(tokens[:, 0], expected)
  lengths = (expected != PAD).sum(axis=1)
  np.testing.assert_allclose(scores[:, 0], logp / penalty(lengths, alpha), rtol=1e-5)


def test_greedy_scores_are_log_probabilities(model, greedy):
  tokens, logp = greedy(model.table, LIMITS, L=L)
  expected = [model.logp(b, y[y != PAD]) for b, y in enumerate(tokens)]
  np.testing.assert_allclose(logp, expected, rtol=1e-5)


def test_greedy_takes_the_most_probable_word(model, greedy):
  tokens, _ = greedy(model.table, LIMITS, L=L)
  for b, limit in enumerate(LIMITS):
    words = []
    while EOS not in words:
      nexts = (EOS,) if len(words) == limit - 1 else (*WORDS, EOS)
      words.append(max(nexts, key=lambda w: model.logp(b, (*words, w))))
    assert tokens[b].tolist() == padded(words, L)


def test_beam_search_of_a_batch_equals_that_of_single_sentences(model, beam):
  tokens, scores = beam(model.table, LIMITS, M=3, L=L)
  for b in range(B):
    alone, score = beam(model.table[b : b + 1], LIMITS[b : b + 1], M=3, L=L)
    np.testing.assert_array_equal(alone[0], tokens[b])
    np.testing.assert_array_equal(score[0], scores[b])  # bit for bit


def test_greedy_search_of_a_batch_equals_that_of_single_sentences(model, greedy):
  tokens, logp = greedy(model.table, LIMITS, L=L)
  for b in range(B):
    alone, score = greedy(model.table[b : b + 1], LIMITS[b : b + 1], L=L)
    np.testing.assert_array_equal(alone[0], tokens[b])
    np.testing.assert_array_equal(score[0], logp[b])


def test_every_output_ends_once_within_its_limit(model, beam):
  tokens, scores = beam(model.table, LIMITS, M=3, L=L, alpha=1.0)
  real = scores > -np.inf
  assert ((tokens == EOS).sum(axis=2) == real).all()
  lengths = (tokens != PAD).sum(axis=2)
  assert (lengths <= LIMITS[:, None]).all()
  ends = np.take_along_axis(tokens, np.maximum(lengths - 1, 0)[..., None], 2)[..., 0]
  assert (ends[real] == EOS).all()


def test_a_limit_of_zero_gives_an_empty_output(model, beam, greedy):
  limits = LIMITS * (np.arange(B) % 3 > 0)
  tokens, scores = beam(model.table, limits, M=3, L=L)
  assert (tokens[limits == 0] == PAD).all()
  assert (scores[limits == 0] == -np.inf).all()
  tokens, logp = greedy(model.table, limits, L=L)
  assert (tokens[limits == 0] == PAD).all()
  assert (logp[limits == 0] == 0).all()


def test_pad_bos_and_forbidden_words_are_never_written(model, beam, greedy):
  table = model.table.copy()
  table[:, :, [PAD, BOS, UNK]] += 20.0  # the model prefers these words
  outputs = [
    beam(table, LIMITS, M=3, L=L, forbid=(UNK,))[0],
    greedy(table, LIMITS, L=L, forbid=(UNK,))[0][:, None],
  ]
  for tokens in outputs:
    lengths = (tokens != PAD).sum(axis=2, keepdims=True)
    written = tokens[np.arange(L) < lengths]
    assert set(written) <= {EOS, 4, 5}


def steps_taken(logits, *, L, M):
  """How many steps a search over constant `logits` [B, V] takes, without penalty."""
  calls = []

  def step(cache, token):
    jax.debug.callback(lambda _: calls.append(1), token[0])
    return cache, jnp.repeat(logits, M, axis=0)

  tokens, _ = beam_search(
    step, {}, batch_size=len(logits), beam_size=M, max_len=L, alpha=0.0
  )
  jax.block_until_ready(tokens)
  jax.effects_barrier()
  return len(calls)


def test_the_search_stops_when_no_unfinished_hypothesis_can_win():
  likely_end = jnp.zeros((2, V)).at[:, EOS].set(20.0)
  # One finishes at the first step, the other at the second.
  assert steps_taken(likely_end, L=40, M=2) == 2


def test_the_search_continues_while_an_unfinished_hypothesis_can_win():
  unlikely_end = jnp.zeros((2, V)).at[:, EOS].set(-20.0)
  assert steps_taken(unlikely_end, L=10, M=2) == 10


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'alpha': -0.5}, r'alpha=-0.5 is negative'),
    ({'reward': -1.0}, r'reward=-1.0 is negative'),
    ({'groups': 3}, r'groups=3 must divide beam_size=2'),
    ({'beam_size': 0}, r'beam_size=0 must be at least 1'),
    ({'max_len': 0}, r'max_len=0 must be at least 1'),
    ({'forbid': (EOS,)}, r'contains EOS'),
    ({'cache': {'key': jnp.zeros((3, 2))}}, r"cache\['key'\] is \(3, 2\).*= 4"),
    ({'cache': {'key': jnp.zeros((2, 2))}}, r"cache\['key'\] is \(2, 2\).*= 4"),
    ({'cache': {'key': 1}}, r"cache\['key'\] is \(\)"),
  ],
)
def test_arguments_out_of_range_are_named(change, message):
  arguments = {'cache': {}, 'batch_size': 2, 'beam_size': 2, 'max_len': 3} | change
  with pytest.raises(ValueError, match=message):
    beam_search(lambda cache, token: (cache, jnp.zeros((4, V))), **arguments)
