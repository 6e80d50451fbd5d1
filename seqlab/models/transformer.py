"""The Transformer, encoder to decoder."""

from collections.abc import Mapping
import functools
from typing import Annotated, ClassVar, Literal

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab import domains
from seqlab.domains import Count, Probability, Range, Rate
from seqlab.layers import ACTIVATIONS, NORMALIZATIONS, POSITIONS
from seqlab.layers.attention import (
  Projections,
  causal_mask,
  padding_mask,
  segment_mask,
  within_window,
)
from seqlab.layers.cache import DecoderCache, KVCache
from seqlab.layers.dropout import Dropout, uniform
from seqlab.layers.embedding import Embedding, Initial, Scaling, logits
from seqlab.layers.positions.interface import Positions
from seqlab.layers.stack import Remat, scan_layers, unstacked
from seqlab.layers.transformer import (
  JOINT_SCALE,
  DecoderLayer,
  EncoderLayer,
  Initialization,
  TrainingInputs,
)
from seqlab.models.interface import (
  Packing,
  SamplingChoice,
  compute_dtype,
  own_tokens,
  shift_right,
  training_hyper,
)
from seqlab.pieces import Function, Piece, Specification, make
from seqlab.types import Array

# The context of a piece: options that the model sets, and an experiment cannot.
POSITION_PIECE = Piece(
  POSITIONS, context=('width', 'heads', 'bidirectional', 'dtype'), base=Positions
)
NORMALIZATION_PIECE = Piece(NORMALIZATIONS, context=('dtype',), base=nn.Module)


@struct.dataclass
class Memory:
  """The source as decoding sees it: cross-attention's keys and values.

  Attributes:
    layers: keys and values for each decoder layer, with S entries.
    mask: [B, 1, 1, S] bool.
  """

  layers: tuple[KVCache, ...]
  mask: Array


class Transformer(nn.Module):
  """Vaswani et al., "Attention Is All You Need", 2017.

  https://arxiv.org/abs/1706.03762

  Where `apply` may change the collection 'intermediates', teacher forcing gives all
  attention weights, [layers, B, H, L, S], as {encoder, decoder}/{self_attention,
  cross_attention}/weights. A collection 'ablation', {encoder, decoder}/
  {self_attention, cross_attention}/keep [layers, H], takes heads away where it is 0,
  in decoding too. Both after `layers.attention.MultiHeadAttention`.

  Attributes:
    source_size: words in the source vocabulary.
    target_size: words in the target vocabulary, V.
    width: D.
    mlp_width: F.
    heads: H.
    layers: layers of the encoder, and of the decoder unless said otherwise.
    decoder_layers: layers of the decoder.
    share_layers: whether all layers of the encoder have the same parameters, and all
      layers of the decoder too; see `layers.stack`.
    positions: a piece of `layers.POSITIONS`: 'sinusoidal' or 'learned', added
      to the embeddings; 'rotary', 'shaw', 'transformer_xl', 't5' or 'alibi', used by
      self-attention; 'none'.
    window: how far self-attention sees, in positions to either side; None for all.
    causal: whether self-attention of the decoder is masked. False shows it, in teacher
      forcing, the words that it has to predict, as a demonstration; in decoding only
      past words exist.
    mask_padding: whether padding is hidden from attention. False shows it, as a
      demonstration: the result for a sentence then depends on the padding of its row.
    mask_segments: whether sentences that are packed in a row are hidden from each other.
      False shows them to each other in training; in decoding each is alone.
    normalization: a piece of `layers.NORMALIZATIONS`: 'layer', 'rms',
      'scale', 'batch', 'noisy_batch', 'power' or 'none'.
    decoder_normalization: the same for the decoder, where it differs; None for the
      encoder's. Shen et al. 2020 have 'batch' and 'power' in the encoder only.
    norm: place of the normalisation: before ('pre') or after ('post') the sublayer, or
      'deep' (Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022,
      https://arxiv.org/abs/2203.00555): 'post', with weighted residuals and initial
      weights as in their figure 2 for encoder and decoder.
    initialization: 'glorot', or 'depth': the initial scale of matrices that write to the
      residual is divided by the root of the number of sublayers in their stack (Radford
      et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3);
      or 'joint': W_Q, W_K and W_V start smaller by the root of 2, as if they were one
      matrix [D, 3D] with the scale of Glorot, as in fairseq and PyTorch.
    activation: activation of the feed-forward layers, a function of
      `layers.ACTIVATIONS`: 'relu', 'gelu' or 'swiglu'.
    embedding_scale: factor of the embeddings of tokens: 'sqrt' for √D, 'none' for 1; see
      `layers.embedding`. The variants of Csordás et al., "The Devil is in the Detail",
      2021, https://arxiv.org/abs/2108.12284, are "token embedding upscaling" (their code:
      opennmt): 'sqrt' and embedding_init='xavier'; "no scaling" (noscale): 'none' and
      'unit'; "position embedding downscaling" (scaledinit): 'none', 'kaiming' and
      positions=dict(kind='sinusoidal', scaling='inverse_sqrt'); and with relative
      positions (relative): 'none', 'xavier' and positions='transformer_xl'. Each has
      norm='post'; share_layers=True makes the variants that they call universal.
    embedding_init: distribution of the embeddings of tokens at first: 'normal', 'unit',
      'xavier' or 'kaiming'; see `layers.embedding`. An output table of its own, which no
      token reads, is not meant.
    tie: the embeddings that share one table: 'all' (source, target and output; needs
      a shared vocabulary), 'decoder' (target and output) or 'none'.
    remat: what the backward pass computes again instead of storing it: 'none';
      'products', all but the results of linear maps; 'full', the whole layers.
    unroll: layers per iteration of the scan over layers; more compiles longer. None for
      all of them (at most 12) on an accelerator, 1 on a CPU.
    dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the device has it. A search
      with a width below 256 computes in float32 on a CPU; `--dtype`, `evals.x.dtype` or
      SEQLAB_CPU_DTYPE decides otherwise.
    implementation: implementation of attention: 'xla', or flash attention, 'cudnn' on
      GPUs and 'flash' on TPUs (from rows of about 512 tokens on), which is used where
      attention has no dropout and positions add no vectors in each layer.
    unordered: number of source words, the last ones of the vocabulary, that are features
      without an order: each has position 0, the others count from 1, and a vector tells
      the two types apart (Wu et al. 2021, section 2.1, https://arxiv.org/abs/2005.10213).
    sampling_choice: in training with hyper['scheduled_sampling'], the model's own token is
      drawn from its distribution, 'random', or its most probable one, 'argmax'.
    projections: matrices of every attention: 'separate' for W_Q, W_K, W_V and W_O;
      'query_is_key', 'no_value', 'no_output' or 'one_matrix' for fewer; see
      `layers.attention.MultiHeadAttention`.
  """

  source_size: int
  target_size: int
  width: Count = 512
  mlp_width: Count = 2048
  heads: Count = 8
  layers: Count = 6
  decoder_layers: Count | None = None
  share_layers: bool = False
  positions: Annotated[Specification, POSITION_PIECE] = 'sinusoidal'
  window: Annotated[int, Range(0)] | None = None
  causal: bool = True
  mask_padding: bool = True
  mask_segments: bool = True
  normalization: Annotated[Specification, NORMALIZATION_PIECE] = 'layer'
  decoder_normalization: Annotated[Specification, NORMALIZATION_PIECE] | None = None
  norm: Literal['pre', 'post', 'deep'] = 'pre'
  initialization: Initialization = 'glorot'
  activation: Annotated[Specification, Function(ACTIVATIONS)] = 'relu'
  embedding_scale: Scaling = 'sqrt'
  embedding_init: Initial = 'normal'
  tie: Literal['all', 'decoder', 'none'] = 'all'
  remat: Remat = 'none'
  unroll: Count | None = None
  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'
  implementation: Literal['xla', 'cudnn', 'flash'] = 'xla'
  unordered: int = 0
  sampling_choice: SamplingChoice = 'random'
  projections: Projections = 'separate'

  splits_rows: ClassVar[bool] = True
  gathers_weights: ClassVar[bool] = True
  hyper_names: ClassVar = {
    'dropout': Rate | None,
    'embedding_dropout': Rate | None,
    'attention_dropout': Rate | None,
    'activation_dropout': Rate | None,
    'scheduled_sampling': Probability | None,
  }

  def setup(self) -> None:
    """Makes the embeddings and the stacks."""
    self._check()
    V, D, dtype = self.target_size, self.width, compute_dtype(self.dtype)
    options = dict(scaling=self.embedding_scale, initial=self.embedding_init)
    self.target_embedding = Embedding(V, D, dtype, **options)
    if self.tie != 'all':
      self.source_embedding = Embedding(self.source_size, D, dtype, **options)
    if self.tie == 'none':
      self.output_embedding = Embedding(V, D, dtype)
    if self.unordered:
      # Scaled as the vectors of tokens, these have variance one.
      normal = nn.initializers.normal(1 / self.target_embedding.scale)
      init = nn.with_logical_partitioning(normal, (None, None))
      self.type_embedding = self.param('type_embedding', init, (2, D))
    self.encoder_positions = self._positions(bidirectional=True)
    self.decoder_positions = self._positions(bidirectional=False)
    self.encoder = self._stack(EncoderLayer, self.layers, inputs=3)
    self.decoder = self._stack(DecoderLayer, self._decoder_layers, inputs=5)
    if self.norm == 'pre':
      self.encoder_norm = self._make_norm(EncoderLayer)()
      self.decoder_norm = self._make_norm(DecoderLayer)()
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
    return logits(hidden, table)

  def features(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> tuple[Array, Array]:
    """Returns the factors of the logits: states [B, T, D], output weights [V, D].

    In training, hyper['scheduled_sampling'] is the probability that a token read is the
    model's own instead of the true one. The model's own tokens are its predictions from
    the true ones, by a pass without dropout and gradients (Mihaylova and Martins,
    "Scheduled Sampling for Transformers", 2019, https://arxiv.org/abs/1906.07651).
    """
    S, T, p = source.shape[1], target.shape[1], packing
    hyper = training_hyper(hyper, self.hyper_names, train=train)
    if p is None:
      source_position, target_position = jnp.arange(S), jnp.arange(T)
      source_mask = memory_mask = self._padding_mask(source)
      self_mask = causal_mask(T) if self.causal else self._padding_mask(target)
    else:
      source_position, target_position = p.source_position, p.target_position
      source_mask = self._segment_mask(p.source_segment, p.source_segment)
      memory_mask = self._segment_mask(p.target_segment, p.source_segment)
      self_mask = self._segment_mask(p.target_segment, p.target_segment)
      self_mask &= causal_mask(T) if self.causal else True

    training = TrainingInputs.of(hyper, source) if train else TrainingInputs()
    memory = self._encode(source, source_mask, source_position, training)  # [B, S, D]
    training = TrainingInputs.of(hyper, target) if train else TrainingInputs()
    place = jnp.atleast_2d(target_position)  # [B|1, T]
    self_mask = self._near(self_mask, place, place)
    terms = self.decoder_positions.attention_terms(place, place)

    def read(words: Array, training: TrainingInputs) -> tuple[Array, Array]:
      x = self._embed(
        self.target_embedding, words, self.decoder_positions, target_position, training
      )  # [B, T, D]
      x, _ = self.decoder(x, memory, self_mask, memory_mask, terms, training)
      return self._output(x, training)

    words = shift_right(target, packing)
    if (rate := hyper.get('scheduled_sampling')) is not None:
      output = jax.lax.stop_gradient(read(words, TrainingInputs()))
      random = self.sampling_choice == 'random'
      guesses = own_tokens(logits(*output), self.drop.key() if random else None)
      own = uniform(self.drop.key(), target.shape) < rate
      words = jnp.where(own, shift_right(guesses, packing), words)
    return read(words, training)

  def encode(self, source: Array) -> Memory:
    """Returns keys and values of the source [B, S] for every decoder layer."""
    mask = self._padding_mask(source)
    states = self._encode(source, mask, jnp.arange(source.shape[1]), TrainingInputs())
    caches = [
      layer.apply(variables, states, method='project')  # from [B, S, D]
      for layer, variables in self._decoder_layer_list()
    ]
    return Memory(tuple(caches), mask)

  def start(self, memory: Memory, rows: int, max_len: int) -> DecoderCache:
    """Returns an empty cache, for `rows` hypotheses of up to `max_len` words."""
    self.decoder_positions.check_length(max_len)
    B = len(memory.mask)
    return DecoderCache.empty(
      B,
      rows // B,
      max_len,
      layers=self._decoder_layers,
      heads=self.heads,
      head_dim=self.width // self.heads,
      dtype=compute_dtype(self.dtype),
    )

  def step(
    self, memory: Memory, cache: DecoderCache, token: Array
  ) -> tuple[DecoderCache, Array]:
    """Reads one word per hypothesis: [N] -> the next cache, logits [N, V]."""
    return self._step(memory, cache, token, attends=False)[:2]

  def step_attending(
    self, memory: Memory, cache: DecoderCache, token: Array
  ) -> tuple[DecoderCache, Array, Array]:
    """As `step`, with cross-attention [N, S]: the mean over heads of the last layer."""
    return self._step(memory, cache, token, attends=True)

  def _step(
    self, memory: Memory, cache: DecoderCache, token: Array, *, attends: bool
  ) -> tuple[DecoderCache, Array, Array | None]:
    training, positions = TrainingInputs(), self.decoder_positions
    x = self._embed(
      self.target_embedding,
      token.reshape(len(memory.mask), -1),
      positions,
      cache.length[:, None],
      training,
    )  # [B, M, D]
    current = cache.length[:1, None]  # [1, 1], since all rows take steps together
    terms = positions.attention_terms(current, cache.places)
    allowed = jnp.ones((1, 1, 1, cache.places.size), bool)
    mask = cache.mask(self._near(allowed, current, cache.places))
    rest = (cache.position, mask, memory.mask, terms)
    after, sown = [], None
    for (layer, variables), past, source in zip(
      self._decoder_layer_list(), cache.layers, memory.layers, strict=True
    ):
      args = (variables, x, past, source, *rest)
      if attends:
        (x, past), sown = layer.apply(*args, method='step', mutable=['intermediates'])
      else:
        x, past = layer.apply(*args, method='step')
      after.append(past)
    x, table = self._output(x, training)
    # As rows of a matrix: the logits are large, and any other shape would be copied.
    rows = x.reshape(len(token), 1, -1)  # [N, 1, D]
    weights = None
    if attends:
      (weights,) = sown['intermediates']['cross_attention']['weights']  # [B, H, M, S]
      weights = weights.mean(axis=1).reshape(len(token), -1)  # [N, S]
    return cache.after(after), logits(rows, table)[:, 0], weights  # [N, V], [N, S]

  @property
  def applications(self) -> Mapping[str, int]:
    """See `models.interface.Seq2Seq`."""
    shared = {'query_is_key': {'query': 2}, 'one_matrix': {'query': 3}}
    counts = shared.get(self.projections, {})
    if not self.share_layers:
      return counts
    return {'encoder': self.layers, 'decoder': self._decoder_layers, **counts}

  @property
  def _decoder_layers(self) -> int:
    return self.layers if self.decoder_layers is None else self.decoder_layers

  @staticmethod
  def weights_of(sown: Mapping) -> dict[str, Array]:
    """See `models.interface.attention_weights`."""
    encoder, decoder = sown['encoder'], sown['decoder']
    attentions = {
      'encoder': encoder['self_attention'],
      'decoder': decoder['self_attention'],
      'cross': decoder['cross_attention'],
    }
    return {kind: attention['weights'][0] for kind, attention in attentions.items()}

  def _check(self) -> None:
    domains.check_fields(self, 'model.')
    if self.tie == 'all' and self.source_size != self.target_size:
      raise ValueError(
        f"model.tie='all' needs one vocabulary for both languages, and these have "
        f'{self.source_size} and {self.target_size} words: set vocabulary.shared=True '
        f"or model.tie='decoder'"
      )
    if self.norm == 'deep' and self.initialization != 'glorot':
      raise ValueError(
        f"model.norm='deep' starts weights in its own way, and "
        f'model.initialization={self.initialization!r} in another: set one of them'
      )

  def _positions(self, *, bidirectional: bool) -> Positions:
    return make(
      self.positions,
      POSITIONS,
      'model.positions',
      width=self.width,
      heads=self.heads,
      bidirectional=bidirectional,
      dtype=compute_dtype(self.dtype),
    )

  def _make_norm(self, layer: type[nn.Module]) -> functools.partial:
    normalization, where = self.normalization, 'model.normalization'
    if issubclass(layer, DecoderLayer) and self.decoder_normalization is not None:
      normalization, where = self.decoder_normalization, 'model.decoder_normalization'
    dtype = compute_dtype(self.dtype)
    return functools.partial(make, normalization, NORMALIZATIONS, where, dtype=dtype)

  def _scales(self, layer: type[nn.Module]) -> dict[str, float]:
    """Weights of the residuals, and scales at which weights start."""
    decoder = issubclass(layer, DecoderLayer)
    N, M = self.layers, self._decoder_layers
    if self.norm == 'deep':
      # Wang et al. 2022, figure 2: N layers in the encoder, M in the decoder.
      alpha = (3 * M) ** 0.25 if decoder else 0.81 * (N**4 * M) ** (1 / 16)
      beta = (12 * M) ** -0.25 if decoder else 0.87 * (N**4 * M) ** (-1 / 16)
      return dict(alpha=alpha, inner_scale=beta, outer_scale=beta)
    if self.initialization == 'depth':
      return dict(outer_scale=(3 * M if decoder else 2 * N) ** -0.5)
    if self.initialization == 'joint':
      return dict(attention_scale=JOINT_SCALE)
    return {}

  def _layer(
    self, kind: type[nn.Module], lifted: type[nn.Module] | None = None, **kwargs
  ) -> nn.Module:
    decoder = issubclass(kind, DecoderLayer)
    positions = self.decoder_positions if decoder else self.encoder_positions
    return (lifted or kind)(
      width=self.width,
      mlp_width=self.mlp_width,
      heads=self.heads,
      make_norm=self._make_norm(kind),
      norm=self.norm,
      activation=self.activation,
      make_positions=positions.layer_module(),
      dtype=compute_dtype(self.dtype),
      implementation=self.implementation,
      projections=self.projections,
      **self._scales(kind),
      **kwargs,
    )

  def _stack(self, layer: type[nn.Module], length: int, *, inputs: int) -> nn.Module:
    """Returns a scan over `length` layers, see `layers.stack.scan_layers`."""
    stack = scan_layers(
      layer,
      length,
      inputs,
      share=self.share_layers,
      remat=self.remat,
      unroll=self.unroll,
      sown=self.is_mutable_collection('intermediates'),
    )
    return self._layer(layer, stack)

  def _decoder_layer_list(self) -> list[tuple[nn.Module, Mapping]]:
    """Returns the decoder's layers, see `layers.stack.unstacked`."""
    layer = self._layer(DecoderLayer, parent=None)
    length, share = self._decoder_layers, self.share_layers
    return unstacked(self.decoder, layer, length, share=share)

  def _padding_mask(self, ids: Array) -> Array:
    """Returns `padding_mask`, or one that hides nothing."""
    mask = padding_mask(ids)
    return mask if self.mask_padding else jnp.ones_like(mask)

  def _segment_mask(self, query_segment: Array, memory_segment: Array) -> Array:
    """Returns `segment_mask`, or one that hides padding only."""
    if self.mask_segments:
      return segment_mask(query_segment, memory_segment)
    return (memory_segment > 0)[:, None, None, :]

  def _near(self, mask: Array, query: Array, memory: Array) -> Array:
    """Restricts a mask to the window: positions [B|1, L], [B|1, S]."""
    return within_window(mask, query, memory, self.window)

  def _embed(
    self,
    table: Embedding,
    ids: Array,
    positions: Positions,
    place: Array,
    training: TrainingInputs,
    types: Array | None = None,
  ) -> Array:
    x = positions.embed(table.lookup(ids), place)
    x = x if types is None else x + types
    return self.drop(x, training.embedding)  # [B, L, D]

  def _feature_positions(self, source: Array, place: Array) -> tuple[Array, Array]:
    """Returns positions [B, S] and vectors of types [B, S, D] of words and features.

    Words count from 1 in each sentence, as if there were no features. A row without
    features therefore reaches position S, one more than `jnp.arange(S)`.
    """
    self.encoder_positions.check_length(source.shape[1] + 1)
    is_feature = source >= self.source_size - self.unordered  # [B, S]
    count = jnp.cumsum(~is_feature, axis=1)
    first = jnp.broadcast_to(jnp.arange(source.shape[1]) - place, source.shape)
    before = jnp.take_along_axis(count - ~is_feature, first, axis=1)
    vectors = self.type_embedding * self.target_embedding.scale
    types = jnp.where(is_feature[..., None], vectors[1], vectors[0])
    dtype = compute_dtype(self.dtype)
    return jnp.where(is_feature, 0, count - before), types.astype(dtype)

  def _encode(
    self, source: Array, mask: Array, place: Array, training: TrainingInputs
  ) -> Array:
    table = self.target_embedding if self.tie == 'all' else self.source_embedding
    types = None
    if self.unordered:
      place, types = self._feature_positions(source, place)
    x = self._embed(table, source, self.encoder_positions, place, training, types)
    place = jnp.atleast_2d(place)  # [B|1, S]
    mask = self._near(mask, place, place)
    terms = self.encoder_positions.attention_terms(place, place)
    x, _ = self.encoder(x, mask, terms, training)  # [B, S, D]
    return self.encoder_norm(x, training.mask) if self.norm == 'pre' else x

  def _output(self, x: Array, training: TrainingInputs) -> tuple[Array, Array]:
    x = self.decoder_norm(x, training.mask) if self.norm == 'pre' else x
    last = self.output_embedding if self.tie == 'none' else self.target_embedding
    return x, last.weights  # [B, T, D], [V, D]
