"""The Transformer for CTranslate2, a translator in C++ for CPUs.

https://github.com/OpenNMT/CTranslate2. The library must be installed
(`pip install ctranslate2`). JAX is not needed: weights are arrays.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.pieces import split
from seqlab.types import BOS, EOS, UNK, Variables

if TYPE_CHECKING:
  from ctranslate2.specs import TransformerSpec

  from seqlab.models.transformer import Transformer
  from seqlab.tasks.interface import Translates

Arrays = Mapping[str, np.ndarray]

# Options of `models.transformer.Transformer` -> values that other libraries have too.
OPTIONS = dict(
  positions=('sinusoidal',),
  window=(None,),
  causal=(True,),
  share_layers=(False,),
  normalization=('layer',),
  decoder_normalization=(None,),
  norm=('pre',),
  activation=('relu',),
  embedding_scale=('sqrt',),
  projections=('separate',),
  mask_padding=(True,),
)
# The same with the values that CTranslate2 has.
CONVERTIBLE = OPTIONS | dict(
  positions=('sinusoidal', 'learned'),
  normalization=('layer', 'rms'),
  norm=('pre', 'post'),
  activation=('relu', 'gelu', 'swiglu'),
  embedding_scale=('sqrt', 'none'),
  unordered=(0,),
)
_ACTIVATIONS = {'relu': 'RELU', 'gelu': 'GELU', 'swiglu': 'SWISH'}
_MAX_POSITIONS = 1024  # of positions that a function gives, and no table limits


def check_model(model: Any, options: Mapping[str, Sequence] = OPTIONS) -> None:
  """Raises ValueError for a model whose options are not those that can be converted."""
  for name, allowed in options.items():
    value = getattr(model, name)
    if _kind(value) not in allowed:
      values = ' or '.join(map(repr, allowed))
      raise ValueError(
        f'model.{name} is {value!r}, and only {values} can be converted to other '
        f'libraries: set model.{name}={allowed[0]!r}, and train'
      )
  positions = model.positions if isinstance(model.positions, Mapping) else {}
  if positions.get('concatenated') is not None:
    raise ValueError(
      f'model.positions.concatenated is {positions["concatenated"]}, and other libraries '
      'add positions to the embeddings: leave it out, and train'
    )


def _kind(value: Any) -> Any:
  """Returns the name of a piece that has options; anything else as it is."""
  return split(value, 'model')[0] if isinstance(value, Mapping) else value


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a model differs from that of Vaswani et al. 2017 with normalisation first.

  Attributes:
    norm: 'pre' or 'post'.
    normalization: 'layer' or 'rms'.
    epsilon: what is added to the variance.
    activation: 'relu', 'gelu' or 'swiglu'.
    embedding_scale: 'sqrt' or 'none'.
  """

  norm: str = 'pre'
  normalization: str = 'layer'
  epsilon: float = 1e-6  # of seqlab's normalisations
  activation: str = 'relu'
  embedding_scale: str = 'sqrt'

  @classmethod
  def of(cls, model: 'Transformer') -> 'Layout':
    """Returns the layout of a model that `check_model` has accepted."""
    kind, options = split(model.normalization, 'model.normalization')
    return cls(
      norm=model.norm,
      normalization=kind,
      epsilon=options.get('epsilon', cls.epsilon),
      activation=_kind(model.activation),
      embedding_scale=model.embedding_scale,
    )


def save_translator(
  folder: Path,
  task: 'Translates',
  variables: Variables,
  *,
  quantization: str = 'float32',
  about: Mapping[str, Any] = {},  # never changed
) -> None:
  """Writes the model of a task, its vocabularies, and how both are used.

  Args:
    folder: a folder.
    task: the task.
    variables: variables of its model.
    quantization: see `save_model`.
    about: more to write into `seqlab.json`, such as the run.

  Raises:
    ValueError: CTranslate2 has no such model; names the option.
  """
  from flax.traverse_util import flatten_dict

  from seqlab.models.transformer import Transformer

  model, vocabularies = task.model, task.vocabularies
  if not isinstance(model, Transformer):
    raise ValueError(
      f'the model is a {type(model).__name__}, and CTranslate2 has Transformers only '
      "(model.kind='transformer'): export with --to stablehlo"
    )
  check_model(model, CONVERTIBLE)
  if task.reverse_source:
    raise ValueError(
      'batching.reverse_source is True, and CTranslate2 reads sources from their '
      'beginning: export with --to stablehlo'
    )
  sides = vocabularies.source.pieces(), vocabularies.target.pieces()
  for side, tokens in zip(('source', 'target'), sides, strict=True):
    _check_distinct(side, tokens)
  save_model(
    folder,
    flatten_dict(variables, sep='/'),
    heads=model.heads,
    positions=position_tables(model, variables),
    source_tokens=sides[0],
    target_tokens=sides[1],
    layout=Layout.of(model),
    quantization=quantization,
  )
  vocabularies.save(folder / 'vocabulary')
  text = json.dumps({'weights': quantization, **about}, indent=1)
  (folder / 'seqlab.json').write_text(text, 'utf-8')


def _check_distinct(side: str, tokens: Sequence[str]) -> None:
  if len(set(tokens)) < len(tokens):
    twice = next(token for token in tokens if tokens.count(token) > 1)
    raise ValueError(
      f'two ids of the {side} vocabulary have the name {twice!r}, and CTranslate2 knows '
      'ids by their names: export with --to stablehlo'
    )


def position_tables(
  model: 'Transformer', variables: Variables
) -> tuple[np.ndarray, np.ndarray]:
  """Returns what is added at each position of the source and of the target, [L, D]."""
  import jax.numpy as jnp

  options = split(model.positions, 'model.positions')[1]
  length = options.get('max_length', _MAX_POSITIONS)
  blank = jnp.zeros((1, length, model.width))

  def table(name: str) -> np.ndarray:
    def embed(module: 'Transformer') -> Any:
      return getattr(module, name).embed(blank, jnp.arange(length))

    exact = model.clone(dtype='float32')
    return np.asarray(exact.apply(variables, method=embed))[0]

  return table('encoder_positions'), table('decoder_positions')


def save_model(
  folder: Path,
  arrays: Arrays,
  *,
  heads: int,
  positions: np.ndarray | tuple[np.ndarray, np.ndarray],
  source_tokens: Sequence[str],
  target_tokens: Sequence[str],
  layout: Layout = Layout(),
  quantization: str = 'float32',
) -> None:
  """Writes a folder that `ctranslate2.Translator` loads.

  The translator takes tokens without EOS, which it adds.

  Args:
    folder: the folder, which is made.
    arrays: parameters of the model by name, as 'params/encoder_norm/scale'.
    heads: H.
    positions: table of positions [L, D], or one for each side; sources and outputs can
      be at most as long.
    source_tokens: names of all ids of the source vocabulary.
    target_tokens: names of all ids of the target vocabulary.
    layout: what the layers consist of.
    quantization: 'float32' or 'int8', the weights of products.
  """
  spec = make_spec(arrays, heads=heads, positions=positions, layout=layout)
  spec.register_source_vocabulary(list(source_tokens))
  spec.register_target_vocabulary(list(target_tokens))
  spec.config.unk_token = target_tokens[UNK]
  spec.config.bos_token = spec.config.decoder_start_token = target_tokens[BOS]
  spec.config.eos_token = target_tokens[EOS]
  spec.config.add_source_eos = True
  spec.config.layer_norm_epsilon = layout.epsilon
  spec.validate()
  spec.optimize(quantization)
  folder.mkdir(parents=True, exist_ok=True)
  spec.save(str(folder))


def make_spec(
  arrays: Arrays,
  *,
  heads: int,
  positions: np.ndarray | tuple[np.ndarray, np.ndarray],
  layout: Layout = Layout(),
) -> 'TransformerSpec':
  """Returns CTranslate2's description of a model, with its weights.

  See `save_model` for the arguments.
  """
  from ctranslate2.specs import TransformerSpec
  from ctranslate2.specs.common_spec import Activation

  params = {
    name.removeprefix('params/'): np.array(x, np.float32)  # copies, to be quantised
    for name, x in arrays.items()
  }
  encoder, decoder = (_section(params, name) for name in ('encoder', 'decoder'))
  layers = len(encoder['norm_mlp/scale']), len(decoder['norm_mlp/scale'])
  spec = TransformerSpec.from_config(
    layers,
    heads,
    pre_norm=layout.norm == 'pre',
    activation=Activation[_ACTIVATIONS[layout.activation]],
    ffn_glu=layout.activation == 'swiglu',
    rms_norm=layout.normalization == 'rms',
  )
  target = params['target_embedding/table']
  source = params.get('source_embedding/table', target)
  spec.encoder.embeddings[0].weight = source
  spec.decoder.embeddings.weight = target
  spec.decoder.projection.weight = params.get('output_embedding/table', target)
  tables = positions if isinstance(positions, tuple) else (positions, positions)
  for stack, stacked, name, table in (
    (spec.encoder, encoder, 'encoder_norm', tables[0]),
    (spec.decoder, decoder, 'decoder_norm', tables[1]),
  ):
    stack.scale_embeddings = layout.embedding_scale == 'sqrt'
    stack.position_encodings.encodings = np.asarray(table, np.float32)
    if layout.norm == 'pre':
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
  _set_feed_forward(spec.ffn, _section(params, 'feed_forward'))


def _set_feed_forward(spec: Any, params: Arrays) -> None:
  gated = 'gate/kernel' in params
  linears = {'gate' if gated else 'up': spec.linear_0, 'down': spec.linear_1}
  if gated:
    linears['up'] = spec.linear_0_noact
  for name, linear in linears.items():
    linear.weight = _transposed(params[f'{name}/kernel'])
    if f'{name}/bias' in params:
      linear.bias = params[f'{name}/bias']


def _set_norm(spec: Any, params: Arrays) -> None:
  spec.gamma = params['scale']
  if 'bias' in params:  # not of RMS norm
    spec.beta = params['bias']


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
