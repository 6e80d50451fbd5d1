"""A split whose outputs are decoded and measured on the devices.

Decoding, detokenising and measuring are one compiled function per shape. The host
receives the integers and the ids of each output.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.decoding.config import DecodingConfig
from seqlab.evaluators.resident import Resident, evaluation_batches
from seqlab.metrics.characters import characters, detokenize, pieces_of
from seqlab.metrics.corpus import (
  Lines,
  Pieces,
  aligned,
  line_words,
  measure_lines,
)
from seqlab.metrics.measures import Measure, TextMeasure, Unit
from seqlab.metrics.tokenizers import Words, tokenize
from seqlab.tasks.interface import Translates
from seqlab.tasks.references import references_of, writable
from seqlab.tasks.translator import decode, search_dtype
from seqlab.types import Array, Batch, Variables


class Decoded:
  """Outputs of a split, measured by any number of measures after a single search.

  Attributes:
    references: number of references per line, at most.
    dtype: dtype of the products of the search.
    samples: source, reference and output of the first sentences, from the last run.
    statistics: measure -> integers of each line, [R, columns] int64, from the last run.
  """

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    split: str,
    measures: Sequence[Measure | TextMeasure],
    decoding: DecodingConfig,
    *,
    tokens: int,
    shapes: int,
    show: int,
    parts: tuple[np.ndarray, int] | None = None,
    fingerprint: str | None = None,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data, model and vocabularies.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      measures: what is measured.
      decoding: how outputs are found.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
      show: number of sentences to keep as samples.
      parts: [R] number of the part of the split that each line belongs to, from 0, and
        the number of parts; by default there is one part.
      fingerprint: see `Resident`.
    """
    if sharding.num_devices > 1:  # sentences would change their device
      decoding = dataclasses.replace(decoding, stages=1)
    self._task, self._split, self._show = task, split, show
    self._measures, self._decoding = measures, decoding
    self._on_device = [m for m in measures if not hasattr(m, 'text_statistics')]
    self.samples: list[str] = []
    self.statistics: dict[str, np.ndarray] = {}
    self.dtype = search_dtype(task.model, decoding.dtype)
    self._table = pieces_of(task.vocabularies.target)
    texts = references_of(task.corpus, split)
    self._texts = writable(task.vocabularies.target, texts)
    self._sides = [
      [line.encode('utf-8') for line in side] for side in aligned(self._texts)
    ]
    self.references = len(self._sides)
    R = len(self._texts)
    self._part, self._num_parts = parts or (np.zeros(R, np.int32), 1)
    # Once, on the host, since references do not change between evaluations.
    extra = {}
    for unit in self._units:
      stacked = _stacked([line_words(Lines(side), *unit) for side in self._sides])
      extra |= {_key(unit): stacked.hashes, f'{_key(unit)}/count': stacked.count}
    self._resident = Resident(
      evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes),
      sharding,
      self._decode_and_count,
      extra=extra,
      fingerprint=fingerprint,
    )

  @property
  def _units(self) -> list[Unit]:
    return [*dict.fromkeys(unit for m in self._on_device for unit in m.units)]

  def _decode_and_count(
    self, variables: Variables, batch: Batch
  ) -> tuple[list[Array], Array, Array]:
    """Returns integers by measure, [B, columns], ids [B, L], and whether to recount.

    The integers are correct only if no output has more words than there is room for.
    """
    ids, _ = decode(
      self._task.model,
      variables,
      batch['source'],
      self._decoding,
      pieces=self._table,
    )
    best = ids[:, 0]  # [B, L]
    # Room for the longest pieces. A piece has at most one word, but may have several
    # punctuation marks: where there are more than two per piece, `_recount` does it.
    size = best.shape[1] * self._table.bytes.shape[1]
    text = detokenize(best, self._table, size)
    ours, cut = {}, jnp.zeros((), bool)
    for unit in self._units:
      room = size if unit.of_characters else 2 * best.shape[1]
      chars = characters(text, unit.lowercase)
      ours[unit] = tokenize(chars, unit.tokenizer, room)
      cut |= ours[unit].count.max() > room
    counts = [
      measure.statistics(
        [ours[unit] for unit in measure.units],
        [_reference(batch, unit) for unit in measure.units],
      )
      for measure in self._on_device
    ]
    return counts, best, cut

  def compile(self, variables: Variables) -> Mapping[tuple, Callable]:
    """Compiles every shape; see `Resident.compile`."""
    return self._resident.compile(variables)

  def run(self, variables: Variables) -> dict[str, np.ndarray]:
    """Returns the sums of each part by each measure: name -> [parts, columns] int64."""
    out = self._resident.run(variables)
    ids = self._resident.by_line([best for _, best, _ in out])
    counts = [
      self._recount(k, ids) if cut else rows for k, (rows, _, cut) in enumerate(out)
    ]
    device = {
      measure.name: np.stack(self._resident.by_line([rows[i] for rows in counts]))
      for i, measure in enumerate(self._on_device)
    }
    self.statistics = {}
    for measure in self._measures:
      if measure in self._on_device:
        rows = device[measure.name]
      else:
        rows = measure.text_statistics(self._decode(ids), self._texts)
      self.statistics[measure.name] = rows.astype(np.int64)
    self.samples = self._shown(self._decode(ids[: self._show]))
    return {name: self._sums(rows) for name, rows in self.statistics.items()}

  def _decode(self, ids: list[np.ndarray]) -> list[str]:
    return self._task.vocabularies.target.decode(ids)

  def _recount(self, k: int, ids: list[np.ndarray]) -> list[np.ndarray]:
    """Returns the integers of batch k, in which there was no room for all words."""
    rows = self._resident.rows[k]
    lines = rows[rows >= 0]
    outputs = Pieces([ids[line] for line in lines], self._table)
    sides = [Lines([side[line] for line in lines]) for side in self._sides]
    recounted = []
    for measure in self._on_device:
      counts = np.zeros((len(rows), measure.columns), np.int64)
      counts[rows >= 0] = measure_lines(outputs, sides, measure)
      recounted.append(counts)
    return recounted

  def _sums(self, counts: np.ndarray) -> np.ndarray:
    """Adds up the integers of lines by part: [R, columns] -> [parts, columns]."""
    sums = np.zeros((self._num_parts, counts.shape[1]), np.int64)
    np.add.at(sums, self._part, counts)
    return sums

  def _shown(self, outputs: list[str]) -> list[str]:
    source = self._task.corpus.read(self._split)[0]
    triples = zip(source, self._texts, outputs, strict=False)
    return [
      line
      for text, references, output in triples
      for line in (f'< {text}', *(f'= {r}' for r in references), f'> {output}', '')
    ]


def _stacked(sides: Sequence[Words]) -> Words:
  """Returns the tokens of all references as [R, Q, J, F], and counts [R, Q]."""
  width = max(words.hashes.shape[1] for words in sides)
  hashes = [
    np.pad(words.hashes, ((0, 0), (0, width - words.hashes.shape[1]), (0, 0)))
    for words in sides
  ]
  return Words(np.stack(hashes, 1), np.stack([words.count for words in sides], 1))


def _key(unit: Unit) -> str:
  return f'references/{unit.tokenizer}{"/lc" * unit.lowercase}'


def _reference(batch: Batch, unit: Unit) -> Words:
  return Words(batch[_key(unit)], batch[f'{_key(unit)}/count'])
