"""Kinds of decoding, and the options that select them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.config import (
  DECODINGS,
  Beam,
  DecodingConfig,
  Greedy,
  MinimumBayesRisk,
  Sampling,
  make_decoding,
)
from seqlab.types import BOS, EOS, PAD, UNK

B, V, L = 3, 7, 6


def step(cache, token):
  """Logits that depend on the sentence and on the token."""
  return cache, jnp.sin(jnp.arange(V) * 1.7 + cache + token[:, None])


def run(decoding, ids=None):
  """Decodes three sentences, the last of which is empty."""
  cache = jnp.repeat(jnp.arange(B) * 0.9, decoding.num_hypotheses)[:, None]
  options = dict(batch_size=B, max_len=L, limit=jnp.array([L, 4, 0]))
  tokens, scores = jax.jit(lambda ids: decoding(step, cache, ids=ids, **options))(
    jnp.arange(B) if ids is None else ids
  )
  return np.asarray(tokens), np.asarray(scores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(DecodingConfig):
  """A kind that a user defines: the same token until the limit."""

  token: int = 4

  def __call__(self, step, cache, *, batch_size, max_len, limit, ids):
    column = jnp.arange(max_len)
    token = jnp.where(column == limit[:, None] - 1, EOS, self.token)
    tokens = jnp.where(column < limit[:, None], token, PAD)
    return tokens[:, None], jnp.zeros((batch_size, 1))


@pytest.mark.parametrize('kind', [*DECODINGS, f'{__name__}:Constant'])
def test_every_kind_has_the_interface(kind):
  decoding = make_decoding({'decoding': kind})
  assert hash(decoding) == hash(make_decoding({'decoding': {'kind': kind}}))
  tokens, scores = run(decoding)
  assert tokens.shape == (B, decoding.num_hypotheses, L)
  assert scores.shape == (B, decoding.num_hypotheses)
  assert tokens.dtype == np.int32
  assert not tokens[2].any()  # limit 0
  for row, limit in zip(tokens[:2, 0].tolist(), (L, 4), strict=True):
    end = row.index(EOS)
    assert end < limit
    assert set(row[end + 1 :]) <= {PAD}
  again, _ = run(decoding)
  np.testing.assert_array_equal(tokens, again)


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ({}, Beam()),
    ({'beam': 3, 'alpha': 1.0}, Beam(beam=3, alpha=1.0)),
    ({'length': [2, 5]}, Beam(length=(2, 5))),
    ({'temperature': 0.5}, Sampling(temperature=0.5)),
    ({'top_k': 3, 'beam': 1, 'seed': 4}, Sampling(top_k=3, seed=4)),
    ({'temperature': None, 'beam': 2}, Beam(beam=2)),
    ({'decoding': 'greedy'}, Greedy()),
    ({'min_length': 3, 'no_repeat_ngram': 2}, Beam(min_length=3, no_repeat_ngram=2)),
    ({'epsilon': 0.02}, Sampling(epsilon=0.02)),
    ({'mbr': 8, 'top_p': 0.9}, MinimumBayesRisk(mbr=8, top_p=0.9)),
    ({'mbr_measure': 'bleu'}, MinimumBayesRisk(mbr_measure='bleu')),
    ({'decoding': {'kind': 'sampling', 'top_p': 0.5}}, Sampling(top_p=0.5)),
    ({'decoding': 'beam', 'beam': 2}, Beam(beam=2)),
    ({'decoding': {'kind': f'{__name__}:Constant', 'token': 5}}, Constant(token=5)),
  ],
)
def test_options_name_a_kind(options, expected):
  assert make_decoding(options) == expected


def test_one_beam_is_greedy():
  for a, b in zip(run(Beam(beam=1)), run(Greedy()), strict=True):
    np.testing.assert_array_equal(a, b)


def test_full_length_chooses_eos_at_the_limit_only():
  others = [UNK, 4, 5, 6]
  tokens, scores = run(make_decoding({'decoding': 'full_length'}))
  for b, limit in enumerate((L, 4)):
    token, total = BOS, 0.0
    for column in range(limit):
      logits = np.sin(np.arange(V) * 1.7 + b * 0.9 + token)
      inside = others[logits[others].argmax()]
      chosen = EOS if column == limit - 1 else inside
      total += logits[chosen] - np.log(np.exp(logits).sum())
      token = tokens[b, 0, column]
      assert token == chosen
    assert scores[b, 0] == pytest.approx(total, rel=1e-4)
    assert not tokens[b, 0, limit:].any()


def test_random_bits_come_from_the_seed_and_the_sentence():
  first = run(Sampling())[0]
  assert (run(Sampling(seed=1))[0] != first).any()
  assert (run(Sampling(), jnp.arange(B) + 7)[0] != first).any()


@pytest.mark.parametrize(
  'options',
  [
    {'length': (0, 0)},
    {'length': (-1, 5)},
    {'length': 3},
    {'beam': 2.5},
    {'beam': True},
    {'beam': 2_000_000},
    {'temperature': 0},
    {'beam': 2, 'temperature': 1.0},
    {'min_length': -1},
    {'no_repeat_ngram': 1.5},
    {'length_reward': -0.1},
    {'diverse_groups': 2, 'beam': 5},
    {'diverse_strength': 0.5},
    {'epsilon': 1.0},
    {'mbr': 1},
    {'mbr_measure': 'ter'},
  ],
)
def test_options_outside_their_domain_are_refused(options):
  with pytest.raises(ValueError, match=f'{next(iter(options))} is .*; it must be'):
    make_decoding(options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'decoding': 'gredy'}, r"unknown decoding 'gredy'; did you mean 'greedy'"),
    ({'decoding': 'greedy', 'beam': 3}, r'unknown key decoding\.beam'),
    ({'bean': 3}, r"unknown key decoding\.bean; did you mean 'beam'"),
    ({'temperature': 0.5, 'alpha': 1.0}, r'unknown key decoding\.alpha'),
    ({'beam': 1, 'length_reward': 5.0}, r'length_reward is 5\.0, and has no effect'),
    ({'beam': 1, 'coverage': 0.2}, r'coverage is 0\.2, and has no effect'),
    ({'beam': 1, 'alpha': 0.6}, r'alpha is 0\.6, and has no effect: with beam=1'),
    ({'beam': 1, 'penalty': 'length'}, "penalty is 'length', and has no effect"),
    (
      {'decoding': {'kind': 'beam', 'beam': 1}, 'stop': 'count'},
      "stop is 'count', and",
    ),
    (
      {'decoding': 'full_length', 'min_length': 5},
      'min_length is 5, and has no effect',
    ),
  ],
)
def test_a_wrong_option_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    make_decoding(options)


def test_an_experiment_may_set_a_beam_of_one_beside_options_of_wider_ones():
  options = {'beam': 1, 'alpha': 1.0}
  assert make_decoding(options, 'evals.valid') == Beam(beam=1, alpha=1.0)


def test_a_record_has_later_options_only_where_they_are_set():
  record = Beam(beam=4, diverse_groups=2, min_length=3).record()
  assert record['diverse_groups'] == 2
  assert record['min_length'] == 3
  assert not {'length_reward', 'no_repeat_ngram', 'diverse_strength'} & record.keys()
  assert 'epsilon' not in Sampling().record()
  assert MinimumBayesRisk().record()['mbr'] == 64


def test_one_beam_obeys_rules_as_greedy_search_does():
  rules = dict(min_length=3, no_repeat_ngram=1)
  tokens = run(Beam(beam=1, **rules))[0]
  np.testing.assert_array_equal(tokens, run(Greedy(**rules))[0])
  assert (tokens[:2, 0] != PAD).sum(axis=1).min() >= 4  # three tokens and EOS


def test_samples_of_a_sentence_are_those_of_further_sentences():
  draws = run(MinimumBayesRisk(mbr=3))[0]
  for m in range(3):
    alone = run(Sampling(), jnp.arange(B) * 3 + m)[0]
    np.testing.assert_array_equal(draws[:, m], alone[:, 0])


def test_a_record_names_the_kind():
  assert Beam().record() == {
    'kind': 'beam',
    'length': (1.5, 10),
    'beam': 5,
    'alpha': 0.6,
    'penalty': 'gnmt',
    'stop': 'bound',
  }
  assert Constant().record()['kind'].endswith('test_config:Constant')
