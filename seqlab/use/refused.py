"""Lines without a result, reported by their numbers."""

from collections.abc import Mapping

_NAMED = 10  # lines whose reasons are named; of the others only the numbers are


class RefusedLines:
  """Collects lines without a result, and the reasons.

  Attributes:
    total: number of lines so far.
  """

  def __init__(self, kind: str, where: str):
    """Starts with no line.

    Args:
      kind: name of one of them in messages: 'line'.
      where: name of their source in messages: 'the input'.
    """
    self.total, self._kind, self._where = 0, kind, where
    self._count, self._reasons = 0, {}
    self._others: list[int] = []

  def __len__(self) -> int:
    return self._count

  def add(self, first: int, lines: int, reasons: Mapping[int, str]) -> None:
    """Adds lines, the first of which has the number `first`, from 0."""
    self.total += lines
    self._count += len(reasons)
    for i in sorted(reasons):
      if len(self._reasons) < _NAMED:
        self._reasons[first + i + 1] = reasons[i]
      else:
        self._others.append(first + i + 1)

  def report(self, instead: str) -> None:
    """Raises ValueError if there are such lines; `instead` says what was done."""
    if not self._count:
      return
    named = [f'{n:,} of {self._where} {reason}' for n, reason in self._reasons.items()]
    numbers = ', '.join(f'{n:,}' for n in self._others)
    others = f'; and lines {numbers}' if numbers else ''
    raise ValueError(
      f'{self._kind} {f"; {self._kind} ".join(named)}{others} '
      f'({self._count:,} of {self.total:,} lines, {instead})'
    )
