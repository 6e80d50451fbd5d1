"""Forced decoding: log-probabilities of given translations, or lines, under a model."""

import collections
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.interface import Generates
from seqlab.tasks.sentences import (
  Fitting,
  TooLongError,
  batches_of,
  encode_fitting,
  no_memory,
  padded,
)
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import BOS, EOS, Array, Variables

_NOTHING = np.zeros(0, np.float32)  # scores of what was refused


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
      return _of_tokens(model.apply(variables, source, target), target)

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

    def run(rows: list[int], shape: tuple[int, int]) -> np.ndarray:
      source, target = (padded(side, rows, shape) for side in sides)
      if self._reverse:
        source = reverse_sentences(source)
      return self._score(self._variables, source, target)

    scores = _in_batches(longest, self._tokens, run, refused)
    return [
      scores.get(i, _NOTHING)[: len(sides[1].get(i, ()))] for i in range(len(pairs))
    ]


class LineScorer:
  """Log-probabilities of lines under a language model, in batches sorted by length.

  Attributes:
    refused: number of a line -> why it was not scored, in the last call.
  """

  def __init__(self, task: Generates, variables: Variables, *, tokens: int = 4096):
    """Compiles nothing yet; each shape is compiled when its first batch comes.

    Args:
      task: gives the model, the vocabulary and the kind of text.
      variables: variables of the model.
      tokens: number of positions in a batch, at most.
    """
    self.refused: dict[int, str] = {}
    self._vocabulary, self._tokens = task.vocabularies.text, tokens
    self._before = EOS if task.is_running else BOS
    self._context = task.context

    def score(variables: Variables, text: Array, previous: Array) -> Array:
      return _of_tokens(task.model.apply(variables, text, previous), text)  # [B, L]

    self._variables, self._score = variables, Fitting(score)

  def score(self, lines: Sequence[str]) -> list[np.ndarray]:
    """Returns log p of each token of a line given those before it, EOS the last.

    A line of running text follows the end of another line. In a line that is longer
    than the model's context, tokens are predicted from at least half of the context.

    Args:
      lines: documents, or lines of running text.

    Returns:
      For each line, [L] float32, nats; [0] for a line that was refused.
    """
    encoded, self.refused = encode_fitting(self._vocabulary, dict(enumerate(lines)))
    windows = [(i, n) for i, ids in encoded.items() for n in self._starts(len(ids))]
    texts = {k: encoded[i][n:][: self._context] for k, (i, n) in enumerate(windows)}
    lengths = {k: len(text) for k, text in texts.items()}

    def run(rows: list[int], shape: tuple[int, int]) -> np.ndarray:
      previous = np.full(shape[0], self._before, np.int32)
      for row, (i, n) in enumerate(windows[k] for k in rows):
        previous[row] = encoded[i][n - 1] if n else self._before
      return self._score(self._variables, padded(texts, rows, shape), previous)

    refused: dict[int, str] = {}
    scores = _in_batches(lengths, self._tokens, run, refused, self._context)
    self.refused |= {windows[k][0]: reason for k, reason in refused.items()}
    parts: dict[int, list[np.ndarray]] = {i: [] for i in encoded}
    for k, (i, n) in enumerate(windows):
      parts[i].append(scores.get(k, _NOTHING)[self._context // 2 if n else 0 :])
    return [
      _NOTHING if i in self.refused else np.concatenate(parts[i])
      for i in range(len(lines))
    ]

  def _starts(self, length: int) -> range:
    """Returns where the windows of a line begin, half a context after one another."""
    if self._context is None or length <= self._context:
      return range(1)
    half = self._context // 2
    return range(0, length - half, self._context - half)


def _of_tokens(logits: Array, ids: Array) -> Array:
  """Returns log p of each token: [B, L, V], [B, L] -> [B, L]."""
  logp = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(logp, ids[..., None], axis=-1)[..., 0]


def _in_batches(
  lengths: dict[int, int],
  tokens: int,
  run: Callable[[list[int], tuple[int, int]], Array],
  refused: dict[int, str],
  widest: int | None = None,
) -> dict[int, np.ndarray]:
  """Scores examples in batches.

  Args:
    lengths: number of an example -> its length L.
    tokens: number of positions in a batch, at most.
    run: numbers of examples and shape of a batch -> their scores, [B, L].
    refused: gets the numbers of examples that are too long, with the reason.
    widest: see `batches_of`.

  Returns:
    Number of an example -> its scores, [L]; without those that are refused.
  """
  scores: dict[int, np.ndarray] = {}
  batches = collections.deque(batches_of(lengths, tokens, widest))
  while batches:
    rows, shape = batches.popleft()
    try:
      logp = _fetch(run, rows, shape)
    except TooLongError as error:
      if len(rows) > 1:  # too many together; each alone may fit
        batches.extend(([i], (1, shape[1])) for i in rows)
      else:
        refused[rows[0]] = f'is {lengths[rows[0]]:,} pieces long; {error}'
    else:
      scores |= {i: logp[row, : lengths[i]] for row, i in enumerate(rows)}
  return scores


def _fetch(
  run: Callable[[list[int], tuple[int, int]], Array],
  rows: list[int],
  shape: tuple[int, int],
) -> np.ndarray:
  try:
    return np.asarray(run(rows, shape))
  except jax.errors.JaxRuntimeError as error:
    raise no_memory(error) from None
