"""Falling back to the last good checkpoint where training diverges.

Training then resumes with a smaller learning rate, as with Marian's options
`--throw-on-divergence` and `--custom-fallbacks` (Junczys-Dowmunt et al. 2018,
https://marian-nmt.github.io/docs/cmd/marian).
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Annotated

from seqlab import domains
from seqlab.domains import Positive, Range


class DivergenceError(FloatingPointError):
  """The loss or the gradient of a step is not finite, or the loss exceeds its bound.

  Attributes:
    state: the first step whose state is bad. A loss belongs to the state after the step
      before its own: resumed from there it would be the same at any learning rate.
  """

  def __init__(self, text: str, state: int):
    super().__init__(text)
    self.state = state


@dataclasses.dataclass(frozen=True)
class Fallback:
  """The section `fallback` of an experiment.

  Attributes:
    factor: what the learning rate is multiplied by each time.
    times: the largest number of times, over the whole run.
    loss_above: training loss, in nats per target token, above which training counts as
      diverged; None leaves it at losses and gradients that are not finite.
  """

  factor: Annotated[float, Range(0, 1, exclude_low=True)] = 0.5
  times: Annotated[int, Range(0)] = 3
  loss_above: Annotated[float, Positive] | None = None

  def __post_init__(self):
    domains.check_fields(self, 'fallback.')

  def check(self, step: int, seed: int, row: Mapping[str, float]) -> None:
    """Checks the metrics of a step.

    Args:
      step: number of the step, from 1.
      seed: seed of the run, for the message.
      row: metrics of the step.

    Raises:
      DivergenceError: training diverged.
    """
    # Loss and gradient are computed from the state before the step, so a bad one means
    # that this state is bad; a bad update means that the state after the step is.
    before, after = [], []
    for key, name, wrong in (
      ('loss', 'the loss', before),
      ('grad_norm', 'the gradient norm', before),
      ('update_norm', 'the norm of the update of the parameters', after),
    ):
      if not math.isfinite(row.get(key, 0.0)):
        wrong.append(f'{name} is {row[key]}')
    bound = math.inf if self.loss_above is None else self.loss_above
    if math.isfinite(row['loss']) and row['loss'] > bound:
      before.append(f'the loss is {row["loss"]}, above fallback.loss_above={bound:g}')
    if before or after:
      raise DivergenceError(
        f'{" and ".join(before + after)} at step {step:,} (batch {step - 1:,} of '
        f'seed {seed})',
        state=step - 1 if before else step,
      )

  def peak(self, peak: float, times: int) -> float:
    """Returns the learning rate `peak` after falling back so many times."""
    return peak * self.factor**times
