"""Properties of every Transformer, for any weights."""

import functools
from typing import Any

from flax import linen as nn
from flax import struct
from flax.core import FrozenDict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.decoding import beam
from seqlab.decoding.config import Beam, Sampling
from seqlab.layers import stack
from seqlab.layers.cache import DecoderCache
from seqlab.models.interface import Packing
from seqlab.models.transformer import Transformer
from seqlab.tasks.translation import SequenceToSequence, Translation
from seqlab.tasks.translator import decode
from seqlab.types import BOS, EOS, PAD


def _name(options):
  return ','.join(str(value) for value in options.values())


V = 40
T5 = FrozenDict(kind='t5', buckets=6, max_distance=4)
# `test_invariants` tests these kinds one by one; here they are combined.
COMBINATIONS = [
  dict(),
  dict(norm='post', activation='gelu', positions='learned'),
  dict(
    norm='deep',
    normalization='rms',
    positions='rotary',
    window=2,
    projections='one_matrix',
  ),
  dict(normalization='scale', positions='alibi', activation='swiglu', window=1),
  dict(normalization='batch', positions=T5, projections='no_output'),
  dict(
    normalization=FrozenDict(kind='power', groups=2),
    norm='post',
    positions=FrozenDict(kind='shaw', clip=2),
    projections='no_value',
  ),
  dict(normalization='none', norm='post', initialization='depth', positions='none'),
  dict(
    normalization='batch',
    decoder_normalization='layer',
    window=0,
    projections='query_is_key',
  ),
]


class _Compiled:
  """A model whose `apply` is one compiled program, not one per operation."""

  def __init__(self, model):
    self.init, self._model = model.init, model
    static = ('method', 'train', 'mutable')
    self._apply = jax.jit(model.apply, static_argnames=static)

  def apply(self, *args, **kwargs):
    start = kwargs.get('method') == 'start'  # whose sizes are Python's
    return (self._model.apply if start else self._apply)(*args, **kwargs)


@functools.cache
def _module(**kwargs):
  options = dict(width=16, mlp_width=32, heads=2, layers=2, dtype='float32') | kwargs
  return _Compiled(Transformer(options.pop('source_size', V), V, **options))


@functools.cache
def _model(**options):
  """Returns a model and its variables."""
  model = _module(**options)
  ids = jnp.ones((1, 3), jnp.int32)
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(0), ids, ids))
  # Larger weights than at the start, so that a leak would show; but not so large that
  # attention were all or nothing, as it is where no norm keeps states from growing.
  normalizations = {options.get('normalization'), options.get('decoder_normalization')}
  scale = 1.0 if normalizations & {'batch', 'power', 'none'} else 1.5
  variables |= jax.tree.map(lambda x: x * scale, {'params': variables['params']})
  # Statistics that no two layers share.
  if 'batch_stats' in variables:
    spread = jnp.linspace(1.0, 2.0, 2 * 16).reshape(2, 16)
    variables['batch_stats'] = jax.tree.map(
      lambda x: x + spread[: len(x)] if x.ndim == 2 else x, variables['batch_stats']
    )
  return model, variables


def _ids(rows, length, seed=0):
  return np.random.default_rng(seed).integers(4, V, (rows, length)).astype(np.int32)


def _influence(**options):
  """How much each position's logits [T] depend on each target word [T]: [T, T]."""
  model, variables = _model(tie='none', **options)
  source, target = np.array([[7, 8, 9]]), np.arange(10, 16)[None]  # no word twice
  table = variables['params']['target_embedding']['table']

  def logits(table):  # as a function of the embeddings of the target's words
    params = variables['params'] | {'target_embedding': {'table': table}}
    return model.apply(variables | {'params': params}, source, target)[0]

  jacobian = jax.jit(jax.jacrev(lambda t: logits(t).sum(axis=-1)))(table)  # [T, V, D]
  return np.abs(jacobian[:, target[0]]).max(axis=-1)


def test_without_the_causal_mask_every_position_depends_on_every_word():
  influence = _influence(causal=False)
  assert influence[:, :-1].min() > 0.0
  assert influence[:, -1].max() == 0.0  # which is read by no position


def test_a_window_hides_distant_words():
  influence = _influence(window=1, layers=1)
  read = np.subtract.outer(np.arange(6), np.arange(6))  # word j is read at j + 1
  assert (influence[(read == 1) | (read == 2)] > 0.0).all()
  assert (influence[(read < 1) | (read > 2)] == 0.0).all()


def _cached(model, variables, source, target):
  """Returns logits [B, T, V] of a target that is read word by word."""
  B, T = target.shape
  memory = model.apply(variables, source, method='encode')
  cache = model.apply(variables, memory, B, T + 2, method='start')
  inputs = np.concatenate([np.full((B, 1), BOS), target[:, :-1]], axis=1)
  logits = []
  for t in range(T):
    cache, step_logits = model.apply(
      variables, memory, cache, inputs[:, t], method='step'
    )
    logits.append(step_logits)
  return jnp.stack(logits, axis=1)


def test_decoding_depends_only_on_past_words_even_without_the_causal_mask():
  causal, variables = _model()
  model = _module(causal=False)
  source, target = _ids(2, 5), _ids(2, 6)
  logits = _cached(model, variables, source, target)
  expected = causal.apply(variables, source, target)
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  leaking = model.apply(variables, source, target)
  assert float(jnp.abs(leaking - expected).max()) > 0.1


def test_hypotheses_share_the_memory_of_their_sentence():
  model, variables = _model()
  source = _ids(2, 5)
  token = _ids(1, 6)[0]
  memory = model.apply(variables, source, method='encode')
  cache = model.apply(variables, memory, 6, 4, method='start')
  _, shared = model.apply(variables, memory, cache, token, method='step')
  memory = model.apply(variables, np.repeat(source, 3, axis=0), method='encode')
  cache = model.apply(variables, memory, 6, 4, method='start')
  _, repeated = model.apply(variables, memory, cache, token, method='step')
  np.testing.assert_allclose(shared, repeated, atol=1e-4)


@struct.dataclass
class _Fixed:
  """A cache without a method `resized`, as one of a user's own may be."""

  leaves: list
  structure: Any = struct.field(pytree_node=False)

  @classmethod
  def of(cls, cache):
    return cls(*jax.tree.flatten(cache))

  def cache(self):
    return jax.tree.unflatten(self.structure, self.leaves)

  def reorder(self, parent):
    return _Fixed.of(self.cache().reorder(parent))


class _WithFixedCache:
  """The same model with such a cache."""

  def __init__(self, model):
    self._model = model

  def apply(self, variables, *args, method):
    if method == 'step':
      memory, state, token = args
      args = memory, state.cache(), token
    result = self._model.apply(variables, *args, method=method)
    if method == 'start':
      return _Fixed.of(result)
    if method == 'step':
      return _Fixed.of(result[0]), result[1]
    return result


@pytest.mark.parametrize(
  ('decoding', 'grows'),
  [
    (Beam(beam=3, stages=1), True),
    (Beam(beam=1, stages=1), True),
    (Beam(beam=3, stages=2), True),
    (Beam(beam=3, stages=1), False),
    (Sampling(seed=1), True),
  ],
  ids=['beam', 'greedy', 'stages', 'fixed', 'sampling'],
)
def test_a_search_finds_the_same_with_a_cache_that_grows(monkeypatch, decoding, grows):
  model, variables = _model(layers=1)
  model = model if grows else _WithFixedCache(model)
  source = _ids(16, 6)
  source[1::2, 2:] = PAD  # so that some sentences are decided early
  max_len = decoding.limit(6)
  sizes = []

  def search(*lengths):
    calls = []

    def cache_lengths(max_len):
      calls.append(max_len)
      return lengths

    # A new function, since JAX would find the program of the last one again.
    def run(variables, source):
      return decode(model, variables, source, decoding)

    with monkeypatch.context() as patch:
      patch.setattr(beam, 'cache_lengths', cache_lengths)
      patch.setattr(DecoderCache, 'resized', resized)
      result = jax.jit(run)(variables, source)
    assert calls == [max_len]
    return result

  def resized(cache, length):
    sizes.append(length)
    return original(cache, length)

  original = DecoderCache.resized
  tokens, scores = search(5, 10, max_len)
  assert sizes == ([5, 10, max_len] if grows else [])
  expected, expected_scores = search(max_len)
  np.testing.assert_array_equal(tokens, expected)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
  assert (tokens[:, 0] != PAD).sum(axis=1).max() > 10


def _two_pairs():
  """Two pairs in two padded rows, the same pairs packed in one row, and its layout."""
  source, target = _ids(2, 4, 1), _ids(2, 5, 2)
  source[1, 2:], target[1, 3:] = PAD, PAD

  def pack(ids):
    row = np.append(ids[ids != PAD], [PAD, PAD])[None]
    n, m = (ids != PAD).sum(axis=1)
    segment = np.array([[1] * n + [2] * m + [0, 0]], np.int32)
    return row, segment, np.array([[*range(n), *range(m), 0, 0]], np.int32)

  (packed_source, *s), (packed_target, *t) = pack(source), pack(target)
  return (source, target), (packed_source, packed_target), Packing(*s, *t)


@pytest.mark.parametrize('normalization', ['batch', 'power'])
def test_packing_and_padding_change_no_batch_statistic(normalization):
  model, variables = _model(normalization=normalization)
  alone, row, packing = _two_pairs()
  train = functools.partial(model.apply, train=True, hyper={}, mutable=('batch_stats',))
  expected, padded = train(variables, *alone)
  logits, packed = train(variables, *row, packing=packing)
  np.testing.assert_allclose(
    logits[row[1] != PAD], expected[alone[1] != PAD], atol=1e-3, rtol=1e-3
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, packed, padded)
  before = jax.tree.leaves(variables['batch_stats'])
  for old, new in zip(before, jax.tree.leaves(padded), strict=True):
    assert float(jnp.abs(new - old).min()) > 0.0


def test_norms_get_the_pmapped_axis():
  model = Transformer(V, V, normalization=dict(kind='batch', axis='rows'), layers=1)
  train = functools.partial(model.apply, train=True, hyper={}, mutable=['batch_stats'])
  ids = jnp.ones((1, 3), jnp.int32)
  variables = jax.eval_shape(model.init, jax.random.key(0), ids, ids)
  with pytest.raises(NameError, match='rows'):  # there is none outside of pmap
    jax.eval_shape(train, variables, ids, ids)


def test_every_layer_sows_weights_that_respect_masks():
  model, variables = _model()
  _, (source, target), packing = _two_pairs()
  apply = functools.partial(model.apply, mutable=('intermediates',))
  _, changed = apply(variables, source, target, packing=packing)
  sown = jax.tree.map(np.asarray, changed['intermediates'])
  S, T = source.shape[1], target.shape[1]
  segment = packing.target_segment[0]
  for side, name, shape in (
    ('encoder', 'self_attention', (S, S)),
    ('decoder', 'self_attention', (T, T)),
    ('decoder', 'cross_attention', (T, S)),
  ):
    (weights,) = sown[side][name]['weights']
    assert weights.shape == (2, 1, 2, *shape)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
  (weights,) = sown['decoder']['self_attention']['weights']
  seen = (segment[:, None] == segment) & np.tri(T, dtype=bool)
  words = segment > 0
  assert weights[..., words, :][..., ~seen[words]].max() == 0.0


def test_a_removed_head_is_removed_in_decoding_too():
  model, variables = _model()
  source, target = _ids(2, 5), _ids(2, 6)
  keep = {'self_attention': {'keep': jnp.array([[1.0, 1.0], [0.0, 1.0]])}}
  ablated = variables | {'ablation': {'decoder': keep}}
  kernel = variables['params']['decoder']['self_attention']['out']['kernel']
  cut = kernel.at[1, 0].set(0.0)  # [layers, H, K, D]
  decoder = variables['params']['decoder']
  attention = decoder['self_attention'] | {'out': {'kernel': cut}}
  params = variables['params'] | {'decoder': decoder | {'self_attention': attention}}
  expected = model.apply({'params': params}, source, target)
  plain = model.apply(variables, source, target)
  assert float(jnp.abs(expected - plain).max()) > 0.1
  for logits in (
    model.apply(ablated, source, target),
    _cached(model, ablated, source, target),
  ):
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_dropout_acts_in_training():
  model, variables = _model()
  source, target = _ids(1, 5), _ids(1, 6)
  hyper = {'dropout': 0.5, 'attention_dropout': 0.5, 'activation_dropout': 0.5}
  rngs = {'dropout': jax.random.key(1)}
  plain = model.apply(variables, source, target)
  dropped = model.apply(variables, source, target, train=True, hyper=hyper, rngs=rngs)
  assert float(jnp.abs(dropped - plain).max()) > 0.1


def test_the_dropout_of_embeddings_is_that_of_residuals_or_one_of_its_own():
  model, variables = _model(layers=1)
  ids = _ids(1, 6)

  def loss(**hyper):
    rngs = {'dropout': jax.random.key(1)}
    return model.apply(variables, ids, ids, train=True, hyper=hyper, rngs=rngs)

  both = loss(dropout=0.5)
  np.testing.assert_array_equal(loss(dropout=0.5, embedding_dropout=0.5), both)
  without = loss(dropout=0.5, embedding_dropout=0.0)
  assert float(jnp.abs(without - both).max()) > 0.1
  assert float(jnp.abs(without - loss()).max()) > 0.1
  assert float(jnp.abs(loss(embedding_dropout=0.5) - loss()).max()) > 0.1


@pytest.mark.parametrize(
  ('init', 'deviation'),
  [
    ('normal', 64**-0.5),
    ('unit', 1.0),
    ('xavier', (2 / (V + 64)) ** 0.5),
    ('kaiming', (2 / 64) ** 0.5),
  ],
)
@pytest.mark.parametrize('scale', ['sqrt', 'none'])
def test_embeddings_start_and_are_scaled_as_chosen(init, deviation, scale):
  model = Transformer(V, V, width=64, embedding_init=init, embedding_scale=scale)
  read = lambda model, ids: model.target_embedding(ids)  # noqa: E731
  ids = jnp.arange(V)[None]
  vectors, variables = model.init_with_output(jax.random.key(0), ids, method=read)
  table = nn.unbox(variables)['params']['target_embedding']['table']
  assert float(table.std()) == pytest.approx(deviation, rel=0.1)
  factor = 8.0 if scale == 'sqrt' else 1.0
  np.testing.assert_allclose(vectors[0], factor * table, rtol=1e-2)


@pytest.mark.parametrize(('tie', 'tables'), [('all', 1), ('decoder', 2), ('none', 3)])
def test_tied_embeddings_are_one_table(tie, tables):
  _, variables = _model(tie=tie)
  assert sum('embedding' in name for name in variables['params']) == tables


def test_three_way_tying_needs_one_vocabulary():
  model = Transformer(V + 1, V, width=16, mlp_width=32, heads=2, layers=1)
  ids = jnp.ones((1, 3), jnp.int32)
  with pytest.raises(ValueError, match=r'vocabulary\.shared=True'):
    model.init(jax.random.key(0), ids, ids)


def test_learned_positions_refuse_longer_outputs():
  model, variables = _model(positions=FrozenDict(kind='learned', max_length=8))
  memory = model.apply(variables, _ids(1, 5), method='encode')
  with pytest.raises(ValueError, match=r'model\.positions\.max_length=9'):
    model.apply(variables, memory, 1, 9, method='start')


@pytest.mark.parametrize(
  'name', ['positions', 'normalization', 'decoder_normalization']
)
def test_an_unknown_piece_is_refused_with_a_list_of_the_known_ones(name):
  with pytest.raises(ValueError, match=rf"unknown model\.{name} 'new' \(known: '"):
    _model(**{name: 'new'})


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(activation='tanh'), r"unknown model\.activation 'tanh' .*'swiglu'"),
    (dict(norm='new'), r"model\.norm is 'new'; it must be .*'deep'"),
    (dict(initialization='small'), r"initialization is 'small'; .*'depth'"),
    (dict(norm='deep', initialization='depth'), 'set one of them'),
    (dict(window=-1), 'window is -1'),
    (dict(projections='shared'), r"projections is 'shared'; .*'one_matrix'"),
    (
      dict(normalization=FrozenDict(kind='power', groups=3)),
      r'groups=3 does not divide model\.width=16',
    ),
    (
      dict(positions=FrozenDict(kind='t5', bucket=3)),
      r"positions\.bucket; did you mean 'buckets'",
    ),
  ],
)
def test_wrong_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    _model(**options)


def _first(**options):
  """A model with N = 3 layers and M = 2, and its parameters at the start."""
  shape = dict(width=8, mlp_width=8, heads=2, layers=3, decoder_layers=2)
  model = Transformer(V, V, dtype='float32', **shape, **options)
  ids = jnp.ones((1, 3), jnp.int32)
  return model, nn.unbox(jax.jit(model.init)(jax.random.key(0), ids, ids))


@pytest.mark.parametrize(
  ('options', 'scales'),
  [
    # Kernels of values and feed-forward layers, and those that write to the residual.
    (
      dict(norm='deep'),
      {'encoder': [0.87 * 162 ** (-1 / 16)] * 2, 'decoder': [24**-0.25] * 2},
    ),
    (dict(initialization='depth'), {'encoder': [1, 6**-0.5], 'decoder': [1, 6**-0.5]}),
  ],
)
def test_weights_start_at_the_papers_scales(options, scales):
  plain, scaled = (_first(**o)[1]['params'] for o in ({}, options))
  for side, (inner, outer) in scales.items():
    for name, scale in (
      (('self_attention', 'query'), 1),
      (('self_attention', 'key'), 1),
      (('self_attention', 'value'), inner),
      (('self_attention', 'out'), outer),
      (('feed_forward', 'up'), inner),
      (('feed_forward', 'down'), outer),
    ):
      expected, kernel = (p[side][name[0]][name[1]]['kernel'] for p in (plain, scaled))
      np.testing.assert_allclose(kernel, scale * expected, rtol=1e-5)


def test_a_joint_start_has_the_scale_of_one_matrix_for_queries_keys_and_values():
  plain, joint = (_first(**o)[1]['params'] for o in ({}, dict(initialization='joint')))
  for side, kind in (('encoder', 'self_attention'), ('decoder', 'cross_attention')):
    for name, scale in (('query', 0.5), ('key', 0.5), ('value', 0.5), ('out', 1)):
      expected, kernel = (p[side][kind][name]['kernel'] for p in (plain, joint))
      np.testing.assert_allclose(kernel, scale**0.5 * expected, rtol=1e-5)


def test_deep_norm_weights_the_residuals():
  """With sublayers that give 0 and no norm, only the weights of residuals are left."""

  def states(norm):
    model, variables = _first(norm=norm, normalization='none', positions='none')

    def silence(path, x):
      return x * 0 if {'out', 'down'} & {key.key for key in path} else x

    variables = jax.tree_util.tree_map_with_path(silence, variables)
    apply = jax.jit(model.apply, static_argnames='method')
    hidden, _ = apply(variables, _ids(1, 4), _ids(1, 4), method='features')
    memory = apply(variables, _ids(1, 4), method='encode')
    kernel = variables['params']['decoder']['cross_attention']['key']['kernel']
    return memory.layers[0].key / jnp.abs(kernel).max(), hidden

  (memory, hidden), (deep_memory, deep_hidden) = states('post'), states('deep')
  encoder, decoder = 0.81 * 162 ** (1 / 16), 6**0.25  # N^4 M = 162, 3 M = 6
  np.testing.assert_allclose(deep_memory, memory * encoder ** (2 * 3), rtol=1e-4)
  np.testing.assert_allclose(deep_hidden, hidden * decoder ** (3 * 2), rtol=1e-4)


@pytest.mark.parametrize(
  'options',
  [
    dict(positions='t5', normalization='power', activation='swiglu'),
    pytest.param({}, marks=pytest.mark.slow),
  ],
  ids=_name,
)
@pytest.mark.parametrize(
  ('remat', 'unroll'), [('full', None), ('products', 2), ('full', 2)]
)
def test_remat_and_unrolling_change_no_gradients(options, remat, unroll):
  source, target = _ids(2, 5), _ids(2, 6)

  def gradient(**kwargs):
    model = _module(**options, **kwargs)
    _, variables = _model(**options)
    params = {'params': variables['params']}

    def loss(params):
      train = dict(train=True, hyper={}, mutable=('batch_stats',))
      logits, changed = model.apply(variables | params, source, target, **train)
      return (logits**2).mean(), changed

    return jax.jit(jax.grad(loss, has_aux=True))(params)

  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-3)
  jax.tree.map(close, gradient(remat=remat, unroll=unroll), gradient())


def _copied(params, share):
  """Returns the parameters of 2 separate layers that are equal, or adds their gradients."""
  change = (lambda x: x.sum(axis=0)) if share else (lambda x: np.stack([x, x]))
  stacks = {name: jax.tree.map(change, params[name]) for name in ('encoder', 'decoder')}
  return params | stacks


@pytest.mark.parametrize('options', [{}, dict(remat='full', unroll=2)], ids=_name)
def test_shared_layers_are_equal_layers_whose_gradients_are_added(options):
  source, target = _ids(2, 5), _ids(2, 6)
  shared, variables = _model(share_layers=True)
  params = variables['params']
  sizes = jax.tree.map(jnp.shape, _model(layers=1)[1]['params'])
  assert jax.tree.map(lambda x: (1, *x.shape), params['encoder']) == sizes['encoder']
  assert jax.tree.map(lambda x: (1, *x.shape), params['decoder']) == sizes['decoder']

  def gradient(params, **options):
    apply = functools.partial(_module(**options).apply, train=True)
    loss = lambda p: (apply({'params': p}, source, target, hyper={}) ** 2).mean()  # noqa: E731
    return jax.jit(jax.grad(loss))(params)

  expected = _copied(gradient(_copied(params, share=False)), share=True)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
  jax.tree.map(close, gradient(params, share_layers=True, **options), expected)
  logits = _cached(shared, variables, source, target)
  np.testing.assert_allclose(logits, shared.apply(variables, source, target), atol=1e-4)


def test_each_application_of_a_shared_layer_has_statistics_of_its_own():
  ids = _ids(2, 5)
  model, variables = _model(share_layers=True, normalization='batch', norm='post')
  mean = variables['batch_stats']['encoder']['norm_self']['mean']
  assert mean.shape == (2, 16)
  train = dict(train=True, hyper={}, mutable=('batch_stats',))
  _, changed = model.apply(variables, ids, ids, **train)
  after = changed['batch_stats']['encoder']['norm_self']['mean']
  assert float(jnp.abs(after[0] - after[1]).min()) > 0.0


def test_remat_stores_less_for_the_backward_pass():
  source, target = _ids(2, 5), _ids(2, 6)

  def stored(remat):
    model = _module(remat=remat)
    _, variables = _model()
    _, pullback = jax.vjp(lambda v: model.apply(v, source, target).sum(), variables)
    return sum(x.size for x in jax.tree.leaves(pullback))

  assert stored('none') > stored('products') > stored('full')


@pytest.mark.parametrize('options', [{}, COMBINATIONS[5]], ids=_name)
def test_bfloat16_keeps_float32_parameters_and_is_close(options):
  model = _module(dtype='bfloat16', **options)
  ids = jnp.ones((1, 3), jnp.int32)
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(1), ids, ids))
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  source, target = _ids(1, 5), np.append(_ids(1, 5), [[EOS]], axis=1)
  exact = _module(**options).apply(variables, source, target)
  logits = model.apply(variables, source, target).astype(jnp.float32)
  np.testing.assert_allclose(logits, exact, atol=0.05 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize('options', COMBINATIONS, ids=_name)
def test_every_parameter_has_logical_axes(options):
  model = Transformer(V, V, width=16, mlp_width=32, heads=2, layers=2, **options)
  ids = jnp.ones((1, 3), jnp.int32)
  boxed = jax.eval_shape(model.init, jax.random.key(0), ids, ids)['params']
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    assert is_box(leaf)
    assert len(leaf.names) == leaf.value.ndim


def test_the_loss_without_random_bits_is_evaluation(tiny, tmp_path):
  model = tiny['model'] | {'normalization': 'batch'}
  task = Translation.from_config(tiny | {'model': model}, tmp_path)
  variables = nn.unbox(jax.jit(task.init)(jax.random.key(0)))
  batch = task.batches('train').batch(0, seed=0)
  hyper = {'dropout': 0.5, 'label_smoothing': 0.1}
  loss = jax.jit(task.loss)
  first = loss(variables, batch, None, hyper)
  assert not first.collections  # evaluation changes no statistics
  trained = loss(variables, batch, jax.random.key(1), hyper)
  assert float(jnp.abs(trained.value - first.value)) > 1.0
  mean = trained.collections['batch_stats']['encoder']['norm_self']['mean']
  assert float(jnp.abs(mean).min()) > 0.0
  again = loss(variables | trained.collections, batch, None, hyper)
  assert float(jnp.abs(again.value - first.value)) > 1e-3  # reads running statistics


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(train=True), 'train=True needs hyper'),
    (dict(train=True, hyper={'drop_out': 0.1}), "did you mean 'dropout'"),
    (dict(hyper={'dropout': 0.1}), 'set train=True'),
  ],
)
def test_hyperparameters_without_effect_are_refused(options, message):
  model, variables = _model()
  with pytest.raises(ValueError, match=message):
    model.apply(variables, _ids(1, 3), _ids(1, 3), **options)


@pytest.mark.parametrize(
  ('layers', 'unroll', 'barriers'), [(3, 2, True), (3, 3, True), (4, 2, False)]
)
def test_layers_outside_of_a_loop_are_kept_from_being_computed_once(
  layers, unroll, barriers
):
  source, target = _ids(2, 5), _ids(2, 6)
  model = _module(layers=layers, unroll=unroll, remat='full')
  variables = jax.eval_shape(model.init, jax.random.key(0), source, target)
  loss = lambda variables: model.apply(variables, source, target).sum()  # noqa: E731
  text = jax.jit(jax.grad(loss)).lower(variables).as_text()
  assert ('optimization_barrier' in text) == barriers


def test_all_layers_are_in_one_iteration_on_an_accelerator(monkeypatch):
  monkeypatch.setattr(stack, 'platform', lambda: 'tpu')
  assert [stack.layers_per_iteration(n) for n in (1, 6, 12, 18, 24, 13)] == [
    *(1, 6, 12, 9, 12, 1)
  ]


@pytest.mark.parametrize('projections', ['query_is_key', 'one_matrix'])
def test_a_shared_matrix_counts_as_often_as_it_is_applied(projections):
  options = dict(width=8, mlp_width=8, heads=2, layers=1, share_layers=True)
  batch = dict(source=np.ones((2, 3), np.int32), target=np.ones((2, 4), np.int32))
  counts = [
    SequenceToSequence(Transformer(9, 9, **options, projections=x), 9).flops(batch)
    for x in ('separate', projections)
  ]
  assert counts[0] == counts[1] > 0


def test_scheduled_sampling_reads_predictions_from_true_tokens():
  """At a rate of one, in value and gradient, as if they were given as the target."""
  model = _module(sampling_choice='argmax', layers=1)
  _, variables = _model(layers=1)
  source, target = _ids(2, 5), _ids(2, 6, seed=1)
  rows = ([1, 1, 1, 2, 2], [0, 1, 2, 0, 1], [1, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2])
  packing = Packing(*(np.array([row] * 2) for row in rows))  # two sentences per row

  @functools.partial(jax.jit, static_argnames='sampled')
  def run(target, rate=0.0, *, sampled=False):
    training = {}
    if sampled:
      training = dict(train=True, hyper={'scheduled_sampling': rate})
      training['rngs'] = {'dropout': jax.random.key(0)}

    def loss(params):
      logits = model.apply(
        {'params': params}, source, target, packing=packing, **training
      )
      return (logits**2).mean(), logits

    return jax.grad(loss, has_aux=True)(variables['params'])

  forced, logits = run(target)
  own, own_logits = run(logits.argmax(axis=-1))
  assert float(jnp.abs(logits - own_logits).max()) > 1e-2
  close = functools.partial(np.testing.assert_allclose, atol=1e-4)
  for rate, expected in ((0.0, (forced, logits)), (1.0, (own, own_logits))):
    jax.tree.map(close, run(target, rate, sampled=True), expected)
