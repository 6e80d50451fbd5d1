"""Forced decoding: how likely a model finds translations that are given."""

from collections.abc import Sequence
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.pairs import reverse_words
from seqlab.models.interface import Seq2Seq
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import EOS, PAD, Array, Variables


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
      _sentences(vocabulary, [pair[i] for pair in pairs])
      for i, vocabulary in enumerate(
        (self.vocabularies.source, self.vocabularies.target)
      )
    ]
    longest = [max(len(s), len(t)) for s, t in zip(*sides, strict=True)]
    order = sorted(range(len(pairs)), key=longest.__getitem__)
    found: dict[int, np.ndarray] = {}
    start = 0
    while start < len(order):
      width = -(-longest[order[start]] // 16) * 16  # few shapes, as in `Translator`
      B = max(1, self._tokens // width)
      rows = [i for i in order[start : start + B] if longest[i] <= width]
      B = 1 if len(order) == 1 else B
      source, target = (_batch(side, rows, B, width) for side in sides)
      if self._reverse:
        source = reverse_words(source)
      logp = np.asarray(self._score(self._variables, source, target))
      found |= {i: logp[row, : len(sides[1][i])] for row, i in enumerate(rows)}
      start += len(rows)
    return [found[i] for i in range(len(pairs))]


def _sentences(vocabulary, lines: Sequence[str]) -> list[np.ndarray]:
  flat, offsets = vocabulary.encode(lines)
  return [np.append(flat[a:b], EOS) for a, b in itertools.pairwise(offsets)]


def _batch(
  sentences: list[np.ndarray], rows: list[int], B: int, width: int
) -> np.ndarray:
  batch = np.full((B, width), PAD, np.int32)
  for row, i in enumerate(rows):
    batch[row, : len(sentences[i])] = sentences[i]
  return batch
