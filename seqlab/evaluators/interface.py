"""What training and `seqlab evaluate` need of an evaluator."""

from collections.abc import Iterable
from typing import Protocol

from seqlab.types import Variables


class Evaluator(Protocol):
  """Named in an experiment as `evals.<name> = dict(type='<module>', ...)`.

  Attributes:
    samples: some lines to read beside the numbers, from the last run; may be
      empty.
    about: what is needed to read the numbers, such as a metric's signature; said in
      the log when training begins. May be empty.
    metrics: names of all that `run` may yield, so that a metric by which checkpoints
      are kept is known to exist before training. An evaluator need not have it.
    arrays: by name, what a report draws, from the last run; kept in the folder's
      samples/<name>-<step>.npz. An evaluator need not have it.
  """

  samples: list[str]
  about: str

  def compile(self, variables: Variables) -> None:
    """Compiles every shape ahead, so that `run` compiles nothing."""
    ...

  def run(self, variables: Variables) -> Iterable[tuple[str, float]]:
    """Yields (name, value); names get the evaluator's own as a prefix."""
    ...
