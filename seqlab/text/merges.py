"""Byte-pair encoding with merges that another program has learnt.

It gives the segments of `subword-nmt apply-bpe` (Sennrich et al. 2016,
https://arxiv.org/abs/1508.07909), which papers published with their data.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np

from seqlab.domains import Count
from seqlab.text.benchmarks import published_merges
from seqlab.text.lines import one_line, read_lines
from seqlab.text.lines import words as words_of
from seqlab.text.vocabulary import content_of, damaged, flat_ids, write_file
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK

_END, _CONTINUES = '</w>', '@@'  # of a word; after a segment that is not the last one
_FIRST = EOS + 1


class Merges:
  """Segments of words; see `vocabulary.Vocabulary`.

  Attributes:
    size: number of ids V, special ones included.
    fingerprint: sha256 of all that decides the ids.
  """

  def __init__(self, merges: Sequence[Sequence[str]], segments: Sequence[str]):
    """Takes pairs in the order in which they are merged, and the known segments."""
    self._merges = [tuple(pair) for pair in merges]
    self._ranks: dict[tuple[str, ...], int] = {}
    for rank, pair in enumerate(self._merges):
      self._ranks.setdefault(pair, rank)  # the first of two, as in subword-nmt
    self._segments = [*SPECIALS, *segments]
    self._ids = {x: i for i, x in enumerate(segments, _FIRST)}
    self._known: dict[str, list[int]] = {}  # word -> its ids
    self.size = len(self._segments)
    self.fingerprint = hashlib.sha256(self._content().encode()).hexdigest()

  @classmethod
  def train(cls, lines: Iterable[str], *, codes: str, min_count: Count = 1) -> 'Merges':
    """Reads merges, and lists the segments of a text.

    Args:
      lines: sentences.
      codes: file of merges, as `subword-nmt learn-bpe` writes it, plain or gzipped; or
        the name of published ones: 'multi30k-wu2021/en-de' or 'multi30k-wu2021/en-fr'.
      min_count: segments that are rarer than this are UNK.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is of another format.
    """
    merges = _read(published_merges(codes) or Path(codes).expanduser())
    segmented = cls(merges, [])
    counts = Counter(word for line in lines for word in words_of(line))
    segments: Counter[str] = Counter()
    for word, count in counts.items():
      for segment in segmented.divide(word):
        segments[segment] += count
    ranked = sorted(segments.items(), key=lambda item: (-item[1], item[0]))
    kept = [x for x, n in ranked if n >= min_count and x not in SPECIALS]
    return cls(merges, kept)

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Merges':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is damaged; names it.
    """
    path = Path(directory) / f'{name}.merges'
    try:
      content = json.loads(path.read_bytes())
      return cls(content['merges'], content['segments'])
    except (ValueError, TypeError, KeyError) as error:  # not UTF-8, JSON, or these keys
      raise damaged(path, error) from None

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.merges`, which is JSON."""
    write_file(Path(directory) / f'{name}.merges', self._content().encode())

  def _content(self) -> str:
    content = {'merges': self._merges, 'segments': self._segments[_FIRST:]}
    return json.dumps(content, ensure_ascii=False, indent=0)

  def divide(self, word: str) -> list[str]:
    """Returns the segments of a word; all but the last one end with '@@'."""
    symbols = [*word[:-1], word[-1] + _END]
    while len(symbols) > 1:
      pairs = set(itertools.pairwise(symbols))
      first = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
      if first not in self._ranks:
        break
      symbols = _merged(symbols, first)
    symbols[-1] = symbols[-1].removesuffix(_END)
    return [*(f'{x}{_CONTINUES}' for x in symbols[:-1]), symbols[-1]]

  def _encoded(self, word: str) -> list[int]:
    if word not in self._known:
      self._known[word] = [self._ids.get(x, UNK) for x in self.divide(word)]
    return self._known[word]

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`."""
    del seed
    if sampling:
      raise ValueError(
        'published merges are not sampled: set batching.sampling=0, or '
        "vocabulary.kind='bpe'"
      )
    return flat_ids(
      [[i for word in words_of(line) for i in self._encoded(word)] for line in lines]
    )

  def normal(self, line: str) -> str:
    """Returns the words of a line, joined by spaces; see `vocabulary.normal_form`."""
    return one_line(' '.join(words_of(line)))

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the words of each sequence, joined by spaces."""
    written = self._written
    texts = (''.join(written[i] for i in content_of(s)) for s in sequences)
    return [one_line(text).rstrip(' ') for text in texts]

  def pieces(self) -> list[str]:
    """Returns the segment of every id, [V]."""
    return list(self._segments)

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes, [V]: a segment, and a space where a word ends."""
    silent = (PAD, BOS, EOS)
    written = enumerate(map(one_line, self._written))
    return [b'' if i in silent else x.encode() for i, x in written]

  @property
  def _written(self) -> list[str]:
    return [
      x.removesuffix(_CONTINUES) if x.endswith(_CONTINUES) else f'{x} '
      for x in self._segments
    ]


def _merged(symbols: Sequence[str], pair: tuple[str, str]) -> list[str]:
  """Returns symbols in which each occurrence of a pair, from the left, is merged."""
  merged, i = [], 0
  while i < len(symbols):
    both = tuple(symbols[i : i + 2]) == pair
    merged.append(''.join(pair) if both else symbols[i])
    i += 2 if both else 1
  return merged


def _read(path: Path) -> list[list[str]]:
  """Returns the pairs of a file of merges."""
  if not path.is_file():
    raise FileNotFoundError(
      f'vocabulary.codes: there is no file {path}; correct the path (relative paths '
      f'start from {Path.cwd()})'
    )
  first, *lines = read_lines(path) or ['']
  if first != '#version: 0.2':
    raise ValueError(
      f"vocabulary.codes: {path} does not begin with '#version: 0.2': write it with a "
      'recent `subword-nmt learn-bpe`'
    )
  merges = [line.split(' ') for line in lines]
  for number, pair in enumerate(merges, 2):
    if len(pair) != 2:
      raise ValueError(f'line {number:,} of {path} is not a pair of symbols')
  return merges
