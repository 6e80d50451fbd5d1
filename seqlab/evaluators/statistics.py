"""The cost of normalising with running statistics instead of those of the batch.

Shen et al., "PowerNorm", 2020, section 3, https://arxiv.org/abs/2003.07845, explain by
this gap why batch normalisation did worse than layer normalisation in their
experiments.
"""

from collections.abc import Iterator

import jax
from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.evaluators import interface
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Task
from seqlab.types import Variables


class Evaluator(interface.Evaluator):
  """Cross-entropy with running statistics, as in decoding, and with the batch's own."""

  compiles_ahead = True
  metrics: tuple[str, ...] = ('nll_running', 'nll_batch', 'gap')

  def __init__(
    self,
    task: Task,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 2048,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: any task.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of positions in a batch, at most, where the task can bound it.
      shapes: number of batch shapes, where the task can bound it.
    """
    rng = jax.random.key(0)  # for dropout, whose rate is 0 here

    def sums(variables, batch):
      keys = {'running': None, 'batch': rng}
      totals = {
        name: task.loss(variables, batch, key, {}).totals()
        for name, key in keys.items()
      }
      return {name: sums.get('nll', sums['loss']) for name, sums in totals.items()}

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, sums)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields both, in nats per token, and by how much running statistics are worse."""
    sums = total(self._resident.run(variables))
    nll = {name: float(nll / words) for name, (nll, words) in sums.items()}
    yield 'nll_running', nll['running']
    yield 'nll_batch', nll['batch']
    yield 'gap', nll['running'] - nll['batch']
