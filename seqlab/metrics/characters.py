"""Text on the device: pieces to bytes, bytes to characters, lower case.

Text is an array of bytes [..., N] with a length. Characters are code points [..., N]
without gaps, followed by EMPTY. The functions give the same results as Python's string
methods, but on arrays, so that scores are computed without the host.
"""

import functools
from typing import Any, NamedTuple

from jax import lax
import jax.numpy as jnp
import numpy as np

from seqlab.types import EOS, PAD, Array

EMPTY = -1  # no character

_REPLACEMENT = 0xFFFD  # Python's replacement for bytes that are not UTF-8


class Text(NamedTuple):
  """Text in UTF-8: bytes [..., N] uint8, and lengths in bytes, [...] int32."""

  bytes: Array
  length: Array


class PieceBytes(NamedTuple):
  """The text of each piece of a vocabulary.

  Attributes:
    bytes: [V, W] uint8.
    length: [V] int32.
    separator: number of bytes with which every piece begins, and no text does.
  """

  bytes: Array
  length: Array
  separator: Array | int = 0


def piece_bytes(surfaces: list[bytes], separator: str = '') -> PieceBytes:
  """Turns a vocabulary's `surfaces()` into a table for `detokenize`.

  Args:
    surfaces: what every id writes.
    separator: with what each of them begins, and no text does.
  """
  return PieceBytes(*as_text(surfaces), np.int32(len(separator.encode())))


def pieces_of(vocabulary: Any) -> PieceBytes:
  """Returns the table of a `text.vocabulary.Vocabulary`.

  Subwords and words have no `separator`, and a text may begin with spaces here, which
  no score counts.
  """
  return piece_bytes(vocabulary.surfaces(), getattr(vocabulary, 'separator', ''))


def detokenize(ids: Array, table: PieceBytes, size: int) -> Text:
  """Turns ids of pieces into bytes.

  A sentence ends before its first EOS or PAD.

  Args:
    ids: ids of pieces, [..., L].
    table: text of each piece.
    size: N, the number of bytes per sentence; longer text is truncated.

  Returns:
    Bytes [..., N], zero after the end, and lengths [...] before truncation.
  """
  ends = jnp.cumsum((ids == EOS) | (ids == PAD), axis=-1)
  length = jnp.where(ends == 0, jnp.asarray(table.length)[ids], 0)  # [..., L]
  stop = jnp.cumsum(length, axis=-1)
  position = jnp.arange(size) + table.separator  # [N]
  piece = (stop[..., None, :] <= position[:, None]).sum(axis=-1)  # [..., N]
  piece = jnp.minimum(piece, ids.shape[-1] - 1)
  inside = position < stop[..., -1:]
  offset = position - jnp.take_along_axis(stop - length, piece, axis=-1)
  value = jnp.asarray(table.bytes)[jnp.take_along_axis(ids, piece, axis=-1), offset]
  size_of_text = jnp.maximum(stop[..., -1] - table.separator, 0)
  return Text(jnp.where(inside, value, 0).astype(jnp.uint8), size_of_text)


def characters(text: Text, lowercase: bool = False) -> Array:
  """Decodes UTF-8 as `bytes.decode('utf-8', 'replace')` does.

  Args:
    text: bytes [..., N] and lengths.
    lowercase: whether to convert to lower case, as `str.lower()` does.

  Returns:
    Code points [..., N] int32 without gaps, EMPTY after the last one.
  """
  decoded = _decode(text)
  return compact(_lower(decoded) if lowercase else decoded)


def is_space(chars: Array) -> Array:
  """Returns where the characters are those at which `str.split()` splits."""
  space = (chars >= 0x09) & (chars <= 0x0D) | (chars >= 0x1C) & (chars <= 0x20)
  for code in (0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000):
    space |= chars == code
  return space | (chars >= 0x2000) & (chars <= 0x200A)


def shift(x: Array, n: int, fill) -> Array:
  """Returns y with y[..., i] = x[..., i - n], or `fill` outside of x."""
  if abs(n) >= x.shape[-1]:
    return jnp.full_like(x, fill)
  edges = [(0, 0, 0)] * (x.ndim - 1) + [(n, -n, 0)]
  return lax.pad(x, jnp.asarray(fill, x.dtype), edges)


def compact(chars: Array) -> Array:
  """Closes gaps, by moving every EMPTY to the end; [..., N]."""
  gap = (chars == EMPTY) & (shift(chars, -1, EMPTY) != EMPTY)
  return lax.cond(gap.any(), _close, lambda x: x, chars)


def _close(chars: Array) -> Array:
  N = chars.shape[-1]
  real = chars != EMPTY
  target = jnp.where(real, jnp.cumsum(real, axis=-1) - 1, N).reshape(-1, N)
  rows = jnp.arange(len(target))[:, None]
  out = jnp.full(target.shape, EMPTY, chars.dtype)
  return (
    out.at[rows, target].set(chars.reshape(-1, N), mode='drop').reshape(chars.shape)
  )


def _decode(text: Text) -> Array:
  """Returns code points at the first byte of each character, EMPTY at other bytes.

  Invalid bytes give one U+FFFD for each maximal part of a character (Unicode 16,
  section 3.9, table 3-8), as in Python. A byte that starts a character cannot be inside
  another one, so three neighbours are sufficient.
  """
  N = text.bytes.shape[-1]
  inside = jnp.arange(N) < text.length[..., None]
  b0 = lax.optimization_barrier(jnp.where(inside, text.bytes.astype(jnp.int32), 0))
  b1, b2, b3 = (shift(b0, -n, 0) for n in (1, 2, 3))

  def within(x: Array, low, high) -> Array:
    return (x >= low) & (x <= high)

  two, three = within(b0, 0xC2, 0xDF), within(b0, 0xE0, 0xEF)
  four = within(b0, 0xF0, 0xF4)
  low = jnp.where(b0 == 0xE0, 0xA0, jnp.where(b0 == 0xF0, 0x90, 0x80))
  high = jnp.where(b0 == 0xED, 0x9F, jnp.where(b0 == 0xF4, 0x8F, 0xBF))
  has1 = (two | three | four) & within(b1, low, high)
  has2 = has1 & (three | four) & within(b2, 0x80, 0xBF)
  has3 = has2 & four & within(b3, 0x80, 0xBF)
  continuation = shift(has1, 1, False) | shift(has2, 2, False) | shift(has3, 3, False)

  t1, t2, t3 = b1 & 0x3F, b2 & 0x3F, b3 & 0x3F
  code = jnp.where(b0 < 0x80, b0, _REPLACEMENT)
  code = jnp.where(two & has1, (b0 & 0x1F) << 6 | t1, code)
  code = jnp.where(three & has2, (b0 & 0x0F) << 12 | t1 << 6 | t2, code)
  code = jnp.where(four & has3, (b0 & 0x07) << 18 | t1 << 12 | t2 << 6 | t3, code)
  return jnp.where(inside & ~continuation, code, EMPTY)


def _lower(chars: Array) -> Array:
  """Applies `str.lower()` to the result of `_decode`.

  Only İ becomes two characters; the second one takes the position of its second byte.
  """
  table = _lower_table()
  known = (chars >= 0) & (chars < len(table))
  low = jnp.where(known, jnp.asarray(table)[jnp.where(known, chars, 0)], chars)
  low = jnp.where(shift(chars, 1, EMPTY) == 0x130, 0x307, low)
  sigma = chars == 0x3A3
  return lax.cond(
    sigma.any(), lambda: jnp.where(sigma & _ends_word(chars), 0x3C2, low), lambda: low
  )


def _ends_word(chars: Array) -> Array:
  """Returns where a Σ would be final: after a letter with case, and not before one.

  Characters such as apostrophes and accents are ignored (Unicode 16, section 3.13,
  table 3-17).
  """
  table = _case_table()
  known = (chars >= 0) & (chars < len(table))
  kind = jnp.where(known, jnp.asarray(table)[jnp.where(known, chars, 0)], 0)
  N = chars.shape[-1]
  position = jnp.arange(N, dtype=jnp.int32)
  counts = (chars != EMPTY) & (kind != _IGNORABLE)
  mark = jnp.where(counts, 2 * position + (kind == _CASED), -2)
  before = shift(lax.cummax(mark, axis=chars.ndim - 1), 1, -2)
  mark = jnp.where(counts, 2 * (N - position) + (kind == _CASED), -2)
  after = shift(lax.cummax(mark, axis=chars.ndim - 1, reverse=True), -1, -2)
  return (before & 1 > 0) & (after & 1 == 0)


_CASED, _IGNORABLE = 1, 2


@functools.cache
def _lower_table() -> np.ndarray:
  """Returns code point -> lower case, up to the last code point that has one."""
  pairs = [(c, chr(c).lower()) for c in range(0x20000)]
  last = max(c for c, low in pairs if low != chr(c))
  return np.array([ord(low[0]) for _, low in pairs[: last + 1]], np.int32)


@functools.cache
def _case_table() -> np.ndarray:
  """Returns code point -> cased, case-ignorable or neither, as determined by Python.

  Python writes a final Σ after x if x is cased, and after A and x if x is cased or
  ignorable.
  """
  codes = [c for c in range(0xE0200) if not 0xD800 <= c < 0xE000]
  alone = ''.join(f'\n{chr(c)}Σ' for c in codes if c != 0x130).lower()[2::3]
  after = ''.join(f'\nA{chr(c)}Σ' for c in codes if c != 0x130).lower()[3::4]
  table = np.zeros(0xE0200, np.uint8)
  known = np.array([c for c in codes if c != 0x130])
  cased = np.array(list(alone)) == 'ς'
  table[known[(np.array(list(after)) == 'ς') & ~cased]] = _IGNORABLE
  table[known[cased]] = _CASED
  table[0x130] = _CASED
  return table


def as_text(lines: list[bytes], size: int | None = None) -> Text:
  """Returns R lines as an array [R, N]; N is `size`, or the length of the longest."""
  length = np.array([len(line) for line in lines], np.int32)
  table = np.zeros((len(lines), max(1, size or int(length.max(initial=0)))), np.uint8)
  for row, line in zip(table, lines, strict=True):
    row[: len(line)] = np.frombuffer(line, np.uint8)
  return Text(table, length)
