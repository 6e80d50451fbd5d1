"""When a run evaluates, saves and ends, in steps."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from seqlab.config import steps_of
from seqlab.tasks.interface import Batches, Task, tokens_per_step

_SAVE_EVERY = 1_000  # steps, where neither `save_every` nor an evaluator says less


@dataclasses.dataclass(frozen=True)
class Timetable:
  """The durations of an experiment, converted to steps.

  Attributes:
    steps: updates of the whole run.
    evaluate_every: name of an evaluator -> steps between its evaluations.
    save_every: steps between checkpoints; each evaluation has one as well.
  """

  steps: int
  evaluate_every: Mapping[str, int]
  save_every: int

  @classmethod
  def from_config(
    cls, config: Mapping[str, Any], task: Task, batches: Batches
  ) -> 'Timetable':
    """Converts what an experiment gives in steps, epochs or tokens.

    Args:
      config: a resolved experiment.
      task: made from it; counts tokens.
      batches: its training batches.

    Raises:
      ValueError: a text is not a duration.
    """

    def in_steps(duration: int | str | None) -> int | None:
      return steps_of(
        duration,
        steps_per_epoch=batches.steps_per_epoch,
        tokens_per_step=tokens_per_step(task, batches),
      )

    steps = in_steps(config['steps'])
    evaluate_every = {
      name: in_steps(evaluator.get('every')) or steps
      for name, evaluator in config['evals'].items()
    }
    default = min([*evaluate_every.values(), _SAVE_EVERY])
    return cls(steps, evaluate_every, in_steps(config['save_every']) or default)

  def due(self, step: int) -> list[str]:
    """Returns the evaluators that run after a step, before the last one."""
    return [name for name, n in self.evaluate_every.items() if step % n == 0]

  def has_checkpoint(self, step: int) -> bool:
    """Returns whether an undisturbed run saves its state after this step."""
    return step % self.save_every == 0 or bool(self.due(step))
