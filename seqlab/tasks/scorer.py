"""Forced decoding: log-probabilities of given translations under a model."""

import collections
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.sentences import (
  Fitting,
  TooLongError,
  batches_of,
  encode_fitting,
  no_memory,
  padded,
)
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import Array, Variables


class Scorer:
  """Log-probabilities of target pieces, in batches sorted by length.

  Attributes:
    vocabularies: vocabularies of both languages.
    refused: number of a pair -> why it was not scored, in the last call.
  """

  def __init__(
    self,
    model: Seq2Seq,
    variables: Variables,
    vocabularies: Vocabularies,
    *,
    tokens: int = 4096,
    reverse_source: bool = False,
  ):
    """Compiles nothing yet; each shape is compiled when its first batch comes.

    Args:
      model: a `Seq2Seq` module, or an `Ensemble`.
      variables: its variables.
      vocabularies: vocabularies of both languages.
      tokens: number of positions in a batch on either side, at most.
      reverse_source: whether sources are read from their end, as in training.
    """
    self.vocabularies = vocabularies
    self.refused: dict[int, str] = {}
    self._tokens, self._reverse = tokens, reverse_source

    def score(variables: Variables, source: Array, target: Array) -> Array:
      logp = jax.nn.log_softmax(model.apply(variables, source, target))  # [B, T, V]
      return jnp.take_along_axis(logp, target[..., None], axis=-1)[..., 0]

    self._variables, self._score = variables, Fitting(score)

  def score(self, pairs: Sequence[tuple[str, str]]) -> list[np.ndarray]:
    """Returns log p of each target piece given those before it, EOS the last.

    Args:
      pairs: source and target sentences.

    Returns:
      For each pair, [T] float32, nats; [0] for a pair that was refused.
    """
    both = (self.vocabularies.source, self.vocabularies.target)
    sides, refused = [], {}
    for side, vocabulary in enumerate(both):
      lines = {i: pair[side] for i, pair in enumerate(pairs)}
      ids, long = encode_fitting(vocabulary, lines)
      sides.append(ids)
      name = ('source', 'target')[side]
      refused |= {i: f'has a {name} that {reason}' for i, reason in long.items()}
    self.refused = refused
    longest = {
      i: max(len(side[i]) for side in sides)
      for i in range(len(pairs))
      if i not in refused
    }
    nothing = np.zeros(0, np.float32)
    scores: dict[int, np.ndarray] = dict.fromkeys(refused, nothing)
    batches = collections.deque(batches_of(longest, self._tokens))
    while batches:
      rows, shape = batches.popleft()
      source, target = (padded(side, rows, shape) for side in sides)
      if self._reverse:
        source = reverse_sentences(source)
      try:
        logp = self._run(source, target)
      except TooLongError as error:
        if len(rows) > 1:  # too many together; each alone may fit
          batches.extend(([i], (1, shape[1])) for i in rows)
        else:
          refused[rows[0]] = f'is {longest[rows[0]]:,} pieces long; {error}'
          scores[rows[0]] = nothing
      else:
        scores |= {i: logp[row, : len(sides[1][i])] for row, i in enumerate(rows)}
    return [scores[i] for i in range(len(pairs))]

  def _run(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    try:
      return np.asarray(self._score(self._variables, source, target))
    except jax.errors.JaxRuntimeError as error:
      raise no_memory(error) from None
