"""sacreBLEU's tokenisers as functions on arrays: 13a, none, char, and chrF's words.

A tokeniser says where tokens begin; a token is known by two hashes of its
characters. All of it is made of neighbours and sums along the line: nothing
goes from character to character, so a device does a batch at once.

The definition of 13a is that of mteval-v13a.pl (NIST) as sacreBLEU has it (Post
2018, https://aclanthology.org/W18-6319).
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
  """Tokens [..., K, 2] uint32, zeros behind the last, and how many, [...] int32.

  A count above K says that the line was cut.
  """

  hashes: Array
  count: Array


def tokenize(chars: Array, tokenizer: str, size: int) -> Words:
  """Cuts lines into tokens.

  Args:
    chars: code points [..., N], as `characters.characters` gives them.
    tokenizer: '13a', 'none' or 'char'; or 'chrf', the words of chrF++.
    size: K, room for tokens.

  Raises:
    ValueError: the tokeniser is unknown.
  """
  if tokenizer not in _ALL:
    raise ValueError(f'tokenizer {tokenizer!r} is not one of {", ".join(TOKENIZERS)}')
  return _words(*_ALL[tokenizer](chars), size)


def _none(chars: Array) -> tuple[Array, Array]:
  """Tokens stand between white space."""
  return chars, _starts(chars, jnp.zeros(chars.shape, bool))


def _char(chars: Array) -> tuple[Array, Array]:
  """Every character is a token."""
  return chars, _starts(chars, jnp.ones(chars.shape, bool))


def _13a(chars: Array) -> tuple[Array, Array]:
  """The Western tokeniser of mteval."""
  chars = _rstrip(chars)
  special = _found(chars, '&') | _found(chars, '<s') | _found(chars, '\n')
  chars = lax.cond(special.any(), _unescape, lambda x: x, chars)
  return chars, _starts(chars, _stands_alone(chars))


# What 13a replaces, one after the other, by a character or by nothing.
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
  patterns = np.full((len(_REPLACED), longest), EMPTY, np.int32)  # EMPTY fits anything
  for row, (pattern, _) in zip(patterns, _REPLACED, strict=True):
    row[: len(pattern)] = [ord(c) for c in pattern]
  values = np.array([ord(v) if v else EMPTY for _, v in _REPLACED], np.int32)

  def replace(chars: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
    pattern, value = inputs
    found = jnp.ones(chars.shape, bool)
    for n in range(longest):
      found &= (shift(chars, -n, EMPTY) == pattern[n]) | (pattern[n] == EMPTY)
    inside = jnp.zeros(chars.shape, bool)  # no two can overlap
    for n in range(longest):
      inside |= shift(found, n, False) & (pattern[n] != EMPTY)
    chars = jnp.where(found, value, jnp.where(inside, EMPTY, chars))
    return compact(chars), None

  return lax.scan(replace, chars, (patterns, values))[0]


def _chrf(chars: Array) -> tuple[Array, Array]:
  """chrF++'s words: a mark at the end stands apart, else one at the beginning."""
  blank = _blank(chars)
  first = ~blank & shift(blank, 1, True)
  last = ~blank & shift(blank, -1, True)
  mark = _is_mark(chars)
  for other in ".,-'":
    mark |= chars == ord(other)
  # Whether the word that a character stands in ends with a mark.
  place = jnp.arange(chars.shape[-1], 0, -1, dtype=jnp.int32)
  ends = lax.cummax(
    jnp.where(last, 2 * place + mark, -2), axis=chars.ndim - 1, reverse=True
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
  """White space, and what is behind the end."""
  return is_space(chars) | (chars == EMPTY)


def _starts(chars: Array, alone: Array) -> Array:
  """Where tokens begin: after white space, and around what stands alone."""
  blank = _blank(chars)
  # Held, or each of the shifted uses works it out anew.
  blank, alone = lax.optimization_barrier((blank, alone))
  return ~blank & (shift(blank, 1, True) | alone | shift(alone, 1, False))


def _stands_alone(chars: Array) -> Array:
  """13a's four regular expressions, taken together.

  1. Each ASCII mark but . , - ' stands alone.
  2. In a run of k marks . or , let c be the character before it and n the one
     behind. Mark j (from 1) is split from its neighbours by the second expression
     if j is odd and c no digit, or j is even and c a digit: its matches eat two
     characters each. The third splits a mark before anything but a digit, so
     every mark but the last. The last one joins a digit n unless the second has
     split it, and then c too: it is a digit, and k is 1.
  3. A hyphen right behind a digit stands alone.
  """
  digit = (chars >= ord('0')) & (chars <= ord('9'))
  mark = (chars == ord('.')) | (chars == ord(','))
  place = jnp.arange(chars.shape[-1], dtype=jnp.int32)
  # Place and kind of the last character that is no mark, both in one maximum.
  kind = jnp.where(mark, -2, 2 * place + digit)
  other = lax.associative_scan(jnp.maximum, kind, axis=chars.ndim - 1)
  j = place - (other >> 1)  # in its run; a line that begins with marks: c is at -1
  after_digit = (other & 1) > 0
  split = mark & (j % 2 == jnp.where(after_digit, 0, 1))
  joins = mark & ~split & shift(digit, -1, False)
  hyphen = (chars == ord('-')) & shift(digit, 1, False)
  return _is_mark(chars) | (mark & ~joins) | hyphen


def _is_mark(chars: Array) -> Array:
  r"""The class [\{-\~\[-\` -\&\(-\+\:-\@\/] without the space."""
  found = chars == ord('/')
  for low, high in ('!&', '(+', ':@', '[`', '{~'):
    found |= (chars >= ord(low)) & (chars <= ord(high))
  return found


def _rstrip(chars: Array) -> Array:
  """Takes white space from the end, as `str.rstrip()`."""
  blank = _blank(chars)
  place = jnp.arange(chars.shape[-1])
  last = jnp.where(blank, -1, place).max(axis=-1, keepdims=True)
  return jnp.where(place <= last, chars, EMPTY)


def _found(chars: Array, pattern: str) -> Array:
  """Where a string begins."""
  same = [shift(chars, -n, EMPTY) == ord(c) for n, c in enumerate(pattern)]
  return functools.reduce(jnp.logical_and, same)


# Hashes: a polynomial over the field of P elements for each base (Karp and Rabin
# 1987, https://doi.org/10.1147/rd.312.0249). The bases were drawn at random.
_P = (1 << 31) - 1
_BASES = (1_412_653_137, 884_251_867)


def _words(chars: Array, starts: Array, size: int) -> Words:
  """Hashes tokens: sum of (character + 1) · base^i over the token, i from 0.

  Sums over a token are differences of sums along the line, divided by the power
  of the place where it starts.
  """
  value = jnp.where(_blank(chars), 0, chars + 1).astype(jnp.uint32)
  number = jnp.cumsum(starts, axis=-1, dtype=jnp.int32)  # [..., N] tokens so far
  count = number[..., -1]
  begin = _nth(number, size)  # [..., K + 1]; N for those that are not there
  exists = jnp.arange(size) < count[..., None]  # [..., K]
  tables = [_powers(base, chars.shape[-1]) for base in _BASES]
  power, inverse = (
    jnp.stack(x) for x in zip(*tables, strict=True)
  )  # [2, N], [2, N + 1]
  # By a loop, since the compiler lets no loop's result melt into what follows: each
  # of the sum's many steps would work its terms out anew, at six times the cost.
  terms = lax.map(lambda base: _times(value, base), power)  # [2, ..., N]
  sums = lax.associative_scan(_add, terms, axis=terms.ndim - 1)
  sums = jnp.moveaxis(sums, 0, -2)  # [..., 2, N]
  sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
  at = jnp.take_along_axis(sums, begin[..., None, :], axis=-1)  # [..., 2, K + 1]
  token = _add(at[..., 1:], _P - at[..., :-1])
  shifted = jnp.moveaxis(inverse[:, begin[..., :-1]], 0, -2)  # [..., 2, K]
  hashes = jnp.where(exists[..., None, :], _times(token, shifted), 0)
  return Words(jnp.moveaxis(hashes, -2, -1), count)


def _fold(x: Array) -> Array:
  """Any number of 32 bits, in the field."""
  x = (x & _P) + (x >> 31)
  return jnp.where(x >= _P, x - _P, x)


def _nth(number: Array, size: int) -> Array:
  """Places of token 1, ..., size + 1, given how many have begun, [..., N]."""
  N = number.shape[-1]
  wanted = jnp.arange(1, size + 2)
  find = functools.partial(jnp.searchsorted, v=wanted, side='left')
  rows = jax.vmap(lambda row: find(row))(number.reshape(-1, N))
  return rows.reshape(*number.shape[:-1], size + 1)


def _add(a: Array, b: Array) -> Array:
  """a + b in the field, for a, b <= P; P itself stands for 0 too."""
  s = a + b
  return jnp.where(s >= _P, s - _P, s)


def _times(a: Array, b: Array) -> Array:
  """a · b in the field, by halves of 16 bits: 2^31 is 1 there."""
  a1, a0, b1, b0 = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
  high, low = a1 * b1, a0 * b0  # below 2^30 and 2^32
  middle = a1 * b0 + a0 * b1  # below 2^32, as a1 and b1 have 15 bits
  middle = (middle >> 15) + ((middle & 0x7FFF) << 16)  # · 2^16
  return _add(_add(high << 1, _fold(middle)), _fold(low))


@functools.cache
def _powers(base: int, n: int) -> tuple[np.ndarray, np.ndarray]:
  """base^0 ... base^(n-1), and base^0 ... base^-n."""

  def powers(x: int, n: int) -> np.ndarray:
    out = np.ones(n, np.uint64)
    have = 1
    while have < n:
      more = min(have, n - have)
      out[have : have + more] = out[:more] * np.uint64(pow(x, have, _P)) % np.uint64(_P)
      have += more
    return out.astype(np.uint32)

  return powers(base, n), powers(pow(base, -1, _P), n + 1)
