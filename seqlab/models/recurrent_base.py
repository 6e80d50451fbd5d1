"""What recurrent encoder-decoders have in common."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.domains import Count
from seqlab.layers.dropout import Dropout
from seqlab.layers.embedding import Embedding
from seqlab.layers.products import dense_product, product
from seqlab.layers.recurrent import CELLS, Carry, Cell, Encoder, Gates, add, split
from seqlab.models.interface import compute_dtype
from seqlab.pieces import Piece, Specification, make
from seqlab.types import BOS, EOS, PAD, Array

_Tree = TypeVar('_Tree')
# Drops elements of the input [..., D] of a layer of the decoder, whose number is given.
Drop = Callable[[Array, int], Array]

# The context of a cell is what the model sets, and an experiment cannot.
_CELL = Piece(CELLS, context=('width', 'layer_norm', 'dtype'), base=Cell)


class RecurrentBase(nn.Module):
  """Embeddings, an encoder and a decoder's cells, without what connects the two.

  Attributes:
    source_size: words in the source vocabulary.
    target_size: words in the target vocabulary, V.
    width: D, width of embeddings, states and attention.
    layers: number of layers of the encoder, and of the decoder.
    cell: a piece of `layers.recurrent.CELLS`: 'rnn', 'gru', 'lstm', 'stack_rnn', or
      dict(kind='lstm', forget_bias=0.0).
    layer_norm: normalise inside the cells.
    residual: whether a layer's input is added to its output, but for the first layer.
    bidirectional: whether the encoder reads from both ends, each with D / 2 units.
    context: the decoder sees the source's last state at its 'start' only, or 'always';
      the cells of a decoder with soft attention start from it in any case.
    source_end: whether the encoder reads the EOS at the end of a source.
    first_token: id of the token that the decoder reads first. None gives it a vector of
      zeros, which is not learnt, but marks the start as well, since no token has it.
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
  residual: bool = True
  bidirectional: bool = True
  context: Literal['start', 'always'] = 'start'
  source_end: bool = True
  first_token: Count | None = BOS
  tie: Literal['all', 'decoder', 'none'] = 'all'
  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'

  def setup(self) -> None:
    """Makes embeddings and cells."""
    self._check()
    V, D, dtype = self.target_size, self.width, compute_dtype(self.dtype)
    self.target_embedding = Embedding(V, D, dtype)
    if self.tie != 'all':
      self.source_embedding = Embedding(self.source_size, D, dtype)
    if self.tie == 'none':
      self.output_embedding = Embedding(V, D, dtype)
    self.encoder = Encoder(
      self._cell, D, self.layers, self.bidirectional, self.residual
    )
    self.decoder_cells = [self._cell(D) for _ in range(self.layers)]
    if self._feeds:
      self.decoder_feed = self._dense(self.decoder_cells[0].gates * D)
    self.drop = Dropout()

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
    return self.context == 'always'

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

  def _read_source(
    self, source: Array, rate: Array | None
  ) -> tuple[Array, tuple[Carry, ...], Array]:
    """Returns the encoder's states [B, S, D], its last carries, and the mask [B, S]."""
    table = self.target_embedding if self.tie == 'all' else self.source_embedding
    mask = source != PAD  # [B, S]
    if not self.source_end:
      mask &= source != EOS
    x = self.drop(table(source), rate)  # [B, S, D]
    states, start = self.encoder(x, mask, lambda x: self.drop(x, rate, rows=1))
    return states, start, mask

  def vector(self, source: Array) -> Array:
    """Returns the encoder's last state, all that a fixed context holds: [B, S] -> [B, D]."""
    _, start, _ = self._read_source(source, None)
    return start[-1][0]

  def _feed(self, x: Array) -> Gates:
    """Returns the part of the first cell's gates that does not depend on the word."""
    return split(self.decoder_feed(x), self.decoder_cells[0].gates)

  def _dropper(self, rate: Array | None) -> Drop:
    """Returns a function that drops elements of the inputs of the decoder's layers."""
    return lambda x, layer: self.drop(x, rate, rows=x.ndim - 2)

  def _gates(self, words: Array, drop: Drop) -> Gates:
    """Returns the words' part of the first cell's gates: [...] -> G of [..., D]."""
    is_first = words == BOS
    if self.first_token is not None:
      words = jnp.where(is_first, self.first_token, words)
    x = self.target_embedding(words)
    if self.first_token is None:
      x = jnp.where(is_first[..., None], jnp.zeros_like(x), x)
    return self.decoder_cells[0].project(drop(x, 0))

  def _run(
    self,
    cells: tuple[Carry, ...],
    gates: Gates,
    context: Gates | None,
    drop: Drop,
  ) -> Array:
    """Reads known words: gates G of [T, B, D] of the first layer -> states [T, B, D].

    Args:
      cells: the carry of each layer before the first word, leaves [B, D].
      gates: the words' part of the first cell's gates.
      context: G of [B, D], added to the gates of every step; None for nothing.
      drop: see `_dropper`.
    """
    if context is not None:
      gates = add(gates, context)
    x = None
    for i, (cell, carry) in enumerate(zip(self.decoder_cells, cells, strict=True)):
      gates = cell.project(drop(x, i)) if i else gates
      _, out = cell.run(carry, gates)
      x = x + out if i and self.residual else out
    return x

  def _move(
    self, cells: tuple[Carry, ...], gates: Gates, drop: Drop
  ) -> tuple[tuple[Carry, ...], Array]:
    """Takes one step of all layers: G of [N, D] -> the carries, the state [N, D]."""
    x, after = None, []
    for i, (cell, carry) in enumerate(zip(self.decoder_cells, cells, strict=True)):
      gates = cell.project(drop(x, i)) if i else gates
      after.append(cell(carry, gates))
      x = x + after[-1][0] if i and self.residual else after[-1][0]
    return tuple(after), x


def repeated(tree: _Tree, rows: int) -> _Tree:
  """Repeats the rows of all leaves, so that each has `rows` of them."""
  return jax.tree.map(lambda x: jnp.repeat(x, rows // len(x), axis=0), tree)


def output_logits(hidden: Array, table: Array) -> Array:
  """Returns logits: [..., D] with up to three axes, [V, D] -> [..., V] float32."""
  rows = 'bts'[: hidden.ndim - 1]
  table = table.astype(hidden.dtype)
  return product(f'{rows}d,vd->{rows}v', hidden, table, jnp.float32)
