"""A recurrent encoder-decoder with hard attention, trained by the exact marginal."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from flax import struct
import jax
import jax.numpy as jnp

from seqlab.domains import Rate
from seqlab.layers import TRANSITIONS
from seqlab.layers.alignment import ScoreDomain, Source, make_score
from seqlab.layers.hard_alignment import NEVER, Transition, initial, observe, predict
from seqlab.layers.products import product
from seqlab.layers.recurrent import Carry, Gates, add
from seqlab.models.interface import (
  Packing,
  compute_dtype,
  shift_right,
  training_hyper,
)
from seqlab.models.recurrent_base import RecurrentBase, output_logits, repeated
from seqlab.pieces import Function, Specification, bind
from seqlab.types import Array


@struct.dataclass
class Memory:
  """The source as decoding sees it.

  Attributes:
    start: for each decoder layer, the state from which it starts, leaves [B, D].
    context: G of [B, D], added to the first cell's gates at every step; None for nothing.
    keys: [B, S, D], of the score.
    values: [B, S, D], the part of the output that depends on the position.
    mask: [B, S] bool.
  """

  start: tuple[Carry, ...]
  context: Gates | None
  keys: Array
  values: Array
  mask: Array


@struct.dataclass
class State:
  """The state of the decoder between words.

  Attributes:
    cells: for each layer its carry, leaves [N, D].
    query: [N, D] the decoder's last state.
    predicted: [N, S] log p(a_t | y_{<t}) of the last word, less the logarithm of the sum
      over the vocabulary at each position: only the logit of the word that was chosen is
      then missing, see `HardAttention.step`.
    position: [N] int32, words written.
  """

  cells: tuple[Carry, ...]
  query: Array
  predicted: Array
  position: Array


class HardAttention(RecurrentBase):
  """Each target word is aligned with one position of the source, a latent variable.

  p(y_t | y_{<t}) is the sum over positions s of p(a_t = s | y_{<t}) p(y_t | a_t = s,
  y_{<t}), and their product over t is the exact sum over all alignments; see
  `layers.hard_alignment`. p(y_t | a_t = s) is the softmax of E tanh(W h_t + U e_s), with
  the state h_t of a decoder that reads words only, and the state e_s of the encoder.

  Wu and Cotterell start the decoder from zeros and give it the features of an inflection
  at every step. Here it starts from the encoder's last states, as in `Recurrent`, which
  know the features of a source; `context='always'` gives them at every step.

  Memory in training grows with B T S (V + D): it is meant for vocabularies of characters
  and symbols.

  Attributes, besides those of `RecurrentBase`:
    score: score of a position, of `layers.SCORES`, or a path to a score or function; not
      one that reads the weights of earlier steps.
    transition: a function of `layers.TRANSITIONS`: 'monotone', by which an alignment never
      goes back, or 'independent', by which it does not depend on the word before; or a
      path to a function of your own.
  """

  score: Annotated[Any, ScoreDomain()] = 'general'
  transition: Annotated[Specification, Function(TRANSITIONS)] = 'monotone'

  is_mixture: ClassVar[bool] = True
  splits_rows: ClassVar[bool] = True
  hyper_names: ClassVar = {'dropout': Rate | None}

  def setup(self) -> None:
    """Makes embeddings, cells, the score and the output."""
    super().setup()
    self.align = make_score(self.score, 'model.score', self.width, self._dtype)
    if self.align.looks_back:
      raise ValueError(
        f'model.score={self.score!r} reads the attention of earlier steps, and hard '
        "attention has none: use another of layers.SCORES, such as 'additive'"
      )
    self.decoder_output = self._dense(self.width)
    self.source_output = self._dense(self.width)

  def __call__(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> Array:
    """Returns log p(y_t | y_{<t}): [B, S], [B, T] -> [B, T, V]; see `Seq2Seq`."""
    scores, logits = self.potentials(
      source, target, train=train, hyper=hyper, packing=packing
    )
    log_z = jax.nn.logsumexp(logits, axis=-1)  # [B, T, S]
    chosen = jnp.take_along_axis(logits, target[:, :, None, None], axis=-1)[..., 0]
    by_word = (jnp.swapaxes(x, 0, 1) for x in (scores, chosen - log_z))
    predicted = jnp.swapaxes(predict(self._transition, *by_word), 0, 1)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', jnp.exp(predicted))
    return _mixture(predicted - log_z, logits)

  def potentials(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> tuple[Array, Array]:
    """Returns scores of positions [B, T, S], logits of words at each [B, T, S, V]."""
    if packing is not None:
      raise ValueError(
        "a recurrent model reads one sentence per row: set batching.kind='buckets'"
      )
    rate = training_hyper(hyper, self.hyper_names, train=train).get('dropout')
    memory = self._encode(source, rate)
    drop = self._dropper(rate)
    gates = self._gates(shift_right(target).T, drop)  # G of [T, B, D]
    states = self._run(memory.start, gates, memory.context, drop)
    states = jnp.swapaxes(self.drop(states, rate, rows=1), 0, 1)  # [B, T, D]
    B, T, _ = states.shape
    position = jnp.broadcast_to(jnp.arange(T), (B, T))
    scores = self._scores(states, memory, position)
    return scores, output_logits(self._outputs(states, memory), self._table)

  def encode(self, source: Array) -> Memory:
    """Returns the encoder's last state, and keys and values of its states."""
    return self._encode(source, None)

  def start(self, memory: Memory, rows: int, max_len: int) -> State:
    """Returns the state before the first word, for `rows` hypotheses."""
    del max_len
    cells = repeated(memory.start, rows)
    return State(
      cells=cells,
      query=jnp.zeros_like(cells[-1][0]),
      predicted=initial(rows, memory.mask.shape[1]),
      position=jnp.zeros(rows, jnp.int32),
    )

  def step(self, memory: Memory, cache: State, token: Array) -> tuple[State, Array]:
    """Reads one word per hypothesis: [N] -> the next state, log p [N, V]."""
    N, B = len(token), len(memory.mask)
    # Hypotheses become positions of the target, so that the memory need not be repeated.
    each = lambda x: x.reshape(B, N // B, *x.shape[1:])  # noqa: E731
    rows = lambda x: x.reshape(N, *x.shape[2:])  # noqa: E731
    # At first this adds something to the logarithm of one and those of zeros.
    outputs = rows(self._outputs(each(cache.query), memory))  # [N, S, D]
    vectors = self._table[token].astype(outputs.dtype)  # [N, D]
    chosen = product('nsd,nd->ns', outputs, vectors, jnp.float32)
    past = observe(cache.predicted, chosen)

    keep = self._dropper(None)
    gates = self._gates(token, keep)
    if memory.context is not None:
      gates = add(gates, repeated(memory.context, N))
    cells, query = self._move(cache.cells, gates, keep)
    scores = rows(self._scores(each(query), memory, each(cache.position)))
    predicted = self._transition(past, scores)
    outputs = rows(self._outputs(each(query), memory))
    logits = output_logits(outputs, self._table)  # [N, S, V]
    weights = predicted - jax.nn.logsumexp(logits, axis=-1)
    state = State(cells, query, weights, cache.position + 1)
    return state, _mixture(weights, logits)

  @staticmethod
  def weights_of(sown: Mapping) -> dict[str, Array]:
    """Returns p(a_t | y_{<t}); see `models.interface.attention_weights`."""
    (weights,) = sown['weights']  # [B, T, S]
    return {'cross': weights[None, :, None]}  # [1, B, 1, T, S]

  @property
  def _dtype(self) -> jnp.dtype:
    return compute_dtype(self.dtype)

  @property
  def _transition(self) -> Transition:
    return bind(self.transition, TRANSITIONS, 'model.transition')[0]

  def _encode(self, source: Array, rate: Array | None) -> Memory:
    states, start, mask = self._read_source(source, rate)
    context = self._feed(start[-1][0]) if self._feeds else None
    keys, values = self.align.project(states), self.source_output(states)
    return Memory(start, context, keys, values, mask)

  def _scores(self, states: Array, memory: Memory, position: Array) -> Array:
    """Returns scores: states [B, L, D] and their positions [B, L] -> [B, L, S]."""
    # No score reads the coverage here, see `setup`.
    coverage = jnp.zeros((*position.shape, memory.mask.shape[1]))
    source = Source(memory.keys, memory.mask, coverage, position)
    scores = self.align(states, source).astype(jnp.float32)
    return jnp.where(memory.mask[:, None], jnp.maximum(scores, NEVER), NEVER)

  def _outputs(self, states: Array, memory: Memory) -> Array:
    """Returns tanh(W h + U e): states [B, L, D] -> [B, L, S, D]."""
    h = self.decoder_output(states)
    return jnp.tanh(h[:, :, None] + memory.values[:, None])


def _mixture(weights: Array, logits: Array) -> Array:
  """Sums over positions: log weights [..., S], logits [..., S, V] -> [..., V]."""
  return jax.nn.logsumexp(weights[..., None] + logits, axis=-2)
