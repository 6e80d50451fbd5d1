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
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.decoding.beam import Step, beam_search, greedy_search
from seqlab.decoding.loop import smaller_sizes
from seqlab.decoding.sampling import sample
from seqlab.domains import Check, Count, Positive, Range, Seed
from seqlab.pieces import Piece, Specification, find, make, parameters, split
from seqlab.types import Array, PyTree


def _admit_length(length: tuple[float, float]) -> None:
  a, b = length
  if a < 0 or b < 0 or a + b < 1:
    raise ValueError('two numbers from 0 whose sum is at least 1')


def _admit_one(beam: int) -> None:
  if beam != 1:
    raise ValueError('1, since sampling draws one output per sentence')


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

  def limit(self, source_length: int | Array) -> int | Array:
    """Returns the longest output of a source with so many tokens."""
    a, b = self.length
    if isinstance(source_length, int):
      return int(a * source_length + b)
    return (a * source_length + b).astype(jnp.int32)

  def record(self) -> dict[str, Any]:
    """Returns the options that are set, for the record of an evaluation.

    Without `stages`, which changes the time that a search takes and, apart from
    rounding, not its result.
    """
    kind = {cls: name for name, cls in DECODINGS.items()}.get(type(self))
    path = f'{type(self).__module__}:{type(self).__qualname__}'
    options = {name: x for name, x in vars(self).items() if x is not None}
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
        `beam.reorder(cache, parent)` gives each hypothesis the cache of another.
      batch_size: number of sentences B.
      max_len: longest output L, EOS counted.
      limit: [B] int32, longest output of each sentence; 0 leaves it empty.
      ids: [B] int32, numbers of the sentences, from which random bits come.

    Returns:
      Tokens [B, M, L] int32, PAD after EOS, best first, and scores [B, M].
    """
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam(DecodingConfig):
  """Beam search; see `beam.beam_search`.

  Attributes:
    beam: hypotheses kept per sentence, M; 1 is greedy search.
    alpha: strength of the length penalty.
    penalty: its form: 'gnmt', ((5 + length) / 6)^alpha, or 'length', length^alpha, as
      in fairseq.
    stop: when a sentence is decided: 'bound', once no unfinished hypothesis can score
      higher than the worst of M finished ones; 'count', once M are finished, as in
      fairseq.
  """

  beam: Annotated[int, Range(1, 10_000)] = 5
  alpha: Annotated[float, Range(0)] = 0.6
  penalty: Literal['gnmt', 'length'] = 'gnmt'
  stop: Literal['bound', 'count'] = 'bound'

  @property
  def num_hypotheses(self) -> int:
    """Outputs per sentence."""
    return self.beam

  def __call__(self, step, cache, *, ids, **options) -> tuple[Array, Array]:
    """Decodes a batch; see `DecodingConfig`."""
    if self.beam == 1:  # needs no reordering of caches
      greedy = Greedy(length=self.length, stages=self.stages, dtype=self.dtype)
      return greedy(step, cache, ids=ids, **options)
    sizes = smaller_sizes(options['batch_size'], self.stages)
    return beam_search(
      step,
      cache,
      beam_size=self.beam,
      alpha=self.alpha,
      penalty=self.penalty,
      stop=self.stop,
      sizes=sizes,
      **options,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(DecodingConfig):
  """The likeliest token at each position; see `beam.greedy_search`."""

  to_limit: ClassVar = False

  def __call__(self, step, cache, *, ids, **options) -> tuple[Array, Array]:
    """Decodes a batch; see `DecodingConfig`."""
    del ids
    options['sizes'] = smaller_sizes(options['batch_size'], self.stages)
    tokens, scores = greedy_search(step, cache, to_limit=self.to_limit, **options)
    return tokens[:, None], scores[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullLength(Greedy):
  """As `Greedy`, but outputs have the length that `length` allows, and EOS at its end.

  It is for tasks in which the length of the output is a function of that of the source,
  and the model need not find it.
  """

  to_limit: ClassVar = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(DecodingConfig):
  """One random output per sentence; see `sampling.sample`.

  Attributes:
    temperature: divides the logits.
    top_k: sample among the k likeliest tokens; None for all.
    top_p: sample among the likeliest tokens that hold this much probability.
    seed: integer seed of sampling.
    beam: 1.
  """

  temperature: Annotated[float, Positive] = 1.0
  top_k: Count | None = None
  top_p: Annotated[float, Range(0, 1, exclude_low=True)] = 1.0
  seed: Seed = 0
  beam: Annotated[int, Check(_admit_one)] = 1

  @property
  def is_random(self) -> bool:
    """See `DecodingConfig.is_random`."""
    return True

  def __call__(self, step, cache, *, ids, **options) -> tuple[Array, Array]:
    """Decodes a batch; see `DecodingConfig`."""
    tokens, scores = sample(
      step,
      cache,
      jax.random.key(self.seed),
      ids=ids,
      temperature=self.temperature,
      top_k=self.top_k or 0,
      top_p=self.top_p,
      **options,
    )
    return tokens[:, None], scores[:, None]


DECODINGS = {
  'beam': Beam,
  'greedy': Greedy,
  'full_length': FullLength,
  'sampling': Sampling,
}
# Options of a section or a command line: a kind, and the options of the kinds here.
DECODING_OPTIONS = {
  'decoding': Annotated[Specification, Piece(DECODINGS)] | None,
  **domains.annotations(Sampling),
  **domains.annotations(Beam),
}
_OF_SAMPLING = ('temperature', 'top_k', 'top_p', 'seed')


def make_decoding(
  options: Mapping[str, Any], where: str = 'decoding'
) -> DecodingConfig:
  """Returns how outputs are found, from options of an experiment or a command line.

  Args:
    options: options of the kind; with `decoding`, that kind: a piece of `DECODINGS`, or
      a path to a class of one's own. Without it, an option of sampling samples, and
      anything else is beam search.
    where: key of the section, for messages.

  Raises:
    ValueError: the kind or an option is unknown, or an option is outside its domain.
  """
  options = {name: x for name, x in options.items() if x is not None}
  sampled = any(name in options for name in _OF_SAMPLING)
  kind = options.pop('decoding', 'sampling' if sampled else 'beam')
  name, kind_options = split(kind, where)
  builder, _ = find({'kind': name}, DECODINGS, where)
  if options.get('beam') == 1 and 'beam' not in parameters(builder):
    del options['beam']  # one output per sentence, as this kind has in any case
  return make({'kind': name, **options, **kind_options}, DECODINGS, where)
