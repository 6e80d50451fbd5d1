"""Where a run is followed while it trains, besides `metrics.jsonl`.

`metrics.jsonl` is the record that everything else reads, and it is always written. The
sinks of an experiment show the same rows, and texts and images besides, in other
programs.
"""

from collections.abc import Mapping
from typing import Any

from seqlab.pieces import Piece
from seqlab.train.sinks.interface import CONTEXT, Sink

# Short name -> path of the class. Paths, so that naming one imports none.
SINKS = {
  'tensorboard': 'seqlab.train.sinks.tensorboard:TensorBoard',
  'wandb': 'seqlab.train.sinks.weights_and_biases:WeightsAndBiases',
}
_DEFAULT = ('tensorboard',)


def sinks_of(config: Mapping[str, Any]) -> list[Any]:
  """Returns the specifications of an experiment's sinks."""
  sinks = config.get('sinks')
  return [*(_DEFAULT if sinks is None else sinks)]


def check_sinks(config: Mapping[str, Any]) -> None:
  """Checks the sinks of an experiment; makes none.

  Raises:
    ValueError: a name or an option is unknown, or a class is not one of sinks.
  """
  piece = Piece(SINKS, context=tuple(CONTEXT), base=Sink)
  for i, specification in enumerate(sinks_of(config)):
    piece.check(f'sinks.{i}', specification)
