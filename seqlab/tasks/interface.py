"""What training needs of a task. A task knows no devices, steps or checkpoints."""

from typing import Protocol

from seqlab.types import Array, Batch, Hyper, Sums, Variables


class Task(Protocol):
  """Data, a model and a loss.

  A task may have a way of its own to learn from a batch, for one where a gradient of
  all parameters would be a waste: a method

    update(params, batch, rng, rate, constants) -> (params, sums)

  with `rate` the schedule's learning rate and `sums` as those of `loss`. It takes the
  place of gradient and optimiser. `constants` is what a method `constants(mesh)` of the
  task gave, arrays on the devices that every step reads; None if there is no such.

  A class of tasks may have `signatures(config)`, which gives for each section of the
  experiment the functions and classes that its options are for, so that all options are
  checked before anything starts; see `train.checks`. It may have `outline(config)`, which gives a task good for its model,
  `shapes` and `loss` without the data, or None where these are needed.
  """

  steps_per_epoch: int
  tokens_per_step: float  # words in an update, as `tokens` counts, on average
  sections: tuple[str, ...]  # of the experiment, that it reads
  hyper: tuple[str, ...]  # traced hyperparameters that it reads
  report: dict[str, float]  # of the data: pairs, too_long, padding_waste, ...

  def shapes(self) -> tuple[Batch, ...]:
    """One empty training batch of every shape there is, to compile ahead."""
    ...

  def batch(
    self, split: str, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)
  ) -> Batch:
    """Batch number k, a pure function of (seed, k).

    `rows` = (i, n) asks for the i-th of n equal shares of the rows.
    """
    ...

  def init(self, rng: Array) -> Variables:
    """Fresh variables, with logical axes on every parameter."""
    ...

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> tuple[Array, tuple[Sums, Variables]]:
    """The batch's loss, summed over its words, not divided.

    `rng` is of dropout and its like. None means evaluation: nothing is dropped,
    running statistics are used, and no collection changes.

    Also returns sums to report, of which 'loss' carries the weight that the
    gradient is divided by, and the collections besides 'params', as they are now.
    """
    ...

  def tokens(self, batch: Batch) -> int:
    """Words in a batch, by which speed is told."""
    ...

  def flops(self, batch: Batch) -> float:
    """Floating-point operations of one update that the model itself needs."""
    ...
