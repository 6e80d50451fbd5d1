"""Where outputs are right and wrong: scores by length, words by their frequency.

The questions are those of compare-mt (Neubig et al. 2019,
https://arxiv.org/abs/1903.07926).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

# Lowest frequencies of the groups of words, as compare-mt has them.
_FREQUENCIES = (0, 1, 2, 3, 4, 5, 10, 100, 1000)


def length_groups(lengths: Sequence[int], count: int = 5) -> dict[str, np.ndarray]:
  """Divides lines by length into groups of about the same size.

  Args:
    lengths: length of each line.
    count: number of groups, at most.

  Returns:
    '4-6' -> whether each line is in it, [R] bool; only groups that have lines.
  """
  lengths = np.asarray(lengths)
  quantiles = np.quantile(lengths, np.linspace(0, 1, count + 1)[1:], method='lower')
  groups, low = {}, int(lengths.min())
  for high in dict.fromkeys(int(x) for x in quantiles):
    name = f'{low}-{high}' if high > low else f'{high}'
    groups[name] = (lengths >= low) & (lengths <= high)
    low = high + 1
  return groups


def scores_by_group(
  groups: Mapping[str, np.ndarray],
  statistics: np.ndarray,
  score: Callable[[np.ndarray], float],
) -> dict[str, float]:
  """Returns the score of the lines of each group.

  Args:
    groups: name -> whether each line is in it, [R].
    statistics: integers of each line, [R, C].
    score: function of summed statistics.
  """
  return {
    name: float(score(statistics[inside].sum(axis=0)))
    for name, inside in groups.items()
  }


def frequency_groups(counts: Mapping[str, int]) -> Callable[[str], str]:
  """Returns a function: word -> the name of its group, by its count in a text."""
  names = _group_names()

  def group(word: str) -> str:
    n = counts.get(word, 0)
    return names[int(np.searchsorted(_FREQUENCIES, n, side='right')) - 1]

  return group


def _group_names() -> list[str]:
  names = []
  for low, following in zip(_FREQUENCIES, [*_FREQUENCIES[1:], None], strict=True):
    if following is None:
      names.append(f'{low}+')
    else:
      names.append(f'{low}' if following == low + 1 else f'{low}-{following - 1}')
  return names


def word_accuracy(
  hypotheses: Sequence[Sequence[str]],
  references: Sequence[Sequence[str]],
  group: Callable[[str], str],
) -> dict[str, float]:
  """Returns the F1 of the words of each group.

  A word of an output is right as often as it occurs in the reference of its line.

  Args:
    hypotheses: words of each output.
    references: words of the reference of each line.
    group: word -> the name of its group.

  Returns:
    Name -> 2 right / (words of outputs + words of references), for groups that have
    words, in the order of frequency.
  """
  right, total = Counter(), Counter()
  for ours, theirs in zip(hypotheses, references, strict=True):
    own, given = Counter(ours), Counter(theirs)
    for word, n in (own + given).items():
      name = group(word)
      total[name] += n
      right[name] += 2 * min(own[word], given[word])
  known = [name for name in _group_names() if total[name]]
  return {name: right[name] / total[name] for name in known}


def word_counts(lines: Iterable[Sequence[str]]) -> Counter[str]:
  """Returns word -> the number of its occurrences in lines of words."""
  counts: Counter[str] = Counter()
  for words in lines:
    counts.update(words)
  return counts
