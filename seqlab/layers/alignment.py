"""Attention with any scoring function, for decoders that proceed step by step.

A score is a function of queries and memory, `score(query, memory) -> [B, T, S]`. The
mask, the softmax, the weighted sum and the heads are the same for all scores. The scores
here are modules, since most have weights; a plain function from anywhere works too.

Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473; Luong et al. 2015,
https://arxiv.org/abs/1508.04025.
"""

from collections.abc import Callable, Mapping
import dataclasses
import inspect
from typing import Any, ClassVar

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab.domains import Count
from seqlab.layers import SCORES
from seqlab.layers.device import platform
from seqlab.layers.products import dense_product, matmul, product
from seqlab.pieces import Function, Piece, Specification, bind, find
from seqlab.types import Array


@struct.dataclass
class Source:
  """Inputs that a score may read besides the query.

  Attributes:
    keys: [B, S, D] the encoder's states, as returned by the score's `project`.
    mask: [B, S] bool, True for tokens.
    coverage: [B, T, S] sum of the weights that each token got in earlier steps.
    position: [B, T] int32 positions of the queries in the output, from 0.
  """

  keys: Array
  mask: Array
  coverage: Array
  position: Array


def _dense(width: int, dtype: Any, *, bias: bool = False) -> nn.Dense:
  logical = nn.with_logical_partitioning
  return nn.Dense(
    width,
    use_bias=bias,
    dtype=dtype,
    dot_general=dense_product,
    kernel_init=logical(nn.initializers.xavier_uniform(), ('embed', None)),
    bias_init=logical(nn.initializers.zeros, (None,)),
  )


class Score(nn.Module):
  """Base class of scores with weights; further fields of a subclass are its options.

  Attributes:
    width: D, of queries and keys.
    dtype: dtype of the matrix products.
    looks_back: whether the score depends on the weights of earlier steps.
  """

  looks_back: ClassVar[bool] = False

  width: int
  dtype: jnp.dtype = jnp.float32

  def project(self, states: Array) -> Array:
    """Returns keys: [B, S, D] -> [B, S, D]. It is called once per sentence."""
    return states

  def __call__(self, query: Array, memory: Source) -> Array:
    """Returns scores, any real numbers: [B, T, D] -> [B, T, S]."""
    raise NotImplementedError

  def vector(self, name: str, size: int | None = None) -> Array:
    """Returns a parameter of shape [size], by default [D]."""
    init = nn.with_logical_partitioning(nn.initializers.normal(), (None,))
    return self.param(name, init, (size or self.width,)).astype(self.dtype)


class Uniform(Score):
  """0 for every token, so that the context is the mean of the states: a control.

  It has the output layer and the place of attention, and looks at nothing.
  """

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    return jnp.zeros((*query.shape[:2], memory.keys.shape[1]), self.dtype)


class Dot(Score):
  """qᵀ k, Luong et al. 2015, section 3.1."""

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    return product('btd,bsd->bts', query, memory.keys)


class ScaledDot(Score):
  """qᵀ k / √D, Vaswani et al. 2017, section 3.2.1."""

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    return product('btd,bsd->bts', query, memory.keys) * self.width**-0.5


class Cosine(Score):
  """β cos(q, k) with a learned sharpness β = exp(b), Graves et al. 2014, section 3.3.

  https://arxiv.org/abs/1410.5401
  """

  def setup(self) -> None:
    """Makes b, so that β starts at 10."""
    init = nn.with_logical_partitioning(nn.initializers.constant(2.3), ())
    self.log_sharpness = self.param('log_sharpness', init, ())

  def project(self, states: Array) -> Array:
    """Returns keys of length one."""
    return _unit(states)

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    cosine = product('btd,bsd->bts', _unit(query), memory.keys)
    return jnp.exp(self.log_sharpness).astype(self.dtype) * cosine


class General(Score):
  """qᵀ W k, Luong et al. 2015, section 3.1."""

  def setup(self) -> None:
    """Makes W."""
    self.key = _dense(self.width, self.dtype)

  def project(self, states: Array) -> Array:
    """Returns W k."""
    return self.key(states)

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    return product('btd,bsd->bts', query, memory.keys)


class Additive(Score):
  """vᵀ tanh(W q + U k + b), Bahdanau et al. 2015, appendix A.1.2."""

  def setup(self) -> None:
    """Makes W, U and v."""
    self.query = _dense(self.width, self.dtype)
    self.key = _dense(self.width, self.dtype, bias=True)
    self.energy = self.vector('energy')

  def project(self, states: Array) -> Array:
    """Returns U k + b."""
    return self.key(states)

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    return _energies(self.query(query), memory.keys, self.energy)


class Concat(Score):
  """vᵀ tanh(W [q; k]), Luong et al. 2015, section 3.1.

  The same functions as `Additive` without b, with W drawn as one matrix.
  """

  def setup(self) -> None:
    """Makes W and v."""
    init = nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), ('embed', None)
    )
    self.kernel = self.param('kernel', init, (2 * self.width, self.width))
    self.energy = self.vector('energy')

  def project(self, states: Array) -> Array:
    """Returns the lower half of W times k."""
    return matmul(states, self.kernel[self.width :].astype(self.dtype))

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    q = matmul(query, self.kernel[: self.width].astype(self.dtype))
    return _energies(q, memory.keys, self.energy)


class Location(Score):
  """W q, a number for each position of the source: Luong et al. 2015, equation 8.

  Attributes:
    positions: length of the longest source, in tokens.
  """

  positions: Count = 256

  def setup(self) -> None:
    """Makes W [D, positions]."""
    self.places = _dense(self.positions, self.dtype)

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    S = memory.keys.shape[1]
    if self.positions < S:
      raise ValueError(
        f'a source of {S} positions is longer than model.attention.positions='
        f'{self.positions}: raise it, or lower batching.max_length'
      )
    return self.places(query)[..., :S]


class LocalMonotonic(General):
  """`General` within a window around the output's own position, "local-m".

  Luong et al. 2015, section 3.2: p = t. Beyond the source's end p is its last token.

  Attributes:
    window: number of tokens on either side that are attended to.
  """

  window: Count = 10

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    last = memory.mask.sum(axis=1, dtype=jnp.int32)[:, None] - 1  # [B, 1]
    centre = jnp.minimum(memory.position, last)  # [B, T]
    distance = jnp.arange(memory.keys.shape[1]) - centre[..., None]  # [B, T, S]
    inside = jnp.abs(distance) <= self.window
    return jnp.where(inside, super().__call__(query, memory), -jnp.inf)


class LocalPredictive(General):
  """`General` around a predicted position, "local-p".

  Luong et al. 2015, section 3.2: p = S σ(vᵀ tanh(W q)), and weights are multiplied
  by exp(-(s - p)² / 2σ²), σ = window / 2. Here the logarithm of that factor is added to
  the score, so that weights still sum to one.

  Attributes:
    window: number of tokens on either side that are attended to.
  """

  window: Count = 10

  def setup(self) -> None:
    """Makes W and v besides `General`'s weights."""
    super().setup()
    self.where = _dense(self.width, self.dtype)
    self.centre = self.vector('centre')

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    length = memory.mask.sum(axis=1)[:, None]  # [B, 1]
    share = jax.nn.sigmoid(matmul(jnp.tanh(self.where(query)), self.centre))  # [B, T]
    centre = share.astype(jnp.float32) * (length - 1)
    distance = jnp.arange(memory.keys.shape[1]) - centre[..., None]  # [B, T, S]
    closeness = -2 * (distance / self.window) ** 2
    scores = super().__call__(query, memory) + closeness
    return jnp.where(jnp.abs(distance) <= self.window, scores, -jnp.inf)


class Coverage(Additive):
  """`Additive` with the sum of the weights that each token has had.

  vᵀ tanh(W q + U k + c w + b), c the sum of weights so far: Tu et al. 2016, section
  3.1.1 (linguistic coverage without fertility), https://arxiv.org/abs/1601.04811.
  """

  looks_back: ClassVar[bool] = True

  def setup(self) -> None:
    """Makes w besides `Additive`'s weights."""
    super().setup()
    self.covered = self.vector('covered')

  def __call__(self, query: Array, memory: Source) -> Array:
    """See `Score`."""
    coverage = memory.coverage.astype(self.dtype), self.covered
    return _energies(self.query(query), memory.keys, self.energy, coverage)


class _Function(Score):
  """A plain function as a score; it may make Linen modules."""

  function: Callable[[Array, Source], Array] = None

  @nn.compact
  def __call__(self, query: Array, memory: Source) -> Array:
    return self.function(query, memory)


def _energies(
  query: Array,
  keys: Array,
  energy: Array,
  coverage: tuple[Array, Array] | None = None,
) -> Array:
  """Returns vᵀ tanh(q + k + c w): [B, T, D], [B, S, D], [D] -> [B, T, S].

  A loop over the words of the target would keep tanh of all its steps for the backward
  pass, T arrays of [B, S, D], and another T of its derivative. Accelerators compute it
  again instead. On a CPU this takes longer than reading it.

  Args:
    query: W q.
    keys: U k + b.
    energy: v.
    coverage: c [B, T, S], and w [D].
  """

  def score(query, keys, energy, coverage):
    x = query[:, :, None] + keys[:, None]  # [B, T, S, D]
    if coverage is not None:
      x += coverage[0][..., None] * coverage[1]
    return matmul(jnp.tanh(x), energy)

  again = score if platform() == 'cpu' else jax.checkpoint(score)
  return again(query, keys, energy, coverage)


def _unit(x: Array) -> Array:
  wide = x.astype(jnp.float32)
  length = jax.lax.rsqrt((wide * wide).sum(axis=-1, keepdims=True) + 1e-6)
  return (wide * length).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class ScoreDomain:
  """The domain of an option that names a score: a `Score`, or a function."""

  kinds: ClassVar[Mapping[str, str]] = SCORES
  context: ClassVar[tuple[str, ...]] = ('width', 'dtype')  # set by the model

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError unless the value names a score and options that it takes."""
    if isinstance(value, str | Mapping):
      kind, _ = find(value, SCORES, name)
      is_module = _is_module(kind)
      domain = Piece(SCORES, self.context) if is_module else Function(SCORES)
      domain.check(name, value)


def looks_back(score: Specification | Callable) -> bool:
  """Returns whether a score depends on the weights of earlier steps."""
  kind, _ = _score_class(score, 'model.attention')
  return kind.looks_back


def make_score(
  score: Specification | Callable, where: str, width: int, dtype: jnp.dtype
) -> Score:
  """Makes a score; `where` is the option that names it, for messages."""
  kind, options = _score_class(score, where)
  return kind(**options, width=width, dtype=dtype)


def _score_class(
  score: Specification | Callable, where: str
) -> tuple[type[Score], dict[str, Any]]:
  """Returns the class of a score, of a plain function too, and its options."""
  named = isinstance(score, str | Mapping)
  kind, options = find(score, SCORES, where) if named else (score, {})
  if _is_module(kind):
    return kind, options
  function = bind(score, SCORES, where)[0] if named else kind
  return _Function, {'function': function}


def _is_module(kind: Callable) -> bool:
  return inspect.isclass(kind) and issubclass(kind, Score)


class Attention(nn.Module):
  """softmax(score(query, memory)) times the values, with one head or more.

  With one head queries, keys and values are used unchanged; with more, each head has
  separate projections to K = D / H, as in multi-head attention, and there are H scores.

  Attributes:
    score: a name of `layers.SCORES`, or a path to a `Score` or to a function, maybe with
      options; or the class or function itself.
    width: D.
    heads: H.
    dtype: dtype of the matrix products.
  """

  score: Any
  width: int
  heads: int = 1
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Makes the scores of all heads, and the heads' projections."""
    D, H = self.width, self.heads
    if D % H:
      raise ValueError(
        f'{H} heads do not divide a width of {D}: change model.attention_heads'
      )
    kind, options = _score_class(self.score, 'model.attention')
    # One score per head, each with its own weights.
    lift = {'in_axes': 1, 'out_axes': 1, 'axis_size': H}
    lift |= {'variable_axes': {'params': 0}, 'split_rngs': {'params': True}}
    lift |= {'metadata_params': {nn.PARTITION_NAME: None}}
    methods = {'__call__': lift, 'project': lift}
    sizes = dict(width=D // H, dtype=self.dtype)
    self.scores = nn.vmap(kind, methods=methods)(**options, **sizes)
    if H > 1:
      self.query, self.key, self.value, self.out = (
        _dense(D, self.dtype) for _ in range(4)
      )

  def project(self, states: Array) -> tuple[Array, Array]:
    """Returns keys and values [B, H, S, K] of encoder states [B, S, D].

    It is called once per sentence.
    """
    key, value = (
      (states, states) if self.heads == 1 else (self.key(states), self.value(states))
    )
    return self.scores.project(self._split(key)), self._split(value)

  def __call__(
    self,
    query: Array,  # [B, T, D]
    keys: Array,  # [B, H, S, K]
    values: Array,  # [B, H, S, K]
    *,
    mask: Array,  # [B, S] bool
    coverage: Array,  # [B, H, T, S]
    position: Array,  # [B, T] int32
  ) -> tuple[Array, Array]:  # [B, T, D], [B, H, T, S]
    """Returns contexts, and the attention weights."""
    B, H = keys.shape[:2]
    each = lambda x: jnp.broadcast_to(x[:, None], (B, H, *x.shape[1:]))  # noqa: E731
    memory = Source(keys, each(mask), coverage, each(position))
    query = self._split(query if H == 1 else self.query(query))  # [B, H, T, K]
    scores = self.scores(query, memory).astype(jnp.float32)  # [B, H, T, S]
    scores = jnp.where(mask[:, None, None], scores, -jnp.inf)
    # A row of padding has no token to attend to: its weights are zeros instead of NaN.
    weights = jnp.nan_to_num(jax.nn.softmax(scores), nan=0.0)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', weights)
    context = product('bhts,bhsk->bthk', weights.astype(self.dtype), values)
    context = context.reshape(*context.shape[:2], -1)  # [B, T, D]
    return context if H == 1 else self.out(context), weights

  def _split(self, x: Array) -> Array:
    """Splits the heads: [B, L, D] -> [B, H, L, K]."""
    return jnp.swapaxes(x.reshape(*x.shape[:2], self.heads, -1), 1, 2)
