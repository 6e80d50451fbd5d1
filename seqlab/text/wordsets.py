"""Word pairs with human ratings, and analogy questions, to evaluate word vectors.

The named sets are read from $SEQLAB_DATA/embedding-eval/. Words keep the spelling of
their set; `text.words:look_up` tries several spellings.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
import os
from pathlib import Path
import re

import numpy as np

from seqlab.config import suggest
from seqlab.text.lines import read_lines

PAIRS: dict[str, str] = {
  # Finkelstein et al. 2002, https://doi.org/10.1145/503104.503110, and its division
  # into similar and related words by Agirre et al. 2009, https://aclanthology.org/N09-1003.
  'ws353': 'EN-WS-353-ALL.txt',
  'ws353-sim': 'EN-WS-353-SIM.txt',
  'ws353-rel': 'EN-WS-353-REL.txt',
  # Bruni et al. 2014, https://doi.org/10.1613/jair.4135; the inflected words.
  'men': 'EN-MEN-natural-3k.txt',
  # Hill et al. 2015, https://aclanthology.org/J15-4004: similarity, not relatedness.
  'simlex': 'EN-SIMLEX-999.txt',
  # Luong et al. 2013, https://aclanthology.org/W13-3512: rare words.
  'rw': 'EN-RW-STANFORD.txt',
  # Radinsky et al. 2011, https://doi.org/10.1145/1963405.1963455.
  'mturk': 'EN-MTurk-287.txt',
  # Human judgements in Russian: Panchenko et al. 2016, https://arxiv.org/abs/1708.09702.
  'hj': 'RU-HJ.csv',
}
ANALOGIES: dict[str, str] = {
  # Mikolov et al. 2013, https://arxiv.org/abs/1301.3781.
  'google': 'questions-words.txt',
  # Mikolov, Yih and Zweig 2013, https://aclanthology.org/N13-1090; syntactic only.
  'msr': 'msr.txt',
}
# Names of columns in the first line of a file of pairs: 'word1', '# Word (b)'.
_WORD_COLUMN = re.compile(
  r'#?\s*(words?|terms?|tokens?|nouns?|items?|w|слово)[\s_.:-]*[(\[]?[\dab]?[)\]]?',
  re.I,
)
_SCORE_COLUMN = re.compile(
  r'.*(score|sim|human|mean|rating|related|judg|average|gold|оценка).*', re.I
)


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs of words with human ratings of their similarity.

  Attributes:
    name: name of the set.
    pairs: P pairs of words; a pair may occur twice.
    scores: [P] float64 ratings, on the scale of the set.
  """

  name: str
  pairs: tuple[tuple[str, str], ...]
  scores: np.ndarray
  unit = 'pairs'

  @functools.cached_property
  def words(self) -> np.ndarray:
    """Returns the words as an array, [P, 2] str."""
    return np.array(self.pairs, object)


@dataclasses.dataclass(frozen=True)
class Analogies:
  """Questions: a is to b as c is to d.

  Attributes:
    name: name of the set.
    questions: Q tuples (a, b, c, d).
    sections: name of the section of each question; '' in a set without sections.
  """

  name: str
  questions: tuple[tuple[str, str, str, str], ...]
  sections: tuple[str, ...]
  unit = 'questions'

  @functools.cached_property
  def words(self) -> np.ndarray:
    """Returns the words as an array, [Q, 4] str."""
    return np.array(self.questions, object)

  @functools.cached_property
  def parts(self) -> dict[str, np.ndarray]:
    """Returns 'semantic' and 'syntactic' -> [Q] bool; empty if one of them is missing.

    Sections whose name begins with 'gram' are syntactic. In Google's set the five
    others come first; word2vec's compute-accuracy.c relies on this order.
    """
    syntactic = np.array([section.startswith('gram') for section in self.sections])
    if syntactic.all() or not syntactic.any():
      return {}
    return {'semantic': ~syntactic, 'syntactic': syntactic}


WordSet = Pairs | Analogies


def open_wordset(name: str | Path) -> WordSet:
  """Reads a set by its name, or from a file.

  A file is plain or gzipped, in UTF-8. A line is either a pair and its score (word,
  word, number), or four words. They are separated by tabs; in a line without tabs, by
  commas; and in a line without both, by spaces. The first line of a file of pairs may
  name its columns, as in 'word1 word2 score'; any other first line whose score is not a
  number is refused, because it may be a pair. Lines that begin with '# ' and empty
  lines are skipped; ': capitals' begins a section of analogies.

  Args:
    name: one of `PAIRS` or `ANALOGIES`, or a path; the name of a set in a file is the
      file's name up to the first dot.

  Raises:
    ValueError: there is no set of that name, or a line has the wrong form (the message
      says which line).
    FileNotFoundError: the file does not exist.
  """
  known = {**PAIRS, **ANALOGIES}
  if str(name) in known:
    folder = 'similarity' if name in PAIRS else 'analogy'
    return _read(str(name), _find(str(name), folder, known[str(name)]))
  path = Path(name).expanduser()
  if path.is_file():
    return _read(path.name.split('.')[0] or path.name, path)
  raise ValueError(
    f'unknown word set {str(name)!r}{suggest(str(name), known)} (known: '
    f'{", ".join(known)}; or the path of a file, relative to {Path.cwd()})'
  )


def _find(name: str, folder: str, file: str) -> Path:
  data = os.environ.get('SEQLAB_DATA')
  relative = Path('embedding-eval', folder, file)
  path = Path(data or os.devnull, relative)
  if path.is_file():
    return path
  problem = f'there is no file {path}' if data else 'SEQLAB_DATA is not set'
  raise FileNotFoundError(
    f'word set {name}: {problem}; get it from its authors and put it into '
    f'$SEQLAB_DATA/{relative}'
  )


def _read(name: str, path: Path) -> WordSet:
  rows = list(_rows(path))
  if not rows:
    raise ValueError(
      f'{path} is empty; a line should be a pair and its score, or a '
      'question of four words'
    )
  if any(len(row) == 4 for _, _, row in rows[:2]):
    questions = tuple(_question(path, *row) for row in rows)
    return Analogies(name, questions, tuple(section for _, section, _ in rows))
  if len(rows) > 1 and _is_heading(rows[0][2]):
    rows = rows[1:]
  pairs, scores = zip(*(_pair(path, *row) for row in rows), strict=True)
  return Pairs(name, pairs, np.array(scores))


def _rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
  """Yields the number, section and columns of each line."""
  section = ''
  for number, line in enumerate(read_lines(path), 1):
    line = line.strip()
    if line.startswith(':'):
      section = line[1:].strip().lower()
    elif line and not line.startswith('# '):
      separator = next((mark for mark in '\t,' if mark in line), None)
      yield number, section, [column.strip() for column in line.split(separator)]


def _is_heading(row: list[str]) -> bool:
  """Returns whether the first line certainly names its columns."""
  if len(row) != 3 or _number(row[2]) is not None or row[2][:1].isdigit():
    return False
  words = all(map(_WORD_COLUMN.fullmatch, row[:2]))
  return words or _SCORE_COLUMN.fullmatch(row[2]) is not None


def _pair(
  path: Path, number: int, _: str, row: list[str]
) -> tuple[tuple[str, str], float]:
  score = _number(row[2]) if len(row) == 3 else None
  if score is None or not all(row):
    advice = "; if it names the columns, put '# ' before it" if number == 1 else ''
    raise ValueError(
      f'line {number:,} of {path} is {row}; it should be two words and a number{advice}'
    )
  return (row[0], row[1]), score


def _question(path: Path, number: int, _: str, row: list[str]) -> tuple[str, ...]:
  if len(row) != 4 or not all(row):
    raise ValueError(
      f'line {number:,} of {path} has {len(row)} words: {row}; a question has four'
    )
  return tuple(row)


def _number(text: str) -> float | None:
  try:
    number = float(text)
  except ValueError:
    return None
  return number if math.isfinite(number) else None
