"""Verdicts at, within and beyond the tolerance."""

import pytest

from seqlab.results.row import Row
from seqlab.results.verdicts import judge

ROW = dict(metric='test/bleu', value=41.02, of='A', url='https://a.org', tolerance=0.5)


@pytest.mark.parametrize(
  ('value', 'verdict'),
  [
    (41.02, 'reproduced'),
    (41.52, 'reproduced'),  # the edge, where 41.52 - 41.02 > 0.5 in binary
    (40.52, 'reproduced'),
    (41.53, 'above'),
    (40.51, 'below'),
  ],
)
def test_the_mean_is_compared_with_the_tolerance(value, verdict):
  judged = judge(Row(**ROW), [value - 1, value, value + 1])
  assert judged.verdict == judged.relation == verdict
  different = judge(Row(**ROW, differs='the text'), [value])
  assert different.verdict == 'different protocol'
  assert different.relation == verdict


def test_the_interval_is_students():
  judged = judge(Row(**ROW), [1.0, 2.0, 3.0])
  assert judged.mean == 2.0
  assert judged.n == 3
  assert judged.interval == pytest.approx(4.30265 / 3**0.5, rel=1e-5)  # 2 degrees
  assert judge(Row(**ROW), [1.0]).interval is None
