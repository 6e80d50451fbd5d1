"""All that changes during training, as one value."""

from flax import struct

from seqlab.types import Array, PyTree, Variables


@struct.dataclass
class TrainState:
  """What a step reads and returns.

  Attributes:
    step: [] int32, updates made so far.
    seed: [] uint32, of dropout and its like; data, so that seeds can be swept.
    params: the trained parameters.
    collections: Linen's other collections, such as running statistics.
    opt_state: the optimiser's.
    ema: the parameters that are evaluated, where they are not those that are trained:
      their exponential moving average, or what the optimiser evaluates with.
  """

  step: Array
  seed: Array
  params: PyTree
  collections: Variables
  opt_state: PyTree
  ema: PyTree | None = None

  @property
  def variables(self) -> Variables:
    """What a model's `apply` takes."""
    return {'params': self.params, **self.collections}

  @property
  def averaged(self) -> Variables:
    """The same with the moving average of the parameters, where one is kept."""
    params = self.params if self.ema is None else self.ema
    return {'params': params, **self.collections}
