"""The Transformer, encoder to decoder."""

from collections.abc import Mapping
from typing import ClassVar

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from seqlab.layers.attention import KVCache, causal_mask, padding_mask, segment_mask
from seqlab.layers.dropout import Dropout
from seqlab.layers.embedding import Embedding
from seqlab.layers.normalization import layer_norm
from seqlab.layers.positions import sinusoidal
from seqlab.layers.transformer import DecoderLayer, EncoderLayer, Rates
from seqlab.models.interface import Packing, shift_right
from seqlab.types import Array


@struct.dataclass
class Memory:
  """The source as decoding sees it: cross-attention's keys and values.

  Attributes:
    key: a [B, S, H, K] per decoder layer.
    value: a [B, S, H, K] per decoder layer.
    mask: [B, 1, 1, S] bool.
  """

  key: tuple[Array, ...]
  value: tuple[Array, ...]
  mask: Array


class Transformer(nn.Module):
  """Vaswani et al., "Attention Is All You Need", 2017.

  https://arxiv.org/abs/1706.03762

  Attributes:
    source_size: words in the source vocabulary.
    target_size: words in the target vocabulary, V.
    width: D.
    mlp_width: F.
    heads: H.
    layers: layers of the encoder, and of the decoder unless said otherwise.
    decoder_layers: layers of the decoder.
    norm: 'pre' or 'post' layer normalisation.
    tie: which embeddings are one table: 'all' (source, target and output; needs
      a shared vocabulary), 'decoder' (target and output) or 'none'.
    remat: recompute layers in the backward pass instead of storing them.
    unroll: layers per iteration of the scan over layers; more compiles longer.
    dtype: 'float32', 'bfloat16', or 'auto': bfloat16 where the device has it.
    implementation: of attention; 'xla', or 'cudnn' (flash attention).
  """

  source_size: int
  target_size: int
  width: int = 512
  mlp_width: int = 2048
  heads: int = 8
  layers: int = 6
  decoder_layers: int | None = None
  norm: str = 'pre'
  tie: str = 'all'
  remat: bool = False
  unroll: int = 1
  dtype: str = 'auto'
  implementation: str = 'xla'

  hyper_names: ClassVar = ('dropout', 'attention_dropout', 'activation_dropout')

  def setup(self) -> None:
    """Makes the embeddings and the stacks."""
    self._check()
    V, D, dtype = self.target_size, self.width, self._dtype
    self.target_embedding = Embedding(V, D, dtype)
    if self.tie != 'all':
      self.source_embedding = Embedding(self.source_size, D, dtype)
    if self.tie == 'none':
      self.output_embedding = Embedding(V, D, dtype)
    self.encoder = self._stack(EncoderLayer, self.layers, inputs=2)
    self.decoder = self._stack(DecoderLayer, self._decoder_layers, inputs=4)
    if self.norm == 'pre':
      self.encoder_norm, self.decoder_norm = layer_norm(dtype), layer_norm(dtype)
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
    """[B, S], [B, T] -> [B, T, V]; see `models.interface.Seq2Seq`."""
    hidden, table = self.features(
      source, target, train=train, hyper=hyper, packing=packing
    )
    return jnp.einsum(
      'btd,vd->btv',
      hidden,
      table.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )

  def features(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: Mapping[str, Array] | None = None,
    packing: Packing | None = None,
  ) -> tuple[Array, Array]:
    """The logits' two factors: hidden states [B, T, D] and output weights [V, D]."""
    rates = _rates(hyper) if train else Rates()
    if packing is None:
      self_mask = causal_mask(target.shape[1])
      source_mask = memory_mask = padding_mask(source)
    else:
      p = packing
      source_mask = segment_mask(p.source_segment, p.source_segment)
      memory_mask = segment_mask(p.target_segment, p.source_segment)
      self_mask = segment_mask(p.target_segment, p.target_segment)
      self_mask &= causal_mask(target.shape[1])

    memory = self._encode(source, source_mask, rates, packing)  # [B, S, D]
    inputs = shift_right(target, packing)
    positions = packing.target_position if packing else jnp.arange(target.shape[1])
    x = self._embed(self.target_embedding, inputs, positions, rates)  # [B, T, D]
    x, _ = self.decoder(x, memory, self_mask, memory_mask, rates)
    return self._output(x)

  def encode(self, source: Array) -> Memory:
    """[B, S] -> keys and values of the source for every decoder layer."""
    mask = padding_mask(source)
    states = self._encode(source, mask, Rates(), None)  # [B, S, D]
    pairs = [
      layer.apply({'params': params}, states, method='project')
      for layer, params in self._decoder_layer_list()
    ]
    keys, values = zip(*pairs, strict=True)
    return Memory(keys, values, mask)

  def start(self, memory: Memory, rows: int, max_len: int) -> tuple[KVCache, ...]:
    """An empty cache a layer, for `rows` hypotheses of up to `max_len` words."""
    shape = (rows, max_len, self.heads, self.width // self.heads)
    return tuple(KVCache.empty(shape, self._dtype) for _ in memory.key)

  def step(
    self, memory: Memory, cache: tuple[KVCache, ...], token: Array
  ) -> tuple[tuple[KVCache, ...], Array]:
    """One word of each hypothesis: [N] -> the cache one step on, logits [N, V]."""
    position = cache[0].length[:, None]  # [N, 1]
    x = self._embed(self.target_embedding, token[:, None], position, Rates())
    after = []
    layers = zip(
      self._decoder_layer_list(), cache, memory.key, memory.value, strict=True
    )
    for (layer, params), past, key, value in layers:
      x, past = layer.apply(
        {'params': params}, x, past, key, value, memory.mask, method='step'
      )
      after.append(past)
    x, table = self._output(x[:, 0])  # [N, D]
    logits = jnp.einsum(
      'nd,vd->nv', x, table.astype(x.dtype), preferred_element_type=jnp.float32
    )
    return tuple(after), logits  # [N, V]

  @property
  def _dtype(self) -> jnp.dtype:
    if self.dtype == 'auto':
      return jnp.bfloat16 if _has_bfloat16() else jnp.float32
    return jnp.dtype(self.dtype)

  @property
  def _decoder_layers(self) -> int:
    return self.layers if self.decoder_layers is None else self.decoder_layers

  def _check(self) -> None:
    for name, value, known in (
      ('norm', self.norm, ('pre', 'post')),
      ('tie', self.tie, ('all', 'decoder', 'none')),
    ):
      if value not in known:
        raise ValueError(f'model.{name} is {value!r}; it may be one of {known}')
    if self.tie == 'all' and self.source_size != self.target_size:
      raise ValueError(
        f"model.tie='all' needs one vocabulary for both languages, and these have "
        f'{self.source_size} and {self.target_size} words: set vocabulary.shared=True '
        f"or model.tie='decoder'"
      )

  def _layer(self, layer: type[nn.Module], **kwargs) -> nn.Module:
    return layer(
      width=self.width,
      mlp_width=self.mlp_width,
      heads=self.heads,
      norm=self.norm,
      dtype=self._dtype,
      implementation=self.implementation,
      **kwargs,
    )

  def _stack(self, layer: type[nn.Module], length: int, *, inputs: int) -> nn.Module:
    """`length` layers as one, their parameters stacked along a first axis."""
    if self.remat:
      layer = nn.remat(layer, prevent_cse=False)  # the scan keeps them apart
    stack = nn.scan(
      layer,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(nn.broadcast,) * inputs,
      length=length,
      unroll=self.unroll,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    return self._layer(stack)

  def _decoder_layer_list(self) -> list[tuple[nn.Module, Mapping]]:
    """The decoder's layers one by one, each with its own parameters.

    A step of decoding is unrolled over layers: a scan would copy every layer's
    cache at every step, to stack what was written.
    """
    stacked = nn.unbox(self.decoder.variables['params'])
    layer = self._layer(DecoderLayer, parent=None)
    return [
      (layer, jax.tree.map(lambda x, i=i: x[i], stacked))
      for i in range(self._decoder_layers)
    ]

  def _embed(
    self, table: Embedding, ids: Array, positions: Array, rates: Rates
  ) -> Array:
    x = table(ids) + sinusoidal(positions, self.width).astype(self._dtype)
    return self.drop(x, rates.residual)  # [B, L, D]

  def _encode(
    self, source: Array, mask: Array, rates: Rates, packing: Packing | None
  ) -> Array:
    table = self.target_embedding if self.tie == 'all' else self.source_embedding
    positions = packing.source_position if packing else jnp.arange(source.shape[1])
    x = self._embed(table, source, positions, rates)  # [B, S, D]
    x, _ = self.encoder(x, mask, rates)
    return self.encoder_norm(x) if self.norm == 'pre' else x

  def _output(self, x: Array) -> tuple[Array, Array]:
    x = self.decoder_norm(x) if self.norm == 'pre' else x  # [B, T, D]
    last = self.output_embedding if self.tie == 'none' else self.target_embedding
    return x, last.table  # [V, D]


def _has_bfloat16() -> bool:
  """Whether matrix products in bfloat16 are fast here: TPUs, GPUs since Ampere."""
  if jax.default_backend() == 'gpu':
    return float(getattr(jax.devices()[0], 'compute_capability', 0)) >= 8
  return jax.default_backend() == 'tpu'


def _rates(hyper: Mapping[str, Array] | None) -> Rates:
  hyper = hyper or {}  # the keys are Transformer.hyper_names
  return Rates(
    residual=hyper.get('dropout'),
    attention=hyper.get('attention_dropout'),
    activation=hyper.get('activation_dropout'),
  )
