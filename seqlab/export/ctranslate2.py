"""The Transformer for CTranslate2, a translator in C++ for CPUs.

https://github.com/OpenNMT/CTranslate2. The library must be installed
(`pip install ctranslate2`). JAX is not needed: weights are arrays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.types import BOS, EOS, UNK

if TYPE_CHECKING:
  from ctranslate2.specs import TransformerSpec

Arrays = Mapping[str, np.ndarray]

# Options of `models.transformer.Transformer` that the specification here has.
OPTIONS = dict(
  positions='sinusoidal',
  window=None,
  causal=True,
  share_layers=False,
  normalization='layer',
  decoder_normalization=None,
  norm='pre',
  activation='relu',
  embedding_scale='sqrt',
)
_EPSILON = 1e-6  # of seqlab's layer normalisation


def check_model(model: Any, options: Mapping[str, Any] = OPTIONS) -> None:
  """Raises ValueError for a model whose options are not those that can be converted."""
  for name, expected in options.items():
    value = getattr(model, name)
    if value != expected:
      raise ValueError(
        f'model.{name} is {value!r}, and only {expected!r} can be converted to other '
        f'libraries: set model.{name}={expected!r}'
      )


def save_model(
  folder: Path,
  arrays: Arrays,
  *,
  heads: int,
  positions: np.ndarray,
  source_tokens: Sequence[str],
  target_tokens: Sequence[str],
) -> None:
  """Writes a folder that `ctranslate2.Translator` loads, with float32 weights.

  The translator takes tokens without EOS, which it adds.

  Args:
    folder: the folder, which must not exist.
    arrays: parameters of the model by name, as 'params/encoder_norm/scale'.
    heads: H.
    positions: table of positions [L, D]; sources and outputs can be at most as long.
    source_tokens: names of all ids of the source vocabulary.
    target_tokens: names of all ids of the target vocabulary.
  """
  spec = make_spec(arrays, heads=heads, positions=positions)
  spec.register_source_vocabulary(list(source_tokens))
  spec.register_target_vocabulary(list(target_tokens))
  spec.config.unk_token = target_tokens[UNK]
  spec.config.bos_token = spec.config.decoder_start_token = target_tokens[BOS]
  spec.config.eos_token = target_tokens[EOS]
  spec.config.add_source_eos = True
  spec.config.layer_norm_epsilon = _EPSILON
  spec.validate()
  spec.optimize()
  folder.mkdir(parents=True)
  spec.save(str(folder))


def make_spec(
  arrays: Arrays, *, heads: int, positions: np.ndarray
) -> 'TransformerSpec':
  """Returns CTranslate2's description of a model, with its weights.

  See `save_model` for the arguments.
  """
  from ctranslate2.specs import TransformerSpec

  params = {
    name.removeprefix('params/'): np.asarray(x, np.float32)
    for name, x in arrays.items()
  }
  encoder, decoder = (_section(params, name) for name in ('encoder', 'decoder'))
  layers = len(encoder['norm_mlp/scale']), len(decoder['norm_mlp/scale'])
  spec = TransformerSpec.from_config(layers, heads, pre_norm=True)
  target = params['target_embedding/table']
  source = params.get('source_embedding/table', target)
  spec.encoder.embeddings[0].weight = source
  spec.decoder.embeddings.weight = target
  spec.decoder.projection.weight = params.get('output_embedding/table', target)
  for stack, stacked, name in (
    (spec.encoder, encoder, 'encoder_norm'),
    (spec.decoder, decoder, 'decoder_norm'),
  ):
    stack.position_encodings.encodings = np.asarray(positions, np.float32)
    _set_norm(stack.layer_norm, _section(params, name))
    for i, layer in enumerate(stack.layer):
      _set_layer(layer, {key: x[i] for key, x in stacked.items()})
  return spec


def _section(params: Arrays, name: str) -> dict[str, np.ndarray]:
  """Returns the parameters below a name, without it."""
  beginning = f'{name}/'
  return {
    key.removeprefix(beginning): x
    for key, x in params.items()
    if key.startswith(beginning)
  }


def _set_layer(spec: Any, params: Arrays) -> None:
  _set_norm(spec.self_attention.layer_norm, _section(params, 'norm_self'))
  attention = _section(params, 'self_attention')
  project, out = spec.self_attention.linear
  project.weight = _joined(attention, 'query', 'key', 'value')
  out.weight = _output(attention)
  if hasattr(spec, 'attention'):
    _set_norm(spec.attention.layer_norm, _section(params, 'norm_cross'))
    attention = _section(params, 'cross_attention')
    query, memory, out = spec.attention.linear
    query.weight = _joined(attention, 'query')
    memory.weight = _joined(attention, 'key', 'value')
    out.weight = _output(attention)
  _set_norm(spec.ffn.layer_norm, _section(params, 'norm_mlp'))
  for linear, name in ((spec.ffn.linear_0, 'up'), (spec.ffn.linear_1, 'down')):
    linear.weight = _transposed(params[f'feed_forward/{name}/kernel'])
    linear.bias = params[f'feed_forward/{name}/bias']


def _set_norm(spec: Any, params: Arrays) -> None:
  spec.gamma, spec.beta = params['scale'], params['bias']


def _joined(attention: Arrays, *names: str) -> np.ndarray:
  """Returns matrices [D, H, K] as one of [n D, D], by rows of the output."""
  kernels = [attention[f'{name}/kernel'] for name in names]
  return np.concatenate([_transposed(x.reshape(len(x), -1)) for x in kernels])


def _output(attention: Arrays) -> np.ndarray:
  """Returns the matrix [H, K, D] as [D, D]."""
  kernel = attention['out/kernel']
  return _transposed(kernel.reshape(-1, kernel.shape[-1]))


def _transposed(kernel: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(kernel.T)
