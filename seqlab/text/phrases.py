"""Phrases: neighbouring words that occur together so often that they form one word.

Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", 2013, section 4, https://arxiv.org/abs/1310.4546; word2phrase.c.
"""

from collections.abc import Sequence
import functools
import hashlib
import itertools
import json
from pathlib import Path

from seqlab.io.files import write_text
from seqlab.text.lines import read_lines

_MAX_PASSES = 1_000  # a larger number in a file means that the file is damaged


class Phrases:
  """Pairs of neighbouring words that are joined into phrases.

  Attributes:
    passes: for each pass over a text, (first, second) -> score. The first pass joins
      new and york to new_york; the second may join new_york and city.
  """

  def __init__(self, passes: Sequence[dict[tuple[str, str], float]]):
    self.passes = tuple(passes)

  @functools.cached_property
  def fingerprint(self) -> str:
    """Returns the sha256 of the pairs of all passes."""
    pairs = json.dumps([sorted(pairs) for pairs in self.passes])
    return hashlib.sha256(pairs.encode()).hexdigest()

  def join(self, tokens: list[str]) -> list[str]:
    r"""Returns the tokens, with the words of each phrase joined by '_'.

    Words are joined from left to right, and a word is part of at most one phrase per
    pass. '\n' may be among the tokens; nothing is joined across it.
    """
    for pairs in self.passes:
      tokens = _join(tokens, pairs)
    return tokens

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.tsv` with the columns pass, first, second, score."""
    rows = [
      f'{number}\t{first}\t{second}\t{score!r}\n'
      for number, pairs in enumerate(self.passes, 1)
      for (first, second), score in sorted(pairs.items(), key=lambda p: (-p[1], p[0]))
    ]
    write_text(Path(directory, f'{name}.tsv'), ''.join(rows))

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Phrases':
    """Reads a file that `save` wrote.

    Raises:
      ValueError: a line does not consist of a pass, two words and a score.
    """
    path = Path(directory, f'{name}.tsv')
    passes: list[dict[tuple[str, str], float]] = []
    for row, line in enumerate(read_lines(path), 1):
      try:
        number, first, second, score = line.split('\t')
        if not 1 <= int(number) <= _MAX_PASSES:
          raise ValueError
        while len(passes) < int(number):  # a pass may have joined nothing
          passes.append({})
        passes[int(number) - 1][first, second] = float(score)
      except ValueError:
        raise ValueError(
          f'line {row:,} of {path} is not pass, first, second, score with tabs '
          'between them'
        ) from None
    return cls(passes)


def _join(tokens: list[str], pairs: dict[tuple[str, str], float]) -> list[str]:
  neighbours = enumerate(itertools.pairwise(tokens))
  starts = [i for i, pair in neighbours if pair in pairs]
  joined, end = [], 0  # tokens before `end` are done
  for i in starts:
    if i >= end:
      joined += tokens[end:i]
      joined.append(f'{tokens[i]}_{tokens[i + 1]}')
      end = i + 2
  return joined + tokens[end:]
