"""Translation quality, measured on the devices that hold the model.

Decoding, detokenising and the counting of n-grams are one compiled function per
shape; the host receives ten integers, summed over the devices, and sample sentences.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.decoding.config import DECODING_OPTIONS, make_decoding
from seqlab.domains import Count, OneOf, Range
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.metrics.bleu import bleu_score, bleu_statistics
from seqlab.metrics.characters import characters, detokenize, pieces_of
from seqlab.metrics.corpus import (
  Lines,
  Pieces,
  corpus_statistics,
  line_words,
  signature,
)
from seqlab.metrics.tokenizers import TOKENIZERS, Words, tokenize
from seqlab.tasks.interface import Translates
from seqlab.tasks.translator import decode, search_dtype
from seqlab.text.lines import words as words_of
from seqlab.types import Variables


class Evaluator:
  """Corpus BLEU of detokenised outputs, sacreBLEU's to the last integer.

  Attributes:
    samples: source, reference and output of the first sentences, from the last run.
    about: sacreBLEU's signature of the BLEU that is reported.
    dtype: dtype of the products of its search.
  """

  needs = (Translates,)
  compiles_ahead = True
  signatures: ClassVar = (DECODING_OPTIONS,)  # the options in `**decoding`

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 2048,
    shapes: Count = 3,
    show: Annotated[int, Range(0)] = 8,
    tokenizer: Annotated[str, OneOf(TOKENIZERS)] | None = None,
    lowercase: bool = False,
    lengths: Sequence[Count] = (),
    name: str = 'translation',
    fingerprint: str | None = None,
    **decoding,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data, model and vocabularies.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
      show: number of sentences to keep as samples.
      tokenizer: '13a', 'none' or 'char'; by default the corpus's convention.
      lowercase: score without case.
      lengths: bounds of source lengths, in words; BLEU is reported for each part of
        the split too (Bahdanau et al. 2015, figure 2). (10, 20) makes three parts.
      name: name of the evaluator in the experiment, for messages.
      fingerprint: see `Resident`.
      **decoding: how outputs are found, see `decoding.config`: decoding, beam, ...

    Raises:
      ValueError: the tokeniser is not one of those on the device.
    """
    tokenizer = tokenizer or task.corpus.convention
    if tokenizer not in TOKENIZERS:
      raise ValueError(
        f'evals: BLEU with tokenizer={tokenizer!r} cannot be computed on the device; '
        f'set it to one of {", ".join(TOKENIZERS)}'
      )
    config = make_decoding(decoding, f'evals.{name}')
    if sharding.num_devices > 1:  # sentences would change their device
      config = dataclasses.replace(config, stages=1)
    self._task, self._split, self._show = task, split, show
    self.samples: list[str] = []
    self.dtype = search_dtype(task.model, config.dtype)
    self.about = signature(tokenizer=tokenizer, lowercase=lowercase)
    self._options = dict(tokenizer=tokenizer, lowercase=lowercase)
    self._table = pieces_of(task.vocabularies.target)
    _, reference = task.corpus.read(split)
    self._reference = [line.encode('utf-8') for line in reference]
    # Once, on the host, since references do not change between evaluations.
    words = line_words(Lines(self._reference), **self._options)
    source = [len(words_of(line)) for line in task.corpus.read(split)[0]]
    parts = np.searchsorted(lengths, source).astype(np.int32)  # [R]
    self._parts = _part_names(lengths)
    # One part would only repeat the score of the whole split.
    by_length = self._parts if len(self._parts) > 1 else ()
    self.metrics = ('bleu', *(f'bleu/{name}' for name in by_length), 'length_ratio')

    def function(variables, batch):
      tokens, _ = decode(task.model, variables, batch['source'], config)
      best = tokens[:, 0]  # [B, L]
      # Room for the longest pieces. A piece has at most one word, but may have several
      # punctuation marks: where there are more than two per piece, `_whole` recounts.
      size = best.shape[1] * self._table.bytes.shape[1]
      room = size if tokenizer == 'char' else 2 * best.shape[1]
      text = detokenize(best, self._table, size)
      words = tokenize(characters(text, lowercase), tokenizer, room)
      reference = Words(batch['reference'][:, None], batch['reference_words'][:, None])
      statistics = bleu_statistics(words, reference)  # [B, 10]
      sums = jnp.zeros((len(self._parts), 10), jnp.int32)
      return sums.at[batch['part']].add(statistics), best, words.count.max() > room

    self._resident = Resident(
      evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes),
      sharding,
      function,
      extra={
        'reference': words.hashes,
        'reference_words': words.count,
        'part': parts,
      },
      fingerprint=fingerprint,
    )
    self._part = parts
    self._score = jax.jit(bleu_score)

  @staticmethod
  def check_options(options: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless the options of decoding fit together."""
    make_decoding({k: x for k, x in options.items() if k in DECODING_OPTIONS}, where)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)
    jax.block_until_ready(self._score(np.ones(10, np.int32)))

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields bleu, bleu/1-10 and so on, and the length of outputs over references."""
    out = self._resident.run(variables)
    outputs = [best for _, best, _ in out]
    by_part = total([self._whole(k, *batch) for k, batch in enumerate(out)])
    statistics = by_part.sum(axis=0)  # [10]
    yield 'bleu', float(self._score(statistics.astype(np.int32)))
    for name, part in zip(self._parts, by_part, strict=True):
      if len(self._parts) > 1 and part[9]:
        yield f'bleu/{name}', float(self._score(part.astype(np.int32)))
    yield 'length_ratio', statistics[8] / max(statistics[9], 1)
    self.samples = self._read(outputs)

  def _whole(
    self, k: int, sums: np.ndarray, tokens: np.ndarray, cut: np.ndarray
  ) -> np.ndarray:
    """Returns the sums of batch k by part; recounts on the host if words were cut."""
    if not cut:
      return sums
    lines = [(i, r) for i, r in enumerate(self._resident.rows[k]) if r >= 0]
    ids = Pieces([tokens[i] for i, _ in lines], self._table)
    reference = Lines([self._reference[r] for _, r in lines])
    statistics = corpus_statistics(ids, [reference], **self._options)
    by_part = np.zeros_like(sums)
    np.add.at(by_part, self._part[[r for _, r in lines]], statistics)
    return by_part

  def _read(self, outputs: list[np.ndarray]) -> list[str]:
    best = {}
    for rows, tokens in zip(self._resident.rows, outputs, strict=True):
      best |= {int(r): tokens[i] for i, r in enumerate(rows) if 0 <= r < self._show}
    texts = self._task.vocabularies.target.decode([best[i] for i in sorted(best)])
    source, reference = self._task.corpus.read(self._split)
    triples = zip(source, reference, texts, strict=False)
    return [line for s, r, o in triples for line in (f'< {s}', f'= {r}', f'> {o}', '')]


def _part_names(bounds: Sequence[int]) -> list[str]:
  """Names the parts of a split by length: (10, 20) -> ['1-10', '11-20', '21-']."""
  if list(bounds) != sorted(set(bounds)) or any(bound < 1 for bound in bounds):
    raise ValueError(f'evals: lengths={tuple(bounds)} should rise, from 1 or more')
  starts = [1, *(bound + 1 for bound in bounds)]
  return [f'{a}-{b}' for a, b in zip(starts, [*bounds, ''], strict=True)]
