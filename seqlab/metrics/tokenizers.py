"""Tokenisers as functions on arrays: sacreBLEU's 13a, none, char, and others.

A tokeniser computes where tokens begin; a token is represented by two hashes of its
characters. The functions use only neighbouring characters and sums along the line, with
no sequential loop over characters, so a device processes a whole batch in parallel.

13a is defined by mteval-v13a.pl (NIST) as implemented in sacreBLEU (Post 2018,
https://aclanthology.org/W18-6319).
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.metrics.characters import EMPTY, compact, is_space, shift
from seqlab.types import Array


class Words(NamedTuple):
  """Hashes of tokens [..., K, 2] uint32, zero after the last, and counts [...] int32.

  A count above K means that tokens of the line are missing. The tokens of 'text' are
  characters, [..., K, 1].
  """

  hashes: Array
  count: Array


def repeat_rows(words: Words, n: int) -> Words:
  """Returns each row n times: tokens [..., n, K, F] and counts [..., n]."""
  hashes = jnp.asarray(words.hashes)[..., None, :, :]
  count = jnp.asarray(words.count)[..., None]
  shape = (*count.shape[:-1], n)
  return Words(
    jnp.broadcast_to(hashes, (*shape, *hashes.shape[-2:])),
    jnp.broadcast_to(count, shape),
  )


def tokenize(chars: Array, tokenizer: str, size: int) -> Words:
  """Splits lines into tokens.

  Args:
    chars: code points [..., N], from `characters.characters`.
    tokenizer: '13a', 'none' or 'char'; 'chrf' for the words of chrF++; 'text' for all
      characters, white space included; or a single character, which separates tokens
      in place of white space.
    size: K, the maximum number of tokens per line.

  Raises:
    ValueError: the tokeniser is unknown.
  """
  if tokenizer == 'text':
    return _text(chars, size)
  if len(tokenizer) == 1:
    chars = jnp.where(is_space(chars), _INNER_SPACE, chars)
    chars = jnp.where(chars == ord(tokenizer), ord(' '), chars)
    tokenizer = 'none'
  if tokenizer not in _ALL:
    raise ValueError(f'tokenizer {tokenizer!r} is not one of {", ".join(TOKENIZERS)}')
  return _words(*_ALL[tokenizer](chars), size)


_INNER_SPACE = 0x110000  # stands for white space that separates nothing; not Unicode


def _text(chars: Array, size: int) -> Words:
  """Makes every character a token, except white space at both ends of a line.

  Characters that would end a line count as spaces, and NUL as U+FFFD, as they are in
  decoded text; see `text.lines.one_line`.
  """
  breaks = (chars >= 0x0A) & (chars <= 0x0D) | (chars >= 0x1C) & (chars <= 0x1E)
  for code in (0x85, 0x2028, 0x2029):
    breaks |= chars == code
  chars = jnp.where(breaks, ord(' '), jnp.where(chars == 0, 0xFFFD, chars))
  visible = ~_blank(chars)
  position = jnp.arange(chars.shape[-1], dtype=jnp.int32)
  end = jnp.where(visible, position + 1, 0).max(axis=-1)  # [...]
  begin = jnp.where(visible, position, end[..., None]).min(axis=-1)
  count = end - begin
  at = jnp.arange(size, dtype=jnp.int32)
  index = jnp.minimum(begin[..., None] + at, chars.shape[-1] - 1)
  tokens = jnp.take_along_axis(chars, index, axis=-1)  # [..., K]
  inside = at < count[..., None]
  return Words(jnp.where(inside, tokens, 0).astype(jnp.uint32)[..., None], count)


def _none(chars: Array) -> tuple[Array, Array]:
  """Splits at white space."""
  return chars, _starts(chars, jnp.zeros(chars.shape, bool))


def _char(chars: Array) -> tuple[Array, Array]:
  """Makes every character a token."""
  return chars, _starts(chars, jnp.ones(chars.shape, bool))


def _13a(chars: Array) -> tuple[Array, Array]:
  """Splits as mteval's tokeniser for Western languages does."""
  chars = _rstrip(chars)
  special = _begins(chars, '&') | _begins(chars, '<s') | _begins(chars, '\n')
  chars = lax.cond(special.any(), _unescape, lambda x: x, chars)
  return chars, _starts(chars, _is_single(chars))


# Strings that 13a replaces, in this order, by a character or by nothing.
_REPLACED = (
  ('<skipped>', None),
  ('-\n', None),
  ('&quot;', '"'),
  ('&amp;', '&'),
  ('&lt;', '<'),
  ('&gt;', '>'),
)


def _unescape(chars: Array) -> Array:
  longest = max(len(pattern) for pattern, _ in _REPLACED)
  patterns = np.full((len(_REPLACED), longest), EMPTY, np.int32)  # EMPTY matches all
  for row, (pattern, _) in zip(patterns, _REPLACED, strict=True):
    row[: len(pattern)] = [ord(c) for c in pattern]
  values = np.array([ord(v) if v else EMPTY for _, v in _REPLACED], np.int32)

  def replace(chars: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
    pattern, value = inputs
    begins = jnp.ones(chars.shape, bool)
    for n in range(longest):
      begins &= (shift(chars, -n, EMPTY) == pattern[n]) | (pattern[n] == EMPTY)
    inside = jnp.zeros(chars.shape, bool)  # matches cannot overlap
    for n in range(longest):
      inside |= shift(begins, n, False) & (pattern[n] != EMPTY)
    chars = jnp.where(begins, value, jnp.where(inside, EMPTY, chars))
    return compact(chars), None

  return lax.scan(replace, chars, (patterns, values))[0]


def _chrf(chars: Array) -> tuple[Array, Array]:
  """Splits into chrF++'s words.

  A punctuation mark at the end of a word is a separate token; otherwise one at its
  beginning is.
  """
  blank = _blank(chars)
  first = ~blank & shift(blank, 1, True)
  last = ~blank & shift(blank, -1, True)
  mark = _is_mark(chars)
  for other in ".,-'":
    mark |= chars == ord(other)
  # Whether the word that contains a character ends with a mark.
  position = jnp.arange(chars.shape[-1], 0, -1, dtype=jnp.int32)
  ends = lax.cummax(
    jnp.where(last, 2 * position + mark, -2), axis=chars.ndim - 1, reverse=True
  )
  leads = first & mark & ~last & (ends % 2 == 0)
  return chars, first | (last & mark) | (shift(leads, 1, False) & ~blank)


TOKENIZERS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
  '13a': _13a,
  'none': _none,
  'char': _char,
}
_ALL = TOKENIZERS | {'chrf': _chrf}


def _blank(chars: Array) -> Array:
  """Returns where there is white space, or no character after the end."""
  return is_space(chars) | (chars == EMPTY)


def _starts(chars: Array, single: Array) -> Array:
  """Returns where tokens begin: after white space, at and after `single` characters."""
  blank = _blank(chars)
  # Without the barrier, XLA computes both again for each of their shifted uses.
  blank, single = lax.optimization_barrier((blank, single))
  return ~blank & (shift(blank, 1, True) | single | shift(single, 1, False))


def _is_single(chars: Array) -> Array:
  """Returns which characters are single tokens under 13a.

  This combines its four regular expressions:
  1. Each ASCII punctuation mark except . , - ' is a token.
  2. In a run of k marks . or , let c be the character before it and n the one after it.
     The second expression separates mark j (from 1) from its neighbours if j is odd and
     c is not a digit, or if j is even and c is a digit, because each of its matches
     consumes two characters. The third expression separates a mark before a non-digit,
     which is every mark except the last. The last mark is joined to a digit n unless
     the second expression has separated it; if c is a digit and k is 1, it is then also
     joined to c.
  3. A hyphen immediately after a digit is a token.
  """
  digit = (chars >= ord('0')) & (chars <= ord('9'))
  mark = (chars == ord('.')) | (chars == ord(','))
  position = jnp.arange(chars.shape[-1], dtype=jnp.int32)
  # Position and kind of the last character that is not a mark, both in one maximum.
  kind = jnp.where(mark, -2, 2 * position + digit)
  other = lax.associative_scan(jnp.maximum, kind, axis=chars.ndim - 1)
  # Index in the run; for a line that begins with marks, c is at -1.
  j = position - (other >> 1)
  after_digit = (other & 1) > 0
  split = mark & (j % 2 == jnp.where(after_digit, 0, 1))
  joins = mark & ~split & shift(digit, -1, False)
  hyphen = (chars == ord('-')) & shift(digit, 1, False)
  return _is_mark(chars) | (mark & ~joins) | hyphen


def _is_mark(chars: Array) -> Array:
  r"""Returns membership in the class [\{-\~\[-\` -\&\(-\+\:-\@\/] without the space."""
  mark = chars == ord('/')
  for low, high in ('!&', '(+', ':@', '[`', '{~'):
    mark |= (chars >= ord(low)) & (chars <= ord(high))
  return mark


def _rstrip(chars: Array) -> Array:
  """Removes white space from the end, as `str.rstrip()` does."""
  blank = _blank(chars)
  position = jnp.arange(chars.shape[-1])
  last = jnp.where(blank, -1, position).max(axis=-1, keepdims=True)
  return jnp.where(position <= last, chars, EMPTY)


def _begins(chars: Array, pattern: str) -> Array:
  """Returns where a string begins."""
  matches = [shift(chars, -n, EMPTY) == ord(c) for n, c in enumerate(pattern)]
  return functools.reduce(jnp.logical_and, matches)


# Each hash is a polynomial in its base over the field of P elements (Karp and Rabin
# 1987, https://doi.org/10.1147/rd.312.0249). The bases were drawn at random.
_P = (1 << 31) - 1
_BASES = (1_412_653_137, 884_251_867)


def _words(chars: Array, starts: Array, size: int) -> Words:
  """Hashes tokens: the sum of (character + 1) · base^i over the token, i from 0.

  The sum over a token is the difference of two sums along the line, divided by the
  power of its first position.
  """
  value = jnp.where(_blank(chars), 0, chars + 1).astype(jnp.uint32)
  number = jnp.cumsum(starts, axis=-1, dtype=jnp.int32)  # [..., N] tokens so far
  count = number[..., -1]
  first = _nth(number, size)  # [..., K + 1]; N for tokens that do not exist
  exists = jnp.arange(size) < count[..., None]  # [..., K]
  tables = [_powers(base, chars.shape[-1]) for base in _BASES]
  power, inverse = (
    jnp.stack(x) for x in zip(*tables, strict=True)
  )  # [2, N], [2, N + 1]
  # A loop, because XLA does not fuse its result into the following operations. Fused,
  # each of the sum's many steps would compute the terms again, at six times the cost.
  terms = lax.map(lambda base: _times(value, base), power)  # [2, ..., N]
  sums = lax.associative_scan(_add, terms, axis=terms.ndim - 1)
  sums = jnp.moveaxis(sums, 0, -2)  # [..., 2, N]
  sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
  at = jnp.take_along_axis(sums, first[..., None, :], axis=-1)  # [..., 2, K + 1]
  token = _add(at[..., 1:], _P - at[..., :-1])
  shifted = jnp.moveaxis(inverse[:, first[..., :-1]], 0, -2)  # [..., 2, K]
  hashes = jnp.where(exists[..., None, :], _times(token, shifted), 0)
  return Words(jnp.moveaxis(hashes, -2, -1), count)


def _fold(x: Array) -> Array:
  """Reduces any 32-bit number to the field."""
  x = (x & _P) + (x >> 31)
  return jnp.where(x >= _P, x - _P, x)


def _nth(number: Array, size: int) -> Array:
  """Returns the positions of tokens 1, ..., size + 1, given running counts [..., N]."""
  N = number.shape[-1]
  ordinals = jnp.arange(1, size + 2)
  find = functools.partial(jnp.searchsorted, v=ordinals, side='left')
  rows = jax.vmap(lambda row: find(row))(number.reshape(-1, N))
  return rows.reshape(*number.shape[:-1], size + 1)


def _add(a: Array, b: Array) -> Array:
  """Returns a + b in the field, for a, b <= P; P also represents 0."""
  s = a + b
  return jnp.where(s >= _P, s - _P, s)


def _times(a: Array, b: Array) -> Array:
  """Returns a · b in the field, in halves of 16 bits, where 2^31 equals 1."""
  a1, a0, b1, b0 = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
  high, low = a1 * b1, a0 * b0  # below 2^30 and 2^32
  middle = a1 * b0 + a0 * b1  # below 2^32, as a1 and b1 have 15 bits
  middle = (middle >> 15) + ((middle & 0x7FFF) << 16)  # · 2^16
  return _add(_add(high << 1, _fold(middle)), _fold(low))


@functools.cache
def _powers(base: int, n: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns base^0 ... base^(n-1), and base^0 ... base^-n."""

  def powers(x: int, n: int) -> np.ndarray:
    out = np.ones(n, np.uint64)
    done = 1
    while done < n:
      size = min(done, n - done)
      factor = np.uint64(pow(x, done, _P))
      out[done : done + size] = out[:size] * factor % np.uint64(_P)
      done += size
    return out.astype(np.uint32)

  return powers(base, n), powers(pow(base, -1, _P), n + 1)
