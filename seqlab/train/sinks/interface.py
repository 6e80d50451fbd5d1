"""The interface of sinks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Parameters that a constructor may have besides the options of the experiment.
CONTEXT = {
  'folder': 'folder of the run on this machine, a `Path`',
  'start': 'step from which the run resumes; 0 for a new run',
}


class Sink:
  """Shows a run in another program, named in an experiment as

      c.sinks = ['tensorboard', dict(kind='my_package.sinks:Chat', channel='runs')]

  A class inherits from it and overrides what it shows. Its constructor gets what it
  asks for of `CONTEXT`, and the experiment's options. The constructor and all methods
  are called one after the other in a thread of the sink, so that training does not wait
  for them. An error ends the sink with a message, and the run continues. If the sink
  falls too far behind, calls are left out.
  """

  def configuration(self, config: Mapping[str, Any]) -> None:
    """Shows the resolved experiment, before anything else."""

  def metrics(self, step: int, row: Mapping[str, float]) -> None:
    """Shows the metrics of a step, which may be NaN or infinite."""

  def text(self, step: int, name: str, text: str) -> None:
    """Shows a text, such as translations of an evaluator.

    Args:
      step: number of updates before it.
      name: what it is, such as 'valid/samples'.
      text: one or several lines.
    """

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows an image.

    Args:
      step: number of updates before it.
      name: what it is, such as 'attention/cross'.
      image: uint8 [height, width, 3], red, green and blue.
    """

  def flush(self) -> None:
    """Writes what is not written yet; called before each checkpoint."""

  def close(self) -> None:
    """Ends; nothing is called after it."""
