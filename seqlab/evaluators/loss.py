"""The loss of a split, and every further sum that the loss reports."""

from collections.abc import Iterator, Mapping

from flax import linen as nn
import jax
from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.evaluators import interface
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Task, traced_init
from seqlab.types import Batch, Sums, Variables


class Evaluator(interface.Evaluator):
  """Mean of the loss and of each further sum that it reports, for any task."""

  compiles_ahead = True
  _windows: Mapping[str, int] = {}  # further options of `task.batches`

  def __init__(
    self,
    task: Task,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 8192,
    shapes: Count = 2,
    hyper: Mapping[str, float] = {},  # never changed
    fingerprint: str | None = None,
  ):
    """Puts the split on the devices.

    Args:
      task: any task.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of positions in a batch, at most, where the task can bound it.
      shapes: number of batch shapes, where the task can bound it.
      hyper: hyperparameters of the loss, such as `label_smoothing`; nothing is dropped
        whatever they say. Those left out have the values that switch them off.
      fingerprint: see `Resident`.
    """
    self._task, self._hyper = task, dict(hyper)
    options = dict(tokens=tokens, shapes=shapes, **self._windows)
    self._batches = batches = evaluation_batches(task, split, sharding, **options)
    self._resident = Resident(batches, sharding, self._sums, fingerprint=fingerprint)
    init = jax.eval_shape(lambda: traced_init(task)(jax.random.key(0)))
    reported = jax.eval_shape(self._sums, nn.unbox(init), batches.shapes[0])
    self.metrics = self._names(reported)

  def _sums(self, variables: Variables, batch: Batch) -> Sums:
    return self._task.loss(variables, batch, None, self._hyper).totals()

  def _names(self, reported: Sums) -> tuple[str, ...]:
    return tuple(reported)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields `loss` and the mean of each further sum."""
    for name, (value, weight) in total(self._resident.run(variables)).items():
      yield name, float(value) / float(weight)
