"""Invariants of models, to test a piece of your own as the project tests its own.

    from seqlab import testing

    def test_my_positions():
      testing.check_model(positions='my_package.positions:Kerple')

Each check makes a tiny model with the given options of `model` and raises
AssertionError where the invariant does not hold. A model of text of one side has no
source; what is said of a target holds for its text. Options must be hashable, so a
section is written as `flax.core.FrozenDict(kind='t5', buckets=6)`. `check_sharding`
needs four devices: on a CPU set jax.config.update('jax_num_cpu_devices', 4) before JAX
makes its devices.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.models import MODELS
from seqlab.models.interface import LanguageModel, Packing, Seq2Seq, TextPacking
from seqlab.pieces import find, make, parameters
from seqlab.train.mesh import RULES, batch_sharding, make_mesh, state_shardings
from seqlab.types import BOS, PAD, Array, Variables

VOCABULARY = 24
_S, _T = 5, 6  # positions of a source and of a target
_SIZES = {
  'transformer': dict(mlp_width=16, heads=2, layers=2),
  'decoder': dict(mlp_width=16, heads=2, layers=2),
  'recurrent_lm': dict(layers=2),
}


def check_model(kind: str = 'transformer', *, packed: bool = True, **options) -> None:
  """Checks all invariants.

  Args:
    kind: short name of a model in `models.MODELS`, or a path to one.
    packed: whether the model reads packed rows.
    **options: options of the model, such as positions='rotary'.

  Raises:
    AssertionError: an invariant does not hold; names it.
  """
  checks: list[Callable] = [check_causality, check_padding, check_cached_decoding]
  if reads_one_side(make_model(kind, **options)[0]):
    checks.append(check_first_tokens)
  checks += [check_packing] * packed + [check_sharding]
  for check in checks:
    try:
      check(kind, **options)
    except AssertionError as error:
      raise AssertionError(f'{check.__name__}({kind!r}, {options}): {error}') from error


def check_causality(kind: str = 'transformer', **options) -> None:
  """Checks that logits depend on the preceding target token, and on no later ones."""
  model, variables = make_model(kind, **options)
  source, target = (np.repeat(_ids(1, n), _T + 1, axis=0) for n in (_S, _T))
  changed = target.copy()
  rows = np.arange(_T)
  changed[rows, rows] = 4 + (changed[rows, rows] - 3) % (VOCABULARY - 4)
  logits = np.asarray(_apply(model)(variables, source, changed))  # [T + 1, T, V]
  change = np.abs(logits[:_T] - logits[_T]).max(axis=-1)  # [changed token, position]
  np.testing.assert_allclose(change[np.tril_indices(_T)], 0.0, atol=1e-5)
  following = np.diagonal(change, 1)  # token j is read at position j + 1
  assert following.min() > 1e-6, 'a position does not depend on the token before it'


def check_padding(kind: str = 'transformer', **options) -> None:
  """Checks that padding on either side changes no logits."""
  model, variables = make_model(kind, **options)
  source, target = _ids(2, _S), _ids(2, _T)
  plain = _apply(model)(variables, source, target)
  longer = (_padded(source, 3), _padded(target, 2))
  padded = _apply(model)(variables, *longer)[:, :_T]
  _assert_close(padded, plain)


def check_cached_decoding(kind: str = 'transformer', **options) -> None:
  """Checks that decoding with a cache gives the logits of teacher forcing."""
  model, variables = make_model(kind, **options)
  # As many rows as in `check_causality`, whose compiled program is used again.
  source, target = _ids(_T + 1, _S), _ids(_T + 1, _T)
  source[1, 3:] = PAD
  logits = _apply(model)(variables, source, target)
  actual = cached_logits(model, variables, source, target)
  _assert_close(actual, logits)


def check_first_tokens(kind: str = 'decoder', **options) -> None:
  """Checks that tokens read at once leave the cache that they leave one by one.

  Each row has two hypotheses, which share the first tokens.
  """
  model, variables = make_model(kind, **options)
  text, first = _ids(3, _T), 3
  inputs = np.repeat(_inputs(text), 2, axis=0)  # [N, T]

  @jax.jit
  def decode(variables: Variables, text: Array, inputs: Array) -> tuple[Array, Array]:
    empty = model.apply(variables, len(text), 2, _T + 2, method='start')
    after = model.apply(variables, empty, text, method='read')

    def step(cache: Any, token: Array) -> tuple[Any, Array]:
      return model.apply(variables, cache, token, method='step')

    one_by_one = jax.lax.scan(step, empty, inputs.T)[1][first:]
    return jax.lax.scan(step, after, inputs.T[first:])[1], one_by_one

  actual, expected = decode(variables, _inputs(text)[:, :first], inputs)
  _assert_close(actual, expected)


def check_packing(kind: str = 'transformer', **options) -> None:
  """Checks that sentences packed in a row have the logits that they have alone."""
  model, variables = make_model(kind, **options)
  separate, row, packing = packed_pairs()
  if reads_one_side(model):
    packing = TextPacking(packing.target_segment, packing.target_position)
  expected = _apply(model)(variables, *separate)[separate[1] != PAD]
  actual = _apply(model)(variables, *row, packing=packing)[row[1] != PAD]
  _assert_close(actual, expected)


def check_sharding(kind: str = 'transformer', **options) -> None:
  """Checks that a training step's forward pass is the same on four devices.

  Raises:
    RuntimeError: there are fewer than four devices.
  """
  if jax.device_count() < 4:
    raise RuntimeError(
      f'check_sharding needs four devices and there are {jax.device_count()}: see '
      f'the docstring of seqlab.testing'
    )
  model, variables = make_model(kind, **options)
  source, target = _ids(4, _S), _ids(4, _T)

  def train(variables: Variables, *sides: Array):
    options = dict(train=True, hyper={}, mutable=['batch_stats'])
    return model.apply(variables, *_sides_of(model, *sides), **options)

  expected = jax.jit(train)(variables, source, target)
  mesh = make_mesh(data=2, tensor=2, devices=4)
  placed = jax.device_put(variables, state_shardings(_init(model), mesh))
  rows = jax.device_put((source, target), batch_sharding(mesh))
  abstract = jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
  with abstract, nn.logical_axis_rules(RULES):
    actual = jax.jit(train)(placed, *rows)
  jax.tree.map(_assert_close, actual, expected)


@functools.cache
def make_model(
  kind: str = 'transformer', **options
) -> tuple[Seq2Seq | LanguageModel, Variables]:
  """Makes a tiny float32 model and variables, in which a mistake shows.

  Returns:
    The model, and variables with larger weights than initial ones and with running
    statistics that differ between layers.
  """
  V = VOCABULARY
  sizes = dict(source_size=V, target_size=V, size=V)
  builder, _ = find(kind, MODELS, 'model')
  tie = False if 'size' in parameters(builder) else 'none'
  defaults = dict(width=8, dtype='float32', tie=tie, **_SIZES.get(kind, {}))
  model = make({'kind': kind, **defaults, **options}, MODELS, 'model', **sizes)
  variables = nn.unbox(jax.jit(_init(model))())
  params = jax.tree.map(lambda x: 1.5 * x, variables['params'])
  statistics = {
    name: jax.tree.map(_spread, tree)
    for name, tree in variables.items()
    if name != 'params'
  }
  return model, {'params': params, **statistics}


def reads_one_side(model: Any) -> bool:
  """Returns whether a model is a `LanguageModel`, and not a `Seq2Seq`."""
  return not hasattr(model, 'encode')


def cached_logits(
  model: Seq2Seq | LanguageModel,
  variables: Variables,
  source: np.ndarray,
  target: np.ndarray,
) -> Array:
  """Returns the logits [B, T, V] of a target that is read one token at a time."""
  B, T = target.shape

  @jax.jit
  def decode(variables: Variables, source: Array, inputs: Array) -> Array:
    # A longer cache than necessary, as in a search: its end must be masked.
    if reads_one_side(model):
      memory, sizes = (), (B, 1, T + 2)
    else:
      memory, sizes = (model.apply(variables, source, method='encode'),), (B, T + 2)
    cache = model.apply(variables, *memory, *sizes, method='start')

    def step(cache: Any, token: Array) -> tuple[Any, Array]:
      return model.apply(variables, *memory, cache, token, method='step')

    return jnp.swapaxes(jax.lax.scan(step, cache, inputs.T)[1], 0, 1)

  return decode(variables, source, _inputs(target))


def _inputs(target: np.ndarray) -> np.ndarray:
  """Returns the tokens that a model reads to predict a target, [B, T]."""
  start = np.full((len(target), 1), BOS, np.int32)
  return np.concatenate([start, target[:, :-1]], axis=1)


def packed_pairs() -> tuple[tuple, tuple, Packing]:
  """Returns two pairs in two padded rows, the same in one row, and its packing."""
  source, target = _ids(2, 4, 1), _ids(2, 5, 2)
  source[1, 2:], target[1, 3:] = PAD, PAD

  def pack(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, m = (ids != PAD).sum(axis=1)
    row = np.append(ids[ids != PAD], [PAD, PAD])[None]
    segment = np.array([[1] * n + [2] * m + [0, 0]], np.int32)
    return row, segment, np.array([[*range(n), *range(m), 0, 0]], np.int32)

  (source_row, *s), (target_row, *t) = pack(source), pack(target)
  return (source, target), (source_row, target_row), Packing(*s, *t)


@functools.cache
def _apply(model: Seq2Seq | LanguageModel) -> Callable[..., Array]:
  """Returns the compiled function (variables, source, target, packing=) -> logits."""

  def apply(variables: Variables, *sides: Array, **packing: Any) -> Array:
    return model.apply(variables, *_sides_of(model, *sides), **packing)

  return jax.jit(apply)


def _sides_of(
  model: Seq2Seq | LanguageModel, source: Array, target: Array
) -> tuple[Array, ...]:
  """Returns the arguments of a model: both sides, or the target as the only one."""
  return (target,) if reads_one_side(model) else (source, target)


def _init(model: Seq2Seq | LanguageModel) -> Callable[[], Variables]:
  ids = jnp.ones((1, 3), jnp.int32)
  return lambda: model.init(jax.random.key(0), *_sides_of(model, ids, ids))


def _ids(rows: int, length: int, seed: int = 0) -> np.ndarray:
  random = np.random.default_rng(seed)
  return random.integers(4, VOCABULARY, (rows, length)).astype(np.int32)


def _padded(ids: np.ndarray, padding: int) -> np.ndarray:
  return np.pad(ids, ((0, 0), (0, padding)), constant_values=PAD)


def _spread(x: Array) -> Array:
  if x.ndim == 0:
    return x
  return x + jnp.linspace(1.0, 2.0, x.size).reshape(x.shape)


def _assert_close(actual: Array, expected: Array) -> None:
  largest = float(jnp.abs(expected).max())
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * max(largest, 1.0))
