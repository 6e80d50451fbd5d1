"""Beam search and greedy search over any model that can take one step."""

from collections.abc import Callable, Sequence
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.decoding.loop import cache_lengths, search_loop
from seqlab.decoding.scores import NextTokens, select
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
  limit: Array  # [B] longest output
  live: Array  # [B, M, L] unfinished hypotheses
  live_logp: Array  # [B, M] their log-probabilities, best first
  done: Array  # [B, M, L] finished hypotheses
  done_score: Array  # [B, M] their length-normalized scores, best first
  cache: PyTree  # leaves [B * M, ...] or [B, ...]

  @property
  def undecided(self) -> Array:
    """[B] bool, whether a live hypothesis may still change the result."""
    return (self.live_logp > -jnp.inf).any(axis=1)


@struct.dataclass
class _Rows:
  """State of the search with one output per sentence."""

  i: Array  # [] number of tokens so far
  limit: Array  # [B] longest output
  last: Array  # [B] the token before
  undecided: Array  # [B] bool
  tokens: Array  # [B, L]
  logp: Array  # [B]
  cache: PyTree  # leaves [B, ...]


def length_penalty(
  length: Array | int, alpha: Array | float, penalty: str = 'gnmt'
) -> Array:
  """Returns what a hypothesis' log-probability is divided by; see `PENALTIES`.

  Args:
    length: number of tokens, EOS counted.
    alpha: exponent α; 0 turns the penalty off.
    penalty: a name of `PENALTIES`.
  """
  return PENALTIES[penalty](length) ** alpha


PENALTIES = {
  'gnmt': lambda length: (5.0 + length) / 6.0,  # Wu et al. 2016, arXiv:1609.08144
  'length': lambda length: 1.0 * length,  # fairseq's `--lenpen`, OpenNMT's 'avg'
}


def beam_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  beam_size: int,
  max_len: int,
  alpha: Array | float = 0.6,
  penalty: str = 'gnmt',
  stop: str = 'bound',
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
  sizes: Sequence[int] = (),
) -> tuple[Array, Array]:
  """Finds high-scoring outputs, best first.

  The score of a hypothesis y is log p(y) / length_penalty(|y|, α), where |y| includes
  EOS (Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144). Of the best 2M
  extensions, an extension with EOS is finished only if it is among the first M, as in
  fairseq's `SequenceGenerator` (Ott et al. 2019, https://arxiv.org/abs/1904.01038), so
  a hypothesis that would leave the beam cannot enter the result. A sentence is decided,
  and no longer changes, when no live hypothesis can exceed the worst of M finished
  ones, or with stop='count' as soon as M are finished, as in fairseq. With one beam the first finished hypothesis decides, so that M = 1 is greedy
  search for every α.

  Args:
    step: function of the cache and one token per row that returns next-token logits.
      The N = B * beam_size rows are ordered sentence by sentence.
    cache: state of the model for `step`; every leaf is [B * beam_size, ...], or a part
      with a method `reorder`, see `reorder`, has leaves [B, ...].
    batch_size: number of sentences B.
    beam_size: number of hypotheses kept per sentence, M.
    max_len: maximum length of outputs L, including EOS.
    alpha: strength of the length penalty, at least 0, may be traced; 0 turns it
      off.
    penalty: form of the length penalty, a name of `PENALTIES`.
    stop: 'bound' or 'count', when a sentence is decided.
    limit: [B] int32, maximum length of each output, including EOS, at most `max_len`
      (the default). EOS is forced at this length; its log-probability under the model
      is added. A sentence with limit 0 is not decoded.
    forbid: ids that are never chosen, in addition to PAD and BOS.
    sizes: smaller numbers of sentences to continue with, see `loop.search_loop`.

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

  def extend(s: _Beams) -> _Beams:
    last = jnp.where(s.i == 0, BOS, s.live[:, :, s.i - 1])  # [B, M]
    cache, logits = step(s.cache, last.reshape(-1))
    tokens = NextTokens.of(logits, s.i, jnp.repeat(s.limit, M), forbid)
    # 2M candidates, so that M remain even if M of them end here.
    cand_logp, parent, token = tokens.best(2 * M, M, s.live_logp.reshape(-1))  # [B, 2M]
    ends = token == EOS

    score = cand_logp / length_penalty(s.i + 1, alpha, penalty)
    # The first M only: a candidate below them would not have stayed in the beam.
    score = jnp.where(ends, score, -jnp.inf)[:, :M]
    ended = select(s.live, parent[:, :M]).at[:, :, s.i].set(EOS)  # [B, M, L]
    done_score, best = jax.lax.top_k(jnp.concatenate([s.done_score, score], 1), M)
    done = select(jnp.concatenate([s.done, ended], axis=1), best)

    live_logp, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, cand_logp), M)
    parent, token = select(parent, best), select(token, best)  # [B, M]
    live = select(s.live, parent).at[:, :, s.i].set(token)

    # log p only decreases and the penalty only increases: that of the greatest length
    # bounds the scores that a live hypothesis can still get.
    bound = live_logp[:, 0] / length_penalty(s.limit, alpha, penalty)  # [B]
    open_ = bound > done_score[:, -1]  # [B]
    if stop == 'count':
      open_ &= done_score[:, -1] == -jnp.inf
    if M == 1:
      # Otherwise a longer output could win by its penalty, and α would matter.
      open_ &= ~ends[:, 0]
    return s.replace(
      i=s.i + 1,
      live=live,
      # A decided sentence has no live hypothesis, so that the loop can end.
      live_logp=jnp.where(open_[:, None], live_logp, -jnp.inf),
      done=done,
      done_score=done_score,
      cache=reorder(cache, parent) if M > 1 else cache,
    )

  # PAD everywhere, so that nothing needs to be cleared after an EOS.
  blank = jnp.full((B, M, L), PAD, jnp.int32)
  nothing = jnp.full((B, M), -jnp.inf, jnp.float32)
  start = _Beams(
    i=jnp.zeros((), jnp.int32),
    limit=limit,
    live=blank,
    # One at first, since M equal ones would fill the beam with copies.
    live_logp=nothing.at[:, 0].set(jnp.where(limit > 0, 0.0, -jnp.inf)),
    done=blank,
    done_score=nothing,
    cache=cache,
  )

  def results(s: _Beams) -> tuple[Array, Array]:
    return s.done, s.done_score

  done, score = search_loop(
    extend, start, lambda s: s.undecided, results, sizes, cache_lengths(L)
  )
  return jnp.where((score > -jnp.inf)[:, :, None], done, PAD), score


def greedy_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  max_len: int,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
  sizes: Sequence[int] = (),
  to_limit: bool = False,
) -> tuple[Array, Array]:
  """Chooses the most probable token at each position.

  The arguments are those of `beam_search`, with one row per sentence.

  Args:
    step: see `beam_search`, like the others.
    cache: state of the model for `step`.
    batch_size: number of sentences B.
    max_len: maximum length of outputs L, including EOS.
    limit: [B] int32, maximum length of each output.
    forbid: ids that are never chosen.
    sizes: smaller numbers of sentences to continue with.
    to_limit: whether EOS is chosen at the limit only, where it is forced.

  Returns:
    Tokens [B, L] int32, PAD after EOS, and log-probabilities [B].
  """

  def likeliest(tokens: NextTokens, i: Array) -> Array:
    del i
    if not to_limit:
      return tokens.best(1)[2][:, 0]
    inside = tokens.replace(forbid=(*tokens.forbid, EOS)).best(1)[2][:, 0]
    return jnp.where(tokens.ends_here, EOS, inside)

  return unroll(
    step,
    cache,
    likeliest,
    batch_size=batch_size,
    max_len=max_len,
    limit=limit,
    forbid=forbid,
    sizes=sizes,
  )


def unroll(
  step: Step,
  cache: PyTree,
  choose: Callable[[NextTokens, Array], Array],
  *,
  batch_size: int,
  max_len: int,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
  sizes: Sequence[int] = (),
) -> tuple[Array, Array]:
  """Generates one sequence per row, whose tokens `choose` selects one by one.

  Args:
    step: as in `beam_search`, with N = B rows.
    cache: state of the model for `step`; every leaf is [B, ...].
    choose: (scores of the next tokens, i []) -> ids [B].
    batch_size: number of sentences B.
    max_len: maximum length of outputs L, including EOS.
    limit: as in `beam_search`.
    forbid: as in `beam_search`.
    sizes: as in `beam_search`; `choose` must then not depend on the number of a row.

  Returns:
    Tokens [B, L] int32, PAD after EOS, and log p [B] under the model, independent of
    how `choose` uses its scores; 0 for a sentence with limit 0.
  """
  B, L = batch_size, max_len
  check_arguments(cache, B, L, forbid)
  limit = as_limit(limit, B, L)

  def extend(s: _Rows) -> _Rows:
    cache, logits = step(s.cache, s.last)
    scores = NextTokens.of(logits, s.i, s.limit, forbid)
    token = jnp.where(s.undecided, choose(scores, s.i), PAD).astype(jnp.int32)  # [B]
    return s.replace(
      i=s.i + 1,
      last=token,
      undecided=s.undecided & (token != EOS),
      tokens=s.tokens.at[:, s.i].set(token),
      logp=s.logp + jnp.where(s.undecided, scores.log_probability(token), 0.0),
      cache=cache,
    )

  start = _Rows(
    i=jnp.zeros((), jnp.int32),
    limit=limit,
    last=jnp.full(B, BOS, jnp.int32),
    undecided=limit > 0,
    tokens=jnp.full((B, L), PAD, jnp.int32),
    logp=jnp.zeros(B, jnp.float32),
    cache=cache,
  )

  def results(s: _Rows) -> tuple[Array, Array]:
    return s.tokens, s.logp

  return search_loop(
    extend, start, lambda s: s.undecided, results, sizes, cache_lengths(L)
  )


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
  for path, part in jax.tree_util.tree_leaves_with_path(cache, is_leaf=_reorders):
    # What reorders itself may keep one entry per sentence.
    allowed = {rows, batch_size} if _reorders(part) else {rows}
    for inner, leaf in jax.tree_util.tree_leaves_with_path(part):
      if jnp.ndim(leaf) == 0 or leaf.shape[0] not in allowed:
        raise ValueError(
          f'cache{jax.tree_util.keystr((*path, *inner))} is {jnp.shape(leaf)}; its first '
          f'axis must be batch_size * beam_size = {rows}, or batch_size = {batch_size} in '
          'an object with a method `reorder`'
        )


def _reorders(part: Any) -> bool:
  return hasattr(part, 'reorder')


def reorder(cache: PyTree, parent: Array) -> PyTree:
  """Gives each hypothesis the past of its parent, [B, M].

  A part of the cache with a method `reorder` does it in its own way, as
  `layers.cache.DecoderCache`; every other leaf, [B * M, ...], is copied.
  """
  B, M = parent.shape

  def reorder(x: Any) -> Any:
    if _reorders(x):
      return x.reorder(parent)
    return select(x.reshape(B, M, *x.shape[1:]), parent).reshape(x.shape)

  return jax.tree.map(reorder, cache, is_leaf=_reorders)
