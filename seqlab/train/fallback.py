"""Back to the last good checkpoint with a smaller rate, where training diverges.

As Marian's `--throw-on-divergence` with `--custom-fallbacks` (Junczys-Dowmunt et al.
2018, https://marian-nmt.github.io/docs/cmd/marian).
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Annotated

from seqlab import domains
from seqlab.domains import Positive, Range


class DivergenceError(FloatingPointError):
  """The loss or the gradient of a step is no number, or the loss is beyond a bound.

  Attributes:
    state: the step from whose state on it is wrong. A loss is that of the state after
      the step before, and from there it is the same whatever the rate.
  """

  def __init__(self, text: str, state: int):
    super().__init__(text)
    self.state = state


@dataclasses.dataclass(frozen=True)
class Fallback:
  """What an experiment wants done when training diverges: its section `fallback`.

  Attributes:
    factor: what the learning rate is multiplied by each time.
    times: how often at most, over the whole run.
    loss_above: a training loss (nats a target word) that counts as diverged; None
      leaves it at losses and gradients that are no numbers.
  """

  factor: Annotated[float, Range(0, 1, exclude_low=True)] = 0.5
  times: Annotated[int, Range(0)] = 3
  loss_above: Annotated[float, Positive] | None = None

  def __post_init__(self):
    domains.check_fields(self, 'fallback.')

  def check(self, step: int, seed: int, row: Mapping[str, float]) -> None:
    """Raises DivergenceError if the step's row says so."""
    before, after = [], []  # of the step that the state was good until, or not even
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
    """The experiment's `hyper.peak` after so many times."""
    return peak * self.factor**times
