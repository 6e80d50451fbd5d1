"""How outputs are found, as an experiment or a command line says it.

    c.evals.valid = dict(kind='translation', split='valid', beam=5)
    c.evals.valid = dict(kind='translation', split='valid', decoding='greedy')
    c.evals.valid.decoding = dict(kind='sampling', temperature=0.7)
    c.evals.valid.decoding = dict(kind='my_package.decoding:Mine', width=3)

A kind of decoding is a frozen dataclass that inherits from `DecodingConfig`. Its fields
are its options; calling it decodes a batch. Instances are hashed, since compiled
functions take them as static arguments.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.decoding.beam import Step, beam_search, coverage_penalty, greedy_search
from seqlab.decoding.loop import smaller_sizes
from seqlab.decoding.rules import Rules
from seqlab.decoding.sampling import sample
from seqlab.decoding.scores import select
from seqlab.domains import Check, Count, Positive, Range, Rate, Seed
from seqlab.metrics.characters import PieceBytes
from seqlab.metrics.pairwise import Utility, expected_utility
from seqlab.pieces import Piece, Specification, find, make, parameters, split
from seqlab.types import Array, PyTree


def _admit_length(length: tuple[float, float]) -> None:
  a, b = length
  if a < 0 or b < 0 or a + b < 1:
    raise ValueError('two numbers from 0 whose sum is at least 1')


def _admit_one(beam: int) -> None:
  if beam != 1:
    raise ValueError('1, since sampling draws one output per sentence')


def _no_effect(name: str, value: Any) -> ValueError:
  """Returns the error of an option by which hypotheses of a beam are compared."""
  return ValueError(
    f'{name} is {value!r}, and has no effect: with beam=1 the likeliest token is chosen '
    f'at each position; raise beam, or leave {name} out'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig:
  """Options that all kinds of decoding have. Base class of the kinds.

  Attributes:
    length: (a, b): an output has at most a * |source| + b tokens, EOS counted.
    stages: number of batch sizes of a search. Each halves the one before, once no more
      sentences are undecided, and is compiled. Sampling has one.
    dtype: dtype of the model's products in a search, 'float32' or 'bfloat16'. None is
      the model's own, except for narrow models on a CPU; see
      `tasks.translator.in_dtype`.

  Raises:
    ValueError: an option is outside its domain.
  """

  length: Annotated[tuple[float, float], Check(_admit_length)] = (1.5, 10)
  stages: Count = 3
  dtype: Literal['float32', 'bfloat16'] | None = None

  def __post_init__(self):
    if isinstance(self.length, Sequence):  # a list, as read from JSON, has no hash
      object.__setattr__(self, 'length', tuple(self.length))
    domains.check(type(self), vars(self))

  @property
  def num_hypotheses(self) -> int:
    """Outputs per sentence, M; the cache has M rows per sentence."""
    return 1

  @property
  def is_random(self) -> bool:
    """Whether outputs are drawn, so that further ones differ."""
    return False

  @property
  def num_draws(self) -> int:
    """Rows that a sentence is repeated as before it is decoded; see `__call__`."""
    return 1

  @property
  def attends(self) -> bool:
    """Whether the search reads the attention of its hypotheses.

    The cache then has an attribute `coverage`, [B * M, S], the sums of their
    cross-attention; 1 for padding.
    """
    return False

  def limit(self, source_length: int | Array) -> int | Array:
    """Returns the longest output of a source with so many tokens."""
    a, b = self.length
    if isinstance(source_length, int):
      return int(a * source_length + b)
    return (a * source_length + b).astype(jnp.int32)

  def record(self) -> dict[str, Any]:
    """Returns the options that are set, for the record of an evaluation.

    Without `stages`, which changes the time that a search takes and, apart from
    rounding, not its result; and without options that were added later and have their
    defaults, so that the record of a search is that of earlier versions.
    """
    kind = {cls: name for name, cls in DECODINGS.items()}.get(type(self))
    path = f'{type(self).__module__}:{type(self).__qualname__}'
    added = {f.name: f.default for f in dataclasses.fields(self) if f.name in _ADDED}
    options = {
      name: x
      for name, x in vars(self).items()
      if x is not None and not (name in added and x == added[name])
    }
    del options['stages']
    return {'kind': kind or path, **options}

  def __call__(
    self,
    step: Step,
    cache: PyTree,
    *,
    batch_size: int,
    max_len: int,
    limit: Array,
    ids: Array,
  ) -> tuple[Array, Array]:
    """Decodes a batch. Pure.

    Args:
      step: (cache, tokens [B * M]) -> (cache, logits [B * M, V]).
      cache: what `step` needs besides the token. Its leaves are [B * M, ...], or [B,
        ...] where hypotheses share them, so that a search must not index them itself:
        `beam.reorder(cache, parent)` gives each hypothesis the cache of another. If
        `num_draws` is above 1, it is M, and all leaves are [B * M, ...].
      batch_size: number of sentences B.
      max_len: longest output L, EOS counted.
      limit: [B] int32, longest output of each sentence; 0 leaves it empty.
      ids: [B] int32, numbers of the sentences, from which random bits come.

    Returns:
      Tokens [B, M, L] int32, PAD after EOS, best first, and scores [B, M].
    """
    raise NotImplementedError

  def rank(
    self, tokens: Array, scores: Array, pieces: PieceBytes | None
  ) -> tuple[Array, Array]:
    """Orders the outputs of a batch by their texts, if this kind does.

    Args:
      tokens: [B, M, L], as `__call__` returns them.
      scores: [B, M].
      pieces: text of each token; None where it is not known.

    Returns:
      Both, best first.
    """
    del pieces
    return tokens, scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ruled(DecodingConfig):
  """Options of the kinds that obey rules about tokens; see `rules.Rules`.

  Attributes:
    min_length: number of tokens before EOS, at least, where `length` allows as many.
    no_repeat_ngram: n: no sequence of n tokens occurs twice in an output; 0 allows all.
  """

  min_length: Annotated[int, Range(0)] = 0
  no_repeat_ngram: Annotated[int, Range(0)] = 0

  @property
  def takes_phrases(self) -> bool:
    """Whether outputs can be made to contain phrases."""
    return False

  def rules(self, prefix: Array | None = None, phrases: Array | None = None) -> Rules:
    """Returns the rules of a batch.

    Args:
      prefix: [B, P] first tokens of each output, PAD after the last one; None if there
        are none.
      phrases: [B, C, P] phrases that each output contains, PAD after the last token of
        each; None if there are none.
    """
    return Rules(self.min_length, self.no_repeat_ngram, prefix, phrases)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam(Ruled):
  """Beam search; see `beam.beam_search`.

  Attributes:
    beam: hypotheses kept per sentence, M; 1 is greedy search.
    alpha: strength of the length penalty.
    penalty: its form: 'gnmt', ((5 + length) / 6)^alpha, or 'length', length^alpha, as
      in fairseq.
    stop: when a sentence is decided: 'bound', once no unfinished hypothesis can score
      higher than the worst of M finished ones; 'count', once M are finished, as in
      fairseq.
    length_reward: added to the score for each token of an output, EOS included; 0 with
      `beam` 1, which does not compare scores.
    coverage: strength β of the coverage penalty, see `beam.coverage_penalty`; 0 with
      `beam` 1. The model must have cross-attention.
    diverse_groups: number of groups of diverse beam search, a divisor of `beam`; 1 for
      the usual search.
    diverse_strength: what a token loses in a group for each time that earlier groups
      chose it in the same step; None for 0.5, fairseq's default.
  """

  beam: Annotated[int, Range(1, 10_000)] = 5
  alpha: Annotated[float, Range(0)] = 0.6
  penalty: Literal['gnmt', 'length'] = 'gnmt'
  stop: Literal['bound', 'count'] = 'bound'
  length_reward: Annotated[float, Range(0)] = 0.0
  coverage: Annotated[float, Range(0)] = 0.0
  diverse_groups: Count = 1
  diverse_strength: Annotated[float, Range(0)] | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.beam % self.diverse_groups:
      raise ValueError(
        f'diverse_groups is {self.diverse_groups}; it must be a divisor of beam, which '
        f'is {self.beam}'
      )
    if self.diverse_strength is not None and self.diverse_groups == 1:
      raise ValueError(
        f'diverse_strength is {self.diverse_strength}; it must be None for a single '
        'group: set diverse_groups to the number of groups'
      )
    for name in ('length_reward', 'coverage'):
      if getattr(self, name) and self.beam == 1:
        raise _no_effect(name, getattr(self, name))

  @property
  def num_hypotheses(self) -> int:
    """Outputs per sentence."""
    return self.beam

  @property
  def takes_phrases(self) -> bool:
    """See `Ruled.takes_phrases`."""
    return self.beam > 1 and self.diverse_groups == 1

  @property
  def attends(self) -> bool:
    """See `DecodingConfig.attends`."""
    return self.coverage > 0

  def __call__(self, step, cache, *, ids, prefix=None, phrases=None, **options):
    """Decodes a batch; see `DecodingConfig`."""
    if self.attends:
      options['surcharge'] = lambda cache: coverage_penalty(
        cache.coverage, self.coverage
      )
    if self.beam == 1:  # needs no reordering of caches
      shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Greedy)}
      return Greedy(**shared)(step, cache, ids=ids, prefix=prefix, **options)
    sizes = smaller_sizes(options['batch_size'], self.stages)
    return beam_search(
      step,
      cache,
      beam_size=self.beam,
      alpha=self.alpha,
      penalty=self.penalty,
      stop=self.stop,
      reward=self.length_reward,
      groups=self.diverse_groups,
      diversity=0.5 if self.diverse_strength is None else self.diverse_strength,
      rules=self.rules(prefix, phrases),
      sizes=sizes,
      **options,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(Ruled):
  """The likeliest token at each position; see `beam.greedy_search`."""

  to_limit: ClassVar = False

  def __call__(self, step, cache, *, ids, prefix=None, **options):
    """Decodes a batch; see `DecodingConfig`."""
    del ids
    options['sizes'] = smaller_sizes(options['batch_size'], self.stages)
    options['rules'] = self.rules(prefix)
    tokens, scores = greedy_search(step, cache, to_limit=self.to_limit, **options)
    return tokens[:, None], scores[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullLength(Greedy):
  """As `Greedy`, but outputs have the length that `length` allows, and EOS at its end.

  It is for tasks in which the length of the output is a function of that of the source,
  and the model need not find it.
  """

  to_limit: ClassVar = True

  def __post_init__(self):
    super().__post_init__()
    if self.min_length:
      raise ValueError(
        f'min_length is {self.min_length}, and has no effect: every output has the '
        'length that `length` (--max-length) allows; leave min_length out'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Ruled):
  """One random output per sentence; see `sampling.sample`.

  Attributes:
    temperature: divides the logits.
    top_k: sample among the k likeliest tokens; None for all.
    top_p: sample among the likeliest tokens that hold this much probability.
    epsilon: sample among the tokens with at least this probability.
    seed: integer seed of sampling.
    beam: 1.
  """

  temperature: Annotated[float, Positive] = 1.0
  top_k: Count | None = None
  top_p: Annotated[float, Range(0, 1, exclude_low=True)] = 1.0
  epsilon: Rate = 0.0
  seed: Seed = 0
  beam: Annotated[int, Check(_admit_one)] = 1

  @property
  def is_random(self) -> bool:
    """See `DecodingConfig.is_random`."""
    return True

  def __call__(self, step, cache, *, ids, prefix=None, **options):
    """Decodes a batch; see `DecodingConfig`."""
    tokens, scores = sample(
      step,
      cache,
      jax.random.key(self.seed),
      ids=ids,
      temperature=self.temperature,
      top_k=self.top_k or 0,
      top_p=self.top_p,
      epsilon=self.epsilon,
      rules=self.rules(prefix),
      **options,
    )
    return tokens[:, None], scores[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinimumBayesRisk(Sampling):
  """The sample that is most like the other samples of its sentence.

  Each sentence has several samples. The score of one is the mean of a sentence measure
  of its text with each of the others as the reference, and the one with the highest
  score is the output. Eikema and Aziz 2020, https://aclanthology.org/2020.coling-main.398

  Attributes:
    mbr: number of samples of a sentence.
    mbr_measure: 'chrf' or 'bleu', the sentence measure; see `metrics.pairwise`.
  """

  mbr: Annotated[int, Range(2, 10_000)] = 64
  mbr_measure: Utility = 'chrf'

  @property
  def num_hypotheses(self) -> int:
    """Outputs per sentence."""
    return self.mbr

  @property
  def num_draws(self) -> int:
    """See `DecodingConfig.num_draws`: samples have no past in common."""
    return self.mbr

  def __call__(self, step, cache, *, batch_size, ids, limit, prefix=None, **options):
    """Draws the samples of a batch; see `DecodingConfig`."""
    M = self.mbr
    of_row = functools.partial(jnp.repeat, repeats=M, axis=0)
    tokens, scores = super().__call__(
      step,
      cache,
      batch_size=batch_size * M,
      limit=of_row(limit),
      ids=of_row(ids) * M + jnp.tile(jnp.arange(M), batch_size),
      prefix=None if prefix is None else of_row(prefix),
      **options,
    )
    return tokens.reshape(batch_size, M, -1), scores.reshape(batch_size, M)

  def rank(self, tokens, scores, pieces) -> tuple[Array, Array]:
    """Sorts samples by their expected utility, which becomes their score."""
    if pieces is None:
      raise ValueError(
        'mbr compares texts, and is for translation only: sample instead'
      )
    utility = expected_utility(tokens, pieces, self.mbr_measure)
    utility, best = jax.lax.top_k(utility, self.mbr)
    return select(tokens, best), utility


DECODINGS = {
  'beam': Beam,
  'greedy': Greedy,
  'full_length': FullLength,
  'sampling': Sampling,
  'mbr': MinimumBayesRisk,
}
# Options of a section or a command line: a kind, and the options of the kinds here.
DECODING_OPTIONS = {
  'decoding': Annotated[Specification, Piece(DECODINGS)] | None,
  **domains.annotations(MinimumBayesRisk),
  **domains.annotations(Beam),
}
# What hypotheses of a beam are compared by, and no other kind has.
_OF_COMPARISON = ('alpha', 'penalty', 'stop')
OF_SAMPLING = ('temperature', 'top_k', 'top_p', 'epsilon', 'seed')
OF_MBR = ('mbr', 'mbr_measure')
# Options that no plain sample has; where samples are the default, they ask for a search.
OPTIONS_OF_SEARCH = {*DECODING_OPTIONS} - {
  f.name for f in dataclasses.fields(Sampling) if f.name != 'beam'
}
# Options that earlier versions did not have; see `DecodingConfig.record`.
_ADDED = (
  *('min_length', 'no_repeat_ngram', 'length_reward', 'coverage', 'diverse_groups'),
  *('diverse_strength', 'epsilon'),
)


def make_decoding(
  options: Mapping[str, Any], where: str = 'decoding'
) -> DecodingConfig:
  """Returns how outputs are found, from options of an experiment or a command line.

  Args:
    options: options of the kind; with `decoding`, that kind: a piece of `DECODINGS`, or
      a path to a class of one's own. Without it, an option of minimum Bayes risk or of
      sampling chooses that kind, and anything else is beam search.
    where: key of the section, for messages. In a section of an experiment, where a
      value of `beam` may replace that of another file, options without effect are
      allowed.

  Raises:
    ValueError: the kind or an option is unknown, has no effect, or is outside its
      domain.
  """
  options = {name: x for name, x in options.items() if x is not None}
  kinds = {'mbr': OF_MBR, 'sampling': OF_SAMPLING}
  implied = [kind for kind, names in kinds.items() if options.keys() & {*names}]
  kind = options.pop('decoding', [*implied, 'beam'][0])
  name, kind_options = split(kind, where)
  builder, _ = find({'kind': name}, DECODINGS, where)
  if options.get('beam') == 1 and 'beam' not in parameters(builder):
    del options['beam']  # one output per sentence, as this kind has in any case
  options |= kind_options
  if where == 'decoding' and builder is Beam and options.get('beam') == 1:
    for option in _OF_COMPARISON:
      if option in options:
        raise _no_effect(option, options[option])
  return make({'kind': name, **options}, DECODINGS, where)
