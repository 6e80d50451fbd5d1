"""Rules about the tokens of an output, which a search obeys at each step.

A rule changes which tokens are allowed, and never a score: the score of an output is
that of the model, whatever other tokens were forbidden. Without rules the program of a
search is the same as if this module did not exist.
"""

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.decoding.phrases import forbid_early_end
from seqlab.decoding.scores import NextTokens
from seqlab.types import EOS, PAD, Array


@struct.dataclass
class Rules:
  """What an output must and must not contain.

  An output ends at its limit, even where `min_length` asks for more tokens; one that
  lacks a phrase there is dropped. No other rule forbids a token of the prefix.

  Attributes:
    min_length: number of tokens before EOS, at least, as fairseq's `--min-len`.
    no_repeat_ngram: n: no sequence of n tokens occurs twice in an output, as fairseq's
      `--no-repeat-ngram-size`; 0 allows all.
    prefix: [B, P] int32, the first tokens of each output, PAD after the last one; None
      if there are none.
    phrases: [B, C, P] int32, phrases that each output contains, PAD after the last
      token; None if there are none. An output that lacks one at its limit is dropped.
      Only beam search in one group has this rule; see `phrases`.
  """

  min_length: int = struct.field(pytree_node=False, default=0)
  no_repeat_ngram: int = struct.field(pytree_node=False, default=0)
  prefix: Array | None = None
  phrases: Array | None = None

  @property
  def exist(self) -> bool:
    """Whether there is any rule."""
    given = self.min_length, self.no_repeat_ngram
    return any(given) or self.prefix is not None or self.phrases is not None

  def apply(self, tokens: NextTokens, written: Array, i: Array) -> NextTokens:
    """Forbids tokens.

    Args:
      tokens: scores of the next token of N rows.
      written: [N, L] tokens of each row so far.
      i: [] their number.
    """
    logits = tokens.logits
    if self.no_repeat_ngram:
      logits = _without_repeated(logits, written, i, self.no_repeat_ngram)
    if self.min_length:
      is_short = (i < self.min_length) & ~tokens.ends_here  # [N]
      logits = logits.at[:, EOS].min(jnp.where(is_short, -jnp.inf, jnp.inf))
    if self.prefix is not None:
      # From the logits of the model: no other rule forbids a token of a prefix.
      logits = _with_prefix(tokens, logits, self.prefix, i)
    tokens = tokens.replace(logits=logits)
    if self.phrases is not None:
      tokens = forbid_early_end(tokens, self.phrases, written, i)
    return tokens


NO_RULES = Rules()


def _without_repeated(logits: Array, written: Array, i: Array, n: int) -> Array:
  """Forbids the tokens that would complete an n-gram for the second time.

  Args:
    logits: [N, V].
    written: [N, L] tokens so far.
    i: [] their number.
    n: number of tokens of an n-gram.
  """
  N, L = written.shape
  starts = jnp.arange(max(L - n + 1, 0))  # of the n-grams that the array has room for
  repeats = jnp.broadcast_to(starts + n <= i, (N, starts.size))  # complete ones
  for k in range(n - 1):
    # The last n - 1 tokens; where there are fewer, no n-gram is complete.
    last = jax.lax.dynamic_index_in_dim(written, i - (n - 1) + k, axis=1)  # [N, 1]
    repeats &= written[:, k : k + starts.size] == last
  token = written[:, n - 1 : n - 1 + starts.size]
  bound = jnp.where(repeats, -jnp.inf, jnp.inf)
  return logits.at[jnp.arange(N)[:, None], token].min(bound)


def _with_prefix(tokens: NextTokens, ruled: Array, prefix: Array, i: Array) -> Array:
  """Allows only the token of the prefix where it has one at this position.

  Args:
    tokens: scores of the next token of N rows.
    ruled: [N, V] logits after the other rules.
    prefix: [B, P] ids, PAD after the last one.
    i: [] the position.
  """
  B, P = prefix.shape
  token = jax.lax.dynamic_index_in_dim(prefix, jnp.minimum(i, P - 1), axis=1)  # [B, 1]
  token = jnp.where(i < P, token, PAD)
  token = jnp.repeat(token, len(ruled) // B, axis=0)  # [N, 1]
  is_free = (token == PAD) | tokens.ends_here[:, None]
  is_token = jnp.arange(ruled.shape[1]) == token
  return jnp.where(is_free, ruled, jnp.where(is_token, tokens.logits, -jnp.inf))
