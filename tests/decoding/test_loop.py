"""A search that drops decided sentences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding.beam import beam_search, greedy_search
from seqlab.decoding.loop import cache_lengths, smaller_sizes

B, V, L = 16, 6, 8
LIMITS = np.arange(B) % L + 1


@pytest.fixture(scope='module')
def toy_search(toy):
  """Returns (M, sizes) -> tokens and scores, M = 0 for greedy search."""
  table = toy(B, V, seed=1).table

  @functools.partial(jax.jit, static_argnames=('M', 'sizes'))
  def search(M, sizes):
    rows = jnp.repeat(jnp.asarray(table), max(M, 1), axis=0)
    cache = {'state': jnp.zeros(len(rows), jnp.int32), 'table': rows}

    def step(cache, token):
      state, logits = toy.step(cache['table'], {'state': cache['state']}, token)
      return {**state, 'table': cache['table']}, logits

    sizes_ = dict(batch_size=B, max_len=L, limit=LIMITS, sizes=sizes)
    if M:
      return beam_search(step, cache, beam_size=M, **sizes_)
    return greedy_search(step, cache, **sizes_)

  return search


@pytest.mark.parametrize('M', [0, 1, 3])
def test_dropping_decided_sentences_changes_no_result(toy_search, M):
  expected = toy_search(M, ())
  for sizes in ((8,), (11, 4, 1)):
    for value, other in zip(toy_search(M, sizes), expected, strict=True):
      np.testing.assert_array_equal(value, other)


def test_each_size_is_half_of_the_one_before():
  assert smaller_sizes(51, 3) == (25, 12)
  assert smaller_sizes(51, 1) == ()


def test_small_batches_stay_as_they_are():
  assert smaller_sizes(20, 3) == (10,)
  assert smaller_sizes(1, 3) == ()


def test_a_cache_grows_by_thirds():
  assert cache_lengths(58) == (20, 39, 58)
  assert cache_lengths(16) == (11, 16)
  assert cache_lengths(8) == (8,)
