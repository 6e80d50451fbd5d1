"""Loss on held-out lines, with samples and windows that are always the same."""

from collections.abc import Callable, Iterator

import jax
from jax.sharding import NamedSharding, PartitionSpec

from seqlab.domains import Count
from seqlab.evaluators.resident import place
from seqlab.tasks.interface import HoldsOut
from seqlab.types import Array, Batch, Variables


class Evaluator:
  """Loss per prediction, nats; every word counts, frequent ones are not thinned out."""

  needs = (HoldsOut,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('loss',)

  def __init__(
    self, task: HoldsOut, sharding: NamedSharding, *, words: Count = 100_000
  ):
    """Puts the lines on the devices; `words` bounds how many words they have."""
    batch = task.evaluation(words)
    self.about = f'{int((batch["words"] >= 0).sum()):,} words held out'
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    self._batch = {name: place(x, everywhere) for name, x in batch.items()}
    self._jitted_loss = self._loss = jax.jit(
      self._loss_of(task), out_shardings=everywhere
    )

  @staticmethod
  def _loss_of(task: HoldsOut) -> Callable[[Variables, Batch], tuple[Array, Array]]:
    """Returns a function from variables and a batch to (sum, number of predictions)."""
    return lambda variables, batch: task.loss(variables, batch, None, {})[:2]

  def compile(self, variables: Variables) -> None:
    """Compiles the loss ahead."""
    self._loss = self._jitted_loss.lower(variables, self._batch).compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields the loss."""
    loss, number = self._loss(variables, self._batch)
    (name,) = self.metrics
    yield name, float(loss) / float(number)
