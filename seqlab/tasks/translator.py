"""Sentences to sentences: a trained model, its vocabularies, and a search."""

import collections
from collections.abc import Mapping, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.decoding.config import DecodingConfig
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.sentences import (
  Fitting,
  TooLongError,
  batches_of,
  encode_fitting,
  no_memory,
  padded,
)
from seqlab.text.lines import is_blank
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import PAD, Array, Variables


def decode(
  model: Seq2Seq,
  variables: Variables,
  source: Array,
  decoding: DecodingConfig,
  ids: Array | None = None,
) -> tuple[Array, Array]:
  """Encodes and decodes a batch. Pure; jit it with model and decoding static.

  Args:
    model: a `Seq2Seq` module.
    variables: its variables.
    source: [B, S] ids. A row of padding gives an empty output.
    decoding: how outputs are found.
    ids: [B] number of each sentence, from which its random bits come; by default 0, 1,
      2, ...

  Returns:
    Tokens [B, M, L], PAD after EOS, best first, and scores [B, M].
  """
  B, S = source.shape
  memory = model.apply(variables, source, method='encode')
  lengths = (source != PAD).sum(axis=1)
  max_len, rows = decoding.limit(S), B * decoding.num_hypotheses
  cache = model.apply(variables, memory, rows, max_len, method='start')

  def step(cache, token):
    return model.apply(variables, memory, cache, token, method='step')

  return decoding(
    step,
    cache,
    batch_size=B,
    max_len=max_len,
    limit=jnp.where(lengths > 0, decoding.limit(lengths), 0),
    ids=jnp.arange(B) if ids is None else ids,
  )


class Translator:
  """Translates lists of sentences in batches sorted by length.

  Attributes:
    vocabularies: vocabularies of both languages.
    decoding: how outputs are found.
    written: number of tokens of the best outputs so far, EOS included.
    refused: line number -> why it was not translated, in the last call. Such a line has
      no output, and all other lines have theirs: a line is never cut.
  """

  def __init__(
    self,
    model: Seq2Seq,
    variables: Variables,
    vocabularies: Vocabularies,
    decoding: DecodingConfig,
    *,
    tokens: int = 4096,
    reverse_source: bool = False,
    fingerprint: str | None = None,
  ):
    """Compiles nothing yet; each shape is compiled when its first batch comes.

    Args:
      model: a `Seq2Seq` module.
      variables: its variables.
      vocabularies: vocabularies of both languages.
      decoding: how outputs are found.
      tokens: number of source positions times hypotheses in a batch, at most.
      reverse_source: whether sources are read from their end, as in training.
      fingerprint: digest of model and decoding; see `seqlab.programs`.
    """
    self.vocabularies, self.decoding = vocabularies, decoding
    self._variables, self._tokens, self._reverse = variables, tokens, reverse_source
    self.written = 0
    self.refused: dict[int, str] = {}
    self._decode = Fitting(
      functools.partial(decode, model, decoding=decoding), fingerprint
    )

  def translate(self, lines: Sequence[str]) -> list[str]:
    """Returns the best translation of each line; a blank line gives an empty line."""
    return [best[0][0] for best in self.n_best(lines)]

  def best_ids(self, lines: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of the best translation of each line, [L]; PAD after its EOS."""
    nothing = np.zeros(0, np.int32)
    return [nothing if out is None else out[0][0] for out in self._outputs(lines, 0)]

  def n_best(
    self, lines: Sequence[str], *, first: int = 0
  ) -> list[list[tuple[str, float]]]:
    """Returns the translations of each line with their scores, best first.

    No text occurs twice: of several segmentations of one text the best counts. There
    may thus be fewer texts than hypotheses in the beam, but always one.

    Args:
      lines: source sentences. A blank one, or a refused one, gives an empty one, with
        score 0.
      first: number of the first line in its stream; together with the seed it decides
        the random bits of sampling.
    """
    return [
      [('', 0.0)] if out is None else self._texts(*out)
      for out in self._outputs(lines, first)
    ]

  def _texts(self, ids: np.ndarray, scores: np.ndarray) -> list[tuple[str, float]]:
    best: dict[str, float] = {}
    texts = self.vocabularies.target.decode(ids)
    for text, score in zip(texts, scores.tolist(), strict=True):
      if np.isfinite(score):
        best.setdefault(text, score)  # the best comes first
    if not best:
      raise ArithmeticError(
        'the model gives no output a finite score: its parameters are not finite'
      )
    return list(best.items())

  def _outputs(
    self, lines: Sequence[str], first: int
  ) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Returns ids [M, L] and scores [M], best first, per line; None for an empty one."""
    shown = {i: line for i, line in enumerate(lines) if not is_blank(line)}
    sentences, self.refused = encode_fitting(self.vocabularies.source, shown)
    # A line has no piece at all if the vocabulary knows none of its characters.
    full = {i: len(ids) for i, ids in sentences.items() if len(ids) > 1}
    outputs_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    # Every hypothesis is a row of the decoder's batch.
    batches = collections.deque(
      batches_of(full, self._tokens // self.decoding.num_hypotheses)
    )

    def refuse(rows: list[int], width: int, error: TooLongError) -> None:
      if len(rows) > 1:  # too many together; each alone may fit
        batches.extend(([i], (1, width)) for i in rows)
      else:
        self.refused[rows[0]] = f'is {full[rows[0]]:,} pieces long; {error}'

    running = None
    while batches or running:
      started = None
      if batches:
        rows, shape = batches.popleft()
        try:
          started = rows, shape, self._start(sentences, rows, shape, first)
        except TooLongError as error:
          refuse(rows, shape[1], error)
      if running:  # read while the devices work on the batch that was started
        rows, shape, outputs = running
        try:
          outputs_of |= self._read(rows, outputs)
        except TooLongError as error:
          refuse(rows, shape[1], error)
      running = started
    empty = {i for i in range(len(lines)) if i not in full or i in self.refused}
    # A missing output would shift all lines after it against their sources.
    done = outputs_of.keys()
    if done | empty != set(range(len(lines))) or done & empty:
      raise AssertionError(f'{len(done)} outputs for {len(full)} lines that need one')
    return [outputs_of.get(i) for i in range(len(lines))]

  def _start(
    self,
    sentences: Mapping[int, np.ndarray],
    rows: list[int],
    shape: tuple[int, int],
    first: int,
  ) -> tuple[Array, Array]:
    """Starts the search of a batch. Raises `TooLongError` if it does not fit."""
    source = padded(sentences, rows, shape)
    if self._reverse:
      source = reverse_sentences(source)
    ids = first + np.resize(rows, len(source))
    return self._decode(self._variables, source, ids=ids)

  def _read(
    self, rows: list[int], outputs: tuple[Array, Array]
  ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Waits for a batch's outputs: line -> its hypotheses' ids and scores."""
    try:
      tokens, scores = jax.device_get(outputs)
    except jax.errors.JaxRuntimeError as error:
      raise no_memory(error) from None
    self.written += np.count_nonzero(tokens[: len(rows), 0])
    each = zip(rows, tokens, scores, strict=False)
    return {row: (ids, values) for row, ids, values in each}
