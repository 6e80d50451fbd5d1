"""Sources of several parts, each tokenised by a rule of its own.

The parts of a line are separated by tabs: a lemma as characters and its features as
symbols are 'schmear<tab>V;PST'. A corpus writes such lines where `corpus.columns` gives
a side several columns, and `seqlab translate` reads them.
"""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from seqlab.domains import check_value
from seqlab.pieces import Specification
from seqlab.text.tables import PART
from seqlab.text.vocabulary import (
  RULE,
  Vocabulary,
  content_of,
  damaged,
  flat_ids,
  load_vocabulary,
  read_json,
  rule_of,
  save_vocabulary,
  train_vocabulary,
  write_file,
)
from seqlab.types import EOS, SPECIALS, UNK

_FIRST = EOS + 1


class _Rules:
  """The domain of the option `parts`: a list of vocabularies."""

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError for all but a list of vocabularies and their options."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not len(value):
      raise ValueError(f'{name} is {value!r}; it must be a list of vocabularies')
    for i, part in enumerate(value):
      check_value(f'{name}.{i}', part, RULE)


class Parts:
  """Several vocabularies, whose ids follow one another; see `vocabulary.Vocabulary`.

  The special ids are common to all. The first part has the ids that its vocabulary has
  alone, so that a target with the same vocabulary has the same ids for its tokens. A
  part without an order has an unknown id of its own, its last one, so that a model
  knows an unknown feature from an unknown letter.

  Attributes:
    size: number of ids V, special ones included.
    fingerprint: sha256 of all that decides the ids.
    parts: vocabulary of each part.
    unordered: number of ids, the last ones of all, whose order in a line means nothing.
  """

  def __init__(self, parts: Sequence[Vocabulary]):
    """Takes the vocabulary of each part of a line.

    Raises:
      ValueError: a part whose order matters follows one whose order does not.
    """
    self.parts = tuple(parts)
    ordered = [getattr(part, 'ordered', True) for part in self.parts]
    if ordered != sorted(ordered, reverse=True):
      raise ValueError(
        'a part with ordered=False must come after all parts that are ordered: change '
        'the order of the parts, in corpus.columns or in vocabulary'
      )
    each = zip(self.parts, ordered, strict=True)
    new = [part.size - _FIRST + (not in_order) for part, in_order in each]
    self._starts = [_FIRST + n for n in itertools.accumulate(new[:-1], initial=0)]
    self.size = _FIRST + sum(new)
    self.unordered = sum(n for n, x in zip(new, ordered, strict=True) if not x)
    # The unknown id of each part, as its own vocabulary would number it.
    self._unknown = [
      UNK if in_order else part.size
      for part, in_order in zip(self.parts, ordered, strict=True)
    ]
    digests = [part.fingerprint for part in self.parts]
    if self.unordered:
      digests.append(f'{self.unordered} without an order')
    content = ' '.join(['parts', *digests])
    self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

  @classmethod
  def train(
    cls,
    lines: Iterable[str],
    *,
    parts: Annotated[Sequence[Specification], _Rules()],
  ) -> 'Parts':
    """Learns the vocabulary of each part.

    Args:
      lines: lines with tabs between their parts.
      parts: for each part a kind of vocabulary, or `kind` and its options.

    Raises:
      ValueError: as `train_vocabulary`; or a line has another number of parts.
    """
    rules = [rule_of(part, 'vocabulary.parts') for part in parts]
    each = zip(divided(lines, len(parts)), rules, strict=True)
    return cls([train_vocabulary(text, **rule) for text, rule in each])

  @classmethod
  def load(cls, directory: Path, name: str, parts: Sequence[str] = ()) -> 'Parts':
    """Reads what `save` wrote.

    Args:
      directory: the folder.
      name: stem of the files.
      parts: kind of each part, as the experiment names it; see `load_vocabulary`.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: it is damaged; names it.
    """
    path = Path(directory) / f'{name}.parts'
    count = read_json(path).get('parts')
    if not isinstance(count, int) or count < 1 or (parts and len(parts) != count):
      raise damaged(path, f'it has {count} parts')
    kinds = parts or [None] * count
    stems = [f'{name}.{i}' for i in range(count)]
    each = zip(stems, kinds, strict=True)
    return cls([load_vocabulary(directory, stem, kind) for stem, kind in each])

  def save(self, directory: Path, name: str) -> None:
    """Writes the vocabularies as `name.0.*`, `name.1.*`, ..., and `name.parts`."""
    for i, part in enumerate(self.parts):
      save_vocabulary(part, directory, f'{name}.{i}')
    content = f'{{"parts": {len(self.parts)}}}'
    write_file(Path(directory) / f'{name}.parts', content.encode())

  def problem(self, line: str) -> str:
    """Returns why a line cannot be encoded; '' if it can."""
    count, needed = line.count(PART) + 1, len(self.parts)
    if count == needed:
      return ''
    return f'has {count} parts, and {needed} are needed: write a tab between two parts'

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`.

    Raises:
      ValueError: a line has another number of parts.
    """
    options = {'sampling': sampling, 'seed': seed} if sampling else {}
    encoded = []
    columns = divided(lines, len(self.parts))
    for start, part, unknown, column in zip(*self._layout, columns, strict=True):
      flat, offsets = part.encode(column, **options)
      flat = np.where(flat == UNK, unknown, flat)
      flat = np.where(flat >= _FIRST, flat + start - _FIRST, flat)
      encoded.append(np.split(flat, offsets[1:-1]) if len(column) else [])
    return flat_ids([np.concatenate(ids) for ids in zip(*encoded, strict=True)])

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the text of each sequence: its parts, with tabs between them."""
    rows = [np.asarray(content_of(s), np.int64) for s in sequences]
    decoded = []
    for i, (start, part, unknown) in enumerate(zip(*self._layout, strict=True)):
      own = [ids[self._part_of(ids) == i] for ids in rows]
      own = [np.where(ids >= _FIRST, ids - start + _FIRST, ids) for ids in own]
      own = [np.where(ids == unknown, UNK, ids) for ids in own]
      decoded.append(part.decode(own))
    return [PART.join(parts) for parts in zip(*decoded, strict=True)]

  @property
  def _layout(self) -> tuple[Sequence, ...]:
    """The first id, the vocabulary and the unknown id of each part."""
    return self._starts, self.parts, self._unknown

  def _part_of(self, ids: np.ndarray) -> np.ndarray:
    """Returns the number of each id's part, [L]; that of UNK is the part before."""
    part = np.searchsorted(self._starts, ids, side='right') - 1
    known = np.where(ids == UNK, 0, np.arange(1, len(ids) + 1))
    place = np.maximum.accumulate(known)
    return np.where(place > 0, part[place - 1], 0) if len(ids) else part

  def pieces(self) -> list[str]:
    """Returns a name of every id, [V]; that of part n begins with 'n:' if n > 0."""
    names = [self._of_ids(i, part.pieces()) for i, part in enumerate(self.parts)]
    later = [f'{i}:{name}' for i, part in enumerate(names[1:], 1) for name in part]
    return [*SPECIALS, *names[0], *later]

  def _of_ids(self, i: int, values: list) -> list:
    """Returns the values of the ids of part i, given those of its vocabulary."""
    return [*values[_FIRST:], *([] if self._unknown[i] == UNK else [values[UNK]])]

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into its part, [V]. Parts have no text together."""
    return list(self._surfaces)

  @functools.cached_property
  def _surfaces(self) -> list[bytes]:
    written = [part.surfaces() for part in self.parts]
    own = (x for i, part in enumerate(written) for x in self._of_ids(i, part))
    return [*written[0][:_FIRST], *own]


def divided(lines: Iterable[str], count: int) -> list[list[str]]:
  """Returns the parts of lines: for each part its text in all lines.

  Raises:
    ValueError: a line has another number of parts.
  """
  columns: list[list[str]] = [[] for _ in range(count)]
  for line in lines:
    parts = line.split(PART)
    if len(parts) != count:
      raise ValueError(
        f'{line!r} has {len(parts)} parts, and {count} are needed: write a tab between '
        'two parts'
      )
    for column, part in zip(columns, parts, strict=True):
      column.append(part)
  return columns
