"""Sentences to sentences: a trained model, its vocabularies, and a search."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call
from seqlab.data.batching import reverse_sentences
from seqlab.decoding.beam import beam_search, greedy_search
from seqlab.decoding.sampling import sample
from seqlab.domains import Check, Count, Positive, Range, check
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


def _admit_length(length: tuple[float, float]) -> None:
  a, b = length
  if a < 0 or b < 0 or a + b < 1:
    raise ValueError('two numbers from 0 whose sum is at least 1')


@dataclasses.dataclass(frozen=True)
class Search:
  """How outputs are found.

  Attributes:
    beam: hypotheses kept per sentence, M; 1 is greedy search, and the only number for
      sampling, which draws one output per sentence.
    alpha: strength of the GNMT length penalty.
    length: (a, b): an output has at most a * |source| + b words, EOS among them.
    temperature: None to search; a number to sample.
    top_k: sample among the k likeliest words; None for all.
    top_p: sample among the likeliest words that hold this much probability.
    seed: integer seed of sampling.

  Raises:
    ValueError: an option is outside its domain.
  """

  beam: Count = 5
  alpha: Annotated[float, Range(0)] = 0.6
  length: Annotated[tuple[float, float], Check(_admit_length)] = (1.5, 10)
  temperature: Annotated[float, Positive] | None = None
  top_k: Count | None = None
  top_p: Annotated[float, Range(0, 1, exclude_low=True)] = 1.0
  seed: Annotated[int, Range(0, 2**32 - 1)] = 0

  def __post_init__(self):
    check(type(self), vars(self))
    if self.temperature is not None and self.beam != 1:
      raise ValueError(
        f'beam is {self.beam}; sampling, which temperature asks for, draws one output '
        'per sentence: leave it out or set it to 1'
      )

  def limit(self, source_length):
    """Longest output of a source of so many words; works on arrays too."""
    a, b = self.length
    if isinstance(source_length, int):
      return int(a * source_length + b)
    return (a * source_length + b).astype(jnp.int32)


def decode(
  model: Seq2Seq,
  variables: Variables,
  source: Array,
  search: Search,
  ids: Array | None = None,
) -> tuple[Array, Array]:
  """Encodes a batch and searches. Pure; jit it with model and search static.

  Args:
    model: a `Seq2Seq` module.
    variables: its variables.
    source: [B, S] ids. A row of padding gives an empty output.
    search: beam, length penalty, lengths; or sampling.
    ids: [B] a number per sentence, from which its random bits come.

  Returns:
    Tokens [B, M, L], PAD after EOS, best first, and scores [B, M].
  """
  B, S = source.shape
  memory = model.apply(variables, source, method='encode')
  words = (source != PAD).sum(axis=1)
  max_len = search.limit(S)
  limit = jnp.where(words > 0, search.limit(words), 0)
  cache = model.apply(variables, memory, B * search.beam, max_len, method='start')

  def step(cache, token):
    return model.apply(variables, memory, cache, token, method='step')

  shared = dict(batch_size=B, max_len=max_len, limit=limit)
  if search.temperature is not None:
    tokens, scores = sample(
      step,
      cache,
      jax.random.key(search.seed),
      ids=jnp.arange(B) if ids is None else ids,
      temperature=search.temperature,
      top_k=search.top_k or 0,
      top_p=search.top_p,
      **shared,
    )
  elif search.beam == 1:
    tokens, scores = greedy_search(step, cache, **shared)
  else:
    return beam_search(step, cache, beam_size=search.beam, alpha=search.alpha, **shared)
  return tokens[:, None], scores[:, None]


class Translator:
  """Translates lists of sentences in batches sorted by length.

  Attributes:
    vocabularies: of both languages.
    search: how outputs are found.
    written: words of the best outputs so far, EOS among them.
    refused: line number -> why it was not translated, of the last call. There is no
      output for such a line, and all others have theirs: a line is never cut.
  """

  def __init__(
    self,
    model: Seq2Seq,
    variables: Variables,
    vocabularies: Vocabularies,
    search: Search,
    *,
    tokens: int = 4096,
    reverse_source: bool = False,
  ):
    """Compiles when the first batch comes.

    Args:
      model: a `Seq2Seq` module.
      variables: its variables.
      vocabularies: of both languages.
      search: how outputs are found.
      tokens: source positions times beams in a batch, at most.
      reverse_source: read sources from their end, as in training.
    """
    self.vocabularies, self.search = vocabularies, search
    self._variables, self._tokens, self._reverse = variables, tokens, reverse_source
    self.written = 0
    self.refused: dict[int, str] = {}
    self._decode = Fitting(functools.partial(decode, model, search=search))

  def translate(self, lines: Sequence[str]) -> list[str]:
    """The best translation of each line; a blank line gives an empty line."""
    return [best[0][0] for best in self.n_best(lines)]

  def best_ids(self, lines: Sequence[str]) -> list[np.ndarray]:
    """Ids of the best translation of each line, [L]; PAD behind its EOS."""
    nothing = np.zeros(0, np.int32)
    return [nothing if out is None else out[0][0] for out in self._outputs(lines, 0)]

  def n_best(
    self, lines: Sequence[str], *, first: int = 0
  ) -> list[list[tuple[str, float]]]:
    """Translations with their scores, best first, for each line in its place.

    No text comes twice: of several segmentations of one text the best counts. So there
    may be fewer than the beam has hypotheses; always one.

    Args:
      lines: source sentences. A blank one, or a refused one, gives an empty one, with
        score 0.
      first: number of the first line in its stream, from which, with the seed, the
        random bits of sampling come.
    """
    return [
      [('', 0.0)] if out is None else self._texts(*out)
      for out in self._outputs(lines, first)
    ]

  def _texts(self, ids: np.ndarray, scores: np.ndarray) -> list[tuple[str, float]]:
    found: dict[str, float] = {}
    texts = self.vocabularies.target.decode(ids)
    for text, score in zip(texts, scores.tolist(), strict=True):
      if np.isfinite(score):
        found.setdefault(text, score)  # the best comes first
    if not found:
      raise ArithmeticError(
        'the model gives no output a finite score: its parameters are not finite'
      )
    return list(found.items())

  def _outputs(
    self, lines: Sequence[str], first: int
  ) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Ids [M, L] and scores [M], best first, for each line; None for an empty one."""
    shown = {i: line for i, line in enumerate(lines) if not is_blank(line)}
    sentences, self.refused = encode_fitting(self.vocabularies.source, shown)
    # A line may have no piece at all, if a vocabulary knows none of its characters.
    full = {i: len(ids) for i, ids in sentences.items() if len(ids) > 1}
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    batches = collections.deque(batches_of(full, self._tokens // self.search.beam))

    def refuse(rows: list[int], width: int, error: TooLongError) -> None:
      if len(rows) > 1:  # too many together; each by itself may fit
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
          found |= self._read(rows, outputs)
        except TooLongError as error:
          refuse(rows, shape[1], error)
      running = started
    empty = {i for i in range(len(lines)) if i not in full or i in self.refused}
    if found.keys() | empty != set(range(len(lines))) or found.keys() & empty:
      raise AssertionError(f'{len(found)} outputs for {len(full)} lines that need one')
    return [found.get(i) for i in range(len(lines))]

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


def search_of(options: Mapping, where: str = 'search') -> Search:
  """A `Search` from an experiment's section; lists become tuples, to be hashed.

  Raises:
    ValueError: an option is unknown; `where` names the section.
  """
  options = dict(options)
  if isinstance(options.get('length'), Sequence):
    options['length'] = tuple(options['length'])
  if options.get('temperature') is not None:
    options.setdefault('beam', 1)  # sampling draws one output a sentence
  return call(Search, options, where)
