"""The recurrent encoder-decoder, with any attention or with none."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab.domains import Count, Probability, Rate
from seqlab.layers.alignment import Attention, ScoreDomain, looks_back
from seqlab.layers.copying import mix_copies
from seqlab.layers.dropout import uniform
from seqlab.layers.products import dense_product
from seqlab.layers.recurrent import Carry, Gates, add
from seqlab.models.interface import (
  Packing,
  SamplingChoice,
  compute_dtype,
  own_tokens,
  shift_right,
  training_hyper,
)
from seqlab.models.recurrent_base import Drop, RecurrentBase, output_logits, repeated
from seqlab.types import Array


@struct.dataclass
class Memory:
  """The source as decoding sees it.

  Attributes:
    start: for each decoder layer, the state from which it starts, leaves [B, D].
    context: G of [B, D], what a fixed context gives to the first cell's gates at
      every step; None if it gives nothing.
    keys: [B, H, S, K], of the attention; None without one.
    values: [B, H, S, K].
    mask: [B, S] bool.
    source: [B, S] ids, of a model that copies them; else None.
  """

  start: tuple[Carry, ...]
  context: Gates | None
  keys: Array | None
  values: Array | None
  mask: Array
  source: Array | None = None


@struct.dataclass
class Seen:
  """What an output is made from, of any number of positions.

  Attributes:
    state: [..., D] of the last layer.
    context: [..., D]; None without attention.
    weights: [..., S] attention weights, of a model that copies; else None.
  """

  state: Array
  context: Array | None
  weights: Array | None


@struct.dataclass
class Output:
  """What a word is predicted from, of any number of positions.

  Attributes:
    hidden: [..., D], which gives the logits.
    gate: [...] float32, of a model that copies: logit of the probability that a word is
      generated, and not copied; else None.
    weights: [..., S] attention weights, of a model that copies; else None.
  """

  hidden: Array
  gate: Array | None = None
  weights: Array | None = None


@struct.dataclass
class State:
  """The state of the decoder between words.

  Attributes:
    cells: for each layer its carry, leaves [N, D].
    feed: [N, D] the last output, where it is fed back; else None.
    coverage: [N, H, S] attention so far; None without attention.
    position: [N] int32, words written.
  """

  cells: tuple[Carry, ...]
  feed: Array | None
  coverage: Array | None
  position: Array


class Recurrent(RecurrentBase):
  """Encoder and decoder of recurrent cells.

  Without attention the source is one vector, from which the decoder starts
  (Sutskever et al. 2014, https://arxiv.org/abs/1409.3215) and which it may see at
  every step (Cho et al. 2014, https://arxiv.org/abs/1406.1078). With attention it
  looks back at every word: before its cells move (Bahdanau et al. 2015,
  https://arxiv.org/abs/1409.0473) or after, with input feeding (Luong et al. 2015,
  https://arxiv.org/abs/1508.04025). The output of a step is tanh(W [state; context])
  in both placements.

  Attributes, besides those of `RecurrentBase`:
    attention: a score of `layers.SCORES`, such as 'additive' or
      dict(kind='local_monotonic', window=5), or a path to a score or function of your
      own; None for no attention.
    attention_heads: H.
    placement: attention is 'before' or 'after' the cells.
    input_feeding: with 'after', whether a step's output enters the next step.
    copy_source: whether a word may also be copied from the source, with the attention
      weights as probabilities; see `layers.copying`. It needs attention, of whose heads
      the mean is taken, and a vocabulary that both sides share. The probability g that a
      word is generated is a function of the decoder's state and the context; See et al.
      add the decoder's input, which here the state has read.
    sampling_unit: what hyper['scheduled_sampling'] draws for: each 'token' by itself
      (Bengio et al. 2015, https://arxiv.org/abs/1506.03099), or a 'sentence', all of
      whose tokens are then the true ones or the model's own (Lake and Baroni 2018,
      https://arxiv.org/abs/1711.00350).
    sampling_choice: the model's own token is drawn from its distribution, 'random', or
      its most probable one, 'argmax'.
  """

  attention: Annotated[Any, ScoreDomain()] | None = None
  attention_heads: Count = 1
  placement: Literal['before', 'after'] = 'after'
  input_feeding: bool = True
  copy_source: bool = False
  sampling_unit: Literal['token', 'sentence'] = 'token'
  sampling_choice: SamplingChoice = 'random'

  splits_rows: ClassVar[bool] = True
  hyper_names: ClassVar = {
    'dropout': Rate | None,
    'scheduled_sampling': Probability | None,
  }

  def setup(self) -> None:
    """Makes embeddings, cells and attention."""
    super().setup()
    D, dtype = self.width, compute_dtype(self.dtype)
    if self.attention:
      self.attend = Attention(self.attention, D, self.attention_heads, dtype)
      self.decoder_output = self._dense(D)
    if self.copy_source:
      logical = nn.with_logical_partitioning
      self.decoder_gate = nn.Dense(
        1,
        dtype=dtype,
        dot_general=dense_product,
        kernel_init=logical(nn.initializers.xavier_uniform(), ('embed', None)),
        bias_init=logical(nn.initializers.zeros, (None,)),
      )

  @property
  def is_mixture(self) -> bool:
    """Whether a word's distribution is not a softmax; see `interface.Seq2Seq`."""
    return self.copy_source

  def __call__(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> Array:
    """Returns logits: [B, S], [B, T] -> [B, T, V]; see `models.interface.Seq2Seq`.

    Those of a model that copies are log-probabilities.
    """
    output = self._read(source, target, train=train, hyper=hyper, packing=packing)
    return self._predict(output, source)

  def features(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> tuple[Array, Array]:
    """Returns the factors of the logits: outputs [B, T, D] and output weights [V, D].

    In training, hyper['scheduled_sampling'] is the probability that a token read is
    the model's own instead of the true one: 0 is teacher forcing, 1 is free running.
    No gradient flows through the choice of a token. `sampling_unit` and
    `sampling_choice` have the details.

    Raises:
      ValueError: the model copies, so that its distribution has no such factors.
    """
    if self.copy_source:
      raise ValueError(
        'with model.copy_source=True a word may be copied, and its probability is no '
        'softmax of factors: call the model itself, which returns log-probabilities'
      )
    output = self._read(source, target, train=train, hyper=hyper, packing=packing)
    return output.hidden, self._table

  def _read(
    self,
    source: Array,
    target: Array,
    *,
    train: bool,
    hyper: Mapping[str, Array] | None,
    packing: Packing | None,
  ) -> Output:
    """Returns the outputs of all positions, [B, T, ...]."""
    if packing is not None:
      raise ValueError(
        "a recurrent model reads one sentence per row: set batching.kind='buckets'"
      )
    hyper = training_hyper(hyper, self.hyper_names, train=train)
    rate, sampling_rate = hyper.get('dropout'), hyper.get('scheduled_sampling')
    memory = self._encode(source, rate)
    state = self._start(memory, len(source))
    words = shift_right(target).T  # [T, B]
    if sampling_rate is None:
      output = self._forced(state, words, memory, rate)
    else:
      output = self._sampled(state, words, memory, rate, sampling_rate)
    output = _swapped(output)  # [B, T, ...]
    return output.replace(hidden=self.drop(output.hidden, rate))

  def encode(self, source: Array) -> Memory:
    """Returns the encoder's last state, and keys and values of its states."""
    return self._encode(source, None)

  def start(self, memory: Memory, rows: int, max_len: int) -> State:
    """Returns the state before the first word, for `rows` hypotheses."""
    del max_len
    return self._start(memory, rows)

  def step(self, memory: Memory, cache: State, token: Array) -> tuple[State, Array]:
    """Reads one word per hypothesis: [N] -> the next state, logits [N, V]."""
    keep = self._dropper(None)
    state, output = self._advance(cache, self._gates(token, keep), memory, keep)
    return state, self._predict_next(output, memory)

  def step_attending(
    self, memory: Memory, cache: State, token: Array
  ) -> tuple[State, Array, Array]:
    """As `step`, with the attention [N, S], the mean over heads; there must be some."""
    state, logits = self.step(memory, cache, token)
    return state, logits, (state.coverage - cache.coverage).mean(axis=1)

  @staticmethod
  def weights_of(sown: Mapping) -> dict[str, Array]:
    """See `models.interface.attention_weights`."""
    (weights,) = sown['attend']['weights']
    if weights.ndim == 5:  # [T, B, H, 1, S], computed step by step
      weights = jnp.moveaxis(weights[:, :, :, 0], 0, 2)
    return {'cross': weights[None]}  # [1, B, H, T, S]

  def _check(self) -> None:
    super()._check()
    if not self.copy_source:
      return
    if not self.attention:
      raise ValueError(
        'model.copy_source=True copies words by their attention weights, and there is no '
        "attention: set model.attention, for example to 'additive'"
      )
    if self.source_size != self.target_size:
      raise ValueError(
        'model.copy_source=True needs one vocabulary for both languages, and these have '
        f'{self.source_size} and {self.target_size} words: set vocabulary.shared=True'
      )

  def _predict(self, output: Output, source: Array | None) -> Array:
    """Returns logits, or the log-probabilities of a model that copies: [B, T, V]."""
    logits = output_logits(output.hidden, self._table)
    if not self.copy_source:
      return logits
    return mix_copies(logits, output.gate, output.weights, source)

  def _predict_next(self, output: Output, memory: Memory) -> Array:
    """As `_predict`, of the next word of each hypothesis: [N, V]."""
    if not self.copy_source:
      return output_logits(output.hidden, self._table)
    source = repeated(memory.source, len(output.hidden))  # [N, S]
    one_position = jax.tree.map(lambda x: x[:, None], output)
    return self._predict(one_position, source)[:, 0]

  @property
  def _feeds(self) -> bool:
    """Whether something besides the word enters the first cell."""
    if not self.attention:
      return self.context == 'always'
    return self.placement == 'before' or self.input_feeding

  @property
  def _loops(self) -> bool:
    """Whether attention must be taken step by step, even if all words are known."""
    return bool(self.attention) and (self._feeds or looks_back(self.attention))

  def _encode(self, source: Array, rate: Array | None) -> Memory:
    states, start, mask = self._read_source(source, rate)
    context = keys = values = None
    if self.attention:
      keys, values = self.attend.project(states)
    elif self._feeds:
      context = self._feed(start[-1][0])
    copied = source if self.copy_source else None
    return Memory(start, context, keys, values, mask, copied)

  def _start(self, memory: Memory, rows: int) -> State:
    cells = repeated(memory.start, rows)
    S, feed, coverage = memory.mask.shape[1], None, None
    if self.attention:
      coverage = jnp.zeros((rows, self.attention_heads, S), jnp.float32)
      if self.placement == 'after' and self.input_feeding:
        feed = jnp.zeros_like(cells[0][0])
    return State(cells, feed, coverage, jnp.zeros(rows, jnp.int32))

  def _forced(
    self, state: State, words: Array, memory: Memory, rate: Array | None
  ) -> Output:
    """Reads known words: [T, B] -> outputs [T, B, ...]."""
    if not self._loops:
      return self._at_once(state, words, memory, self._dropper(rate))
    gates = self._gates(words, self._dropper(rate))  # G of [T, B, D]
    if state.feed is not None:

      def advance(
        model: 'Recurrent', state: State, gates: Gates
      ) -> tuple[State, Output]:
        return model._advance(state, gates, memory, model._dropper(rate))

      return _scan(advance)(self, state, gates)[1]

    def see(model: 'Recurrent', state: State, gates: Gates) -> tuple[State, Seen]:
      return model._see(state, gates, memory, model._dropper(rate))

    # No step reads an output, so that those of all steps are one product.
    return self._output(_scan(see)(self, state, gates)[1])

  def _at_once(self, state: State, words: Array, memory: Memory, drop: Drop) -> Output:
    """As `_forced`, layer by layer, where no step needs an attention before it."""
    gates = self._gates(words, drop)  # G of [T, B, D]
    x = self._run(state.cells, gates, memory.context, drop)  # [T, B, D]
    if not self.attention:
      return Output(x)
    x = jnp.swapaxes(x, 0, 1)  # [B, T, D]
    B, T, _ = x.shape
    position = jnp.broadcast_to(jnp.arange(T), (B, T))
    # No score reads it here: those that do need a loop over steps, see `_loops`.
    no_coverage = jnp.zeros((B, self.attention_heads, T, memory.mask.shape[1]))
    context, weights = self.attend(
      x,
      memory.keys,
      memory.values,
      mask=memory.mask,
      coverage=no_coverage,
      position=position,
    )
    return _swapped(self._output(Seen(x, context, self._mean_of_heads(weights))))

  def _sampled(
    self,
    state: State,
    words: Array,
    memory: Memory,
    rate: Array | None,
    sampling_rate: Array,
  ) -> Output:
    """Reads true tokens or the model's own ones: [T, B] -> outputs [T, B, ...]."""
    T, B = words.shape
    shape = (T, B) if self.sampling_unit == 'token' else (1, B)
    own = uniform(self.make_rng('dropout'), shape, rows=1) < sampling_rate
    own = jnp.broadcast_to(own, words.shape).at[0].set(False)  # [0] has no predecessor

    factors = None
    if rate is not None:
      ones = jnp.ones((T, B, self.width))
      factors = [self.drop(ones, rate, rows=1) for _ in range(self.layers)]

    def body(model: 'Recurrent', carry: tuple, at: tuple) -> tuple[tuple, tuple]:
      (state, guess), (true, own, factors) = carry, at
      word = jnp.where(own, guess, true)
      drop = _multiply(factors)
      state, output = model._advance(state, model._gates(word, drop), memory, drop)
      guess = model._own_token(output, memory)
      if not self._loops:  # only the words are needed
        state, output = jax.lax.stop_gradient(state), None
      return (state, guess), (word, output)

    words, output = _scan(body)(self, (state, words[0]), (words, own, factors))[1]
    if self._loops:
      return output
    # The loop's outputs again, but faster: all gradients of a weight are one product.
    return self._at_once(state, words, memory, _multiply(factors))

  def _own_token(self, output: Output, memory: Memory) -> Array:
    """Returns the model's choice of the next token, [N] int32, without a gradient."""
    logits = self._predict_next(jax.lax.stop_gradient(output), memory)  # [N, V]
    random = self.sampling_choice == 'random'
    return own_tokens(logits, self.make_rng('dropout') if random else None)

  def _advance(
    self, state: State, gates: Gates, memory: Memory, drop: Drop
  ) -> tuple[State, Output]:
    """Takes a step of every row: state, G of [N, D] -> next state, outputs [N, ...]."""
    state, seen = self._see(state, gates, memory, drop)
    output = self._output(seen)
    if state.feed is not None:
      state = state.replace(feed=output.hidden)
    return state, output

  def _see(
    self, state: State, gates: Gates, memory: Memory, drop: Drop
  ) -> tuple[State, Seen]:
    """Takes a step without its output, which the state that is returned lacks."""
    weights = context = None
    if memory.context is not None:
      gates = add(gates, repeated(memory.context, len(gates[0])))
    if self.attention and self.placement == 'before':
      context, weights = self._look(state.cells[-1][0], state, memory)
      gates = add(gates, self._feed(context))
    elif state.feed is not None:
      gates = add(gates, self._feed(state.feed))

    cells, x = self._move(state.cells, gates, drop)
    if self.attention and self.placement == 'after':
      context, weights = self._look(x, state, memory)
    state = state.replace(
      cells=cells,
      coverage=None if weights is None else state.coverage + weights,
      position=state.position + 1,
    )
    return state, Seen(x, context, self._mean_of_heads(weights))

  def _look(self, query: Array, state: State, memory: Memory) -> tuple[Array, Array]:
    """Attends from [N, D]: contexts [N, D] and weights [N, H, S]."""
    N, B = len(query), len(memory.mask)
    # Hypotheses become query positions, so that the memory need not be repeated.
    coverage = state.coverage.reshape(B, N // B, *state.coverage.shape[1:])
    context, weights = self.attend(
      query.reshape(B, N // B, -1),
      memory.keys,
      memory.values,
      mask=memory.mask,
      coverage=jnp.swapaxes(coverage, 1, 2),  # [B, H, M, S]
      position=state.position.reshape(B, N // B),
    )
    weights = jnp.swapaxes(weights, 1, 2)  # [B, M, H, S]
    return context.reshape(N, -1), weights.reshape(state.coverage.shape)

  def _mean_of_heads(self, weights: Array | None) -> Array | None:
    """Returns the weights with which a model copies: [N, H, ...] -> [N, ...]."""
    return weights.mean(axis=1) if self.copy_source else None

  def _output(self, seen: Seen) -> Output:
    """Returns tanh(W [state; context]), and what a model that copies needs."""
    if seen.context is None:
      return Output(seen.state)
    both = jnp.concatenate([seen.state, seen.context], axis=-1)
    hidden = jnp.tanh(self.decoder_output(both))
    if not self.copy_source:
      return Output(hidden)
    gate = self.decoder_gate(both)[..., 0].astype(jnp.float32)
    return Output(hidden, gate, seen.weights)


def _swapped(output: Output) -> Output:
  """Exchanges the axes of positions and rows."""
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), output)


def _multiply(factors: list[Array] | None) -> Drop:
  """Returns dropout by factors that are known, one array per layer; None drops nothing."""
  if factors is None:
    return lambda x, layer: x
  return lambda x, layer: x * factors[layer].astype(x.dtype)


def _scan(body: Any) -> Any:
  """Scans `body` over the first axis, with the same weights in every step."""
  return nn.scan(
    body,
    variable_broadcast='params',
    variable_axes={'intermediates': 0},
    split_rngs={'params': False, 'dropout': True},
  )
