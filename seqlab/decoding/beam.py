"""Beam search and greedy search over any model that can take one step."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.decoding.loop import cache_lengths, search_loop
from seqlab.decoding.phrases import constrained_candidates
from seqlab.decoding.rules import NO_RULES, Rules
from seqlab.decoding.scores import NextTokens, select
from seqlab.types import BOS, EOS, PAD, Array, PyTree

# One decoding step: (cache, tokens [N]) -> (cache, logits [N, V]).
Step = Callable[[PyTree, Array], tuple[PyTree, Array]]


@struct.dataclass
class _Beams:
  """State of the search. M is the number of beams kept per sentence.

  A log-probability of -inf marks an empty entry: a beam that is not yet in use, or any
  beam of a sentence that is decided. Hypotheses are sorted within each group, the best
  first, except that those of `live` are in the order of their banks if there are
  phrases, see `decoding.phrases`, and in the order of the choice in a diverse search.
  """

  i: Array  # [] number of tokens so far
  limit: Array  # [B] longest output
  live: Array  # [B, M, L] unfinished hypotheses
  live_logp: Array  # [B, M] their log-probabilities
  done: Array  # [B, M, L] finished hypotheses
  done_score: Array  # [B, M] their length-normalized scores
  cache: PyTree  # leaves [B * M, ...] or [B, ...]
  rules: Rules  # leaves [B, ...]

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
  rules: Rules  # leaves [B, ...]


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


@dataclasses.dataclass(frozen=True)
class Scoring:
  """Score of a finished hypothesis.

  Attributes:
    alpha: exponent of the length penalty, which may be traced.
    penalty: form of the length penalty, a name of `PENALTIES`.
    reward: what each token adds to the score.
  """

  alpha: Array | float = 0.6
  penalty: str = 'gnmt'
  reward: float = 0.0

  def of(self, logp: Array, length: Array) -> Array:
    """Returns the scores of hypotheses of this length, EOS counted."""
    score = logp / length_penalty(length, self.alpha, self.penalty)
    return score + self.reward * length if self.reward else score


class _Group(NamedTuple):
  """The hypotheses of one group of a search; see `_Beams`. K is their number."""

  live: Array  # [B, K, L]
  live_logp: Array  # [B, K]
  done: Array  # [B, K, L]
  done_score: Array  # [B, K]
  surcharge: Array | None = None  # [B, K], added to the score of one that ends now


def coverage_penalty(coverage: Array, strength: Array | float) -> Array:
  """Returns β Σ_i log(min(c_i, 1)), at most 0, which a hypothesis adds to its score.

  Wu et al. 2016, equation 14, https://arxiv.org/abs/1609.08144. c_i is the sum of the
  attention that token i of the source has had from the tokens of the hypothesis, its
  EOS included.

  Args:
    coverage: c, [..., S]; 1 for padding.
    strength: β, at least 0.
  """
  # A model with a window of attention may have left a token out altogether.
  least = jnp.finfo(jnp.float32).tiny
  return strength * jnp.log(jnp.clip(coverage, least, 1.0)).sum(axis=-1)


class _Extended(NamedTuple):
  """A group after one step."""

  group: _Group
  parent: Array  # [B, K] the hypothesis of the group that each live one extends
  is_open: Array  # [B] whether a live hypothesis may still change the result
  chosen: Array  # [B, K] the token of each live one
  ended_score: Array  # [B, K] scores of hypotheses that ended in this step, or -inf

  def count(self, vocabulary: int) -> Array:
    """Returns how many hypotheses each token continued or ended, [B, V] float32."""
    B = len(self.chosen)
    is_live = self.group.live_logp > -jnp.inf
    counts = jnp.zeros((B, vocabulary), jnp.float32)
    counts = counts.at[jnp.arange(B)[:, None], self.chosen].add(is_live)
    return counts.at[:, EOS].add((self.ended_score > -jnp.inf).sum(axis=1))


def beam_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  beam_size: int,
  max_len: int,
  alpha: Array | float = 0.6,
  penalty: str = 'gnmt',
  reward: float = 0.0,
  stop: str = 'bound',
  groups: int = 1,
  diversity: float = 0.5,
  surcharge: Callable[[PyTree], Array] | None = None,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
  rules: Rules = NO_RULES,
  sizes: Sequence[int] = (),
) -> tuple[Array, Array]:
  """Finds high-scoring outputs, best first.

  The score of a hypothesis y is log p(y) / length_penalty(|y|, α), where |y| includes
  EOS (Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144). Of the best 2M
  extensions, an extension with EOS is finished only if it is among the first M, as in
  fairseq's `SequenceGenerator` (Ott et al. 2019, https://arxiv.org/abs/1904.01038), so
  a hypothesis that would leave the beam cannot enter the result. A sentence is decided,
  and no longer changes, when no live hypothesis can exceed the worst of M finished
  ones, or with stop='count' as soon as M are finished, as in fairseq. With one beam the
  first finished hypothesis decides, so that M = 1 is greedy search for every α.

  With several groups this is diverse beam search (Vijayakumar et al. 2016,
  https://arxiv.org/abs/1610.02424, Hamming diversity): each group is a beam search of
  M / groups hypotheses, with finished hypotheses and an end of its own. In each step
  the groups choose one after the other. A token that n hypotheses of earlier groups
  have just been continued or ended with loses n * diversity in the choice. The scores
  of hypotheses are those of the model, without this loss.

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
    reward: added to the score for each token, EOS included, at least 0 (He et al.
      2016, "Improved Neural Machine Translation with SMT Features").
    stop: 'bound' or 'count', when a sentence is decided.
    groups: number of groups, a divisor of `beam_size`.
    diversity: strength of the diversity between groups, at least 0.
    surcharge: function of the cache after a step that returns numbers [N], at most 0.
      That of a hypothesis is added to its score when it ends, as `coverage_penalty` is.
    limit: [B] int32, maximum length of each output, including EOS, at most `max_len`
      (the default). EOS is forced at this length; its log-probability under the model
      is added. A sentence with limit 0 is not decoded.
    forbid: ids that are never chosen, in addition to PAD and BOS.
    rules: further rules about tokens.
    sizes: smaller numbers of sentences to continue with, see `loop.search_loop`.

  Returns:
    Tokens [B, M, L] int32, PAD after EOS, and scores [B, M], sorted per
    sentence. If fewer than M outputs exist, the rest is PAD with a score of -inf.

  Raises:
    ValueError: a size below 1, a negative `alpha`, `reward` or `diversity`, groups of
      different sizes, EOS forbidden, or a leaf of the cache without B * beam_size rows.
  """
  B, M, L = batch_size, beam_size, max_len
  if isinstance(alpha, int | float) and alpha < 0:
    raise ValueError(f'alpha={alpha} is negative; 0 turns the length penalty off')
  for name, value in {'reward': reward, 'diversity': diversity}.items():
    if value < 0:
      raise ValueError(f'{name}={value} is negative; 0 turns it off')
  check_arguments(cache, B, L, forbid, beam_size=M)
  if groups < 1 or M % groups:
    raise ValueError(f'groups={groups} must divide beam_size={M}')
  if rules.phrases is not None and groups > 1:
    raise ValueError(f'groups={groups} must be 1 with phrases that outputs contain')
  limit, scoring = as_limit(limit, B, L), Scoring(alpha, penalty, reward)

  def extend(s: _Beams) -> _Beams:
    last = jnp.where(s.i == 0, BOS, s.live[:, :, s.i - 1])  # [B, M]
    cache, logits = step(s.cache, last.reshape(-1))
    tokens = NextTokens.of(logits, s.i, jnp.repeat(s.limit, M), forbid)
    if s.rules.exist:
      tokens = s.rules.apply(tokens, s.live.reshape(-1, L), s.i)
    added = None if surcharge is None else surcharge(cache).reshape(-1, M)
    whole = _Group(s.live, s.live_logp, s.done, s.done_score, added)
    if groups == 1:
      extended = _extend(whole, tokens, s, scoring, stop)
      group, parent, is_open = extended.group, extended.parent, extended.is_open
    else:
      group, parent, is_open = _extend_groups(
        whole, tokens, s, scoring, stop, groups=groups, diversity=diversity
      )
    return s.replace(
      i=s.i + 1,
      live=group.live,
      # A decided sentence has no live hypothesis, so that the loop can end.
      live_logp=jnp.where(
        is_open if groups > 1 else is_open[:, None], group.live_logp, -jnp.inf
      ),
      done=group.done,
      done_score=group.done_score,
      cache=reorder(cache, parent) if M > 1 else cache,
    )

  # PAD everywhere, so that nothing needs to be cleared after an EOS.
  blank = jnp.full((B, M, L), PAD, jnp.int32)
  nothing = jnp.full((B, M), -jnp.inf, jnp.float32)
  start = _Beams(
    i=jnp.zeros((), jnp.int32),
    limit=limit,
    live=blank,
    # One per group at first, since equal ones would fill the beam with copies.
    live_logp=_first_of_groups(nothing, limit, groups),
    done=blank,
    done_score=nothing,
    cache=cache,
    rules=rules,
  )

  def results(s: _Beams) -> tuple[Array, Array]:
    return s.done, s.done_score

  done, score = search_loop(
    extend, start, lambda s: s.undecided, results, sizes, cache_lengths(L)
  )
  if groups > 1:
    score, best = jax.lax.top_k(score, M)
    done = select(done, best)
  return jnp.where((score > -jnp.inf)[:, :, None], done, PAD), score


def _first_of_groups(nothing: Array, limit: Array, groups: int) -> Array:
  """Returns log-probabilities [B, M] with one empty hypothesis in each group."""
  start = jnp.where(limit > 0, 0.0, -jnp.inf)
  for g in range(groups):
    nothing = nothing.at[:, g * nothing.shape[1] // groups].set(start)
  return nothing


def _extend(
  group: _Group,
  tokens: NextTokens,
  s: _Beams,
  scoring: Scoring,
  stop: str,
  loss: Array | None = None,
) -> _Extended:
  """Extends the hypotheses of a group by one token.

  Args:
    group: the group.
    tokens: next tokens of its B * K rows.
    s: state of the search.
    scoring: score of finished hypotheses.
    stop: see `beam_search`.
    loss: [B, V] what each token loses in the choice; None for nothing.
  """
  K = group.live.shape[1]
  value, cand_logp, parent, token = _candidates(group, tokens, s, loss)
  ends = token == EOS

  score = scoring.of(cand_logp, s.i + 1)
  if group.surcharge is not None:
    score += select(group.surcharge, parent)
  # The first K only: a candidate below them would not have stayed in the beam.
  score = jnp.where(ends, score, -jnp.inf)[:, :K]
  ended = select(group.live, parent[:, :K]).at[:, :, s.i].set(EOS)  # [B, K, L]
  done_score, best = jax.lax.top_k(jnp.concatenate([group.done_score, score], 1), K)
  done = select(jnp.concatenate([group.done, ended], axis=1), best)

  live_logp, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, value), K)
  if value is not cand_logp:
    live_logp = select(jnp.where(ends, -jnp.inf, cand_logp), best)
  parent, chosen = select(parent, best), select(token, best)  # [B, K]
  live = select(group.live, parent).at[:, :, s.i].set(chosen)

  # log p only decreases and the penalty only increases: that of the greatest length
  # bounds the scores that a live hypothesis can still get, as a reward does. A surcharge
  # is at most 0.
  highest = live_logp[:, 0] if value is cand_logp else live_logp.max(axis=1)
  bound = scoring.of(highest, s.limit)  # [B]
  is_open = bound > done_score[:, -1]  # [B]
  if stop == 'count':
    is_open &= done_score[:, -1] == -jnp.inf
  if K == 1:
    # Otherwise a longer output could win by its penalty, and α would matter.
    is_open &= ~ends[:, 0]
  return _Extended(
    group=_Group(live, live_logp, done, done_score),
    parent=parent,
    is_open=is_open,
    chosen=chosen,
    ended_score=score,
  )


def _candidates(
  group: _Group, tokens: NextTokens, s: _Beams, loss: Array | None
) -> tuple[Array, Array, Array, Array]:
  """Returns the best extensions of a group's hypotheses; see `_extend`.

  There are 2K, so that K remain even if K of them end here.

  Returns:
    By what the candidates are chosen, the highest first; their log-probabilities, the
    same array if they are chosen by these; the hypothesis that each extends, and the
    token. [B, 2K] each.
  """
  K = group.live.shape[1]
  if s.rules.phrases is not None:
    constraints = s.rules.phrases, group.live, group.live_logp, s.i
    logp, parent, token = constrained_candidates(tokens, *constraints)
    order = -jnp.arange(2.0 * K)
    return jnp.where(logp > -jnp.inf, order, -jnp.inf), logp, parent, token
  if loss is None:
    value, parent, token = tokens.best(2 * K, K, group.live_logp.reshape(-1))
    return value, value, parent, token
  lost = tokens.replace(logits=tokens.logits - jnp.repeat(loss, K, axis=0))
  value, parent, token = lost.best(2 * K, K, group.live_logp.reshape(-1))
  logp = value + jnp.take_along_axis(loss, token, axis=1)
  return value, jnp.where(value > -jnp.inf, logp, -jnp.inf), parent, token


def _extend_groups(
  whole: _Group,
  tokens: NextTokens,
  s: _Beams,
  scoring: Scoring,
  stop: str,
  *,
  groups: int,
  diversity: float,
) -> tuple[_Group, Array, Array]:
  """Extends one group after the other; see `beam_search`.

  Returns:
    All hypotheses, the parent of each live one [B, M], and whether the group of each is
    still open, [B, M].
  """
  B, M = whole.live_logp.shape
  V, K = tokens.logits.shape[1], M // groups
  loss = jnp.zeros((B, V), jnp.float32)
  extended, parents = [], []
  for g in range(groups):
    part = slice(g * K, (g + 1) * K)
    rows = tokens.rows(lambda x, part=part: x.reshape(B, M, *x.shape[1:])[:, part])
    group = _Group(*(None if x is None else x[:, part] for x in whole))
    extended.append(_extend(group, rows, s, scoring, stop, loss))
    parents.append(extended[-1].parent + g * K)
    loss += diversity * extended[-1].count(V)
  each = zip(*(x.group[:4] for x in extended), strict=True)
  is_open = jnp.stack([x.is_open for x in extended], axis=1)  # [B, groups]
  return (
    _Group(*(jnp.concatenate(x, axis=1) for x in each)),
    jnp.concatenate(parents, axis=1),
    jnp.repeat(is_open, K, axis=1),
  )


def greedy_search(
  step: Step,
  cache: PyTree,
  *,
  batch_size: int,
  max_len: int,
  limit: Array | None = None,
  forbid: tuple[int, ...] = (),
  rules: Rules = NO_RULES,
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
    rules: further rules about tokens.
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
    rules=rules,
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
  rules: Rules = NO_RULES,
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
    rules: as in `beam_search`.
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
    if s.rules.exist:
      scores = s.rules.apply(scores, s.tokens, s.i)
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
    rules=rules,
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
