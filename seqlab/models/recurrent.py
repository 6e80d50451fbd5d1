"""The recurrent encoder-decoder, with any attention or with none."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.domains import Count, Probability, Rate
from seqlab.layers.alignment import Attention, ScoreDomain, looks_back
from seqlab.layers.dropout import Dropout
from seqlab.layers.embedding import Embedding
from seqlab.layers.products import dense_product, product
from seqlab.layers.recurrent import CELLS, Carry, Cell, Encoder, Gates, add, split
from seqlab.models.interface import (
  Packing,
  compute_dtype,
  shift_right,
  training_hyper,
)
from seqlab.pieces import Piece, Specification, make
from seqlab.types import PAD, Array

# The context of a cell is what the model sets, and an experiment cannot.
_CELL = Piece(CELLS, context=('width', 'layer_norm', 'dtype'), base=Cell)


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
  """

  start: tuple[Carry, ...]
  context: Gates | None
  keys: Array | None
  values: Array | None
  mask: Array


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


class Recurrent(nn.Module):
  """Encoder and decoder of recurrent cells.

  Without attention the source is one vector, from which the decoder starts
  (Sutskever et al. 2014, https://arxiv.org/abs/1409.3215) and which it may see at
  every step (Cho et al. 2014, https://arxiv.org/abs/1406.1078). With attention it
  looks back at every word: before its cells move (Bahdanau et al. 2015,
  https://arxiv.org/abs/1409.0473) or after, with input feeding (Luong et al. 2015,
  https://arxiv.org/abs/1508.04025). The output of a step is tanh(W [state; context])
  in both placements.

  Attributes:
    source_size: words in the source vocabulary.
    target_size: words in the target vocabulary, V.
    width: D, width of embeddings, states and attention.
    layers: number of layers of the encoder, and of the decoder.
    cell: a piece of `layers.recurrent.CELLS`: 'rnn', 'gru' or 'lstm', or
      dict(kind='lstm', forget_bias=0.0).
    layer_norm: normalise inside the cells.
    bidirectional: whether the encoder reads from both ends, each with D / 2 units.
    context: without attention, the decoder sees the source's last state at its
      'start' only, or 'always'.
    attention: a score of `layers.SCORES`, such as 'additive' or
      dict(kind='local_monotonic', window=5), or a path to a score or function of your
      own; None for no attention.
    attention_heads: H.
    placement: attention is 'before' or 'after' the cells.
    input_feeding: with 'after', whether a step's output enters the next step.
    tie: 'all', 'decoder' or 'none'; see `models.transformer.Transformer`.
    dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the device has it. A search
      with a width below 256 computes in float32 on a CPU; `--dtype`, `evals.x.dtype` or
      SEQLAB_CPU_DTYPE decides otherwise.
  """

  source_size: int
  target_size: int
  width: Count = 512
  layers: Count = 1
  cell: Annotated[Specification, _CELL] = 'lstm'
  layer_norm: bool = False
  bidirectional: bool = True
  context: Literal['start', 'always'] = 'start'
  attention: Annotated[Any, ScoreDomain()] | None = None
  attention_heads: Count = 1
  placement: Literal['before', 'after'] = 'after'
  input_feeding: bool = True
  tie: Literal['all', 'decoder', 'none'] = 'all'
  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'

  splits_rows: ClassVar[bool] = True
  hyper_names: ClassVar = {
    'dropout': Rate | None,
    'scheduled_sampling': Probability | None,
  }

  def setup(self) -> None:
    """Makes embeddings, cells and attention."""
    self._check()
    V, D, dtype = self.target_size, self.width, compute_dtype(self.dtype)
    self.target_embedding = Embedding(V, D, dtype)
    if self.tie != 'all':
      self.source_embedding = Embedding(self.source_size, D, dtype)
    if self.tie == 'none':
      self.output_embedding = Embedding(V, D, dtype)
    self.encoder = Encoder(self._cell, D, self.layers, self.bidirectional)
    self.decoder_cells = [self._cell(D) for _ in range(self.layers)]
    if self.attention:
      self.attend = Attention(self.attention, D, self.attention_heads, dtype)
      self.decoder_output = self._dense(D)
    if self._feeds:
      self.decoder_feed = self._dense(self.decoder_cells[0].gates * D)
    self.drop = Dropout()

  def __call__(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> Array:
    """Returns logits: [B, S], [B, T] -> [B, T, V]; see `models.interface.Seq2Seq`."""
    hidden, table = self.features(
      source, target, train=train, hyper=hyper, packing=packing
    )
    return _logits(hidden, table)

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

    In training, hyper['scheduled_sampling'] is the chance that a word read is the
    model's own instead of the true one (Bengio et al. 2015,
    https://arxiv.org/abs/1506.03099): 0 is teacher forcing, 1 runs freely.
    """
    if packing is not None:
      raise ValueError(
        "a recurrent model reads one sentence per row: set batching.kind='buckets'"
      )
    hyper = training_hyper(hyper, self.hyper_names, train=train)
    rate, sampling_rate = hyper.get('dropout'), hyper.get('scheduled_sampling')
    memory = self._encode(source, rate)
    state = self._start(memory, len(source))
    words = shift_right(target).T  # [T, B]
    if sampling_rate is not None:
      hidden = self._sampled(state, words, memory, rate, sampling_rate)
    else:
      gates = self._gates(words, rate)  # G of [T, B, D]
      hidden = self._forced(state, gates, memory, rate)
    hidden = self.drop(jnp.swapaxes(hidden, 0, 1), rate)  # [B, T, D]
    return hidden, self._table

  def encode(self, source: Array) -> Memory:
    """Returns the encoder's last state, and keys and values of its states."""
    return self._encode(source, None)

  def start(self, memory: Memory, rows: int, max_len: int) -> State:
    """Returns the state before the first word, for `rows` hypotheses."""
    del max_len
    return self._start(memory, rows)

  def step(self, memory: Memory, cache: State, token: Array) -> tuple[State, Array]:
    """Reads one word per hypothesis: [N] -> the next state, logits [N, V]."""
    state, hidden = self._advance(cache, self._gates(token, None), memory, None)
    return state, _logits(hidden, self._table)

  @staticmethod
  def weights_of(sown: Mapping) -> dict[str, Array]:
    """See `models.interface.attention_weights`."""
    (weights,) = sown['attend']['weights']
    if weights.ndim == 5:  # [T, B, H, 1, S], computed step by step
      weights = jnp.moveaxis(weights[:, :, :, 0], 0, 2)
    return {'cross': weights[None]}  # [1, B, H, T, S]

  def _check(self) -> None:
    domains.check_fields(self, 'model.')
    if self.tie == 'all' and self.source_size != self.target_size:
      raise ValueError(
        f"model.tie='all' needs one vocabulary for both languages, and these have "
        f'{self.source_size} and {self.target_size} words: set vocabulary.shared=True '
        f"or model.tie='decoder'"
      )

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

  @property
  def _cell(self) -> Callable[[int], Cell]:
    dtype = compute_dtype(self.dtype)
    return lambda width: make(
      self.cell,
      CELLS,
      'model.cell',
      width=width,
      layer_norm=self.layer_norm,
      dtype=dtype,
    )

  def _dense(self, width: int) -> nn.Dense:
    kernel = nn.with_logical_partitioning(
      nn.initializers.xavier_uniform(), ('embed', 'gates')
    )
    dtype = compute_dtype(self.dtype)
    return nn.Dense(
      width,
      use_bias=False,
      dtype=dtype,
      dot_general=dense_product,
      kernel_init=kernel,
    )

  @property
  def _table(self) -> Array:
    last = self.output_embedding if self.tie == 'none' else self.target_embedding
    return last.table

  def _encode(self, source: Array, rate: Array | None) -> Memory:
    table = self.target_embedding if self.tie == 'all' else self.source_embedding
    mask = source != PAD  # [B, S]
    x = self.drop(table(source), rate)  # [B, S, D]
    states, start = self.encoder(x, mask, lambda x: self.drop(x, rate, rows=1))
    context = keys = values = None
    if self.attention:
      keys, values = self.attend.project(states)
    elif self._feeds:
      context = self._feed(start[-1][0])
    return Memory(start, context, keys, values, mask)

  def _start(self, memory: Memory, rows: int) -> State:
    repeat = rows // len(memory.mask)
    cells = jax.tree.map(lambda x: jnp.repeat(x, repeat, axis=0), memory.start)
    S, feed, coverage = memory.mask.shape[1], None, None
    if self.attention:
      coverage = jnp.zeros((rows, self.attention_heads, S), jnp.float32)
      if self.placement == 'after' and self.input_feeding:
        feed = jnp.zeros_like(cells[0][0])
    return State(cells, feed, coverage, jnp.zeros(rows, jnp.int32))

  def _feed(self, x: Array) -> Gates:
    """Returns the part of the first cell's gates that does not depend on the word."""
    return split(self.decoder_feed(x), self.decoder_cells[0].gates)

  def _gates(self, words: Array, rate: Array | None) -> Gates:
    """Returns the words' part of the first cell's gates: [...] -> G of [..., D]."""
    x = self.drop(self.target_embedding(words), rate, rows=words.ndim - 1)
    return self.decoder_cells[0].project(x)

  def _forced(
    self, state: State, gates: Gates, memory: Memory, rate: Array | None
  ) -> Array:
    """Reads the true words: gates G of [T, B, D] -> outputs [T, B, D]."""
    if self._loops:

      def body(model: 'Recurrent', state: State, gates: Gates) -> tuple[State, Array]:
        return model._advance(state, gates, memory, rate)

      return _scan(body)(self, state, gates)[1]
    if memory.context is not None:
      gates = add(gates, memory.context)
    x = None
    for i, (cell, carry) in enumerate(
      zip(self.decoder_cells, state.cells, strict=True)
    ):
      gates = cell.project(self.drop(x, rate, rows=1)) if i else gates
      _, out = cell.run(carry, gates)  # [T, B, D]
      x = x + out if i else out
    if not self.attention:
      return x
    x = jnp.swapaxes(x, 0, 1)  # [B, T, D]
    B, T, _ = x.shape
    position = jnp.broadcast_to(jnp.arange(T), (B, T))
    # No score reads it here: those that do need a loop over steps, see `_loops`.
    no_coverage = jnp.zeros((B, self.attention_heads, T, memory.mask.shape[1]))
    context, _ = self.attend(
      x,
      memory.keys,
      memory.values,
      mask=memory.mask,
      coverage=no_coverage,
      position=position,
    )
    return jnp.swapaxes(self._output(x, context), 0, 1)

  def _sampled(
    self,
    state: State,
    words: Array,
    memory: Memory,
    rate: Array | None,
    sampling_rate: Array,
  ) -> Array:
    """Reads true words or the model's samples: [T, B] -> outputs [T, B, D]."""

    def body(model: 'Recurrent', carry: tuple, true: Array) -> tuple[tuple, Array]:
      state, guess = carry
      draw = jax.random.bernoulli(model.make_rng('dropout'), sampling_rate, true.shape)
      word = jnp.where(draw & (state.position > 0), guess, true)
      gates = model._gates(word, rate)
      state, hidden = model._advance(state, gates, memory, rate)
      guess = jax.random.categorical(
        model.make_rng('dropout'), _logits(hidden, model._table)
      )
      return (state, guess.astype(true.dtype)), hidden

    return _scan(body)(self, (state, words[0]), words)[1]

  def _advance(
    self, state: State, gates: Gates, memory: Memory, rate: Array | None
  ) -> tuple[State, Array]:
    """Takes a step of every row: state, G of [N, D] -> next state, outputs [N, D]."""
    weights = context = None
    if memory.context is not None:
      repeat = len(gates[0]) // len(memory.mask)
      gates = add(gates, tuple(jnp.repeat(x, repeat, axis=0) for x in memory.context))
    if self.attention and self.placement == 'before':
      context, weights = self._look(state.cells[-1][0], state, memory)
      gates = add(gates, self._feed(context))
    elif state.feed is not None:
      gates = add(gates, self._feed(state.feed))

    x, cells = None, []
    for i, (cell, carry) in enumerate(
      zip(self.decoder_cells, state.cells, strict=True)
    ):
      gates = cell.project(self.drop(x, rate)) if i else gates
      cells.append(cell(carry, gates))
      x = x + cells[-1][0] if i else cells[-1][0]  # [N, D]

    if self.attention and self.placement == 'after':
      context, weights = self._look(x, state, memory)
    hidden = x if context is None else self._output(x, context)
    state = State(
      cells=tuple(cells),
      feed=None if state.feed is None else hidden,
      coverage=None if weights is None else state.coverage + weights,
      position=state.position + 1,
    )
    return state, hidden

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

  def _output(self, state: Array, context: Array) -> Array:
    """Returns tanh(W [state; context]): two of [..., D] -> [..., D]."""
    return jnp.tanh(self.decoder_output(jnp.concatenate([state, context], axis=-1)))


def _scan(body: Any) -> Any:
  """Scans `body` over the first axis, with the same weights in every step."""
  return nn.scan(
    body,
    variable_broadcast='params',
    variable_axes={'intermediates': 0},
    split_rngs={'params': False, 'dropout': True},
  )


def _logits(hidden: Array, table: Array) -> Array:
  rows = 'bt'[: hidden.ndim - 1]
  table = table.astype(hidden.dtype)
  return product(f'{rows}d,vd->{rows}v', hidden, table, jnp.float32)
