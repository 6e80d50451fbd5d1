"""Beam search and greedy search over any model that can take one step."""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.types import BOS, EOS, PAD, Array, PyTree

# One decoding step: (cache, tokens [N]) -> (cache, logits [N, V]).
Step = Callable[[PyTree, Array], tuple[PyTree, Array]]


@struct.dataclass
class _Beams:
  """State of the search. M is the number of beams kept per sentence.

  A log-probability of -inf marks an empty entry: a beam that is not yet in use, or any
  beam of a sentence that is decided.
  """

  i: Array  # [] number of tokens so far
  live: Array  # [B, M, L] unfinished hypotheses
  live_logp: Array  # [B, M] their log-probabilities, best first
  done: Array  # [B, M, L] finished hypotheses
  done_score: Array  # [B, M] their length-normalized scores, best first
  cache: PyTree  # leaves [B * M, ...]


def length_penalty(length: Array | int, alpha: Array | float) -> Array:
  """Returns ((5 + length) / 6)^α (Wu et al. 2016, https://arxiv.org/abs/1609.08144)."""
  return ((5.0 + length) / 6.0) ** alpha


def beam_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  beam_size: int,
  max_len: int,
  alpha: Array | float = 0.6,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
) -> tuple[Array, Array]:
  """Finds high-scoring outputs, best first.

  The score of a hypothesis y is log p(y) / length_penalty(|y|, α), where |y| includes
  EOS (Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144). Of the best 2M
  extensions, an extension with EOS is finished only if it is among the first M, as in
  fairseq's `SequenceGenerator` (Ott et al. 2019, https://arxiv.org/abs/1904.01038), so
  a hypothesis that would leave the beam cannot enter the result. A sentence is decided,
  and no longer changes, when no live hypothesis can exceed the worst of M finished
  ones. With one beam the first finished hypothesis decides, so that M = 1 is greedy
  search for every α.

  Args:
    step: function of the cache and one token per row that returns next-token logits.
      The N = B * beam_size rows are ordered sentence by sentence.
    cache: state of the model for `step`; every leaf is [B * beam_size, ...].
    batch_size: number of sentences B.
    beam_size: number of hypotheses kept per sentence, M.
    max_len: maximum length of outputs L, including EOS.
    alpha: strength of the length penalty, at least 0, may be traced; 0 turns it
      off.
    limit: [B] int32, maximum length of each output, including EOS, at most `max_len`
      (the default). EOS is forced at this length; its log-probability under the model
      is added. A sentence with limit 0 is not decoded.
    forbid: ids that are never chosen, in addition to PAD and BOS.

  Returns:
    Tokens [B, M, L] int32, PAD after EOS, and scores [B, M], sorted per
    sentence. If fewer than M outputs exist, the rest is PAD with a score of -inf.

  Raises:
    ValueError: a size below 1, a negative `alpha`, EOS forbidden, or a leaf of
      the cache without B * beam_size rows.
  """
  B, M, L = batch_size, beam_size, max_len
  if isinstance(alpha, int | float) and alpha < 0:
    raise ValueError(f'alpha={alpha} is negative; 0 turns the length penalty off')
  check_arguments(cache, B, L, forbid, beam_size=M)
  limit = as_limit(limit, B, L)
  # Of the greatest length, since it is the largest that a hypothesis can still get.
  bound_penalty = length_penalty(limit, alpha)  # [B]

  def extend(s: _Beams) -> _Beams:
    last = jnp.where(s.i == 0, BOS, s.live[:, :, s.i - 1])  # [B, M]
    cache, logits = step(s.cache, last.reshape(B * M))
    V = logits.shape[-1]
    logits, log_z = masked(logits, s.i, jnp.repeat(limit, M), forbid)

    # 2M candidates, so that M remain even if M of them end here.
    logp = (logits - log_z[:, None]).reshape(B, M, V) + s.live_logp[:, :, None]
    cand_logp, cand = top_k(logp.reshape(B, M * V), 2 * M)  # [B, 2M]
    parent, token = cand // V, cand % V
    ends = token == EOS

    score = cand_logp / length_penalty(s.i + 1, alpha)
    # The first M only: a candidate below them would not have stayed in the beam.
    score = jnp.where(ends, score, -jnp.inf)[:, :M]
    ended = _select(s.live, parent[:, :M]).at[:, :, s.i].set(EOS)  # [B, M, L]
    done_score, best = jax.lax.top_k(jnp.concatenate([s.done_score, score], 1), M)
    done = _select(jnp.concatenate([s.done, ended], axis=1), best)

    live_logp, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, cand_logp), M)
    parent, token = _select(parent, best), _select(token, best)  # [B, M]
    live = _select(s.live, parent).at[:, :, s.i].set(token)

    # log p only decreases and the penalty only increases, which bounds later scores.
    open_ = live_logp[:, 0] / bound_penalty > done_score[:, -1]  # [B]
    if M == 1:
      # Otherwise a longer output could win by its penalty, and α would matter.
      open_ &= ~ends[:, 0]
    return _Beams(
      i=s.i + 1,
      live=live,
      # A decided sentence has no live hypothesis, so that the loop can end.
      live_logp=jnp.where(open_[:, None], live_logp, -jnp.inf),
      done=done,
      done_score=done_score,
      cache=_reorder(cache, parent) if M > 1 else cache,
    )

  # PAD everywhere, so that nothing needs to be cleared after an EOS.
  blank = jnp.full((B, M, L), PAD, jnp.int32)
  nothing = jnp.full((B, M), -jnp.inf, jnp.float32)
  start = _Beams(
    i=jnp.zeros((), jnp.int32),
    live=blank,
    # One at first, since M equal ones would fill the beam with copies.
    live_logp=nothing.at[:, 0].set(jnp.where(limit > 0, 0.0, -jnp.inf)),
    done=blank,
    done_score=nothing,
    cache=cache,
  )
  end = jax.lax.while_loop(lambda s: (s.live_logp > -jnp.inf).any(), extend, start)
  exists = end.done_score > -jnp.inf
  return jnp.where(exists[:, :, None], end.done, PAD), end.done_score


def greedy_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  max_len: int,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
) -> tuple[Array, Array]:
  """Chooses the most probable token at each position.

  The arguments are those of `beam_search`, with one row per sentence.

  Returns:
    Tokens [B, L] int32, PAD after EOS, and log-probabilities [B].
  """

  def likeliest(logits: Array, i: Array) -> Array:
    return jnp.argmax(logits, axis=-1)

  return unroll(
    step,
    cache,
    likeliest,
    batch_size=batch_size,
    max_len=max_len,
    limit=limit,
    forbid=forbid,
  )


def unroll(
  step: Step,
  cache: PyTree,
  choose: Callable[[Array, Array], Array],
  *,
  batch_size: int,
  max_len: int,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
) -> tuple[Array, Array]:
  """Generates one sequence per row; `choose` selects each token by the logits.

  Args:
    step: as in `beam_search`, with N = B rows.
    cache: state of the model for `step`; every leaf is [B, ...].
    choose: (logits [B, V], i []) -> ids [B]; a logit of -inf excludes a token.
    batch_size: number of sentences B.
    max_len: maximum length of outputs L, including EOS.
    limit: as in `beam_search`.
    forbid: as in `beam_search`.

  Returns:
    Tokens [B, L] int32, PAD after EOS, and log p [B] under the model, independent of
    how `choose` uses the logits; 0 for a sentence with limit 0.
  """
  B, L = batch_size, max_len
  check_arguments(cache, B, L, forbid)
  limit = as_limit(limit, B, L)

  def extend(state):
    i, cache, last, alive, tokens, logp = state
    cache, logits = step(cache, last)
    logits, log_z = masked(logits, i, limit, forbid)
    token = jnp.where(alive, choose(logits, i), PAD).astype(jnp.int32)  # [B]
    gain = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0] - log_z
    tokens = tokens.at[:, i].set(token)
    logp += jnp.where(alive, gain, 0.0)
    return i + 1, cache, token, alive & (token != EOS), tokens, logp

  start = (
    jnp.zeros((), jnp.int32),
    cache,
    jnp.full(B, BOS, jnp.int32),
    limit > 0,
    jnp.full((B, L), PAD, jnp.int32),
    jnp.zeros(B, jnp.float32),
  )

  def unfinished(state):
    return (state[0] < L) & state[3].any()

  *_, tokens, logp = jax.lax.while_loop(unfinished, extend, start)
  return tokens, logp


def masked(
  logits: Array, i: Array, limit: Array, forbid: tuple[int, ...] = ()
) -> tuple[Array, Array]:
  """Excludes the tokens that are not allowed at position i.

  Args:
    logits: [N, V], of any float type.
    i: [] the position.
    limit: [N] maximum lengths; at position limit - 1 only EOS is allowed.
    forbid: ids that are excluded everywhere, in addition to PAD and BOS.

  Returns:
    float32 logits [N, V], -inf for excluded tokens, and the model's log Z [N] before
    the exclusion, so that logits - log Z is the model's log-probability.
  """
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  ids = jnp.arange(logits.shape[-1])
  allowed = ~jnp.isin(ids, jnp.array((PAD, BOS, *forbid)))[None]  # [1, V]
  before_end = (i < limit - 1)[:, None]  # [N, 1]
  allowed = allowed & (before_end | (ids == EOS)[None])
  return jnp.where(allowed, logits, -jnp.inf), log_z


def top_k(x: Array, k: int, chunk: int = 32) -> tuple[Array, Array]:
  """Returns the k largest entries of each row, with the same result as `lax.top_k`.

  The k largest entries are in the k chunks with the largest maxima, so only those are
  sorted. This takes about half the time of `lax.top_k` on two CPU cores for k = 10 of
  [64, 50000], which is five beams over 10,000 tokens.

  Args:
    x: [R, n] without NaN.
    k: number of entries, at most n.
    chunk: number of entries per chunk.

  Returns:
    Values [R, k], best first, equal ones in order of index, and indices [R, k].
  """
  R, n = x.shape
  C = n // chunk  # complete chunks; the remaining entries are always sorted
  if 2 * k >= C:
    values, index = jax.lax.top_k(x, k)
    return values, index
  maxima = x[:, : C * chunk].reshape(R, C, chunk).max(axis=2)
  chosen = jnp.sort(jax.lax.top_k(maxima, k)[1], axis=1)  # ascending, for ties
  at = (chosen[:, :, None] * chunk + jnp.arange(chunk)[None, None]).reshape(
    R, k * chunk
  )
  rest = jnp.broadcast_to(jnp.arange(C * chunk, n), (R, n - C * chunk))
  at = jnp.concatenate([at, rest], axis=1)
  values, index = jax.lax.top_k(jnp.take_along_axis(x, at, axis=1), k)
  return values, jnp.take_along_axis(at, index, axis=1)


def as_limit(limit: Array | None, batch_size: int, max_len: int) -> Array:
  """Returns limits [B] int32 between 0 and `max_len`."""
  if limit is None:
    return jnp.full(batch_size, max_len, jnp.int32)
  return jnp.clip(jnp.asarray(limit, jnp.int32), 0, max_len)


def check_arguments(
  cache: PyTree, batch_size: int, max_len: int, forbid: tuple[int, ...], beam_size=1
) -> None:
  """Raises ValueError for sizes below 1, a forbidden EOS, or a cache of other size."""
  sizes = {'batch_size': batch_size, 'max_len': max_len, 'beam_size': beam_size}
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f'{name}={size} must be at least 1')
  if EOS in forbid:
    raise ValueError(f'forbid={forbid} contains EOS ({EOS}), so no output could end')
  rows = batch_size * beam_size
  for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
    if leaf.ndim == 0 or leaf.shape[0] != rows:
      raise ValueError(
        f'cache{jax.tree_util.keystr(path)} is {leaf.shape}; its first axis must be '
        f'batch_size * beam_size = {rows}'
      )


def _select(x: Array, index: Array) -> Array:
  """Selects beams: [B, ?, ...] and index [B, n] -> [B, n, ...].

  The gather is per sentence, so that it needs no communication between devices.
  """
  return jax.vmap(lambda x, index: x[index])(x, index)


def _reorder(cache: PyTree, parent: Array) -> PyTree:
  """Copies the parent's cache to each beam: leaves [B * M, ...], parent [B, M]."""
  B, M = parent.shape

  def reorder(x: Array) -> Array:
    return _select(x.reshape(B, M, *x.shape[1:]), parent).reshape(x.shape)

  return jax.tree.map(reorder, cache)
