"""Forced decoding: how likely a model finds translations that are given."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.pairs import reverse_words
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.sentences import batches_of, encode_lines, padded
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import Array, Variables


class Scorer:
  """Log-probabilities of target pieces, in batches sorted by length."""

  def __init__(
    self,
    model: Seq2Seq,
    variables: Variables,
    vocabularies: Vocabularies,
    *,
    tokens: int = 4096,
    reverse_source: bool = False,
  ):
    """Compiles when the first batch comes.

    Args:
      model: a `Seq2Seq` module, or an `Ensemble`.
      variables: its variables.
      vocabularies: of both languages.
      tokens: positions in a batch on either side, at most.
      reverse_source: read sources from their end, as in training.
    """
    self.vocabularies = vocabularies
    self._tokens, self._reverse = tokens, reverse_source

    def score(variables: Variables, source: Array, target: Array) -> Array:
      logp = jax.nn.log_softmax(model.apply(variables, source, target))  # [B, T, V]
      return jnp.take_along_axis(logp, target[..., None], axis=-1)[..., 0]

    self._variables, self._score = variables, jax.jit(score)

  def score(self, pairs: Sequence[tuple[str, str]]) -> list[np.ndarray]:
    """log p of each target piece, EOS the last, all that stand before it given.

    Args:
      pairs: source and target sentences.

    Returns:
      For each pair, [T] float32, nats.
    """
    sides = [
      encode_lines(vocabulary, [pair[i] for pair in pairs])
      for i, vocabulary in enumerate(
        (self.vocabularies.source, self.vocabularies.target)
      )
    ]
    both = enumerate(zip(*sides, strict=True))
    longest = {i: max(len(s), len(t)) for i, (s, t) in both}
    found: dict[int, np.ndarray] = {}
    for rows, shape in batches_of(longest, self._tokens):
      source, target = (padded(side, rows, shape) for side in sides)
      if self._reverse:
        source = reverse_words(source)
      logp = np.asarray(self._score(self._variables, source, target))
      found |= {i: logp[row, : len(sides[1][i])] for row, i in enumerate(rows)}
    return [found[i] for i in range(len(pairs))]
