"""The Transformer in PyTorch: written by hand, and `nn.Transformer`."""

import numpy as np
import torch
from torch import nn

from seqlab.bench.baselines.training import TorchTraining, shift_right
from seqlab.types import PAD

F = nn.functional


def smoothed_loss(logits, target, label_smoothing):
  """Returns the label-smoothed cross-entropy per target token."""
  return F.cross_entropy(
    logits.flatten(0, 1),
    target.flatten(),
    ignore_index=PAD,
    label_smoothing=label_smoothing,
  )


class _Attention(nn.Module):
  """Multi-head attention without biases; queries, keys and values by one product."""

  def __init__(self, width, heads, fused):
    super().__init__()
    self.heads = heads
    self.project = nn.Linear(width, (3 if fused else 2) * width, bias=False)
    self.query = None if fused else nn.Linear(width, width, bias=False)
    self.out = nn.Linear(width, width, bias=False)

  def forward(self, x, memory=None, mask=None, causal=False):
    if self.query is None:
      query, key, value = self.project(x).chunk(3, dim=-1)
    else:
      query = self.query(x)
      key, value = self.project(memory).chunk(2, dim=-1)
    query, key, value = (self._split(y) for y in (query, key, value))
    y = F.scaled_dot_product_attention(
      query, key, value, attn_mask=mask, is_causal=causal
    )
    return self.out(y.transpose(1, 2).flatten(2))

  def _split(self, x):  # [B, L, D] -> [B, H, L, K]
    return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Sequential):
  def __init__(self, width, mlp_width):
    super().__init__(
      nn.Linear(width, mlp_width), nn.ReLU(), nn.Linear(mlp_width, width)
    )


class _Layer(nn.Module):
  """A pre-norm layer of the encoder, or of the decoder with `cross`."""

  def __init__(self, sizes, dropout, cross):
    super().__init__()
    width, heads = sizes['width'], sizes['heads']
    self.self_attention = _Attention(width, heads, fused=True)
    self.cross_attention = _Attention(width, heads, fused=False) if cross else None
    self.feed_forward = _FeedForward(width, sizes['mlp_width'])
    self.norm_self, self.norm_mlp = (nn.LayerNorm(width, 1e-6) for _ in range(2))
    self.norm_cross = nn.LayerNorm(width, 1e-6) if cross else None
    self.drop = nn.Dropout(dropout)

  def forward(self, x, memory=None, mask=None):
    if self.cross_attention is None:
      x = x + self.drop(self.self_attention(self.norm_self(x), mask=mask))
    else:
      x = x + self.drop(self.self_attention(self.norm_self(x), causal=True))
      x = x + self.drop(self.cross_attention(self.norm_cross(x), memory, mask))
    return x + self.drop(self.feed_forward(self.norm_mlp(x)))


class HandWritten(nn.Module):
  """The model of `models.transformer`, with its parameters, written in PyTorch.

  Padding of the target is at its end, so a causal mask hides it from all tokens.
  """

  def __init__(self, sizes, dropout, arrays):
    """Takes parameters and the table of positions from `arrays`, names as in a run."""
    super().__init__()
    self.table = nn.Embedding(sizes['V'], sizes['width'])
    self.register_buffer('positions', torch.from_numpy(arrays['positions']))
    self.scale = sizes['width'] ** 0.5
    self.encoder = nn.ModuleList(
      _Layer(sizes, dropout, cross=False) for _ in range(sizes['layers'])
    )
    self.decoder = nn.ModuleList(
      _Layer(sizes, dropout, cross=True) for _ in range(sizes['decoder_layers'])
    )
    self.encoder_norm, self.decoder_norm = (
      nn.LayerNorm(sizes['width'], 1e-6) for _ in range(2)
    )
    self.drop = nn.Dropout(dropout)
    _load(self, arrays)

  def forward(self, source, target):
    """Returns logits [B, T, V] of a batch [B, S], [B, T]."""
    mask = (source != PAD)[:, None, None, :]
    memory = self._embed(source)
    for layer in self.encoder:
      memory = layer(memory, mask=mask)
    memory = self.encoder_norm(memory)
    x = self._embed(shift_right(target))
    for layer in self.decoder:
      x = layer(x, memory, mask)
    return F.linear(self.decoder_norm(x), self.table.weight)

  def _embed(self, ids):
    return self.drop(self.table(ids) * self.scale + self.positions[: ids.shape[1]])


@torch.no_grad()
def _load(model, arrays):
  """Copies the parameters of a run into `HandWritten`."""
  model.table.weight.copy_(torch.from_numpy(arrays['params/target_embedding/table']))
  for stack in ('encoder', 'decoder'):
    beginning = f'params/{stack}/'
    stacked = {
      name.removeprefix(beginning): value
      for name, value in arrays.items()
      if name.startswith(beginning)
    }
    for i, layer in enumerate(getattr(model, stack)):
      _load_layer(layer, {name: value[i] for name, value in stacked.items()})
    norm = {part: arrays[f'params/{stack}_norm/{part}'] for part in ('scale', 'bias')}
    _load_norm(getattr(model, f'{stack}_norm'), norm, '')


def _load_layer(layer, arrays):
  _load_attention(layer.self_attention, arrays, 'self_attention')
  if layer.cross_attention is not None:
    _load_attention(layer.cross_attention, arrays, 'cross_attention')
    _load_norm(layer.norm_cross, arrays, 'norm_cross/')
  up, _, down = layer.feed_forward
  for linear, name in ((up, 'up'), (down, 'down')):
    _load_kernel(linear, arrays[f'feed_forward/{name}/kernel'])
    linear.bias.copy_(torch.from_numpy(arrays[f'feed_forward/{name}/bias']))
  _load_norm(layer.norm_self, arrays, 'norm_self/')
  _load_norm(layer.norm_mlp, arrays, 'norm_mlp/')


def _load_attention(attention, arrays, name):
  def kernel(part):  # [D, H, K] -> [D, D]
    value = arrays[f'{name}/{part}/kernel']
    return value.reshape(len(value), -1)

  if attention.query is None:
    parts = ('query', 'key', 'value')
  else:
    parts = ('key', 'value')
    _load_kernel(attention.query, kernel('query'))
  _load_kernel(attention.project, np.concatenate([kernel(x) for x in parts], axis=1))
  out = arrays[f'{name}/out/kernel']  # [H, K, D]
  _load_kernel(attention.out, out.reshape(-1, out.shape[-1]))


def _load_kernel(linear, kernel):  # [inputs, outputs], which PyTorch has transposed
  linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.T)))


def _load_norm(norm, arrays, name):
  norm.weight.copy_(torch.from_numpy(arrays[f'{name}scale']))
  norm.bias.copy_(torch.from_numpy(arrays[f'{name}bias']))


class Training(TorchTraining):
  """Training of `HandWritten`."""

  def make_model(self, job):
    """Returns the module, with the parameters that seqlab starts from."""
    with np.load(job['parameters']) as arrays:
      return HandWritten(job['sizes'], job['dropout'], dict(arrays))

  def loss(self, source, target):
    """Returns the mean loss of a batch."""
    return smoothed_loss(
      self.model(source, target), target, self.job['label_smoothing']
    )


def only_residual_dropout(model):
  """Turns off dropout of attention weights and hidden units in PyTorch's layers."""
  for module in model.modules():
    if isinstance(module, nn.MultiheadAttention):
      module.dropout = 0.0
    elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
      module.dropout.p = 0.0  # of the hidden units; dropout1 to 3 are of the residuals


class _Library(nn.Module):
  """`nn.Transformer` with tied embeddings and sinusoidal positions."""

  def __init__(self, sizes, dropout, positions):
    super().__init__()
    width = sizes['width']
    self.table = nn.Embedding(sizes['V'], width)
    nn.init.normal_(self.table.weight, std=width**-0.5)
    self.register_buffer('positions', torch.from_numpy(positions))
    self.scale = width**0.5
    self.transformer = nn.Transformer(
      width,
      sizes['heads'],
      sizes['layers'],
      sizes['decoder_layers'],
      sizes['mlp_width'],
      dropout,
      norm_first=True,
      batch_first=True,
    )
    only_residual_dropout(self.transformer)
    self.drop = nn.Dropout(dropout)

  def forward(self, source, target):
    padding = source == PAD
    causal = nn.Transformer.generate_square_subsequent_mask(
      target.shape[1], dtype=torch.bool
    )
    x = self.transformer(
      self._embed(source),
      self._embed(shift_right(target)),
      tgt_mask=causal,
      src_key_padding_mask=padding,
      memory_key_padding_mask=padding,
      tgt_is_causal=True,
    )
    return F.linear(x, self.table.weight)

  def _embed(self, ids):
    return self.drop(self.table(ids) * self.scale + self.positions[: ids.shape[1]])


class LibraryTraining(Training):
  """Training of `nn.Transformer`."""

  def make_model(self, job):
    """Returns the module."""
    with np.load(job['parameters']) as arrays:
      return _Library(job['sizes'], job['dropout'], arrays['positions'])
