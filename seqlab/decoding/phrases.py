"""Lexical constraints: phrases that every output of a beam search has to contain.

Post and Vilar, "Fast Lexically Constrained Decoding with Dynamic Beam Allocation for
Neural Machine Translation", 2018, https://aclanthology.org/N18-1119, in the vectorised
form of Hu et al. 2019, https://aclanthology.org/N19-1090. The phrases may occur in any
order. A hypothesis has covered a number of their tokens, by which the candidates of a
step are divided into banks; the beam takes the best of each bank, then the second of
each bank, and so on. A hypothesis may always be extended by the next token of a phrase.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqlab.decoding.scores import NextTokens, select
from seqlab.types import EOS, PAD, Array


class Coverage(NamedTuple):
  """How far the tokens of hypotheses contain phrases.

  Attributes:
    is_met: [B, K, C] bool, whether a phrase occurs in the hypothesis.
    begun: [B, K, C] number of tokens of the phrase with which the hypothesis ends; 0
      where it is met.
    total: [B, K] number of tokens covered: those of phrases that are met, and those of
      the longest one that is begun.
  """

  is_met: Array
  begun: Array
  total: Array

  @classmethod
  def of(cls, phrases: Array, written: Array, i: Array) -> 'Coverage':
    """Compares hypotheses with phrases.

    Args:
      phrases: [B, C, P] ids, PAD after the last token; a phrase may be empty.
      written: [B, K, L] tokens of the hypotheses.
      i: [] number of tokens of each of them.
    """
    P, L = phrases.shape[2], written.shape[2]
    length = (phrases != PAD).sum(axis=2)[:, None]  # [B, 1, C]
    token = phrases[:, None, :, :]  # [B, 1, C, P]
    room = jnp.pad(written, ((0, 0), (0, 0), (P, P)), constant_values=PAD)
    starts = jnp.arange(L)
    occurs = starts + length[..., None] <= i  # [B, 1, C, L]
    for j in range(P):
      following = room[:, :, None, P + j : P + j + L]  # [B, K, 1, L]
      wanted = token[..., j, None]  # [B, 1, C, 1]
      occurs = occurs & ((following == wanted) | (wanted == PAD))
    is_met = occurs.any(axis=3) | (length == 0)  # [B, K, C]

    last = jax.lax.dynamic_slice_in_dim(room, i, P, axis=2)  # [B, K, P], up to i - 1
    begun = jnp.zeros(is_met.shape, jnp.int32)
    for n in range(1, P):
      equal = (last[:, :, None, P - n :] == token[..., :n]).all(axis=3)  # [B, K, C]
      begun = jnp.where(equal & (n < length) & (n <= i), n, begun)
    begun = jnp.where(is_met, 0, begun)
    total = jnp.where(is_met, length, 0).sum(axis=2) + begun.max(axis=2)
    return cls(is_met, begun, total)


def forbid_early_end(
  tokens: NextTokens, phrases: Array, written: Array, i: Array
) -> NextTokens:
  """Forbids EOS for hypotheses that lack a phrase, even at their limit.

  Args:
    tokens: scores of the next token of N rows.
    phrases: see `Coverage.of`.
    written: [N, L].
    i: see `Coverage.of`.
  """
  hypotheses = written.reshape(len(phrases), -1, written.shape[1])
  lacks = ~Coverage.of(phrases, hypotheses, i).is_met.all(axis=2).reshape(-1)  # [N]
  bound = jnp.where(lacks, -jnp.inf, jnp.inf)
  return tokens.replace(logits=tokens.logits.at[:, EOS].min(bound))


class Candidates(NamedTuple):
  """Extensions of hypotheses, [B, n] each; see `constrained_candidates`."""

  logp: Array
  parent: Array
  token: Array


def constrained_candidates(
  tokens: NextTokens, phrases: Array, live: Array, live_logp: Array, i: Array
) -> Candidates:
  """Returns the 2K extensions that a beam with constraints prefers, in their order.

  Args:
    tokens: scores of the next tokens of B * K rows.
    phrases: see `Coverage.of`.
    live: [B, K, L] hypotheses.
    live_logp: [B, K] their log-probabilities.
    i: [] number of their tokens.
  """
  K = live.shape[1]
  free = Candidates(*tokens.best(2 * K, K, live_logp.reshape(-1)))
  forced = _forced(tokens, phrases, live, live_logp, i, free)
  every = Candidates(
    *(jnp.concatenate(x, axis=1) for x in zip(free, forced, strict=True))
  )
  extended = select(live, every.parent).at[:, :, i].set(every.token)
  bank = Coverage.of(phrases, extended, i + 1).total
  best = _by_banks(bank, every.logp)[:, : 2 * K]
  return Candidates(*(select(x, best) for x in every))


def _forced(
  tokens: NextTokens,
  phrases: Array,
  live: Array,
  live_logp: Array,
  i: Array,
  free: Candidates,
) -> Candidates:
  """Returns the next token of each phrase after each hypothesis, [B, K * C] each.

  Those that are not allowed, or that are among the free candidates or before them, have
  the log-probability -inf.
  """
  B, K = live_logp.shape
  C = phrases.shape[1]
  coverage = Coverage.of(phrases, live, i)
  each = jnp.broadcast_to(phrases[:, None], (B, K, *phrases.shape[1:]))
  token = jnp.take_along_axis(each, coverage.begun[..., None], axis=3)[..., 0]
  logits = tokens.logits.reshape(B, K, -1)
  chosen = jnp.take_along_axis(logits, token, axis=2)  # [B, K, C]
  logp = chosen - tokens.log_z.reshape(B, K, 1) + live_logp[:, :, None]
  known = (free.parent[:, None, None] == jnp.arange(K)[:, None, None]) & (
    free.token[:, None, None] == token[..., None]
  )  # [B, K, C, 2K]
  is_known = (known & (free.logp > -jnp.inf)[:, None, None]).any(axis=3)
  earlier = token[:, :, None] == token[..., None]  # [B, K, C, C]
  earlier &= jnp.arange(C) < jnp.arange(C)[:, None]
  earlier &= ~coverage.is_met[:, :, None]
  excluded = is_known | earlier.any(axis=3) | coverage.is_met
  excluded |= tokens.ends_here.reshape(B, K, 1)
  logp = jnp.where(excluded, -jnp.inf, logp)
  parent = jnp.broadcast_to(jnp.arange(K)[:, None], (B, K, C))
  return Candidates(*(x.reshape(B, K * C) for x in (logp, parent, token)))


def _by_banks(bank: Array, logp: Array) -> Array:
  """Returns candidates in the order in which a beam takes them, [B, n] numbers.

  First comes the best candidate of each bank, that of the highest bank before others,
  then the second of each bank, and so on. Impossible candidates are last.
  """
  B, n = bank.shape
  number = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (B, n))
  bank = jnp.where(logp > -jnp.inf, bank, -1)
  sorted_bank, _, index = jax.lax.sort((bank, -logp, number), dimension=1, num_keys=2)
  is_first = sorted_bank != jnp.roll(sorted_bank, 1, axis=1)
  is_first = is_first.at[:, 0].set(True)
  begin = jax.lax.cummax(jnp.where(is_first, number, 0), axis=1)
  rank = jnp.where(sorted_bank < 0, n, number - begin)
  return jax.lax.sort((rank, -sorted_bank, index), dimension=1, num_keys=2)[2]
