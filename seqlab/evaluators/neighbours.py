"""How much a sentence's states depend on what stands beside it: padding, and sentences."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count, Seed
from seqlab.models.interface import Packing
from seqlab.tasks.interface import Translates
from seqlab.tasks.translator import in_dtype
from seqlab.types import EOS, PAD, Array, Variables


class Evaluator:
  """Relative change of the decoder's states by padding, and by a sentence before it.

  Both are zero but for rounding in a model whose attention is masked. The sentences are
  random words.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('padding', 'packing')
  about = ''

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    rows: Count = 16,
    length: Count = 16,
    seed: Seed = 0,
  ):
    """Draws two sentences per row for each side.

    Args:
      task: gives a model that reads packed rows, and the vocabularies.
      sharding: is not used; the sentences lie on every device.
      rows: number of rows.
      length: number of words of each sentence; as many positions of padding are added.
      seed: integer seed of the words.
    """
    del sharding
    random, first = np.random.default_rng(seed), EOS + 1
    sizes = (task.vocabularies.source.size, task.vocabularies.target.size)
    if min(sizes) <= first:
      raise ValueError('neighbours: the vocabulary has no words besides special tokens')
    shape = rows, 2 * length
    source, target = (random.integers(first, n, shape, np.int32) for n in sizes)
    place = np.broadcast_to(np.arange(2 * length), shape)
    segment, position = place // length + 1, place % length
    packing = Packing(segment, position, segment, position)
    padding = np.full((rows, length), PAD, np.int32)
    model = in_dtype(task.model, 'float32')  # whose rounding is far below a leak

    def states(variables: Variables, *ids: Array, packing: Packing | None = None):
      return model.apply(variables, *ids, packing=packing, method='features')[0]

    def changes(variables: Variables) -> tuple[Array, Array]:
      one, other = (x[:, length:] for x in (source, target))
      alone = states(variables, one, other)  # [rows, length, D]
      padded = states(variables, jnp.concatenate([one, padding], axis=1), other)
      packed = states(variables, source, target, packing=packing)[:, length:]
      return _change(alone, padded), _change(alone, packed)

    self._jitted = self._changes = jax.jit(changes)

  def compile(self, variables: Variables) -> None:
    """Compiles the states."""
    self._changes = self._jitted.lower(variables).compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields relative changes of the states: root mean square over that of the states.

    `padding`: if as many positions of padding as words follow the source;
    `packing`: if another pair of sentences precedes this one in the same row.
    """
    padding, packing = self._changes(variables)
    yield 'padding', float(padding)
    yield 'packing', float(packing)


def _change(before: Array, after: Array) -> Array:
  before, after = before.astype(jnp.float32), after.astype(jnp.float32)
  return jnp.sqrt(((after - before) ** 2).mean() / (before**2).mean())
