"""How well each token is predicted when the tokens before it are given."""

from collections.abc import Iterator
import math

from seqlab.evaluators import loss
from seqlab.evaluators.resident import total
from seqlab.types import Batch, Sums, Variables


class Evaluator(loss.Evaluator):
  """Cross-entropy (nats), perplexity and accuracy per token, for any task.

  The cross-entropy is the sum 'nll' of the loss, such as one without label smoothing,
  and otherwise the loss itself. There is an accuracy where the loss reports one.
  """

  def _sums(self, variables: Variables, batch: Batch) -> Sums:
    totals = super()._sums(variables, batch)
    nll = totals.get('nll', totals['loss'])
    return {'nll': nll, **{k: x for k, x in totals.items() if k == 'accuracy'}}

  def _names(self, reported: Sums) -> tuple[str, ...]:
    return 'nll', 'perplexity', *(name for name in reported if name == 'accuracy')

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields nll, perplexity and accuracy of the split."""
    sums = total(self._resident.run(variables))
    nll, tokens = (float(x) for x in sums['nll'])
    yield 'nll', nll / tokens
    yield 'perplexity', math.exp(min(nll / tokens, 700.0))
    if 'accuracy' in sums:
      yield 'accuracy', float(sums['accuracy'][0]) / float(sums['accuracy'][1])
