"""Tasks on strings from several levels of the Chomsky hierarchy.

Delétang et al. 2023, "Neural Networks and the Chomsky Hierarchy", section 4 and appendix
A.3, https://arxiv.org/abs/2207.02098. A model reads a random string and writes the value
of a function of it. It is trained on short strings, and evaluated on longer ones: whoever
has learnt the function itself, and not its values, is right there too.
"""

from collections.abc import Callable
import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from seqlab.domains import Count, OneOf, Seed, check
from seqlab.text.corpora import Corpus

SPLITS = ('train', 'valid', 'test')
_CYCLE = 5  # positions
_DIGITS = bytes.maketrans(bytes(range(10)), b'0123456789')


class StringTask(NamedTuple):
  """A function of strings.

  Attributes:
    symbols: number of input symbols, which are written 0, 1, ...
    answer: the function, of the symbols of a string.
  """

  symbols: int
  answer: Callable[[list[int]], list[int]]


def _even_pairs(string: list[int]) -> list[int]:
  """Returns 1 if the string has an odd number of pairs 01 and 10, else 0.

  Each of these pairs is a change of the symbol, so the first and the last symbol decide.
  """
  return [string[0] ^ string[-1]]


def _parity_check(string: list[int]) -> list[int]:
  """Returns 1 if the number of ones is odd, else 0."""
  return [sum(string) % 2]


def _cycle_navigation(string: list[int]) -> list[int]:
  """Returns the last position on a cycle of length 5, of a walk that starts at 0.

  Symbol 0 goes one position back, 1 stays, and 2 goes one position forward.
  """
  return [sum(symbol - 1 for symbol in string) % _CYCLE]


def _reverse_string(string: list[int]) -> list[int]:
  """Returns the string from its end to its beginning."""
  return string[::-1]


def _duplicate_string(string: list[int]) -> list[int]:
  """Returns the string twice."""
  return string + string


# Regular, regular, regular, deterministic context-free, context-sensitive.
TASKS = {
  'even_pairs': StringTask(2, _even_pairs),
  'parity_check': StringTask(2, _parity_check),
  'cycle_navigation': StringTask(3, _cycle_navigation),
  'reverse_string': StringTask(2, _reverse_string),
  'duplicate_string': StringTask(2, _duplicate_string),
}


class Algorithmic(Corpus):
  """Random strings and the answers of a task. Splits: train, valid, test.

  Lengths are drawn uniformly in 'train'. 'valid' has as many strings of each length that
  occurs in 'train', and 'test' of each longer one. A short string may be in 'train' and in
  'valid', as in the paper, which draws both from one distribution. The category of a string
  is its length in steps of ten: '41-50'.

  Attributes:
    name: 'algorithmic'.
    convention: 'none'.
    splits: names of the splits.
    sides: name of a side -> what it holds.
    sizes: name of a split -> number of its strings.
  """

  name, convention, splits = 'algorithmic', 'none', SPLITS

  def __init__(
    self,
    *,
    task: Annotated[str, OneOf(TASKS)] = 'parity_check',
    train: Count = 200_000,
    longest: Count = 40,
    longest_test: Count = 100,
    per_length: Count = 40,
    seed: Seed = 0,
  ):
    """Generates nothing yet.

    Args:
      task: name of a task of `TASKS`.
      train: number of strings in the training split.
      longest: number of symbols of the longest strings of 'train' and 'valid'.
      longest_test: number of symbols of the longest strings of 'test'.
      per_length: number of strings of each length in 'valid' and in 'test'.
      seed: integer seed of the strings.

    Raises:
      ValueError: an option is outside its domain, or no length is left for 'test'.
    """
    options = dict(task=task, train=train, longest=longest, per_length=per_length)
    options |= dict(longest_test=longest_test, seed=seed)
    check(Algorithmic, options, 'corpus.')
    if longest_test <= longest:
      raise ValueError(
        f"corpus.longest_test is {longest_test}: strings of 'test' are longer than those "
        f"of 'train', so write more than corpus.longest, which is {longest}"
      )
    self.task, self.seed = task, seed
    self.sides = {'source': 'string', 'target': 'answer'}
    self._lengths = {
      'train': (1, longest),
      'valid': (1, longest),
      'test': (longest + 1, longest_test),
    }
    self.sizes = {'train': train, 'valid': longest * per_length}
    self.sizes['test'] = (longest_test - longest) * per_length
    self._per_length = per_length
    self._read: dict[str, tuple[list[str], list[str]]] = {}

  def read(self, split: str) -> tuple[list[str], list[str]]:
    """Returns the strings and their answers, with spaces between the symbols.

    Raises:
      ValueError: there is no such split.
    """
    self._check_split(split)
    if split not in self._read:
      strings = self._strings(split)
      answers = [TASKS[self.task].answer(string) for string in strings]
      self._read[split] = _written(strings), _written(answers)
    return self._read[split]

  def categories(self, split: str) -> list[str] | None:
    """Returns the length of each string in steps of ten, '41-50'; of 'train', None."""
    self._check_split(split)
    if split == 'train':
      return None
    tens = (np.repeat(self._each_length(split), self._per_length) - 1) // 10
    return [f'{10 * ten + 1}-{10 * ten + 10}' for ten in tens]

  def skipped(self, split: str) -> int:
    """Returns 0: no string and no answer is empty."""
    self._check_split(split)
    return 0

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of the split's text."""
    digest = hashlib.sha256()
    for side in self.read(split):
      digest.update('\n'.join(side).encode() + b'\0')
    return digest.hexdigest()

  def files(self, split: str) -> dict[str, str]:
    """Returns no files, since the text is generated."""
    del split
    return {}

  def inputs(self) -> list[Path]:
    """Returns no files, since the text is generated."""
    return []

  def _check_split(self, split: str) -> None:
    if split not in SPLITS:
      raise ValueError(f'the corpus has no split {split!r}: {", ".join(SPLITS)}')

  def _each_length(self, split: str) -> np.ndarray:
    shortest, longest = self._lengths[split]
    return np.arange(shortest, longest + 1)

  def _strings(self, split: str) -> list[list[int]]:
    """Returns the symbols of each string.

    String i is a function of the seed, the split and i, so that a smaller split has the
    first strings of a larger one.
    """
    shortest, longest = self._lengths[split]
    draws = _draws(self.seed, SPLITS.index(split), (self.sizes[split], 1 + longest))
    if split == 'train':
      lengths = shortest + _below(longest - shortest + 1, draws[:, 0])
    else:
      lengths = np.repeat(self._each_length(split), self._per_length)
    symbols = _below(TASKS[self.task].symbols, draws[:, 1:]).tolist()
    return [row[:length] for row, length in zip(symbols, lengths, strict=True)]


def _draws(seed: int, stream: int, shape: tuple[int, int]) -> np.ndarray:
  """Returns random integers from 0 to 2^32 - 1, which are the same everywhere.

  The bits of Philox never change, while distributions of NumPy's `Generator` may.
  """
  bits = np.random.Philox(key=[seed, stream]).random_raw(shape[0] * shape[1])
  return (bits >> np.uint64(32)).reshape(shape)


def _below(n: int, draws: np.ndarray) -> np.ndarray:
  """Returns integers from 0 to n - 1, each with the same probability."""
  return ((draws * np.uint64(n)) >> np.uint64(32)).astype(np.int64)


def _written(strings: list[list[int]]) -> list[str]:
  return [' '.join(bytes(string).translate(_DIGITS).decode()) for string in strings]
