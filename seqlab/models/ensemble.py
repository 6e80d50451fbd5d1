"""Several models as one: the mean of their log-probabilities."""

from collections.abc import Sequence

import jax

from seqlab.models.interface import Seq2Seq
from seqlab.types import Array, PyTree


class Ensemble:
  """Takes the place of a Linen module where nothing is trained.

  The next word's scores are the mean of the models' log-probabilities; a search
  makes probabilities of them again. `variables` is a tuple with each model's own,
  and so are memories and caches. Models may be of any kind; they must read the same
  source ids and write the same target ids.
  """

  def __init__(self, models: Sequence[Seq2Seq]):
    """Takes the models, one or more."""
    self.models = tuple(models)

  def apply(
    self, variables: Sequence[PyTree], *args, method: str = '__call__'
  ) -> PyTree:
    """As Linen's `apply`, for the methods of `models.interface.Seq2Seq`.

    '__call__' gives [B, T, V] log-probabilities in place of logits; 'encode', 'start',
    and 'step' or 'step_attending' are what decoding needs.
    """
    each = list(zip(self.models, variables, strict=True))
    if method == 'encode':
      return tuple(m.apply(v, *args, method='encode') for m, v in each)
    if method == 'start':
      memories, *sizes = args
      return tuple(
        m.apply(v, memory, *sizes, method='start')
        for (m, v), memory in zip(each, memories, strict=True)
      )
    if method in ('step', 'step_attending'):
      memories, caches, token = args
      results = [
        m.apply(v, memory, cache, token, method=method)
        for (m, v), memory, cache in zip(each, memories, caches, strict=True)
      ]
      caches, logits, *attention = zip(*results, strict=True)
      return caches, _mean(logits), *(sum(x) / len(x) for x in attention)
    if method == '__call__':
      return _mean([m.apply(v, *args) for m, v in each])
    raise ValueError(f'an ensemble has no method {method!r}')


def _mean(logits: Sequence[Array]) -> Array:
  return sum(jax.nn.log_softmax(x) for x in logits) / len(logits)
