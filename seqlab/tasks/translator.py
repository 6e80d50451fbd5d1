"""Sentences to sentences: a trained model, its vocabularies, and a search."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call
from seqlab.data.pairs import reverse_words
from seqlab.decoding.beam import beam_search, greedy_search
from seqlab.decoding.sampling import sample
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.sentences import batches_of, encode_lines, padded
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import PAD, Array, Variables


@dataclasses.dataclass(frozen=True)
class Search:
  """How outputs are found.

  Attributes:
    beam: hypotheses kept per sentence, M; 1 is greedy search.
    alpha: strength of the GNMT length penalty.
    length: (a, b): an output has at most a * |source| + b words, EOS among them.
    temperature: None to search; a number to sample.
    top_k: sample among the k likeliest words; 0 for all.
    top_p: sample among the likeliest words that hold this much probability.
    seed: of sampling.
  """

  beam: int = 5
  alpha: float = 0.6
  length: tuple[float, float] = (1.5, 10)
  temperature: float | None = None
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0

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
      top_k=search.top_k,
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
    if search.temperature is not None and search.beam != 1:
      raise ValueError('sampling draws one output a sentence: set beam=1')
    self.vocabularies, self.search = vocabularies, search
    self._variables, self._tokens, self._reverse = variables, tokens, reverse_source
    self.written = 0
    self._decode = jax.jit(functools.partial(decode, model, search=search))

  def translate(self, lines: Sequence[str]) -> list[str]:
    """The best translation of each line; an empty line gives an empty line."""
    return [best[0][0] for best in self.n_best(lines)]

  def best_ids(self, lines: Sequence[str]) -> list[np.ndarray]:
    """Ids of the best translation of each line, [L]; PAD behind its EOS."""
    nothing = np.zeros(0, np.int32)
    return [nothing if out is None else out[0][0] for out in self._outputs(lines, 0)]

  def n_best(
    self, lines: Sequence[str], *, first: int = 0
  ) -> list[list[tuple[str, float]]]:
    """Translations with their scores, best first, for each line in its place.

    There are as many as the beam, or all there are if these are fewer; always one.

    Args:
      lines: source sentences. An empty one gives an empty one, with score 0.
      first: number of the first line in its stream, from which, with the seed, the
        random bits of sampling come.
    """
    decode = self.vocabularies.target.decode
    return [
      [('', 0.0)]
      if out is None
      else [
        (text, float(score))
        for text, score in zip(decode(out[0]), out[1], strict=True)
        if np.isfinite(score)
      ]
      for out in self._outputs(lines, first)
    ]

  def _outputs(
    self, lines: Sequence[str], first: int
  ) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Ids [M, L] and scores [M], best first, for each line; None for an empty one."""
    sentences = encode_lines(self.vocabularies.source, lines)
    full = {i: len(ids) for i, ids in enumerate(sentences) if len(ids) > 1}
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    pending = None
    for rows, shape in batches_of(full, self._tokens // self.search.beam):
      source = padded(sentences, rows, shape)
      if self._reverse:
        source = reverse_words(source)
      ids = first + np.resize(rows, len(source))
      outputs = self._decode(self._variables, source, ids=ids)
      if pending:  # read while the devices work on this batch
        found |= self._read(*pending)
      pending = rows, outputs
    if pending:
      found |= self._read(*pending)
    empty = set(range(len(lines))).difference(full)
    if found.keys() | empty != set(range(len(lines))) or found.keys() & empty:
      raise AssertionError(f'{len(found)} outputs for {len(full)} lines that need one')
    return [found.get(i) for i in range(len(lines))]

  def _read(
    self, rows: list[int], outputs: tuple[Array, Array]
  ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Waits for a batch's outputs: line -> its hypotheses' ids and scores."""
    tokens, scores = jax.device_get(outputs)
    self.written += np.count_nonzero(tokens[: len(rows), 0])
    each = zip(rows, tokens, scores, strict=False)
    return {row: (ids, values) for row, ids, values in each}


def search_of(options: Mapping, where: str = 'search') -> Search:
  """A `Search` from an experiment's section; lists become tuples, to be hashed.

  Raises:
    ValueError: an option is unknown; `where` names the section.
  """
  options = dict(options)
  if 'length' in options:
    options['length'] = tuple(options['length'])
  if options.get('temperature') is not None:
    options.setdefault('beam', 1)  # sampling draws one output a sentence
  return call(Search, options, where)
