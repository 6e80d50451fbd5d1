"""A recurrent language model: a stack of cells over text of one side."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.domains import Count, Rate
from seqlab.layers.dropout import Dropout
from seqlab.layers.embedding import Embedding
from seqlab.layers.products import product
from seqlab.layers.recurrent import CELLS, Carry, Cell
from seqlab.models.interface import (
  TextPacking,
  compute_dtype,
  predecessors,
  training_hyper,
)
from seqlab.pieces import Piece, Specification, make
from seqlab.types import Array

# The context of a cell is what the model sets, and an experiment cannot.
_CELL = Piece(CELLS, context=('width', 'layer_norm', 'dtype'), base=Cell)

State = tuple[Carry, ...]  # the carry of each layer, leaves [B, D]


class RecurrentLM(nn.Module):
  """Cells that predict the next token; see `models.interface.LanguageModel`.

  Mikolov et al., "Recurrent neural network based language model", 2010; dropout at the
  inputs of all layers and at the output, as in Zaremba et al., "Recurrent Neural Network
  Regularization", 2014, https://arxiv.org/abs/1409.2329. From the second layer on, a
  layer's input is added to its output (Wu et al. 2016, section 3.1,
  https://arxiv.org/abs/1609.08144).

  Attributes:
    size: words in the vocabulary, V.
    width: D, width of embeddings and states.
    layers: number of layers.
    cell: a piece of `layers.recurrent.CELLS`: 'rnn', 'gru', 'lstm', 'stack_rnn', or
      dict(kind='lstm', forget_bias=0.0).
    layer_norm: normalise inside the cells.
    tie: whether input and output embeddings share one table.
    dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the device has it; see
      `models.recurrent.Recurrent`.
  """

  size: int
  width: Count = 512
  layers: Count = 1
  cell: Annotated[Specification, _CELL] = 'lstm'
  layer_norm: bool = False
  tie: bool = True
  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'

  splits_rows: ClassVar[bool] = True
  hyper_names: ClassVar = {'dropout': Rate | None}

  def setup(self) -> None:
    """Makes embeddings and cells."""
    domains.check_fields(self, 'model.')
    dtype = compute_dtype(self.dtype)
    self.embedding = Embedding(self.size, self.width, dtype)
    if not self.tie:
      self.output_embedding = Embedding(self.size, self.width, dtype)
    self.cells = [
      make(
        self.cell,
        CELLS,
        'model.cell',
        width=self.width,
        layer_norm=self.layer_norm,
        dtype=dtype,
      )
      for _ in range(self.layers)
    ]
    self.drop = Dropout()

  def __call__(
    self,
    text: Array,
    previous: Array | None = None,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: TextPacking | None = None,
  ) -> Array:
    """Returns logits: [B, L] -> [B, L, V]; see `models.interface.LanguageModel`."""
    options = dict(train=train, hyper=hyper, packing=packing)
    return _logits(*self.features(text, previous, **options))

  def features(
    self,
    text: Array,
    previous: Array | None = None,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: TextPacking | None = None,
  ) -> tuple[Array, Array]:
    """Returns the factors of the logits: outputs [B, L, D] and output weights [V, D]."""
    if packing is not None:
      raise ValueError(
        'a recurrent model reads one document per row, or a stream: set '
        "batching.kind='buckets', 'windows' or 'streams'"
      )
    state = self.initial_state(len(text))
    return self.advance(text, previous, state, train=train, hyper=hyper)[0]

  def advance(
    self,
    text: Array,
    previous: Array | None,
    state: State,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
  ) -> tuple[tuple[Array, Array], State]:
    """As `features`, from a state on; also returns the state after the last position."""
    hyper = training_hyper(hyper, self.hyper_names, train=train)
    rate = hyper.get('dropout')
    inputs = predecessors(text, previous)
    out, state = self._run(inputs, state, rate)
    return (self.drop(out, rate), self._table), state

  def initial_state(self, rows: int) -> State:
    """Returns the state before the first token: zeros, leaves [B, D]."""
    return tuple(cell.start(rows) for cell in self.cells)

  def start(self, rows: int, hypotheses: int, max_len: int) -> State:
    """Returns the state before the first token, leaves [N, D]."""
    del max_len
    return self.initial_state(rows * hypotheses)

  def read(self, cache: State, tokens: Array) -> State:
    """Reads the first tokens of all rows at once: [B, P] -> the state after them."""
    B = len(tokens)
    _, state = self._run(tokens, self.initial_state(B), None)
    hypotheses = len(cache[0][0]) // B
    return jax.tree.map(lambda x: jnp.repeat(x, hypotheses, axis=0), state)

  def step(self, cache: State, token: Array) -> tuple[State, Array]:
    """Reads one token per hypothesis: [N] -> the next state, logits [N, V]."""
    out, state = self._run(token[:, None], cache, None)
    return state, _logits(out, self._table)[:, 0]

  @property
  def _table(self) -> Array:
    return (self.embedding if self.tie else self.output_embedding).table

  def _run(
    self, inputs: Array, state: State, rate: Array | None
  ) -> tuple[Array, State]:
    """Reads tokens [B, L] from a state on: outputs [B, L, D], the state after them."""
    x, after = self.embedding(inputs.T), []  # [L, B, D], position first
    for i, (cell, carry) in enumerate(zip(self.cells, state, strict=True)):
      last, out = cell.run(carry, cell.project(self.drop(x, rate, rows=1)))
      x = x + out if i else out
      after.append(last)
    return jnp.swapaxes(x, 0, 1), tuple(after)


def _logits(hidden: Array, table: Array) -> Array:
  return product('btd,vd->btv', hidden, table.astype(hidden.dtype), jnp.float32)
