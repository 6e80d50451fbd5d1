"""The verdict on a row: the mean over its seeds, compared with the published number."""

from collections.abc import Sequence
import math
from typing import NamedTuple

from seqlab.results.row import Row

WITHIN, ABOVE, BELOW = 'reproduced', 'above', 'below'
DIFFERENT_PROTOCOL = 'different protocol'


class Verdict(NamedTuple):
  """Result of all seeds of a row.

  Attributes:
    mean: mean over the seeds.
    interval: half of the width of Student's 95 % interval of the mean; None for one
      seed. It is reported, and decides nothing.
    n: number of seeds.
    relation: 'reproduced' if the mean is within the tolerance of the published value,
      otherwise 'above' or 'below'.
    verdict: the relation, or 'different protocol' where the row says what differs.
  """

  mean: float
  interval: float | None
  n: int
  relation: str
  verdict: str


def judge(row: Row, values: Sequence[float]) -> Verdict:
  """Compares the values of all seeds of a row with its published value."""
  return compare(row.value, row.tolerance, values, differs=bool(row.differs))


def compare(
  value: float, tolerance: float, values: Sequence[float], *, differs: bool
) -> Verdict:
  """Compares the mean of some values with a published value.

  Args:
    value: the published value.
    tolerance: largest difference that counts as reproduced.
    values: one per seed, at least one.
    differs: whether the protocol is known to differ.
  """
  mean = math.fsum(values) / len(values)
  relation = relation_of(mean - value, tolerance)
  verdict = DIFFERENT_PROTOCOL if differs else relation
  return Verdict(mean, _interval(values, mean), len(values), relation, verdict)


def relation_of(difference: float, tolerance: float) -> str:
  """Returns 'reproduced', 'above' or 'below' for a difference from a published value.

  A difference of exactly the tolerance counts as reproduced, also where the decimal
  numbers have no exact binary form (41.52 - 41.02 is slightly more than 0.5), and where
  scores have single precision.
  """
  if abs(difference) <= tolerance or math.isclose(
    abs(difference), tolerance, rel_tol=1e-5
  ):
    return WITHIN
  return ABOVE if difference > 0 else BELOW


def _interval(values: Sequence[float], mean: float) -> float | None:
  n = len(values)
  if n < 2:
    return None
  from scipy.special import stdtrit  # takes long to import

  variance = math.fsum((x - mean) ** 2 for x in values) / (n - 1)
  return float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
