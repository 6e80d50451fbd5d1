"""How well each token is predicted when the tokens before it are given."""

from collections.abc import Iterator
import math

from flax import linen as nn
import jax
from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Task
from seqlab.types import Variables


class Evaluator:
  """Cross-entropy (nats), perplexity and accuracy per token, for any task.

  The cross-entropy is the sum 'nll' of the loss, such as one without label smoothing,
  and otherwise the loss itself. There is an accuracy where the loss reports one.
  """

  samples: tuple[str, ...] = ()
  about = ''

  def __init__(
    self,
    task: Task,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 8192,
    shapes: Count = 2,
  ):
    """Puts the split on the devices.

    Args:
      task: any task whose loss is a cross-entropy in nats.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of positions in a batch, at most, where the task can bound it.
      shapes: number of batch shapes, where the task can bound it.
    """

    def sums(variables, batch):
      totals = task.loss(variables, batch, None, {}).totals()
      nll = totals.get('nll', totals['loss'])
      accuracy = {k: x for k, x in totals.items() if k == 'accuracy'}
      return {'nll': nll, **accuracy}

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, sums)
    init = jax.eval_shape(task.init, jax.random.key(0))
    reported = jax.eval_shape(sums, nn.unbox(init), batches.shapes[0])
    self.metrics = ('nll', 'perplexity', *(k for k in reported if k == 'accuracy'))

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields nll, perplexity and accuracy of the split."""
    sums = total(self._resident.run(variables))
    nll, tokens = (float(x) for x in sums['nll'])
    yield 'nll', nll / tokens
    yield 'perplexity', math.exp(min(nll / tokens, 700.0))
    if 'accuracy' in sums:
      yield 'accuracy', float(sums['accuracy'][0]) / float(sums['accuracy'][1])
