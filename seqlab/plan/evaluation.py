"""The program of an evaluator that translates, and what its search reads at least.

The program is the evaluator's own: the search, detokenisation and the measures. Where a
task is planned without its data, the evaluator gets a corpus of one batch and a
vocabulary whose tokens are as long as the longest of a usual one.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.compile.cost import Costs
from seqlab.decoding.config import DECODING_OPTIONS, DecodingConfig, make_decoding
from seqlab.layers.device import compiled_for
from seqlab.models.interface import compute_dtype
from seqlab.tasks.interface import Task, Translates, has
from seqlab.tasks.translator import in_dtype
from seqlab.train.checks import make_evaluators
from seqlab.train.engine import Engine
from seqlab.train.mesh import batch_sharding
from seqlab.types import Batch, PyTree, Variables

_TOKEN_BYTES = 16  # of the longest token: SentencePiece's limit, in characters
_MEASURES = 'seqlab/metrics/'


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a step of a search reads in the memory of a device, at least.

  Attributes:
    weights: bytes of the parameters that a step uses, in the dtype of the products.
    cache: bytes of the cache, of which half is written in a step on average.
    steps: number of steps of the longest output.
  """

  weights: int
  cache: int
  steps: int

  def seconds(self, memory_speed: float) -> float:
    """Returns the time of reading both once."""
    return (self.weights + self.cache) / memory_speed


# Compiles a program; returns it, its arrays, and what a step of its search reads.
CompileEvaluation = Callable[[], tuple[jax.stages.Compiled, Batch, Reading]]


def prepare_evaluation(
  config: Mapping, task: Task, engine: Engine
) -> CompileEvaluation:
  """Returns a function that compiles the first evaluator that translates.

  The search is planned with one batch size. On several devices that is the evaluator's
  program. On one device the evaluator makes the batch smaller as sentences end, so that
  time and memory traffic of the plan are upper bounds.

  Raises:
    ValueError: the experiment has no such evaluator.
  """
  kinds = {name: x for name, x in config['evals'].items() if _translates(x)}
  if not kinds or getattr(task, 'model', None) is None:
    raise ValueError(
      "the experiment has no evaluator of kind 'translation', whose program could be "
      "compiled: leave out --what evaluate, or set config.evals.valid.kind='translation'"
    )
  name, options = next(iter(kinds.items()))
  given = {k: x for k, x in options.items() if k in DECODING_OPTIONS}
  decoding = make_decoding(given, f'evals.{name}')
  # Each batch size has loops of its own, and the longest output would count for each.
  options = {**options, 'shapes': 1, 'stages': 1}
  if not has(task, Translates):
    rows = _num_rows(task, options, engine.mesh.size)
    task = _WithoutData(task, rows)
  sharding = batch_sharding(engine.mesh)
  evaluator = make_evaluators({name: options}, task=task, sharding=sharding)[name]
  state = engine.definition.abstract
  variables = {'params': state.params, **state.collections}

  def compile_program() -> tuple[jax.stages.Compiled, Batch, Reading]:
    with compiled_for(engine.mesh):
      ((shape, program),) = evaluator.compile(variables).items()
      source = jax.ShapeDtypeStruct(dict(shape)['source'], jnp.int32)
      reading = step_reading(task.model, variables, source, decoding)
    share = dataclasses.replace(reading, cache=reading.cache // engine.mesh.size)
    return program, {'source': source}, share

  return compile_program


def _num_rows(task: Task, options: Mapping[str, Any], devices: int) -> int:
  """Returns the sentences of a batch of the evaluator, as many for each device."""
  length = task.batches('train').shapes[0]['source'].shape[1]
  return -(-max(options.get('tokens', 2048) // length, 1) // devices) * devices


def measured_seconds(costs: Costs) -> float:
  """Returns the part of the time that is not the search: texts and measures."""
  return sum(
    cost.seconds
    for cost in costs.items
    if _MEASURES in costs.module.source(cost.instruction)
  )


def search_seconds(costs: Costs) -> float:
  """Returns the time of the loops over the steps of a search."""
  return sum(
    seconds
    for loop, seconds in costs.loops()
    if 'seqlab/decoding/loop.py' in costs.module.source(loop)
  )


def _translates(options: Any) -> bool:
  kinds = ('translation', 'outputs')
  return isinstance(options, Mapping) and options.get('kind') in kinds


def step_reading(
  model: Any,
  variables: Variables,
  source: jax.ShapeDtypeStruct,
  decoding: DecodingConfig,
) -> Reading:
  """Traces a step, and returns the bytes that it reads on all devices together.

  Args:
    model: a `Seq2Seq` module.
    variables: its variables, or their shapes.
    source: [B, S] ids.
    decoding: how outputs are found.
  """
  model = in_dtype(model, decoding.dtype)
  B, S = source.shape
  max_len, rows = decoding.limit(S), B * decoding.num_hypotheses

  def call(method: str, *args: Any) -> Callable:
    return lambda *arrays: model.apply(*arrays, *args, method=method)

  memory = jax.eval_shape(call('encode'), variables, source)
  state = jax.eval_shape(call('start', rows, max_len), variables, memory)
  token = jax.ShapeDtypeStruct((rows,), jnp.int32)
  traced = jax.make_jaxpr(call('step'))(variables, memory, state, token)
  parameters = jax.tree.leaves(variables)
  used = _read_as_a_whole(traced.jaxpr, len(parameters))
  size = compute_dtype(getattr(model, 'dtype', 'float32')).itemsize
  weights = sum(
    x.size * min(size, x.dtype.itemsize)
    for x, is_used in zip(parameters, used, strict=True)
    if is_used
  )
  # With n written positions a step reads n of them: half of all on average.
  written = (max_len + 1) / (2 * max_len)
  grows = [x for x in jax.tree.leaves(state, is_leaf=_can_resize) if _can_resize(x)]
  cache = _num_bytes(memory) + _num_bytes(state)
  cache -= round((1 - written) * _num_bytes(grows))
  return Reading(weights, cache, max_len)


def _can_resize(part: Any) -> bool:
  return hasattr(part, 'resized')


def _read_as_a_whole(jaxpr: Any, number: int) -> list[bool]:
  """Returns which of the first arguments are used, by more than a look-up of rows."""
  live = {x for x in jaxpr.outvars if not _is_literal(x)}
  looked_up = set()
  for equation in reversed(jaxpr.eqns):
    if live.isdisjoint(equation.outvars):
      continue  # its results are not used
    operands = {x for x in equation.invars if not _is_literal(x)}
    (looked_up if equation.primitive.name == 'gather' else live).update(operands)
    live |= looked_up.difference(jaxpr.invars[:number])
  return [x in live for x in jaxpr.invars[:number]]


def _is_literal(x: Any) -> bool:
  return hasattr(x, 'val')


def _num_bytes(tree: PyTree) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


class _WithoutData:
  """A task that is planned without its data, with what an evaluator asks it for.

  Attributes:
    model: the model.
    corpus: as many lines as a batch has rows; each is as long as the longest source.
    vocabularies: only the target's, and of it only the size of its texts.
    reverse_source: whether sources are read from their end, which makes no difference.
  """

  reverse_source = False

  def __init__(self, task: Task, rows: int):
    """Takes the task, and the rows of a batch on all devices together."""
    shapes = task.batches('train').shapes
    self._length = max(x['source'].shape[1] for x in shapes)
    self._rows = rows
    self.model = task.model
    self.corpus = _Lines(rows, self._length)
    self.vocabularies = _Vocabularies(_Target(task.model.target_size))

  def batches(
    self, split: str, *, shuffle: bool = True, rows_multiple: int = 1
  ) -> '_WithoutData':
    """Returns the batches of any split."""
    del split, shuffle, rows_multiple
    return self

  steps_per_epoch = 1

  def batch(self, k: int, *, seed: int) -> Batch:
    """Returns a batch without any token."""
    del k, seed
    shape = self._rows, self._length
    return {side: np.zeros(shape, np.int32) for side in ('source', 'target')}

  def rows(self, k: int) -> np.ndarray:
    """Returns the number of the line in each row."""
    del k
    return np.arange(self._rows)


@dataclasses.dataclass(frozen=True)
class _Lines:
  """A corpus whose lines are equal."""

  number: int
  words: int
  convention: str = '13a'

  def read(self, split: str) -> tuple[list[str], list[str]]:
    """Returns sources and references."""
    del split
    lines = [' '.join(['a'] * self.words)] * self.number
    return lines, lines


@dataclasses.dataclass(frozen=True)
class _Target:
  size: int

  def surfaces(self) -> list[bytes]:
    """Returns the text of each token."""
    return [b'a' * _TOKEN_BYTES] * self.size


class _Vocabularies(NamedTuple):
  target: _Target
