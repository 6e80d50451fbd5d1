"""What training and `seqlab evaluate` need of an evaluator."""

from collections.abc import Iterable
from typing import Protocol

from seqlab.types import Variables


class Evaluator(Protocol):
  """Named in an experiment as `evals.<name> = dict(type='<module>', ...)`.

  Attributes:
    samples: some lines to read beside the numbers, from the last run; may be
      empty.
  """

  samples: list[str]

  def compile(self, variables: Variables) -> None:
    """Compiles every shape ahead, so that `run` compiles nothing."""
    ...

  def run(self, variables: Variables) -> Iterable[tuple[str, float]]:
    """Yields (name, value); names get the evaluator's own as a prefix."""
    ...
