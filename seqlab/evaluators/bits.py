"""How well a text is predicted: perplexity, accuracy, bits per character and byte."""

from collections.abc import Iterator
import math

from jax.sharding import NamedSharding

from seqlab.domains import Count
from seqlab.evaluators import loss
from seqlab.evaluators.resident import total
from seqlab.tasks.interface import CountsText
from seqlab.types import Batch, Sums, Variables


class Evaluator(loss.Evaluator):
  """Cross-entropy of a whole split, for any task that counts its text.

  The text is that which the ids of the split are decoded to: vocabularies of words and
  subwords lose spaces, which are not predicted and do not count (see
  `text.vocabulary.normal_form`). Bits per character and byte of vocabularies that write
  the same text and know all of its characters can be compared. The end of a line counts
  as a character and as a byte, as it is predicted.

  Attributes:
    about: size of the text, and the context from which it is predicted.
  """

  needs = (CountsText,)
  metrics = ('nll', 'perplexity', 'bpc', 'bpb', 'token_accuracy')

  def __init__(
    self,
    task: CountsText,
    sharding: NamedSharding,
    *,
    split: str,
    context: Count | None = None,
    stride: Count | None = None,
    tokens: Count = 8192,
    shapes: Count = 2,
    fingerprint: str | None = None,
  ):
    """Puts the split on the devices.

    Args:
      task: gives the loss, and the length of the text.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      context: tokens that a window of running text has; by default those of training.
      stride: tokens of a window that are predicted, after others that are only read; by
        default all of them.
      tokens: number of positions in a batch, at most, where the task can bound it.
      shapes: number of batch shapes, where the task can bound it.
      fingerprint: see `evaluators.resident.Resident`.
    """
    windows = dict(context=context, stride=stride)
    self._windows = {name: x for name, x in windows.items() if x is not None}
    options = dict(tokens=tokens, shapes=shapes, fingerprint=fingerprint)
    super().__init__(task, sharding, split=split, **options)
    self._size = task.text_size(split)
    self.about = self._described()

  def _described(self) -> str:
    size = self._size
    unknown = [f'{size.unknown:,} unknown tokens'] if size.unknown else []
    counts = f'{size.characters:,} characters', f'{size.bytes:,} bytes'
    context = getattr(self._batches, 'context', None)
    windows = 'every line from its beginning'
    if context is not None:
      windows = f'context {context:,}, stride {self._batches.stride:,} tokens'
    return ', '.join([*counts, *unknown, windows])

  def _sums(self, variables: Variables, batch: Batch) -> Sums:
    totals = super()._sums(variables, batch)
    nll = totals.get('nll', totals['loss'])
    return {'nll': nll, **{k: x for k, x in totals.items() if k == 'accuracy'}}

  def _names(self, reported: Sums) -> tuple[str, ...]:
    names = type(self).metrics
    return names if 'accuracy' in reported else names[:-1]

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields nll and perplexity per token, bits per character and byte, and accuracy.

    `token_accuracy` is the share of tokens that are the most probable one where all
    tokens before them are given, if the loss reports it.
    """
    sums = total(self._resident.run(variables))
    nll, tokens = (float(x) for x in sums['nll'])
    yield 'nll', nll / tokens
    yield 'perplexity', math.exp(min(nll / tokens, 700.0))
    yield 'bpc', nll / math.log(2) / self._size.characters
    yield 'bpb', nll / math.log(2) / self._size.bytes
    if 'accuracy' in sums:
      yield 'token_accuracy', float(sums['accuracy'][0]) / float(sums['accuracy'][1])
