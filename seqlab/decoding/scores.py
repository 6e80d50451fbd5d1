"""Scores of next tokens: which are allowed, and which are the best.

The logits of a step, [N, V], are by far its largest array. They are read as few times
as possible: once for their sum of exponentials, once for the maxima of chunks.
Everything else is done with the maxima, and with the chunks of the best ones.
"""

from collections.abc import Callable
import functools

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.device import platform
from seqlab.types import BOS, EOS, PAD, Array

_CHUNK = 64  # tokens per chunk, about
_TILE = 128  # tokens that are adjacent in memory on a TPU


@struct.dataclass
class NextTokens:
  """The next token of N rows, as the model scores it.

  Attributes:
    logits: [N, V] float32, of all tokens.
    log_z: [N] log of the sum of their exponentials: logits - log_z is the model's
      log-probability.
    ends_here: [N] bool, where only EOS is allowed.
    forbid: ids that are never allowed, PAD and BOS among them.
  """

  logits: Array
  log_z: Array
  ends_here: Array
  forbid: tuple[int, ...] = struct.field(pytree_node=False)

  @classmethod
  def of(
    cls, logits: Array, i: Array, limit: Array, forbid: tuple[int, ...] = ()
  ) -> 'NextTokens':
    """Reads the logits at a position.

    Args:
      logits: [N, V], of any float type.
      i: [] the position.
      limit: [N] maximum lengths; at position limit - 1 only EOS is allowed.
      forbid: ids that are excluded everywhere, in addition to PAD and BOS.
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return cls(logits, log_z, i >= limit - 1, (PAD, BOS, *forbid))

  def rows(self, part: Callable[[Array], Array]) -> 'NextTokens':
    """Returns some of the rows.

    Args:
      part: function of an array [N, ...] that returns entries of it, [B, K, ...].

    Returns:
      The next tokens of these B * K rows.
    """

    def flat(x: Array) -> Array:
      return part(x).reshape(-1, *x.shape[1:])

    return NextTokens(
      *map(flat, (self.logits, self.log_z, self.ends_here)), self.forbid
    )

  @property
  def allowed_logits(self) -> Array:
    """The logits [N, V], -inf for tokens that are not allowed."""
    ids = jnp.arange(self.logits.shape[1])
    allowed = self._is_known(ids) & (~self.ends_here[:, None] | (ids == EOS))
    return jnp.where(allowed, self.logits, -jnp.inf)

  def log_probability(self, token: Array) -> Array:
    """Returns the model's log-probability of a token in each row, [N] -> [N]."""
    chosen = jnp.take_along_axis(self.logits, token[:, None], axis=1)[:, 0]
    return chosen - self.log_z

  def best(
    self, k: int, rows: int = 1, so_far: Array | None = None
  ) -> tuple[Array, Array, Array]:
    """Returns the k best allowed tokens of each group of consecutive rows.

    The result is that of `lax.top_k` of all scores of a group. As a score rises with
    the logit, the k best tokens are in the k chunks whose maxima have the best scores.

    Args:
      k: number of tokens, at most rows * V.
      rows: rows per group, M.
      so_far: [N] log-probability of each row; a score is then that of the row with the
        token. None takes the logits as scores.

    Returns:
      Scores [G, k] of the G = N / M groups, best first, equal ones in order of row and
      token; the row of each in its group, and the token. If fewer than k tokens are
      allowed, the scores of the rest are -inf, and their tokens have no meaning.
    """
    chunks = self._chunks()  # [N, C, c]
    N, C, c = chunks.shape
    of_group = functools.partial(_reshape_groups, groups=N // rows)
    log_z, ends_here = of_group(self.log_z), of_group(self.ends_here)  # [G, M]
    so_far = None if so_far is None else of_group(so_far)

    def score(logits: Array, row: Array) -> Array:
      if so_far is None:
        return logits
      return logits - select(log_z, row) + select(so_far, row)

    every = jnp.broadcast_to(jnp.arange(rows * C) // C, (N // rows, rows * C))
    maxima = score(of_group(self._maxima(chunks)).reshape(every.shape), every)
    chosen = jax.lax.top_k(maxima, min(k, rows * C))[1]
    chosen = jnp.sort(chosen, axis=1)  # ascending, for ties

    row = jnp.repeat(chosen // C, c, axis=1)  # [G, k * c]
    token = ((chosen % C)[:, :, None] * c + jnp.arange(c)).reshape(row.shape)
    source = jnp.arange(0, N, rows)[:, None] + chosen // C  # [G, k]
    entries = chunks[source, chosen % C].reshape(row.shape)
    allowed = self._is_known(token) & (~select(ends_here, row) | (token == EOS))
    values, at = jax.lax.top_k(score(jnp.where(allowed, entries, -jnp.inf), row), k)
    return values, select(row, at), select(token, at)

  def _chunks(self) -> Array:
    """Returns the logits in chunks of c tokens, [N, C, c].

    If V has a divisor near `_CHUNK`, the chunks are the logits as they lie in memory.
    On a TPU that is true of whole tiles.
    """
    N, V = self.logits.shape
    near = [c for c in range(_CHUNK // 4, 2 * _CHUNK + 1) if V % c == 0]
    c = min(near or [min(_CHUNK, V)], key=lambda c: abs(c - _CHUNK))
    if platform() == 'tpu':
      c = _TILE
    logits = self.logits
    if V % c:
      logits = jnp.pad(logits, ((0, 0), (0, -V % c)), constant_values=-jnp.inf)
    return logits.reshape(N, -1, c)

  def _maxima(self, chunks: Array) -> Array:
    """Returns the largest allowed logit of each chunk, [N, C]."""
    c = chunks.shape[2]
    maxima = chunks.max(axis=2)
    for j in {token // c for token in self.forbid if token < c * chunks.shape[1]}:
      token = j * c + jnp.arange(c)
      kept = jnp.where(self._is_known(token), chunks[:, j], -jnp.inf)
      maxima = maxima.at[:, j].set(kept.max(axis=1))
    is_end = jnp.arange(chunks.shape[1]) == EOS // c
    at_end = jnp.where(is_end, self.logits[:, EOS, None], -jnp.inf)
    return jnp.where(self.ends_here[:, None], at_end, maxima)

  def _is_known(self, token: Array) -> Array:
    return ~jnp.isin(token, jnp.array(self.forbid)) & (token < self.logits.shape[1])


def _reshape_groups(x: Array, groups: int) -> Array:
  """Puts the rows of each group side by side: [N, ...] -> [G, N / G, ...]."""
  return x.reshape(groups, -1, *x.shape[1:])


def select(x: Array, index: Array) -> Array:
  """Selects entries of each group: [G, n, ...] and index [G, k] -> [G, k, ...].

  The gather is per group, so that it needs no communication between devices.
  """
  return jax.vmap(lambda x, index: x[index])(x, index)
