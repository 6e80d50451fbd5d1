"""Sentence scores of all pairs of outputs of a sentence, for minimum Bayes risk.

To compare M texts pair by pair takes M² comparisons of all their tokens. Here a text is
a set, of which the r-th occurrence of an n-gram in the text is an element of its own.
The clipped number of n-grams that two texts share is then the number of elements that
their sets share, and all M² of these numbers are the product of a matrix of zeros and
ones with its transpose.
"""

from typing import Literal

from jax import lax
import jax.numpy as jnp

from seqlab.metrics.bleu import MAX_ORDER, bleu_score
from seqlab.metrics.characters import (
  EMPTY,
  PieceBytes,
  characters,
  compact,
  detokenize,
  is_space,
)
from seqlab.metrics.chrf import CHARACTER_ORDER, chrf_score
from seqlab.metrics.tokenizers import Words, tokenize
from seqlab.types import EOS, PAD, Array

Utility = Literal['chrf', 'bleu']

_CELLS = 1 << 21  # of the matrix of a block of elements; 8 MiB
_BYTES_PER_PIECE = (4, 12)  # rooms that are tried before that for the longest pieces


def expected_utility(ids: Array, table: PieceBytes, utility: Utility) -> Array:
  """Returns the mean sentence score of each output against the others.

  The texts that the ids write are compared. Only one sentence at a time is in memory,
  and of the matrix of its n-grams only a block of columns.

  Args:
    ids: outputs of B sentences, [B, M, L], PAD after EOS; M is 2 or more.
    table: text of each piece.
    utility: 'chrf' or 'bleu', sacreBLEU's sentence_chrf or sentence_bleu, the latter
      with the tokeniser 13a.

  Returns:
    [B, M] float32, from 0 to 100.
  """
  M, L = ids.shape[1:]
  sizes = _sizes(L, table.bytes.shape[1])

  def of_sentence(ids: Array) -> Array:  # [M, L] -> [M]
    longest = _num_bytes(ids, table).max()
    branch = sum((longest > size).astype(jnp.int32) for size in sizes[:-1])
    scores = lax.switch(
      branch,
      [lambda ids, n=n: pairwise_scores(ids, table, n, utility) for n in sizes],
      ids,
    )
    return (scores.sum(axis=1) - jnp.diagonal(scores)) / (M - 1)

  return lax.map(of_sentence, ids)


def _sizes(pieces: int, longest: int) -> list[int]:
  """Returns rising numbers of bytes per text, the last one enough for any text."""
  whole = pieces * longest
  return [*(pieces * n for n in _BYTES_PER_PIECE if n < longest), whole]


def _num_bytes(ids: Array, table: PieceBytes) -> Array:
  """Returns the number of bytes that ids write, separators included: [..., L] -> [...]."""
  ends = jnp.cumsum((ids == EOS) | (ids == PAD), axis=-1)
  return jnp.where(ends == 0, jnp.asarray(table.length)[ids], 0).sum(axis=-1)


def pairwise_scores(
  ids: Array, table: PieceBytes, size: int, utility: Utility
) -> Array:
  """Returns the score of each output with each other one as its reference.

  Args:
    ids: outputs of a sentence, [M, L].
    table: text of each piece.
    size: number of bytes per text, at least that of the longest.
    utility: see `expected_utility`.

  Returns:
    [M, M] float32; the first axis is that of the hypotheses.
  """
  chars = characters(detokenize(ids, table, size))
  return _chrf(chars) if utility == 'chrf' else _bleu(chars)


def _chrf(chars: Array) -> Array:
  """Returns sentence chrF of characters [M, N]: [M, M]."""
  chars = compact(jnp.where(is_space(chars), EMPTY, chars))
  count = (chars != EMPTY).sum(axis=1)
  matches = shared_ngrams(
    Words(chars[..., None].astype(jnp.uint32), count), CHARACTER_ORDER
  )
  totals = _totals(count, CHARACTER_ORDER)
  ours, theirs = _as_pairs(totals, totals)
  # As `chrf.chrf_statistics`: an order that the reference lacks is not counted.
  triples = [jnp.where(theirs > 0, ours, 0), theirs, matches]
  statistics = jnp.stack(triples, axis=-1)  # [M, M, order, 3]
  return chrf_score(statistics.reshape(*statistics.shape[:2], -1))


def _bleu(chars: Array) -> Array:
  """Returns sentence BLEU of characters [M, N]: [M, M]."""
  words = tokenize(chars, '13a', chars.shape[1])
  matches = shared_ngrams(words, MAX_ORDER)
  ours, _ = _as_pairs(*(_totals(words.count, MAX_ORDER),) * 2)
  length, reference = _as_pairs(*(words.count[:, None],) * 2)
  statistics = jnp.concatenate([matches, ours, length, reference], axis=-1)
  return bleu_score(statistics, effective_order=True)


def _totals(count: Array, order: int) -> Array:
  """Returns the numbers of n-grams of texts, [M] -> [M, order]."""
  return jnp.maximum(count[:, None] - jnp.arange(order), 0)


def _as_pairs(hypotheses: Array, references: Array) -> tuple[Array, Array]:
  """Repeats two arrays [M, C] for all pairs: [M, M, C] each."""
  pairs = len(hypotheses), *references.shape
  return (
    jnp.broadcast_to(hypotheses[:, None], pairs),
    jnp.broadcast_to(references[None], pairs),
  )


def shared_ngrams(words: Words, order: int) -> Array:
  """Counts the n-grams that each two texts share, n = 1 ... order.

  The count of an n-gram is the smaller one of both texts.

  Args:
    words: tokens of M texts, [M, K, F], and counts [M].
    order: the largest n.

  Returns:
    [M, M, order] int32.
  """
  M, K = words.hashes.shape[:2]
  text, place = jnp.divmod(jnp.arange(M * K), K)
  follow = words.count[text] - place  # tokens from a position to the end of its text
  first, second = words.hashes[..., 0].ravel(), words.hashes[..., -1].ravel()
  number, element = one, _ = _numbered(first, second, text, follow >= 1)
  matches = [_intersections(text, element, M)]
  for n in range(2, order + 1):
    # An n-gram is the one before it and one more token.
    number, element = _numbered(number, jnp.roll(one, 1 - n), text, follow >= n)
    matches.append(_intersections(text, element, M))
  return jnp.stack(matches, axis=-1).astype(jnp.int32)


def _numbered(
  first: Array, second: Array, text: Array, exists: Array
) -> tuple[Array, Array]:
  """Numbers n-grams, and their occurrences.

  Args:
    first: [T], equal together with `second` where n-grams are equal.
    second: [T].
    text: [T] number of the text of each n-gram, not falling.
    exists: [T] bool, whether there is an n-gram.

  Returns:
    A number for each distinct n-gram, [T] int32. And the element of the set of its text
    that each n-gram is, [T] int32 below T: equal ones of different texts are occurrences
    of the same rank of the same n-gram. It is T where there is no n-gram.
  """
  T = len(first)
  position = jnp.arange(T, dtype=jnp.int32)
  # Those that do not exist come last, and are equal to no other.
  missing = (~exists).astype(jnp.int32)
  _, a, b, index = lax.sort((missing, first, second, position), num_keys=3)
  is_new = jnp.concatenate([jnp.ones(1, bool), (a[1:] != a[:-1]) | (b[1:] != b[:-1])])
  starts_text = is_new | (text[index] != jnp.roll(text[index], 1))
  begin = lax.cummax(jnp.where(is_new, position, 0))  # of equal n-grams
  begin_in_text = lax.cummax(jnp.where(starts_text, position, 0))
  # There is room for as many ranks as there are equal n-grams in all texts together.
  element = begin + position - begin_in_text
  groups = jnp.cumsum(is_new, dtype=jnp.int32)
  empty = jnp.zeros(T, jnp.int32)
  element = empty.at[index].set(element, unique_indices=True)
  return (
    empty.at[index].set(groups, unique_indices=True),
    jnp.where(exists, element, T),
  )


def _intersections(text: Array, element: Array, M: int) -> Array:
  """Returns how many elements the sets of each two texts share, [M, M] float32.

  Args:
    text: [T] number of the text of each element.
    element: [T] the element, T for none.
    M: number of texts.
  """
  T = len(text)
  width = min(T, max(1, _CELLS // M))

  def add(block: Array, total: Array) -> Array:
    column = element - block * width
    inside = (column >= 0) & (element < T)
    column = jnp.where(inside, column, width)  # dropped, as those beyond the block
    sets = jnp.zeros((M, width), jnp.float32).at[text, column].set(1.0, mode='drop')
    return total + sets @ sets.T

  return lax.fori_loop(0, -(-T // width), add, jnp.zeros((M, M), jnp.float32))
