"""Phrases: neighbours that come together so often that they count as one word.

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

_MOST_PASSES = 1_000  # a larger number in a file is damage


class Phrases:
  """Which neighbours are joined.

  Attributes:
    passes: for each pass over a text, (first, second) -> score. The first pass joins
      new and york to new_york; a second one may join new_york and city.
  """

  def __init__(self, passes: Sequence[dict[tuple[str, str], float]]):
    self.passes = tuple(passes)

  @functools.cached_property
  def fingerprint(self) -> str:
    """sha256 of the pairs of each pass."""
    about = json.dumps([sorted(pairs) for pairs in self.passes])
    return hashlib.sha256(about.encode()).hexdigest()

  def join(self, tokens: list[str]) -> list[str]:
    r"""Words with '_' between those that are joined.

    From left to right, and a word is in one phrase of a pass only. '\n' may stand
    among the words, and nothing is joined across it.
    """
    for pairs in self.passes:
      tokens = _join(tokens, pairs)
    return tokens

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.tsv`: pass, first, second, score."""
    rows = [
      f'{number}\t{first}\t{second}\t{score!r}\n'
      for number, pairs in enumerate(self.passes, 1)
      for (first, second), score in sorted(pairs.items(), key=lambda p: (-p[1], p[0]))
    ]
    write_text(Path(directory, f'{name}.tsv'), ''.join(rows))

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Phrases':
    """Reads what `save` wrote.

    Raises:
      ValueError: a line is none of a pass, two words and a score.
    """
    path = Path(directory, f'{name}.tsv')
    passes: list[dict[tuple[str, str], float]] = []
    for number, line in enumerate(read_lines(path), 1):
      try:
        which, first, second, score = line.split('\t')
        if not 1 <= int(which) <= _MOST_PASSES:
          raise ValueError
        while len(passes) < int(which):  # a pass may have joined nothing
          passes.append({})
        passes[int(which) - 1][first, second] = float(score)
      except ValueError:
        raise ValueError(
          f'line {number:,} of {path} is not pass, first, second, score with tabs '
          'between them'
        ) from None
    return cls(passes)


def _join(tokens: list[str], pairs: dict[tuple[str, str], float]) -> list[str]:
  neighbours = enumerate(itertools.pairwise(tokens))
  found = [i for i, pair in neighbours if pair in pairs]
  joined, end = [], 0  # tokens before `end` are done
  for i in found:
    if i >= end:
      joined += tokens[end:i]
      joined.append(f'{tokens[i]}_{tokens[i + 1]}')
      end = i + 2
  return joined + tokens[end:]
