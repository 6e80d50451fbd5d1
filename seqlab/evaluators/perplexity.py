"""How well the next word is foreseen when the words before it are given."""

from collections.abc import Iterator
import math

from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, total
from seqlab.tasks.translation import Translation
from seqlab.types import Variables


class Evaluator:
  """Cross-entropy (nats), perplexity and accuracy per target piece."""

  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('nll', 'perplexity', 'accuracy')
  about = ''

  def __init__(
    self,
    task: Translation,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 8192,
    shapes: Count = 2,
  ):
    """Puts the split on the devices; `tokens` bounds the positions in a batch."""

    def sums(variables, batch):
      sums = task.loss(variables, batch, None, {}).sums
      return {name: sums[name] for name in ('nll', 'accuracy')}

    self._resident = Resident(task, split, sharding, sums, tokens=tokens, shapes=shapes)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields nll, perplexity and accuracy of the split."""
    sums = total(self._resident.run(variables))
    nll, words = (float(x) for x in sums['nll'])
    yield 'nll', nll / words
    yield 'perplexity', math.exp(min(nll / words, 700.0))
    yield 'accuracy', float(sums['accuracy'][0]) / words
