"""The history of a run, which is kept in its checkpoints besides the state."""

from collections.abc import Mapping
import dataclasses
import math


@dataclasses.dataclass
class History:
  """Numbers that decide how a run continues; a part of every checkpoint.

  Attributes:
    best: best value so far of the metric `keep_best`; None before its first value.
    bad: evaluations since then.
    minutes: training time so far, over all starts of the run.
    fallbacks: number of times that training diverged and fell back to a checkpoint.
  """

  best: float | None = None
  bad: int = 0
  minutes: float = 0.0
  fallbacks: int = 0

  @classmethod
  def from_checkpoint(cls, meta: Mapping) -> 'History':
    """Reads the part 'meta' of a checkpoint.

    Raises:
      ValueError: another version of the project wrote it.
    """
    try:
      return cls(**meta)
    except TypeError:
      raise ValueError(
        f'a checkpoint holds {sorted(meta)} besides its state, and this version of '
        'seqlab does not know all of that: use the version that made the run'
      ) from None

  def add(self, value: float, sign: float) -> None:
    """Adds a value of the metric `keep_best`.

    Args:
      value: the metric; NaN is never better than another value.
      sign: 1 where larger values are better, -1 where smaller ones are.
    """
    none = self.best is None or math.isnan(self.best)
    better = not math.isnan(value) and (none or sign * value > sign * self.best)
    self.best, self.bad = (value, 0) if better else (self.best, self.bad + 1)
