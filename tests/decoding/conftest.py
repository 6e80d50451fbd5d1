"""A small model in which each prediction depends on the whole prefix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.beam import beam_search, greedy_search
from seqlab.decoding.rules import NO_RULES

STATES = 101


class ToyModel:
  """A Markov chain over hashes of the prefix: V words, B sentences.

  Each sentence has its own table, as it would have an encoder's memory.
  """

  def __init__(self, B: int, V: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    self.table = rng.normal(0, 2, (B, STATES, V)).astype(np.float32)

  @staticmethod
  def start(rows: int):
    return {'state': jnp.zeros(rows, jnp.int32)}  # [N]

  @staticmethod
  def step(table, cache, token):  # [B, STATES, V], leaves [N], [N]
    state = (cache['state'] * 31 + token + 1) % STATES
    sentence = jnp.arange(token.size) // (token.size // len(table))
    return {'state': state}, table[sentence, state]

  def logp(self, b: int, words) -> float:
    """Returns log p of a sequence with its EOS in float64, computed word by word."""
    state, last, total = 0, 2, 0.0
    for word in words:
      state = (state * 31 + last + 1) % STATES
      logits = self.table[b, state].astype(np.float64)
      total += logits[word] - np.logaddexp.reduce(logits)
      last = word
    return total


_STATIC = ('M', 'L', 'forbid', 'penalty', 'stop', 'reward', 'groups', 'diversity')


@functools.partial(jax.jit, static_argnames=_STATIC)
def _beam(table, limit, rules, *, M, L, alpha, forbid, **options):
  return beam_search(
    functools.partial(ToyModel.step, table),
    ToyModel.start(len(table) * M),
    batch_size=len(table),
    beam_size=M,
    max_len=L,
    alpha=alpha,
    limit=limit,
    forbid=forbid,
    rules=rules,
    **options,
  )


@functools.partial(jax.jit, static_argnames=('L', 'forbid'))
def _greedy(table, limit, rules, *, L, forbid):
  return greedy_search(
    functools.partial(ToyModel.step, table),
    ToyModel.start(len(table)),
    batch_size=len(table),
    max_len=L,
    limit=limit,
    forbid=forbid,
    rules=rules,
  )


@pytest.fixture(scope='session')
def toy():
  return ToyModel


@pytest.fixture(scope='session')
def beam():
  """(table, limit, M=, L=, alpha=) -> tokens [B, M, L], scores [B, M]."""

  def run(table, limit, *, rules=NO_RULES, alpha=0.6, forbid=(), **options):
    limit = jnp.asarray(limit, jnp.int32)
    return jax.device_get(
      _beam(table, limit, rules, alpha=alpha, forbid=forbid, **options)
    )

  return run


@pytest.fixture(scope='session')
def greedy():
  """(table, limit, L=) -> tokens [B, L], log p [B]."""

  def run(table, limit, *, L, forbid=(), rules=NO_RULES):
    limit = jnp.asarray(limit, jnp.int32)
    return jax.device_get(_greedy(table, limit, rules, L=L, forbid=forbid))

  return run
