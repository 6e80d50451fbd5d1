"""The state of a training: all that a step changes."""

from flax import struct

from seqlab.types import Array, PyTree, Variables


@struct.dataclass
class TrainState:
  """Everything that a step reads and returns besides its batch.

  Attributes:
    step: [] int32, number of updates so far.
    seed: [] uint32, seed of dropout and other noise. It is data, so that a population
      can vary it without compiling.
    params: the trained parameters, without boxes.
    collections: Linen's other collections, such as running statistics.
    opt_state: state of the optimiser.
    ema: the parameters that are evaluated, where they are not those that are trained:
      their exponential moving average, or the parameters that the optimiser evaluates
      with.
  """

  step: Array
  seed: Array
  params: PyTree
  collections: Variables
  opt_state: PyTree
  ema: PyTree | None = None

  @property
  def variables(self) -> Variables:
    """The variables that a model's `apply` takes."""
    return {'params': self.params, **self.collections}

  @property
  def averaged(self) -> Variables:
    """The variables to evaluate with: averaged parameters, where they are kept."""
    params = self.params if self.ema is None else self.ema
    return {'params': params, **self.collections}
