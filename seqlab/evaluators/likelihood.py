"""The exact likelihood of held-out lines, which objectives can be compared by.

The loss of negative sampling is that of its yes-or-no questions, and no likelihood of a
word among all words. Its vectors stand for a distribution, however, which is normalised here:
see `embeddings.objectives:Normalised`.
"""

from collections.abc import Callable
import dataclasses

import jax
from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.embeddings.objectives import normalised
from seqlab.evaluators import heldout
from seqlab.tasks.interface import HoldsOut
from seqlab.tasks.word2vec import WindowTask, summed_loss
from seqlab.types import Array, Batch, Variables


class Evaluator(heldout.Evaluator):
  """Cross-entropy per prediction, nats, normalised over the whole vocabulary."""

  metrics: tuple[str, ...] = ('nll',)

  def __init__(self, task: HoldsOut, sharding: NamedSharding, *, words: Count = 4_000):
    """Puts the lines on the devices.

    Args:
      task: a task of word vectors that are trained in windows.
      sharding: sharding of the rows of a batch.
      words: bounds how many words the held-out lines have. Each is compared with the whole
        vocabulary, so that more words take longer.

    Raises:
      ValueError: the task has no windows.
    """
    if not isinstance(task, WindowTask):
      raise ValueError(
        "evals: kind='likelihood' is for word vectors of task='tasks.word2vec:"
        f"WordPrediction', and not for {type(task).__name__}: remove this evaluator"
      )
    super().__init__(task, sharding, words=words)

  @staticmethod
  def _loss_of(task: HoldsOut) -> Callable[[Variables, Batch], tuple[Array, Array]]:
    net = dataclasses.replace(task.net, objective=normalised(task.net.objective))
    return lambda variables, batch: summed_loss(
      net, variables['params'], batch, jax.random.key(0)
    )
