"""A Transformer of text of one side: self-attention without an encoder."""

from collections.abc import Mapping
import functools
from typing import Annotated, ClassVar, Literal

from flax import linen as nn
import jax.numpy as jnp

from seqlab import domains
from seqlab.domains import Count, Range, Rate
from seqlab.layers import ACTIVATIONS, NORMALIZATIONS, POSITIONS
from seqlab.layers.attention import causal_mask, segment_mask, within_window
from seqlab.layers.cache import DecoderCache
from seqlab.layers.dropout import Dropout
from seqlab.layers.embedding import Embedding, Initial, Scaling, logits
from seqlab.layers.stack import Remat, scan_layers, unstacked
from seqlab.layers.transformer import (
  JOINT_SCALE,
  EncoderLayer,
  Initialization,
  TrainingInputs,
)
from seqlab.models.interface import (
  TextPacking,
  compute_dtype,
  predecessors,
  training_hyper,
)
from seqlab.models.transformer import NORMALIZATION_PIECE, POSITION_PIECE
from seqlab.pieces import Function, Specification, make
from seqlab.types import Array


class Decoder(nn.Module):
  """The decoder of a Transformer alone; see `models.interface.LanguageModel`.

  Liu et al., "Generating Wikipedia by Summarizing Long Sequences", 2018, section 4.2.3,
  https://arxiv.org/abs/1801.10198; Radford et al., "Language Models are Unsupervised
  Multitask Learners", 2019.

  Where `apply` may change the collection 'intermediates', it gets the attention weights,
  [layers, B, H, L, L], as stack/self_attention/weights.

  Attributes:
    size: words in the vocabulary, V.
    width: D.
    mlp_width: F.
    heads: H.
    layers: number of layers.
    share_layers: whether all layers have the same parameters; see `layers.stack`.
    positions: a piece of `layers.POSITIONS`, see `models.transformer.Transformer`.
    window: how many positions back self-attention sees; None for all.
    normalization: a piece of `layers.NORMALIZATIONS`.
    norm: place of the normalisation: 'pre', 'post' or 'deep' (for 'deep' see Wang et al.
      2022, figure 2, "decoder-only", https://arxiv.org/abs/2203.00555).
    initialization: 'glorot', or 'depth': the initial scale of matrices that write to the
      residual is divided by the root of the number of sublayers (Radford et al. 2019,
      section 2.3); or 'joint', as in `models.transformer.Transformer`.
    activation: a function of `layers.ACTIVATIONS`.
    embedding_scale: factor of the embeddings, see `models.transformer.Transformer`.
    embedding_init: distribution of the embeddings at first, see there.
    tie: whether input and output embeddings share one table.
    remat: what the backward pass computes again instead of storing it: 'none';
      'products', all but the results of linear maps; 'full', the whole layers.
    unroll: layers per iteration of the scan over layers; more compiles longer. None for
      all of them (at most 12) on an accelerator, 1 on a CPU.
    dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the device has it; see
      `models.transformer.Transformer`.
    implementation: implementation of attention: 'xla', or flash attention, 'cudnn' on
      GPUs and 'flash' on TPUs (from rows of about 512 tokens on), which is used where
      attention has no dropout and positions add no vectors in each layer.
  """

  size: int
  width: Count = 512
  mlp_width: Count = 2048
  heads: Count = 8
  layers: Count = 6
  share_layers: bool = False
  positions: Annotated[Specification, POSITION_PIECE] = 'sinusoidal'
  window: Annotated[int, Range(0)] | None = None
  normalization: Annotated[Specification, NORMALIZATION_PIECE] = 'layer'
  norm: Literal['pre', 'post', 'deep'] = 'pre'
  initialization: Initialization = 'glorot'
  activation: Annotated[Specification, Function(ACTIVATIONS)] = 'relu'
  embedding_scale: Scaling = 'sqrt'
  embedding_init: Initial = 'normal'
  tie: bool = True
  remat: Remat = 'none'
  unroll: Count | None = None
  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'
  implementation: Literal['xla', 'cudnn', 'flash'] = 'xla'

  splits_rows: ClassVar[bool] = True
  gathers_weights: ClassVar[bool] = True
  hyper_names: ClassVar = {
    'dropout': Rate | None,
    'embedding_dropout': Rate | None,
    'attention_dropout': Rate | None,
    'activation_dropout': Rate | None,
  }

  def setup(self) -> None:
    """Makes the embeddings and the stack of layers."""
    domains.check_fields(self, 'model.')
    dtype = compute_dtype(self.dtype)
    self.embedding = Embedding(
      self.size, self.width, dtype, self.embedding_scale, self.embedding_init
    )
    if not self.tie:
      self.output_embedding = Embedding(self.size, self.width, dtype)
    self.places = make(
      self.positions,
      POSITIONS,
      'model.positions',
      width=self.width,
      heads=self.heads,
      bidirectional=False,
      dtype=dtype,
    )
    self.stack = self._layer(self._scanned())
    if self.norm == 'pre':
      self.final_norm = self._make_norm()()
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
    return logits(*self.features(text, previous, **options))

  def features(
    self,
    text: Array,
    previous: Array | None = None,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: TextPacking | None = None,
  ) -> tuple[Array, Array]:
    """Returns the factors of the logits: states [B, L, D], output weights [V, D]."""
    hyper = training_hyper(hyper, self.hyper_names, train=train)
    training = TrainingInputs()
    if train:
      training = TrainingInputs.of(hyper, text)
    L = text.shape[1]
    position, mask = jnp.arange(L)[None], causal_mask(L)  # [1, L], [1, 1, L, L]
    if packing is not None:
      position = packing.position  # [B, L]
      mask &= segment_mask(packing.segment, packing.segment)
    x = self._embed(predecessors(text, previous, packing), position, training)
    terms = self.places.attention_terms(position, position)
    x, _ = self.stack(x, self._near(mask, position, position), terms, training)
    return self._output(x, training)

  def start(self, rows: int, hypotheses: int, max_len: int) -> DecoderCache:
    """Returns an empty cache; see `models.interface.LanguageModel`."""
    self.places.check_length(max_len)
    return DecoderCache.empty(
      rows,
      hypotheses,
      max_len,
      layers=self.layers,
      heads=self.heads,
      head_dim=self.width // self.heads,
      dtype=compute_dtype(self.dtype),
    )

  def read(self, cache: DecoderCache, tokens: Array) -> DecoderCache:
    """Reads the first tokens of all rows at once: [B, P] -> the cache after them."""
    P = tokens.shape[1]
    position = jnp.arange(P)[None]
    terms = self.places.attention_terms(position, position)
    mask = self._near(causal_mask(P), position, position)
    x, layers = self._embed(tokens, position, TrainingInputs()), []
    for layer, variables in self._layer_list():
      x, keys_and_values = layer.apply(variables, x, mask, terms, method='read')
      layers.append(keys_and_values)
    return cache.filled(layers)

  def step(self, cache: DecoderCache, token: Array) -> tuple[DecoderCache, Array]:
    """Reads one token per hypothesis: [N] -> the next cache, logits [N, V]."""
    training = TrainingInputs()
    token = token.reshape(len(cache.length), -1)  # [B, M]
    x = self._embed(token, cache.length[:, None], training)  # [B, M, D]
    current = cache.length[:1, None]  # [1, 1], since all rows take steps together
    terms = self.places.attention_terms(current, cache.places)
    allowed = jnp.ones((1, 1, 1, cache.places.size), bool)
    mask = cache.mask(self._near(allowed, current, cache.places))
    after = []
    for (layer, variables), past in zip(self._layer_list(), cache.layers, strict=True):
      x, past = layer.apply(
        variables, x, past, cache.position, mask, terms, method='step'
      )
      after.append(past)
    x, table = self._output(x, training)
    # As rows of a matrix: the logits are large, and any other shape would be copied.
    rows = x.reshape(token.size, 1, -1)  # [N, 1, D]
    return cache.after(after), logits(rows, table)[:, 0]  # [N, V]

  @staticmethod
  def weights_of(sown: Mapping) -> dict[str, Array]:
    """Returns attention weights from 'intermediates', [layers, B, H, L, L]."""
    return {'decoder': sown['stack']['self_attention']['weights'][0]}

  @property
  def applications(self) -> Mapping[str, int]:
    """See `models.interface.Seq2Seq`."""
    return {'stack': self.layers} if self.share_layers else {}

  def _make_norm(self) -> functools.partial:
    where, dtype = 'model.normalization', compute_dtype(self.dtype)
    return functools.partial(
      make, self.normalization, NORMALIZATIONS, where, dtype=dtype
    )

  @property
  def _scales(self) -> dict[str, float]:
    """Weights of the residuals, and scales at which weights start."""
    N = self.layers
    if self.norm == 'deep':
      if self.initialization != 'glorot':
        raise ValueError(
          f"model.norm='deep' starts weights in its own way, and "
          f'model.initialization={self.initialization!r} in another: set one of them'
        )
      beta = (8 * N) ** -0.25
      return dict(alpha=(2 * N) ** 0.25, inner_scale=beta, outer_scale=beta)
    if self.initialization == 'depth':
      return dict(outer_scale=(2 * N) ** -0.5)
    if self.initialization == 'joint':
      return dict(attention_scale=JOINT_SCALE)
    return {}

  def _layer(self, kind: type[nn.Module], **options) -> nn.Module:
    return kind(
      width=self.width,
      mlp_width=self.mlp_width,
      heads=self.heads,
      make_norm=self._make_norm(),
      norm=self.norm,
      activation=self.activation,
      make_positions=self.places.layer_module(),
      dtype=compute_dtype(self.dtype),
      implementation=self.implementation,
      **self._scales,
      **options,
    )

  def _scanned(self) -> type[nn.Module]:
    """Returns a scan over all layers, see `layers.stack.scan_layers`."""
    return scan_layers(
      EncoderLayer,
      self.layers,
      3,
      share=self.share_layers,
      remat=self.remat,
      unroll=self.unroll,
      sown=self.is_mutable_collection('intermediates'),
    )

  def _layer_list(self) -> list[tuple[nn.Module, Mapping]]:
    """Returns the layers, see `layers.stack.unstacked`."""
    layer = self._layer(EncoderLayer, parent=None)
    return unstacked(self.stack, layer, self.layers, share=self.share_layers)

  def _near(self, mask: Array, query: Array, memory: Array) -> Array:
    """Restricts a mask to the window: positions [B|1, L], [B|1, S]."""
    return within_window(mask, query, memory, self.window)

  def _embed(self, ids: Array, position: Array, training: TrainingInputs) -> Array:
    x = self.places.embed(self.embedding.lookup(ids), position)
    return self.drop(x, training.embedding)  # [B, L, D]

  def _output(self, x: Array, training: TrainingInputs) -> tuple[Array, Array]:
    x = self.final_norm(x, training.mask) if self.norm == 'pre' else x
    last = self.embedding if self.tie else self.output_embedding
    return x, last.weights  # [B, L, D], [V, D]
